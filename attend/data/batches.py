"""Minibatches: N images with all their captions, longest first, read from a store by any number of workers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, default_convert

from attend.chance import numpy_generator
from attend.data.examples import Caption
from attend.data.prepared import Prepared
from attend.data.stores import Store
from attend.data.text import Vocabulary
from attend.geometry import Geometry, on_grid

MAXIMUM_LENGTH = 50
"""Words of a caption that are read; a longer one is cut."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """N images x C captions x T words.

    rows (N,) of the store; inputs: features (N, L, D) fp16 or images (N, 3, S, S) uint8; words (N, C, T), each
    caption with its end mark, then padding; lengths (N, C) with the end mark, 0 for a row that only pads; order
    (N, C), the place of each row's caption in its example, -1 for padding; shares (N, C, T, L) of each cell in the
    word's boxes, where asked for. Where the minibatch is shared out, these are ``part`` of its images, padded as all of
    them are, and ``whole`` has the lengths of all. What says which words exist stays on the host.
    """

    rows: Tensor
    inputs: Tensor
    words: Tensor
    lengths: Tensor
    order: Tensor
    whole: Tensor
    shares: Tensor | None = None

    @classmethod
    def of(cls, inputs: Tensor, words: Tensor, lengths: Tensor, shares: Tensor | None = None) -> Self:
        """A minibatch of no dataset."""
        none = torch.zeros(words.shape[:2], dtype=torch.long)
        return cls(
            rows=none[:, 0], inputs=inputs, words=words, lengths=lengths, order=none, whole=lengths, shares=shares
        )

    def widened(self, length: int) -> Self:
        """The same with padding up to so many words."""
        return replace(self, words=wider(self.words, length), shares=wider(self.shares, length))

    def to(self, device: torch.device) -> Self:
        """The same with inputs, words and shares on the device."""
        parts = {name: getattr(self, name) for name in ("inputs", "words", "shares")}
        moved = {name: t.to(device, non_blocking=True) for name, t in parts.items() if t is not None}
        return replace(self, **moved)


def wider(given: Tensor | None, length: int) -> Tensor | None:
    """(N, R, T, ...) with zeros up to ``length`` words, zeros being padding too."""
    if given is None or given.shape[2] >= length:
        return given
    return F.pad(given, (0, 0) * (given.ndim - 3) + (0, length - given.shape[2]))


def longest(dataset: Prepared, split: str) -> int:
    """Words of the longest caption of a split as it is read, the end mark counted."""
    examples = (dataset.examples[row] for row in dataset.rows(split))
    return 1 + max(min(len(c.tokens), MAXIMUM_LENGTH) for e in examples for c in e.captions)


class Batches(Dataset):
    """Maps a list of rows to their Batch, or to ``part`` of it: the inputs of other images are not read."""

    def __init__(
        self, dataset: Prepared, store: Store, *, captions: bool = True, boxes: bool = False, part: slice = slice(None)
    ) -> None:
        self.dataset, self.store = dataset, store
        self.captions, self.boxes, self.part = captions, boxes, part

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        examples = [self.dataset.examples[row].captions if self.captions else () for row in rows]
        words, lengths, order = pad_captions(examples, self.dataset.vocabulary)
        longest_first = np.argsort(-lengths.max(1, initial=0), kind="stable") if self.captions else np.arange(len(rows))
        whole, mine = lengths[longest_first], longest_first[self.part]
        rows, words, lengths, order = np.asarray(rows)[mine], words[mine], lengths[mine], order[mine]
        shares = self._shares(rows, order, words.shape[-1]) if self.boxes else None
        arrays = {"rows": rows, "inputs": self.store.read("inputs", rows), "words": words, "lengths": lengths}
        return Batch(**default_convert(arrays | {"order": order, "whole": whole, "shares": shares}))

    def loader(self, rows: Sequence[Sequence[int]], workers: int = 0) -> Iterator[Batch]:
        """The minibatches of these lists of rows, in their order."""
        try:
            yield from DataLoader(self, sampler=rows, batch_size=None, num_workers=workers)
        except (ValueError, OSError) as error:
            if "DataLoader worker" not in str(error):
                raise
            last = str(error).strip().splitlines()[-1]  # what a worker raises comes with its traceback
            raise ValueError(re.sub(r"^\w+: ", "", last)) from None

    def geometry(self, row: int) -> Geometry:
        """The map from the pixels of an image to its grid."""
        (size,), (affine,) = self.store.read("size", [row]), self.store.read("affine", [row])
        grid = tuple(self.store.provenance["grid"])
        return Geometry(size=tuple(size.tolist()), grid=grid, affine=tuple(affine.tolist()))

    def _shares(self, rows: np.ndarray, order: np.ndarray, length: int) -> np.ndarray:
        grid_rows, columns = self.store.provenance["grid"]
        shares = np.zeros((*order.shape, length, grid_rows * columns), dtype=np.float32)
        for n, row in enumerate(rows):
            geometry = self.geometry(row)
            for c, place in enumerate(order[n]):
                if place >= 0:
                    caption = self.dataset.examples[row].captions[place]
                    for t, boxes in enumerate((caption.boxes or ())[: min(length, MAXIMUM_LENGTH)]):
                        if boxes:
                            shares[n, c, t], _ = on_grid(geometry, boxes)
        return shares


def pad_captions(
    captions: Sequence[Sequence[Caption]], vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words (N, C, T), lengths (N, C) and order (N, C) as in Batch, the captions of each image longest first."""
    encoded = [
        sorted(
            (([*vocabulary.encode(c.tokens[:MAXIMUM_LENGTH]), vocabulary.end], i) for i, c in enumerate(image)),
            key=lambda pair: -len(pair[0]),
        )
        for image in captions
    ]
    most = max((len(image) for image in encoded), default=0)
    longest = max((len(image[0][0]) for image in encoded if image), default=0)
    words = np.full((len(encoded), most, longest), vocabulary.pad, dtype=np.int64)
    lengths = np.zeros((len(encoded), most), dtype=np.int64)
    order = np.full((len(encoded), most), -1, dtype=np.int64)
    for n, image in enumerate(encoded):
        for c, (ids, place) in enumerate(image):
            words[n, c, : len(ids)], lengths[n, c], order[n, c] = ids, len(ids), place
    return words, lengths, order


def epoch_rows(rows: Sequence[int], images: int, seed: int, epoch: int) -> list[list[int]]:
    """The minibatches of one epoch: a permutation keyed by seed and epoch, cut into pieces of ``images``."""
    shuffled = numpy_generator("order of an epoch", seed, epoch).permutation(rows).tolist()
    return in_order(shuffled, images)


def drawn_rows(rows: Sequence[int], images: int, seed: int) -> list[int]:
    """So many of the rows, drawn by the seed, in their order; 0 takes all. Fewer are a part of more.

    Raises ValueError if there are not so many.
    """
    if images > len(rows):
        raise ValueError(f"train.training_images is {images}, but the training split has {len(rows)}: 0 takes all")
    drawn = numpy_generator("training images", seed).permutation(rows)
    return sorted(drawn[: images or len(rows)].tolist())


def in_order(rows: Sequence[int], images: int) -> list[list[int]]:
    """Pieces of ``images`` rows."""
    return [list(rows[start : start + images]) for start in range(0, len(rows), images)]
