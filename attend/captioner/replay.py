"""A word of beam search captured once and replayed: its many small kernels then cost the host of a GPU one launch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attend.attention.attention import Memory
from attend.attention.score import plain
from attend.decoder.protocol import each
from attend.kernels.capture import Capture, CudaGraphs, say_refused

MOST = 8
"""Kinds of words that are captured: of whole minibatches of images, and of the last one, by several policies."""


class Going(NamedTuple):
    """The hypotheses of N images: the state (N, K, ...), and of each its last word, log p, length, and whether it has
    ended, all (N, K)."""

    state: tuple
    words: Tensor
    total: Tensor
    lengths: Tensor
    ended: Tensor


class Seen(NamedTuple):
    """What a word has added: the parent of each hypothesis and its word (N, K), and where the parents, (N, R), looked:
    weights (N, R, L), glimpses and gates (N, R)."""

    parent: Tensor
    words: Tensor
    weights: Tensor
    glimpses: Tensor
    gates: Tensor


Extend = Callable[[Memory, Going], tuple[Going, Seen]]
"""Every hypothesis one word further."""


@dataclass
class _Captured:
    """A captured word: the buffers it reads, whose hypotheses it also moves on, and the memory they have a copy of."""

    memory: Memory
    going: Going
    replay: Callable[[], Seen]
    held: Memory | None = None


class Replays:
    """The words of searches with one captioner. Each kind of word is captured after it was taken once."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.captured: dict[tuple, _Captured] = {}
        self.broken = False

    def __deepcopy__(self, _: dict) -> Replays:
        """Nothing captured, since that reads the weights of this captioner."""
        return Replays(self.capture)

    def __call__(self, kind: tuple, extend: Extend, memory: Memory, going: Going) -> tuple[Going, Seen]:
        """As ``extend``, of which ``kind`` says all that the tensors do not say. The hypotheses that are returned are
        overwritten by the next call."""
        shape = (*kind, *((part.shape, part.dtype) for part in (*_parts(memory), *_flat(going))))
        if shape not in self.captured:
            after, seen = self.capture.warm(lambda: extend(memory, going))
            steady = [part.shape for part in _flat(after)] == [part.shape for part in _flat(going)]
            if steady and len(self.captured) < MOST and not self.broken:
                self._capture(shape, extend, memory, after)
            return after, seen
        one = self.captured[shape]
        if memory is not one.held:
            _copy(_parts(one.memory), _parts(memory))
            one.held = memory
        if going is not one.going:
            _copy(_flat(one.going), _flat(going))
        return one.going, each(one.replay(), torch.clone)

    def _capture(self, shape: tuple, extend: Extend, memory: Memory, going: Going) -> None:
        memory, going = _buffers(memory), each(going, torch.clone)

        def word() -> Seen:
            with _casting_anew(memory.features.device.type):
                after, seen = extend(memory, going)
            _copy(_flat(going), _flat(after))
            return seen

        try:
            self.captured[shape] = _Captured(memory, going, self.capture.record(word))
        except RuntimeError as error:  # what a driver or an operation of one's own refuses
            self.broken = True
            say_refused("this search", error)


def capture_words(captioner: nn.Module, device: torch.device) -> None:
    """Let searches with this captioner capture and replay their words, on CUDA."""
    if device.type == "cuda" and captioner.replays is None:
        captioner.replays = Replays(CudaGraphs())


def _casting_anew(device: str) -> contextlib.AbstractContextManager:
    """Autocast as it is, but without its cache: weights that it has cast before the capture are freed after it."""
    if device == "meta":  # tensors without data have none
        return contextlib.nullcontext()
    return torch.autocast(
        device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device), cache_enabled=False
    )


def _parts(memory: Memory) -> list[Tensor]:
    return [part for part in (memory.features, memory.mask, plain(memory.keys), memory.values) if part is not None]


def _buffers(memory: Memory) -> Memory:
    """A copy, whose values are its features if the memory's are."""
    features = memory.features.clone()
    mask, keys = (None if part is None else part.clone() for part in (memory.mask, plain(memory.keys)))
    values = features if memory.values is memory.features else memory.values.clone()
    return replace(memory, features=features, mask=mask, keys=keys, values=values)


def _flat(nest: Any) -> list[Tensor]:
    return [nest] if isinstance(nest, Tensor) else [tensor for part in nest for tensor in _flat(part)]


def _copy(buffers: list[Tensor], parts: list[Tensor]) -> None:
    for buffer, part in zip(buffers, parts, strict=True):
        buffer.copy_(part)
