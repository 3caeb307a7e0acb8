"""Count the operations of a training step that the dispatcher receives below autograd.

A custom autograd function or a fused optimiser counts as the ATen operations inside it. At small sizes a step takes as
long as its operations take to dispatch, so their number per word is the cost that an arrangement can change.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from attend.experiments.bench.beds import KINDS, Bed
from attend.experiments.bench.clock import Setup
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from attend import kernels as fused
from attend.captioner.captioner import BUCKET
from attend.captioner.layout import OnDevice, rounded_up
from attend.data.batches import Batch
from attend.estimators.noise import Noise
from attend.training.objective import loss_of

NO_KERNEL = {"aten::_unsafe_view", "aten::promote_types", "aten::new_empty", "aten::empty_like", "aten::scalar_tensor"}
"""Operations that start no computation, beside views."""


class Counting(TorchDispatchMode):
    """Counts every operation that is dispatched inside this context, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[OpOverload] = Counter()

    def __torch_dispatch__(self, operation: OpOverload, types: object, args: tuple = (), kwargs: Any = None) -> Any:
        self.counts[operation] += 1
        return operation(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def views(self) -> int:
        """Operations that return a view of their input: they are dispatched, and start no computation."""
        return sum(number for operation, number in self.counts.items() if _is_view(operation))

    @property
    def launches(self) -> int:
        """Operations that start a kernel on a GPU, at least one each."""
        nothing = sum(n for operation, n in self.counts.items() if operation._schema.name in NO_KERNEL)
        return self.total - self.views - nothing


def _is_view(operation: OpOverload) -> bool:
    aliases = [returned.alias_info for returned in operation._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def count(call: Callable[[], object]) -> Counting:
    """The operations of a call."""
    with Counting() as counting:
        call()
    return counting


def operations(setup: Setup) -> Iterator[dict[str, Any]]:
    """The operations of a training step (forward, loss, backward, clipping, update), ours and the textbook's.

    They are divided by the words of the longest caption, which are the steps in time, and by all real words.
    """
    for size in setup.sizes:
        for kind in KINDS:
            bed = Bed(size, kind, setup.device, setup.precision)
            bed.ours(), bed.plain()  # the first step makes the optimiser's moments
            ours, theirs = count(bed.ours), count(bed.plain)
            longest, words = bed.shape[2], bed.tokens
            yield {
                "size": size.name,
                "attention": kind,
                "a step": ours.total,
                "without views": ours.total - ours.views,
                "a word of the longest caption": ours.total / longest,
                "textbook's": theirs.total / longest,
                "a real word": ours.total / words,
                "textbook's a real word": theirs.total / words,
                "share of the textbook's": ours.total / theirs.total,
                "textbook's a step": theirs.total,
                "textbook's without views": theirs.total - theirs.views,
                "counts": {
                    whose: {str(operation): number for operation, number in one.counts.most_common()}
                    for whose, one in (("ours", ours), ("textbook", theirs))
                },
            }


def kernels(setup: Setup) -> Iterator[dict[str, Any]]:
    """The kernels of a training step on CUDA, forward and backward, without and with ours; a captured step replays all
    of them with one launch.

    Counted on tensors without data, so this machine needs no GPU. They are divided by the words of the longest caption,
    rounded up as they are there, and by all real words.
    """
    for size in setup.sizes:
        for kind in KINDS:
            row: dict[str, Any] = {"size": size.name, "attention": kind}
            for name in ("plain", "ours"):
                number, length, words = launches(size, kind, ours=name == "ours")
                row |= {f"{name}, a step": number, f"{name}, a word of the longest caption": number / length}
            yield row | {"ours, a real word": number / words, "words": words}


def launches(size: Any, kind: str, *, ours: bool = True) -> tuple[int, int, int]:
    """Kernels of the pass and its gradient on CUDA, with ours or in plain torch; the words of the longest caption in a
    captured step; real words."""
    bed, meta = Bed(size, kind, torch.device("cpu"), "fp32"), torch.device("meta")
    captioner, learner = bed.captioner.to(meta), bed.learner.to(meta)
    captioner.padded, length = True, rounded_up(bed.shape[2], BUCKET)
    noise = Noise.draw(bed.settings, bed.shape, 0, 0).widened(length).to(meta)
    batch = Batch.of(bed.features, bed.words, OnDevice(bed.lengths.to(meta))).widened(length).to(meta)
    with Counting() as counting, mock.patch.object(fused, "DEVICES", {"meta"} if ours else set()):
        _, loss = loss_of(captioner, batch.inputs, batch, noise, learner, learner.start(meta))
        loss.total.backward()
    return counting.launches, length, bed.tokens
