"""Evaluation: captions generated and scored, given captions traced, and the files an evaluation leaves behind."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from attend.attention import select as selections
from attend.captioner import Noise, Trace
from attend.config import Decode
from attend.data.batches import Batch, Batches, in_order
from attend.data.prepared import Prepared
from attend.metrics.captions import DocumentFrequencies, score_captions, tokenise
from attend.metrics.grounding import Grounding, ground, pool
from attend.model import Model
from attend.objective import health, negative_log_likelihood
from attend.runs import Lease, RunFolder, write_json, write_text
from attend.search import Choose, Found, beam_search

IMAGES = 32
"""Images that are searched or traced at once."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """The caption of one image and where the model looked: words (T), alpha (T, L), glimpse (T,) or None, gate (T,)."""

    row: int
    words: tuple[str, ...]
    score: float
    weights: np.ndarray
    glimpses: np.ndarray | None
    gates: np.ndarray

    @property
    def caption(self) -> str:
        return " ".join(self.words)


def chooser(decode: Decode, images: int, seed: int, first_step: int = 0) -> Choose:
    """The selection of each step of search; the noise of ``sample`` is keyed by seed and step."""
    if decode != "sample":
        return lambda step, rows: selections.SELECTIONS[decode]

    def choose(step: int, rows: int):
        generator = torch.Generator().manual_seed((seed << 32) + first_step + step)
        noise = torch.rand(images, rows, generator=generator)
        return lambda features, weights: selections.sample(features, weights, noise.to(weights.device))

    return choose


def say(model: Model, features: Tensor, rows: Sequence[int], decode: Decode, beam: int, draw: int = 0) -> list[Said]:
    """Captions for features (N, L, D)."""
    memory = model.captioner.attention.memory(features)
    choose = chooser(decode, len(features), model.config.seed + draw, first_step=rows[0] * 1000)
    found = beam_search(model.captioner, memory, choose, beam, model.config.search.max_length)
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
        gates=found.gates[n, spoken].float().cpu().numpy(),
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
) -> list[Said]:
    """One caption for each row, in their order."""
    model.captioner.eval()
    reader = Batches(batches.dataset, batches.store, captions=False)
    said: list[Said] = []
    with tqdm(
        total=len(rows), desc=f"captions ({decode}, beam {beam})", unit="image", disable=None, leave=False
    ) as bar:
        for batch in reader.loader(in_order(rows, IMAGES)):
            with accelerator.autocast():
                features = model.features(batch.inputs.to(accelerator.device))
                said += say(model, features, batch.rows.tolist(), decode, beam, draw)
            bar.update(len(batch.rows))
    return said


@torch.no_grad()
def traces(
    model: Model, batches: Batches, rows: Sequence[int], accelerator: Accelerator, decode: Decode
) -> Iterator[tuple[Batch, Trace]]:
    """Given captions, teacher-forced, without dropout."""
    model.captioner.eval()
    for number, batch in enumerate(
        tqdm(
            batches.loader(in_order(rows, IMAGES)),
            total=-(-len(rows) // IMAGES),
            desc="given captions",
            disable=None,
            leave=False,
        )
    ):
        batch = batch.to(accelerator.device)
        noise = None
        if decode == "sample":
            glimpse = torch.rand(batch.words.shape, generator=torch.Generator().manual_seed(number))
            soft = torch.zeros(batch.lengths.shape, dtype=torch.bool)
            noise = Noise(glimpse=glimpse, soft=soft).to(accelerator.device)
        with accelerator.autocast():
            features = model.features(batch.inputs)
            yield batch, model.captioner(
                features, batch.words, batch.lengths, select=decode, noise=noise, shares=batch.shares
            )  # fmt: skip


class Given:
    """Running sums over traces of given captions: nats a word, accuracies, attention health, grounding."""

    def __init__(self, dataset: Prepared, batches: Batches, *, grounding: bool) -> None:
        self.dataset, self.batches, self.grounding = dataset, batches, grounding
        self.sums: dict[str, float] = dict.fromkeys(("words", "nll", "top1", "top5", "boxed", "boxed_top1"), 0.0)
        self.health: dict[str, float] = {}
        self.grounded: dict[int, list[Grounding]] = {}

    def add(self, batch: Batch, trace: Trace) -> None:
        """Take in one minibatch."""
        words = int(trace.real.sum())
        ranked = trace.logits.topk(min(5, trace.logits.shape[-1]), dim=-1).indices == trace.targets[:, None]
        self.sums["words"] += words
        self.sums["nll"] += float(negative_log_likelihood(trace).double().sum())
        self.sums["top1"] += int(ranked[:, 0].sum())
        self.sums["top5"] += int(ranked.any(1).sum())
        for name, value in health(trace).items():
            self.health[name] = self.health.get(name, 0.0) + value * words
        if self.grounding:
            self._ground(batch, trace, trace.spread(ranked[:, 0].float()).cpu().numpy())

    def _ground(self, batch: Batch, trace: Trace, right: np.ndarray) -> None:
        weights, order = trace.weights.float().cpu().numpy(), batch.order.cpu().numpy()
        for n, row in enumerate(batch.rows.tolist()):
            captions, geometry = self.dataset.examples[row].captions, self.batches.geometry(row)
            for c, place in enumerate(order[n]):
                boxes = captions[place].boxes if place >= 0 else None
                if boxes is None:
                    continue
                boxes = boxes[: int(batch.lengths[n, c]) - 1]
                self.grounded.setdefault(row, []).append(ground(weights[n, c, : len(boxes)], boxes, geometry))
                spoken = np.array([bool(b) for b in boxes], dtype=bool)
                self.sums["boxed"] += int(spoken.sum())
                self.sums["boxed_top1"] += float(right[n, c, : len(boxes)][spoken].sum())

    def scores(self) -> dict[str, Any]:
        """The means: ``given`` and ``health`` over words, ``grounding`` over words with boxes or None."""
        sums, words = self.sums, max(self.sums["words"], 1)
        given = {name: sums[name] / words for name in ("nll", "top1", "top5")}
        if sums["boxed"]:
            given["content_top1"] = sums["boxed_top1"] / sums["boxed"]
        grounded = [one for some in self.grounded.values() for one in some]
        return {
            "given": given | {"words": int(sums["words"])},
            "health": {name: value / words for name, value in self.health.items()},
            "grounding": pooled if (pooled := pool(grounded))["words"] else None,
        }


def collapsed(health: dict[str, float], learned: bool) -> bool:
    """Whether learned attention has stopped moving: its maps change by less than 1 % of their mass between words."""
    return learned and health["change"] < 0.01


def training_frequencies(dataset: Prepared, tokeniser: str, time_limit: float = 600.0) -> DocumentFrequencies:
    """Document frequencies of the training captions, counted once and kept beside the dataset."""
    path = dataset.folder / f"frequencies-{tokeniser}.json"
    if path.exists():
        return DocumentFrequencies.load(path)
    captions = [[c.raw for c in e.captions] for e in dataset.examples if e.split == "train"]
    flat = iter(tokenise([raw for image in captions for raw in image], tokeniser=tokeniser, time_limit=time_limit))
    images = [[next(flat).split() for _ in image] for image in captions]
    frequencies = DocumentFrequencies.of(
        images, name=f"training captions of {dataset.about['name']}", tokeniser=tokeniser
    )
    frequencies.save(path)
    return frequencies


def score_quickly(dataset: Prepared, said: Sequence[Said]) -> dict[str, float]:
    """BLEU and CIDEr with frozen training frequencies, without Java: what validation after an epoch uses."""
    scores = score_captions(
        {str(s.row): s.caption for s in said},
        {str(s.row): [c.raw for c in dataset.examples[s.row].captions] for s in said},
        metrics=("bleu", "cider"),
        frequencies=training_frequencies(dataset, "simple"),
        tokeniser="simple",
    )
    return {"bleu4": scores.corpus["bleu4"], "cider": scores.corpus["cider_frozen"]}


def evaluate(
    model: Model,
    batches: Batches,
    run: RunFolder,
    lease: Lease,
    accelerator: Accelerator,
    *,
    split: str = "test",
    decode: Decode | None = None,
    beam: int | None = None,
    draws: int = 1,
) -> dict[str, Any]:
    """Generate, score and trace one split, write evaluations/<split>-<decode>-beam<k>/, and return its scores.json.

    With ``draws`` > 1 (``sample`` only) captions and attention are those of the first draw, and scores.json holds
    mean and standard deviation of each caption score over the draws beside it.
    """
    decode, beam = decode or model.config.decode, beam or model.config.search.beam
    dataset, rows, start = batches.dataset, batches.dataset.rows(split), time.time()
    oracle = model.config.attention.weights == "oracle"
    given = Given(dataset, batches, grounding=dataset.boxes)
    for batch, trace in traces(model, batches, rows, accelerator, decode):
        given.add(batch, trace)
    scores = {"split": split, "decode": decode, "beam": beam, "images": len(rows)} | given.scores()
    scores["collapsed"] = collapsed(scores["health"], model.config.attention.weights == "learned")
    folder, table, said = run.evaluation(split, decode, beam), {}, []
    if oracle:
        scores |= {"captions": {}, "missing": {"captions": "oracle attention needs given captions"}}
    else:
        said = generate(model, batches, rows, accelerator, decode, beam)
        scored = _score(dataset, said)
        scores |= {"captions": scored.corpus, "missing": scored.missing, "notes": scored.notes}
        table = scored.images
    if draws > 1 and not oracle:
        others = [
            _score(dataset, generate(model, batches, rows, accelerator, decode, beam, d)).corpus
            for d in range(1, draws)
        ]
        scores["draws"] = _spread([scores["captions"], *others])
    scores["seconds"] = round(time.time() - start, 1)
    lease.check()
    folder.mkdir(parents=True, exist_ok=True)
    if said:
        _write_captions(folder / "captions.json", dataset, said)
        write_attention(folder / "attention.h5", dataset, batches, said)
    write_text(folder / "images.csv", _images_csv(dataset, rows, said, table, given.grounded))
    write_json(folder / "scores.json", scores)
    return scores


def _score(dataset: Prepared, said: Sequence[Said]):
    return score_captions(
        {str(s.row): s.caption for s in said},
        {str(s.row): [c.raw for c in dataset.examples[s.row].captions] for s in said},
        frequencies=training_frequencies(dataset, "ptb"),
    )


def _spread(draws: list[dict[str, float]]) -> dict[str, Any]:
    names = draws[0]
    return {
        "n": len(draws),
        "mean": {name: float(np.mean([d[name] for d in draws])) for name in names},
        "std": {name: float(np.std([d[name] for d in draws], ddof=1)) for name in names},
    }


def _write_captions(path: Path, dataset: Prepared, said: Sequence[Said]) -> None:
    """COCO's results format."""
    write_json(path, [{"image_id": dataset.examples[s.row].image, "caption": s.caption} for s in said])


def write_attention(path: Path, dataset: Prepared, batches: Batches, said: Sequence[Said]) -> None:
    """attention.h5: a group an image with its words, alpha, glimpses and gates, and the map of its grid."""
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        for number, one in enumerate(said):
            geometry = batches.geometry(one.row)
            group = file.create_group(str(number))
            group.attrs.update(
                image=dataset.examples[one.row].image,
                caption=one.caption,
                grid=geometry.grid,
                affine=geometry.affine,
                size=geometry.size,
            )
            group.create_dataset("words", data=list(one.words), dtype=h5py.string_dtype())
            group.create_dataset("alpha", data=one.weights.astype(np.float32))
            group.create_dataset("gate", data=one.gates.astype(np.float32))
            if one.glimpses is not None:
                group.create_dataset("glimpse", data=one.glimpses.astype(np.int32))
    partial.replace(path)


def _images_csv(
    dataset: Prepared,
    rows: Sequence[int],
    said: Sequence[Said],
    table: dict[str, list],
    grounded: dict[int, list[Grounding]],
) -> str:
    """One row an image: caption, its scores, grounding, and the statistics that resampling needs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    grounding = {row: pooled for row, some in grounded.items() if (pooled := pool(some))["words"]}
    measures = list(next(iter(grounding.values()), {}))
    writer.writerow(["image", "caption", *table, *(f"grounding_{name}" for name in measures)])
    for number, row in enumerate(rows):
        caption = said[number].caption if said else ""
        values = [column[number] for column in table.values()]
        pooled = grounding.get(row, {})
        writer.writerow([dataset.examples[row].image, caption, *values, *(pooled.get(m, "") for m in measures)])
    return text.getvalue()
