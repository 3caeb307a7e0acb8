"""What given captions tell of a model: their likelihood, and where it looks at the words that speak of boxes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from attend.captioner.captioner import Noise, Trace
from attend.captioner.traces import negative_log_likelihood, ranks
from attend.config import Config, Decode
from attend.data.batches import Batch, Batches, in_order
from attend.data.prepared import Prepared
from attend.evaluation.controls import of_partners, partners
from attend.evaluation.generate import IMAGES, noise
from attend.evaluation.health import health_sums
from attend.metrics.grounding import Grounding, ground, pool
from attend.model import Model
from attend.runs.evaluations import WordGrounding
from attend.runs.processes import gather, share


class Part(NamedTuple):
    """What one minibatch of given captions adds: sums, (total, count) of each measure of health, grounding and looks
    by row and caption."""

    sums: Counter[str]
    health: dict[str, tuple[float, int]]
    grounded: dict[int, list[Grounding]]
    looked: list[WordGrounding]


class Given:
    """Sums over traces of given captions, by minibatch: nats a word, accuracies, attention health, grounding.

    With ``grounding`` and ``keep`` the weights of the words that have boxes are kept, for given.h5.
    """

    def __init__(self, dataset: Prepared, batches: Batches, *, grounding: bool, keep: bool = False) -> None:
        self.dataset, self.batches, self.grounding, self.keep = dataset, batches, grounding, keep
        self.parts: list[Part] = []

    def add(self, batch: Batch, trace: Trace) -> None:
        """Take in one minibatch."""
        rank = ranks(trace)
        sums = Counter(
            words=int(trace.real.sum()),
            nll=float(negative_log_likelihood(trace).double().sum()),
            top1=int((rank < 1).sum()),
            top5=int((rank < 5).sum()),
        )
        grounded, looked = {}, []
        if self.grounding:
            right = trace.spread((rank < 1).float()).cpu().numpy()
            grounded = self._ground(batch, trace, right, sums, looked)
        self.parts.append(Part(sums, health_sums(trace), grounded, looked))

    def gather(self, accelerator: Accelerator) -> Given:
        """Join the minibatches of all processes, in their order, so that no rounding tells how many there are."""
        self.parts = gather(self.parts, accelerator)
        return self

    def _ground(
        self, batch: Batch, trace: Trace, right: np.ndarray, sums: Counter[str], looked: list[WordGrounding]
    ) -> dict[int, list[Grounding]]:
        weights, order = trace.weights.float().cpu().numpy(), batch.order.cpu().numpy()
        grounded: dict[int, list[Grounding]] = {}
        for n, row in enumerate(batch.rows.tolist()):
            captions, geometry = self.dataset.examples[row].captions, self.batches.geometry(row)
            for c, place in enumerate(order[n]):
                boxes = captions[place].boxes if place >= 0 else None
                if boxes is None:
                    continue
                boxes = boxes[: int(batch.lengths[n, c]) - 1]
                grounded.setdefault(row, []).append(ground(weights[n, c, : len(boxes)], boxes, geometry))
                spoken = np.array([bool(b) for b in boxes], dtype=bool)
                sums["boxed"] += int(spoken.sum())
                sums["boxed_top1"] += float(right[n, c, : len(boxes)][spoken].sum())
                if self.keep and spoken.any():
                    (words,) = spoken.nonzero()
                    alpha = weights[n, c, words].astype(np.float16)
                    looked.append(WordGrounding(row=row, caption=int(place), words=words, weights=alpha))
        return grounded

    @property
    def grounded(self) -> dict[int, list[Grounding]]:
        """How well the captions of each row are grounded."""
        return {row: found for part in self.parts for row, found in part.grounded.items()}

    @property
    def looked(self) -> list[WordGrounding]:
        """Where the words with boxes look, by row and caption; empty where they are not kept."""
        return sorted((one for part in self.parts for one in part.looked), key=lambda one: (one.row, one.caption))

    def scores(self) -> dict[str, Any]:
        """The means: ``given`` and ``health`` over words, ``grounding`` over words with boxes or None."""
        sums, health = Counter(), {}
        for part in self.parts:
            sums.update(part.sums)
            for name, (total, count) in part.health.items():
                before, counted = health.get(name, (0.0, 0))
                health[name] = (before + total, counted + count)
        words = max(sums["words"], 1)
        given = {name: sums[name] / words for name in ("nll", "top1", "top5")}
        if sums["boxed"]:
            given["content_top1"] = sums["boxed_top1"] / sums["boxed"]
        grounded = [one for some in self.grounded.values() for one in some]
        return {
            "given": given | {"words": int(sums["words"])},
            "health": {name: total / count for name, (total, count) in health.items() if count},
            "grounding": pooled if (pooled := pool(grounded))["words"] else None,
        }


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
