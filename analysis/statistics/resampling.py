"""Sums of per-image statistics over resampled images.

A corpus score is a function of sums over images: a mean is sum / count, BLEU is a function of n-gram matches, guesses
and lengths. So no image is scored twice: R resamples are one product of counts (R, N) with statistics (N, S K).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from attend.chance import numpy_generator

Score = Callable[[np.ndarray], np.ndarray]
"""Sums (..., K) -> scores (...)."""
BLOCK = 2**22
"""The largest number of entries of the counts in memory at once."""


@dataclass(frozen=True)
class Sums:
    """Statistics of S runs on the same N images, summed.

    ``whole`` (S, K): over all images. ``resampled`` (R, S, K): over N images sampled with replacement. ``chosen``
    (R, S, K): over a random half, which has each image with probability 1/2. All runs share the same resamples.
    """

    whole: np.ndarray
    resampled: np.ndarray
    chosen: np.ndarray
    images: int

    def of(self, runs, statistics=slice(None)) -> Sums:
        """The sums of a subset of the runs and of the statistics."""
        parts = (one[..., runs, :][..., statistics] for one in (self.whole, self.resampled, self.chosen))
        return Sums(*parts, self.images)


def sums(statistics: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> Sums:
    """Sum statistics (S, N, K) over all images, over resamples of the images and over random halves of them.

    Raises:
        ValueError: no run, no image, or fewer than one resample.
    """
    statistics = np.asarray(statistics, float)
    if statistics.ndim != 3 or not statistics.size:
        raise ValueError(f"statistics must be runs x images x sums, at least one of each, not {statistics.shape}")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, but must be 1 or more")
    runs, images, width = statistics.shape
    columns = statistics.transpose(1, 0, 2).reshape(images, runs * width)
    shape = (-1, runs, width)
    resampled = np.concatenate([block @ columns for block in _counts(images, resamples, seed)]).reshape(shape)
    chosen = np.concatenate([block @ columns for block in _halves(images, resamples, seed)]).reshape(shape)
    return Sums(statistics.sum(axis=1), resampled, chosen, images)


def _counts(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is in each resample, (r, N) at a time."""
    generator = numpy_generator("resampled images", seed)
    for rows in _blocks(images, resamples):
        drawn = generator.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(float)


def _halves(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Whether each image is in each random half, (r, N) at a time."""
    generator = numpy_generator("halves of the images", seed)
    for rows in _blocks(images, resamples):
        yield generator.integers(2, size=(rows, images), dtype=np.int8).astype(float)


def _blocks(images: int, resamples: int) -> Iterator[int]:
    most = max(1, BLOCK // images)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
