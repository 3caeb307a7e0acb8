"""Evaluation: captions generated and scored, and given captions traced."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from attend.attention import select as selections
from attend.attention.attention import Select, rows_of_heads
from attend.captioner import Noise, Trace
from attend.config import Attention, Config, Decode, Look
from attend.data.batches import Batch, Batches, in_order
from attend.data.prepared import Prepared
from attend.given import Given
from attend.looks import last_goes_on, of_partners, partners
from attend.metrics.captions import CaptionScores, DocumentFrequencies, score_captions, tokenise
from attend.metrics.java import JavaError, meteor_kept
from attend.model import Model
from attend.processes import gather, of_main, share
from attend.record import Said, write_attention, write_captions, write_given, write_images
from attend.runs import Lease, RunFolder, sweep, write_json
from attend.search import Choose, Found, ancestral, beam_search

IMAGES = 32
"""Images that are searched or traced at once."""


def noise(shape: tuple[int, ...], *key: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on the key alone; a shape with more rows begins with the same."""
    return torch.from_numpy(np.random.default_rng(key).random(shape, dtype=np.float32))


def chooser(
    decode: Decode, noise: Tensor | None = None, heads: int = 1, top: int = Attention.top, first: bool = False
) -> Choose:
    """The selection of each step of search.

    ``sample`` uses noise (N, T, K) of N images, T steps and K hypotheses, and of the heads where there are several;
    with ``first`` all use that of the first step, which has one hypothesis.
    """
    if decode == "marginal":
        return lambda step, rows: None
    if decode == "top-k":
        return lambda step, rows: partial(selections.top_k, top=top)
    if decode != "sample":
        return lambda step, rows: selections.SELECTIONS[decode]

    def sampled(step: int, rows: int) -> Select:
        chance = noise[:, :1, 0].expand(-1, rows, *noise.shape[3:]) if first else noise[:, step, :rows]
        return partial(selections.sample, noise=rows_of_heads(chance, heads))

    return sampled


def say(
    model: Model,
    features: Tensor,
    rows: Sequence[int],
    decode: Decode,
    beam: int,
    draw: int = 0,
    shown: Tensor | None = None,
) -> list[Said]:
    """Captions for features (N, L, D), by beam search or, where ``beam`` is 0, word by word from the model.

    Chance is keyed by seed, draw and row: not by the images beside it. ``shown`` (N, T, L) is what a control is shown
    at each word.
    """
    memory = model.captioner.attention.memory(features)
    search, attention, look = model.config.search, model.config.attention, model.captioner.attention.look

    def chance(*shape: int, key: tuple[int, ...] = ()) -> Tensor:
        drawn = [noise((search.max_length, *shape), model.config.seed, draw, row, *key) for row in rows]
        return torch.stack(drawn).to(features.device)

    looks = chance(beam or 1, *attention.looks) if decode == "sample" else None
    choose = chooser(decode, looks, attention.heads, attention.top, look == "first")
    seen = None if shown is None else shown[:, :, None].expand(-1, -1, beam or 1, -1)
    if look == "random":
        seen = chance(beam or 1, features.shape[1], key=(2,))
    rest = (search.max_length, search.length_power, seen)
    if beam == 0:
        found = ancestral(model.captioner, memory, choose, chance(key=(1,)), *rest)
    else:
        found = beam_search(model.captioner, memory, choose, beam, *rest)
    return [_said(model, found, n, row) for n, row in enumerate(rows)]


def _said(model: Model, found: Found, n: int, row: int) -> Said:
    words = model.vocabulary.decode(found.words[n, : int(found.lengths[n])].tolist())
    spoken = slice(0, len(words))  # the end mark is no word
    glimpses = found.glimpses[n, spoken].cpu().numpy()
    return Said(
        row=row,
        words=words,
        score=float(found.score[n]),
        weights=found.weights[n, spoken].float().cpu().numpy(),
        glimpses=glimpses if (glimpses >= 0).all() and len(glimpses) else None,
        gates=None if model.config.decoder.gate == "none" else found.gates[n, spoken].float().cpu().numpy(),
    )


@torch.no_grad()
def generate(
    model: Model,
    batches: Batches,
    rows: Sequence[int],
    accelerator: Accelerator,
    decode: Decode,
    beam: int,
    draw: int = 0,
    shown: dict[int, Tensor] | None = None,
) -> list[Said]:
    """One caption for each row, in their order; ``shown`` has for each row what ``say`` is to show (T, L).

    Minibatches are dealt out to processes.
    """
    model.captioner.eval()
    reader = Batches(batches.dataset, batches.store, captions=False)
    pieces, said = in_order(rows, IMAGES)[share(accelerator)], []
    with tqdm(
        total=sum(map(len, pieces)), desc=f"captions ({decode}, beam {beam})", unit="image", disable=None, leave=False
    ) as bar:
        for batch in reader.loader(pieces):
            with model.autocast():
                features = model.features(batch.inputs.to(accelerator.device))
                some = batch.rows.tolist()
                seen = None if shown is None else torch.stack([shown[row] for row in some]).to(features.device)
                said.append(say(model, features, some, decode, beam, draw, seen))
            bar.update(len(batch.rows))
    return [one for piece in gather(said, accelerator) for one in piece]


@torch.no_grad()
def traces(
    model: Model,
    batches: Batches,
    rows: Sequence[int],
    accelerator: Accelerator,
    decode: Decode,
    semi: float = 0.0,
    learned: Model | None = None,
) -> Iterator[tuple[Batch, Trace]]:
    """Given captions, teacher-forced, without dropout. Chance is keyed by seed, row and caption.

    With probability ``semi`` a minibatch that is sampled takes the expected context instead. A shuffled model is shown
    what ``learned`` looks at in another of the rows' images. Minibatches are dealt out to processes: ``Given.gather``
    joins what each makes of its own.
    """
    model.captioner.eval()
    pieces = in_order(rows, IMAGES)[share(accelerator)]
    partner = {} if learned is None else partners(rows, model.config.seed)
    for batch in tqdm(batches.loader(pieces), total=len(pieces), desc="given captions", disable=None, leave=False):
        if learned is not None:
            theirs = batches[[partner[row] for row in batch.rows.tolist()]]
            weights = _trace(learned, theirs.to(accelerator.device), decode).weights
            batch = dataclasses.replace(batch, shares=of_partners(batch, theirs, weights, partner))
        batch = batch.to(accelerator.device)
        yield batch, _trace(model, batch, decode, semi)


def _trace(model: Model, batch: Batch, decode: Decode, semi: float = 0.0) -> Trace:
    chance = _glimpses(batch, model.config, semi).to(batch.words.device) if decode == "sample" else None
    with model.autocast():
        features, seen = model.features(batch.inputs), batch.shares
        if model.captioner.attention.look == "random":
            seen = _chance(batch, model.config, (features.shape[1],), 2).to(features.device)
        return model.captioner(features, batch.words, batch.lengths, select=decode, noise=chance, shares=seen)


def _glimpses(batch: Batch, settings: Config, semi: float) -> Noise:
    """The noise of one glimpse, or one a head, for each word of given captions, and a coin for them all."""
    first = (settings.seed, int(batch.rows[0]), int(batch.order[0, 0]) + 1)
    soft = bool(noise((1,), *first, 1) < semi)  # keys that end in 0 are those without it
    return Noise(glimpse=_chance(batch, settings, settings.attention.looks), soft=torch.full(batch.order.shape, soft))


def _chance(batch: Batch, settings: Config, shape: tuple[int, ...], *key: int) -> Tensor:
    """Uniform numbers (N, C, T, *shape) for each word of given captions."""
    images, captions, length = batch.words.shape
    pairs = zip(batch.rows.tolist(), batch.order.tolist(), strict=True)
    keys = [(settings.seed, row, place + 1, *key) for row, places in pairs for place in places]
    return torch.stack([noise((length, *shape), *key) for key in keys]).unflatten(0, (images, captions))


def headline(dataset: Prepared) -> str:
    """The split of the headline scores: test, or val where there is no test split."""
    return "test" if dataset.about["splits"]["test"] else "val"


def collapsed(health: dict[str, float], learned: bool) -> bool:
    """Whether learned attention has stopped moving: its maps change by less than 1 % of their mass between words."""
    return learned and health.get("change", 1.0) < 0.01


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
        sweep(dataset.folder)
        frequencies.save(path)
    return frequencies


def score_quickly(dataset: Prepared, said: Sequence[Said]) -> dict[str, float]:
    """BLEU and CIDEr with frozen training frequencies, without Java: what validation after an epoch uses."""
    scores = score_captions(
        *_sides(dataset, said),
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
    *,
    split: str = "test",
    decode: Decode | None = None,
    beam: int | None = None,
    draws: int = 1,
    look: Look | None = None,
) -> dict[str, Any]:
    """Generate, score and trace one split, write evaluations/<split>-<decode>-beam<k>/, and return its scores.json.

    With a ``look`` the model's own weights give way to those of an evaluation control, or to those of its first
    glimpse, and the folder ends in -look-<name>. A shuffled caption is shown what the model's own caption of another
    image looks at.

    With ``draws`` > 1 (``sample``, or a beam of 0) captions and attention are those of the first draw, and scores.json
    holds mean and standard deviation of each caption score over the draws beside it. Several processes share the
    minibatches, and the main one, which has the lease, scores and writes.
    """
    decode, beam = model.config.way(decode, beam)
    dataset, rows, start = batches.dataset, batches.dataset.rows(split), time.time()
    looking = model if look is None else model.looking(look)
    looks, learned = looking.captioner.attention.look, model if look == "shuffled" else None
    oracle = looks == "oracle"

    def generated(draw: int = 0) -> list[Said]:
        shown = None
        if learned is not None:
            own = {s.row: s.weights for s in generate(learned, batches, rows, accelerator, decode, beam, draw)}
            longest = model.config.search.max_length
            shown = {
                row: last_goes_on(torch.from_numpy(own[other]), longest)
                for row, other in partners(rows, model.config.seed).items()
            }
        return generate(looking, batches, rows, accelerator, decode, beam, draw, shown)

    given = Given(dataset, batches, grounding=dataset.boxes, keep=True)
    for batch, trace in traces(looking, batches, rows, accelerator, decode, learned=learned):
        given.add(batch, trace)
    given.gather(accelerator)
    scores = {"split": split, "decode": decode, "beam": beam, "images": len(rows)} | given.scores()
    scores |= {"look": look} if look else {}
    scores["data_fingerprint"] = dataset.about["fingerprint"]
    scores["collapsed"] = collapsed(scores["health"], looks == "learned")
    folder, table, said = run.evaluation(split, decode, beam, look), {}, []
    if oracle:
        scores |= {"captions": {}, "missing": {"captions": "oracle attention needs given captions"}}
    else:
        said = generated()
        scored = of_main(partial(_score, dataset, said), accelerator)
        scores |= {"captions": scored.corpus, "missing": scored.missing, "notes": scored.notes}
        table = scored.images
    if draws > 1 and not oracle:
        drawn = (generated(draw) for draw in range(1, draws))
        others = [of_main(partial(_score, dataset, other), accelerator).corpus for other in drawn]
        scores["draws"] = _spread([scores["captions"], *others])
    scores["seconds"] = round(time.time() - start, 1)
    if lease is None:
        return scores
    lease.check()
    folder.mkdir(parents=True, exist_ok=True)
    if said:
        write_captions(folder / "captions.json", dataset, said)
        write_attention(folder / "attention.h5", dataset, batches, said)
    if given.looked:
        write_given(folder / "given.h5", dataset, batches, given.looked)
    write_images(folder / "images.csv", dataset, rows, said, table, given.grounded)
    write_json(folder / "scores.json", scores)
    return scores


def _score(dataset: Prepared, said: Sequence[Said]) -> CaptionScores:
    """All scores; where Java fails, those that need none, on simple tokens, and ``missing`` and ``notes`` say so."""
    try:
        frequencies = training_frequencies(dataset, "ptb")
    except JavaError:
        frequencies = training_frequencies(dataset, "simple")
    return score_captions(*_sides(dataset, said), frequencies=frequencies)


def _sides(dataset: Prepared, said: Sequence[Said]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Hypotheses and references as ``score_captions`` wants them, named by their rows."""
    references = {str(s.row): [c.raw for c in dataset.examples[s.row].captions] for s in said}
    return {str(s.row): s.caption for s in said}, references


def _spread(draws: list[dict[str, float]]) -> dict[str, Any]:
    names = [name for name in draws[0] if all(name in draw for draw in draws)]  # METEOR may have failed in some
    return {
        "n": len(draws),
        "mean": {name: float(np.mean([d[name] for d in draws])) for name in names},
        "std": {name: float(np.std([d[name] for d in draws], ddof=1)) for name in names},
    }
