"""Which words are real, and where each stands in the tensors of a pass. All of it comes from lengths on the host.

Two forms have one interface and equal results. *Packed*: each step is the smallest rectangle of rows that holds every
unfinished caption, and only real words are read out; least work, best on a CPU. *Padded*: each step has all rows, and
the length is rounded up to a multiple of a bucket; static shapes, best on a GPU. No index waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from attend.data.batches import wider
from attend.decoder.protocol import first_of


@dataclass(frozen=True)
class Step:
    """Word ``t`` of the first ``images`` images and ``rows`` rows."""

    t: int
    images: int
    rows: int

    @property
    def start(self) -> Step:
        """The same rows at the first word."""
        return replace(self, t=0)

    def first(self, state: tuple) -> tuple:
        """The state of these rows, by view."""
        return first_of(state, self.images, self.rows)

    def cut(self, given: Tensor | None) -> Tensor | None:
        """(N, R, T, ...) -> (n, r, ...): the part of this step. Beyond the length of what is given, its last word."""
        return None if given is None else given[: self.images, : self.rows, min(self.t, given.shape[2] - 1)]


@dataclass(frozen=True)
class Whole:
    """All words of all rows at once, the words of a row one after the other: (N, R T, ...)."""

    layout: Layout

    @property
    def t(self) -> Tensor:
        """(R T,) the places of the words."""
        return torch.arange(self.layout.length, device=self.layout.index.device).repeat(self.layout.rows)

    def cut(self, given: Tensor | None) -> Tensor | None:
        return None if given is None else given.flatten(1, 2)

    def pack(self, values: Tensor) -> Tensor:
        return self.layout.pack(values.unflatten(1, (self.layout.rows, self.layout.length)))


@dataclass(frozen=True)
class OnDevice:
    """Real words of each row, ``lengths`` (N, C), that only the device knows, as in a pass that is captured once and
    replayed for other captions of the same shape."""

    lengths: Tensor

    def real(self, length: int) -> Tensor:
        """(N, C, T) whether a word is real."""
        return self.lengths[..., None] > torch.arange(length, device=self.lengths.device)


@dataclass(frozen=True)
class Layout:
    """N images x R rows x T words in time-major order: M words, of which ``real`` (N, R, T) exist.

    ``lengths`` (N, R) are on the host. ``index`` (M,) is the position of each word in (N R T), ``place`` (M,) its t.
    The rectangles of the ``steps``, one after another, hold the words at ``live`` (M,), or None if they hold no others.
    The K ``samples`` of a caption are adjacent rows. Padded, M is N R T' for the
    ``extent`` T', which is T rounded up.

    If only the device knows the lengths, the layout is padded, ``exists`` (N, R, T) says which words are real, and
    nothing else depends on it.
    """

    lengths: np.ndarray
    length: int
    extent: int
    steps: tuple[Step, ...]
    index: Tensor
    place: Tensor
    live: Tensor | None = None
    samples: int = 1
    padded: bool = False
    exists: Tensor | None = None

    @classmethod
    def of(
        cls,
        lengths: Tensor | OnDevice,
        length: int,
        samples: int = 1,
        *,
        device: torch.device | str = "cpu",
        bucket: int = 0,
    ) -> Layout:
        """The layout of captions of these lengths (N, C) on the host, 0 for a row without a word, each in K rows.

        ``bucket``: pad to a multiple of so many words; 0 packs.
        """
        if isinstance(lengths, OnDevice):
            return cls._unknown(lengths, length, samples)
        rows = np.repeat(lengths.numpy(), samples, axis=1)
        extent = rounded_up(length, bucket) if bucket else length
        real = rows[None] > np.arange(extent)[:, None, None]  # (T', N, R)
        padded = bool(bucket)
        steps = [Step(t, *rows.shape) for t in range(extent)] if padded else _rectangles(real)
        t, image, row = (np.ones_like(real) if padded else real).nonzero()
        parts = [(image * rows.shape[1] + row) * extent + t, t]
        inside = np.concatenate([real[step.t, : step.images, : step.rows].ravel() for step in steps])
        if not padded and not inside.all():
            parts.append(inside.nonzero()[0])
        together = torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device, non_blocking=True)
        indices = together.split([len(part) for part in parts])
        return cls(rows, length, extent, tuple(steps), *indices, samples=samples, padded=padded)

    @classmethod
    def _unknown(cls, known: OnDevice, length: int, samples: int) -> Layout:
        images, rows = len(known.lengths), known.lengths.shape[1] * samples
        words = torch.arange(length * images * rows, device=known.lengths.device)
        place = words // (images * rows)
        return cls(
            np.full((images, rows), length), length, length, tuple(Step(t, images, rows) for t in range(length)),
            words % (images * rows) * length + place, place, samples=samples, padded=True,
            exists=known.real(length).repeat_interleave(samples, 1),
        )  # fmt: skip

    @classmethod
    def full(cls, images: int, rows: int, device: torch.device, t: int = 0) -> Layout:
        """One word of every row, all of them real: a step of search."""
        index = torch.arange(images * rows, device=device)
        lengths = np.ones((images, rows), np.int64)
        return cls(lengths, 1, 1, (Step(t, images, rows),), index, torch.full_like(index, t), padded=True)

    @property
    def images(self) -> int:
        return self.lengths.shape[0]

    @property
    def rows(self) -> int:
        return self.lengths.shape[1]

    @cached_property
    def words(self) -> int:
        """How many words are real."""
        return int(self.lengths.sum())

    @cached_property
    def real(self) -> Tensor:
        """(N, R, T) whether a word is real."""
        if self.exists is not None:
            return self.exists
        real = self._real[: self.length].transpose(1, 2, 0)
        return torch.from_numpy(real).to(self.index.device, non_blocking=True)

    @cached_property
    def mask(self) -> Tensor | None:
        """(M,) which words are real; None if all are."""
        return None if self.exists is None and self.words == len(self.index) else self.pack(self.real)

    def repeat(self, values: Tensor | None, samples: int) -> Tensor | None:
        """Words (M, ...) of a layout with one row per caption -> (M K, ...) in the order of one with K rows."""
        if values is None or samples == 1:
            return values
        return values[:, None].expand(-1, samples, *values.shape[1:]).flatten(0, 1)

    def sampled(self, samples: int) -> Layout:
        """The same captions, each in ``samples`` times as many rows. It has no steps."""
        lengths = np.repeat(self.lengths, samples, axis=1)
        index = self.index[:, None] // self.extent * samples + torch.arange(samples, device=self.index.device)
        index = index * self.extent + (self.index % self.extent)[:, None]
        return replace(
            self, lengths=lengths, steps=(), live=None, index=index.flatten(),
            place=self.repeat(self.place, samples), samples=self.samples * samples,
            exists=None if self.exists is None else self.exists.repeat_interleave(samples, 1),
        )  # fmt: skip

    def fit(self, given: Tensor) -> Tensor:
        """(N, R, T, ...) -> (N, R, T', ...), 0 beyond T."""
        return wider(given, self.extent)

    def pack(self, values: Tensor | None) -> Tensor | None:
        """(N, R, T, ...) -> (M, ...)."""
        if values is None:
            return None
        values = self.fit(values)
        if self.padded:
            return values.movedim(2, 0).flatten(0, 2)
        return values.flatten(0, 2).index_select(0, self.index)

    def unpack(self, packed: Tensor) -> Tensor:
        """(M, ...) -> (N, R, T, ...), 0 at padding."""
        if not self.padded:
            shape = (self.images, self.rows, self.length, *packed.shape[1:])
            flat = packed.new_zeros(self.images * self.rows * self.length, *packed.shape[1:])
            return flat.index_put((self.index,), packed).view(shape)
        if self.extent == 1 and self.mask is None:  # a step of search
            return packed.view(self.images, self.rows, 1, *packed.shape[1:])
        if self.mask is not None:
            packed = torch.where(self.mask.view(-1, *[1] * (packed.ndim - 1)), packed, 0)
        packed = packed.view(self.extent, self.images, self.rows, *packed.shape[1:])
        return packed[: self.length].movedim(0, 2)

    def spread(self, packed: Tensor) -> list[Tensor]:
        """(M, ...) -> (n, r, ...) for each step, 0 where a word does not exist. (``index_copy`` would keep its source
        for the gradient.)"""
        counts = [step.images * step.rows for step in self.steps]
        if self.live is not None:
            packed = packed.new_zeros(sum(counts), *packed.shape[1:]).index_put((self.live,), packed)
        parts = zip(packed.split(counts), self.steps, strict=True)
        return [part.view(step.images, step.rows, *part.shape[1:]) for part, step in parts]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """(n, r, ...) of each step -> (M, ...)."""
        flat = [part.flatten(0, 1) for part in parts]
        together = flat[0] if len(flat) == 1 else torch.cat(flat)
        return together if self.live is None else together.index_select(0, self.live)

    def by_image(self, most: int) -> tuple[list[tuple[int, Tensor]], Tensor]:
        """The words of one image after another, at most so many at a time, and the index that restores their order.

        Without any word there is one piece of no words.
        """
        if self.padded:  # on the device, since nothing depends on the lengths
            every = torch.arange(len(self.index), device=self.index.device)
            of_image = every.view(self.extent, self.images, self.rows).transpose(0, 1).flatten(1)
            parts = [(one, part) for one, some in enumerate(of_image) for part in some.split(most)]
            return parts, every.view(self.images, self.extent, self.rows).transpose(0, 1).flatten()
        image = self._real.nonzero()[1]
        words = [(image == one).nonzero()[0] for one in range(self.images)]
        pieces = [(one, some[i : i + most]) for one, some in enumerate(words) for i in range(0, len(some), most)]
        pieces = pieces or [(0, image)]
        order = np.argsort(np.concatenate([some for _, some in pieces]))
        *moved, order = (torch.from_numpy(a).to(self.index.device) for a in (*(some for _, some in pieces), order))
        return [(one, some) for (one, _), some in zip(pieces, moved, strict=True)], order

    @property
    def _real(self) -> np.ndarray:
        """(T', N, R) on the host."""
        return self.lengths[None] > np.arange(self.extent)[:, None, None]

    def sequences(self, words: Tensor) -> tuple[Tensor | PackedSequence, Tensor | None]:
        """Words (M, E) as torch's recurrent layers want them, and the index that puts their outputs in our order."""
        if self.padded:
            return words.view(self.extent, self.images * self.rows, -1), None
        flat = self.lengths.flatten()
        order = np.argsort(-flat, kind="stable")  # rows, longest first
        sizes = (flat[None] > np.arange(max(1, flat.max(initial=0)))[:, None]).sum(1)
        place = np.zeros((self.extent, len(flat)), np.int64)  # of each word in our order
        real = self._real.reshape(self.extent, -1)
        place[real] = np.arange(real.sum())
        sorted_to_ours = np.concatenate([place[t, order[:size]] for t, size in enumerate(sizes)])
        ours_to_sorted = np.argsort(sorted_to_ours)
        both = torch.from_numpy(np.stack([sorted_to_ours, ours_to_sorted])).to(words.device, non_blocking=True)
        return PackedSequence(words.index_select(0, both[0]), torch.from_numpy(sizes)), both[1]


def rounded_up(length: int, bucket: int) -> int:
    """The next multiple of ``bucket``."""
    return -(-length // bucket) * bucket


def _rectangles(real: np.ndarray) -> list[Step]:
    """For each step of real (T, N, R), the smallest rectangle of first images and rows that holds every unfinished row.

    Without any word there is one step over no rows, so that all parameters have a gradient, which is zero.
    """
    sizes = [(t, *(_last(live.any(axis)) for axis in (1, 0))) for t, live in enumerate(real)]
    return [Step(*size) for size in sizes if size[1]] or [Step(0, 0, 0)]


def _last(live: np.ndarray) -> int:
    """One more than the last that is live."""
    (places,) = live.nonzero()
    return int(places[-1]) + 1 if len(places) else 0
