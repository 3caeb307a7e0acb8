"""What given captions tell of a model: their likelihood, and where it looks at the words that speak of boxes."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator

from attend.captioner import Trace
from attend.data.batches import Batch, Batches
from attend.data.prepared import Prepared
from attend.metrics.grounding import Grounding, ground, pool
from attend.objective import health_sums, negative_log_likelihood, ranks
from attend.processes import gather
from attend.record import Looked


class Part(NamedTuple):
    """What one minibatch of given captions adds: sums, (total, count) of each measure of health, grounding and looks
    by row and caption."""

    sums: Counter[str]
    health: dict[str, tuple[float, int]]
    grounded: dict[int, list[Grounding]]
    looked: list[Looked]


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
        self, batch: Batch, trace: Trace, right: np.ndarray, sums: Counter[str], looked: list[Looked]
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
                    looked.append(Looked(row=row, caption=int(place), words=words, weights=alpha))
        return grounded

    @property
    def grounded(self) -> dict[int, list[Grounding]]:
        """How well the captions of each row are grounded."""
        return {row: found for part in self.parts for row, found in part.grounded.items()}

    @property
    def looked(self) -> list[Looked]:
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
