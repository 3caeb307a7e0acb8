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

from attend.bars import through
from attend.captioner.captioner import decoding
from attend.captioner.unrolled import Readout
from attend.chance import uniform
from attend.config import Config, Decode
from attend.data.batches import Batch, Batches, in_order
from attend.data.prepared import Prepared
from attend.evaluation.controls import of_partners, partners
from attend.evaluation.generate import IMAGES
from attend.evaluation.health import MEASURES, health_sums, means
from attend.model import Model
from attend.runs.evaluations import WordGrounding
from attend.runs.processes import gather, share


class Part(NamedTuple):
    """The sums of a minibatch of given captions, those of ``health_sums``, and where its words with boxes look."""

    sums: Counter[str]
    health: list[list[float]]
    looked: list[WordGrounding]


class TeacherForced:
    """Sums over traces of given captions, by minibatch: nats per word, accuracies, attention health.

    With ``boxes`` the weights of the words that have boxes are kept, for their grounding and given.h5.
    """

    def __init__(self, dataset: Prepared, *, boxes: bool) -> None:
        self.dataset, self.boxes = dataset, boxes
        self.parts: list[Part] = []

    def add(self, batch: Batch, u: Readout) -> None:
        """Take in one minibatch."""
        rank = u.ranks
        sums = Counter(
            words=u.layout.words,
            nll=float(u.cost.double().sum()),
            top1=int((rank == 0).sum()),
            top5=int(((rank >= 0) & (rank < 5)).sum()),
        )
        looked = self._look(batch, u, sums) if self.boxes else []
        self.parts.append(Part(sums, health_sums(u).tolist(), looked))

    def gather(self, accelerator: Accelerator) -> TeacherForced:
        """Join the minibatches of all processes, in their order, so that no rounding tells how many there are."""
        self.parts = gather(self.parts, accelerator)
        return self

    def _look(self, batch: Batch, u: Readout, sums: Counter[str]) -> list[WordGrounding]:
        """The weights of the words that have boxes; ``sums`` counts them, and those that the model had right."""
        weights, order = u.weights.float().cpu().numpy(), batch.order.numpy()
        right = u.spread((u.ranks == 0).float()).cpu().numpy()
        looked = []
        for n, row in enumerate(batch.rows.tolist()):
            captions = self.dataset.examples[row].captions
            for c, place in enumerate(order[n]):
                boxes = (captions[place].boxes if place >= 0 else None) or ()
                spoken = np.array([bool(some) for some in boxes[: int(batch.lengths[n, c]) - 1]], dtype=bool)
                if spoken.any():
                    (words,) = spoken.nonzero()
                    sums["boxed"] += len(words)
                    sums["boxed_top1"] += float(right[n, c, words].sum())
                    looked.append(WordGrounding(row=row, caption=int(place), words=words, weights=weights[n, c, words]))
        return looked

    @property
    def looked(self) -> list[WordGrounding]:
        """Where the words with boxes look, by row and caption."""
        return sorted((one for part in self.parts for one in part.looked), key=lambda one: (one.row, one.caption))

    def scores(self) -> dict[str, Any]:
        """The means over words: ``given`` and ``health``."""
        sums = Counter()
        for part in self.parts:
            sums.update(part.sums)
        health = torch.tensor(
            [part.health for part in self.parts] or [[[0.0] * len(MEASURES)] * 2], dtype=torch.float64
        )
        words = max(sums["words"], 1)
        given = {name: sums[name] / words for name in ("nll", "top1", "top5")}
        if sums["boxed"]:
            given["content_top1"] = sums["boxed_top1"] / sums["boxed"]
        return {"given": given | {"words": int(sums["words"])}, "health": means(health.sum(0))}


@torch.no_grad()
def teacher_forced(
    model: Model,
    batches: Batches,
    rows: Sequence[int],
    accelerator: Accelerator,
    decode: Decode,
    semi: float = 0.0,
    learned: Model | None = None,
) -> Iterator[tuple[Batch, Readout]]:
    """Given captions under a way of decoding, without dropout. Chance is keyed by seed, row and caption.

    With probability ``semi`` a minibatch that is sampled takes the expected context instead. A shuffled model is shown
    what ``learned`` attends to in another of the rows' images. Minibatches are dealt out to processes:
    ``TeacherForced.gather`` joins what each makes of its own.
    """
    model.captioner.eval()
    pieces = in_order(rows, IMAGES)[share(accelerator)]
    partner = {} if learned is None else partners(rows, model.config.seed)
    for batch in through(batches.loader(pieces), len(pieces), "given captions", "minibatch"):
        if learned is not None:
            theirs = batches[[partner[row] for row in batch.rows.tolist()]]
            weights = _unrolled(learned, theirs.to(accelerator.device), decode).weights
            batch = dataclasses.replace(batch, shares=of_partners(batch, theirs, weights, partner))
        batch = batch.to(accelerator.device)
        yield batch, _unrolled(model, batch, decode, semi)


def _unrolled(model: Model, batch: Batch, decode: Decode, semi: float = 0.0) -> Readout:
    settings, device, noise, soft = model.config, batch.words.device, None, None
    if decode == "sample":
        noise = _chance("glimpses of a given caption", batch, settings, settings.attention.looks).to(device)
        first = (settings.seed, int(batch.rows[0]), int(batch.order[0, 0]) + 1)
        if uniform((1,), "soft given captions", *first) < semi:
            soft = torch.ones(batch.words.shape, dtype=torch.bool, device=device)
    with model.autocast():
        features, shown = model.features(batch.inputs), batch.shares
        if model.captioner.attention.look == "random":
            shown = _chance("random weights of a given caption", batch, settings, (features.shape[1],)).to(device)
        policy = decoding(decode, settings.attention.top, noise, soft)
        return model.captioner(features, batch.words, batch.lengths, policy, shown=shown)


def _chance(stream: str, batch: Batch, settings: Config, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers (N, C, T, *shape) for each word of given captions."""
    images, captions, length = batch.words.shape
    pairs = zip(batch.rows.tolist(), batch.order.tolist(), strict=True)
    keys = [(settings.seed, row, place + 1) for row, places in pairs for place in places]
    drawn = [torch.from_numpy(uniform((length, *shape), stream, *key)) for key in keys]
    return torch.stack(drawn).unflatten(0, (images, captions))
