"""Evaluate a model on one split: generate captions and score them, and evaluate given captions."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from attend.config.setting import HEADLINE, Setting
from attend.data.batches import Batches
from attend.data.prepared import Prepared
from attend.evaluation.controls import last_goes_on, partners
from attend.evaluation.generate import generate
from attend.evaluation.grounded import Grounded
from attend.evaluation.health import standstill
from attend.evaluation.teacher_forced import TeacherForced, teacher_forced
from attend.evaluation.wording import diversity_of, hallucination_of
from attend.metrics.captions import CaptionScores, DocumentFrequencies, score_captions, tokenise
from attend.metrics.java import JavaError, meteor_kept
from attend.model import Model
from attend.runs.checkpoint import read_state
from attend.runs.evaluations import (
    Hypothesis,
    WordGrounding,
    write_attention,
    write_captions,
    write_given,
    write_images,
)
from attend.runs.files import write_json
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease
from attend.runs.processes import of_main


def headline(dataset: Prepared) -> str:
    """The split of the headline scores: test, or val where there is no test split."""
    return "test" if dataset.about["splits"]["test"] else "val"


def training_frequencies(dataset: Prepared, tokeniser: str, time_limit: float = 600.0) -> DocumentFrequencies:
    """Document frequencies of the training captions, counted once and kept beside the dataset if they can be."""
    path = dataset.folder / f"frequencies-{tokeniser}.json"
    if path.exists():
        return DocumentFrequencies.load(path)
    captions = [[c.raw for c in e.captions] for e in dataset.examples if e.split == "train"]
    flat = iter(tokenise([raw for image in captions for raw in image], tokeniser=tokeniser, time_limit=time_limit))
    images = [[next(flat).split() for _ in image] for image in captions]
    frequencies = DocumentFrequencies.of(
        images, name=f"training captions of {dataset.about['name']}", tokeniser=tokeniser
    )
    with contextlib.suppress(OSError):  # a shared dataset may be read-only, and then they are counted every time
        frequencies.save(path)
    return frequencies


def score_quickly(dataset: Prepared, hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
    """BLEU and CIDEr with frozen training frequencies, without Java: what validation after an epoch uses."""
    scores = score_captions(
        *_sides(dataset, hypotheses),
        metrics=("bleu", "cider"),
        frequencies=training_frequencies(dataset, "simple"),
        tokeniser="simple",
    )
    return {"bleu4": scores.corpus["bleu4"], "cider": scores.corpus["cider_frozen"]}


@meteor_kept()
def evaluate(
    model: Model,
    batches: Batches,
    run: RunFolder,
    lease: Lease | None,
    accelerator: Accelerator,
    setting: Setting = HEADLINE,
) -> dict[str, Any]:
    """Caption one split, score the captions, evaluate given captions, and return the scores.

    Writes evaluations/<split>-<decode>-beam<k>/. With ``setting.look``, an evaluation control replaces the model's
    attention, and the name of the folder ends in -look-<name>. With several ``setting.draws``, captions and attention
    are those of the first draw, and scores.json also holds mean and standard deviation of each caption score over the
    draws. Several processes share the minibatches; the main one, which holds the lease, scores and writes.
    """
    start, dataset = time.time(), batches.dataset
    decode, beam = model.config.way(setting.decode, setting.beam)
    setting = setting._replace(decode=decode, beam=beam, split=setting.split or headline(dataset))
    rows, look = dataset.rows(setting.split), setting.look
    looking = model if look is None else model.looking(look)
    given = TeacherForced(dataset, boxes=dataset.boxes)
    learned = model if look == "shuffled" else None
    for batch, u in teacher_forced(looking, batches, rows, accelerator, decode, learned=learned):
        given.add(batch, u)
    given.gather(accelerator)
    grounded = Grounded.of(given.looked, batches)
    scores = {"split": setting.split, "decode": decode, "beam": beam, "images": len(rows)} | given.scores()
    scores["grounding"] = grounded.pooled()
    scores |= {"look": look} if look else {}
    scores["data_fingerprint"] = dataset.about["fingerprint"]
    why = standstill(scores["health"], looking.captioner.attention.look == "learned", _until_best(run))
    scores |= {"collapsed": why == "collapsed", "unmoved": why == "unmoved"}
    hypotheses, table = [], {}
    if looking.captioner.attention.look == "oracle":
        scores |= {"captions": {}, "missing": {"captions": "oracle attention needs given captions"}}
    else:
        draw = partial(_draw, model, looking, batches, accelerator, setting)
        hypotheses, more, table = _captioned(dataset, draw, setting.draws, accelerator)
        scores |= more
    scores["seconds"] = round(time.time() - start, 1)
    if lease is not None:
        lease.check()
        folder = run.evaluation(setting.split, decode, beam, look)
        write_looks(folder, batches, rows, hypotheses, given.looked)
        names, captions = [dataset.examples[row].image for row in rows], [one.caption for one in hypotheses]
        write_images(folder / "images.csv", names, captions or [""] * len(rows), table, grounded.of_images(rows))
        write_json(folder / "scores.json", scores)
    return scores


def _until_best(run: RunFolder) -> list[dict[str, Any]]:
    """What training logged until the epoch of the best model."""
    epoch = read_state(run.best).get("epoch", math.inf) if run.best.exists() else math.inf
    return [record for record in run.metrics() if record.get("epoch", 0) <= epoch]


def _captioned(
    dataset: Prepared, draw: Callable[[int], list[Hypothesis]], draws: int, accelerator: Accelerator
) -> tuple[list[Hypothesis], dict[str, Any], dict[str, list]]:
    """The captions of the first draw, what scores.json holds of the captions, and their columns of images.csv."""
    hypotheses, scored, samples = [], [], []
    for number in range(draws):
        some = draw(number)
        hypotheses = hypotheses or some
        scored.append(of_main(partial(_score, dataset, some), accelerator))
        samples.append([one.words for one in some])
    rows, first = [one.row for one in hypotheses], scored[0]
    diversity, novel = of_main(partial(diversity_of, dataset, samples), accelerator)
    hallucination, named = hallucination_of(dataset, rows, samples[0])
    scores = {"captions": first.corpus, "missing": first.missing, "notes": first.notes}
    scores |= {"diversity": diversity, "hallucination": hallucination}
    if draws > 1:
        scores["draws"] = _spread([one.corpus for one in scored])
    return hypotheses, scores, first.images | novel | named


def _draw(
    model: Model, looking: Model, batches: Batches, accelerator: Accelerator, setting: Setting, draw: int
) -> list[Hypothesis]:
    """Captions of a split, with the random numbers of one draw.

    The control ``shuffled`` attends, at each word, to what the ``model`` attends to in another image.
    """
    rows = batches.dataset.rows(setting.split)
    way, shown = (accelerator, setting.decode, setting.beam, draw), None
    if setting.look == "shuffled":
        weights = {one.row: one.weights for one in generate(model, batches, rows, *way)}
        longest = model.config.search.max_length
        shown = {
            row: last_goes_on(torch.from_numpy(weights[other]), longest)
            for row, other in partners(rows, model.config.seed).items()
        }
    return generate(looking, batches, rows, *way, shown)


def write_looks(
    folder: Path,
    batches: Batches,
    rows: Sequence[int],
    hypotheses: Sequence[Hypothesis],
    looked: Sequence[WordGrounding] = (),
) -> None:
    """The captions, and the attention of generated and of given captions."""
    examples = {row: batches.dataset.examples[row] for row in rows}
    names = {row: example.image for row, example in examples.items()}
    geometries = {row: batches.geometry(row) for row in rows}
    folder.mkdir(parents=True, exist_ok=True)
    if hypotheses:
        write_captions(folder / "captions.json", names, hypotheses)
        write_attention(folder / "attention.h5", names, geometries, hypotheses)
    if looked:
        tokens = {(one.row, one.caption): examples[one.row].captions[one.caption].tokens for one in looked}
        write_given(folder / "given.h5", names, geometries, tokens, looked)


def _score(dataset: Prepared, hypotheses: Sequence[Hypothesis]) -> CaptionScores:
    """All scores. If Java fails: those that need none, on simple tokens; ``missing`` and ``notes`` report it."""
    try:
        frequencies = training_frequencies(dataset, "ptb")
    except JavaError:
        frequencies = training_frequencies(dataset, "simple")
    return score_captions(*_sides(dataset, hypotheses), frequencies=frequencies)


def _sides(dataset: Prepared, hypotheses: Sequence[Hypothesis]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Hypotheses and references as ``score_captions`` wants them, named by their rows."""
    references = {str(one.row): [c.raw for c in dataset.examples[one.row].captions] for one in hypotheses}
    return {str(one.row): one.caption for one in hypotheses}, references


def _spread(draws: list[dict[str, float]]) -> dict[str, Any]:
    names = [name for name in draws[0] if all(name in draw for draw in draws)]  # METEOR may have failed in some
    return {
        "n": len(draws),
        "mean": {name: float(np.mean([d[name] for d in draws])) for name in names},
        "std": {name: float(np.std([d[name] for d in draws], ddof=1)) for name in names},
    }
