"""The path of the gaze over an image while a caption is written.

A *fixation* is one place and the run of consecutive words during which the gaze rested there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attend.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class Fixation:
    """A place (x, y) in pixels of the image and the words, at least one, written while the gaze rested there.

    ``first`` is the number of the first of them in the caption, counted from 0.
    """

    point: tuple[float, float]
    first: int
    words: tuple[str, ...]


def fixations(weights: np.ndarray, glimpses: np.ndarray | None, geometry: Geometry) -> np.ndarray:
    """Where the gaze is at each word: points (T, 2) as (x, y) in pixels of the image.

    They are the centres of the cells that ``glimpses`` (T,) names, for a model that samples one cell a word, and
    where it is None of the cells with the largest of the ``weights`` (T, L), the first of equals. Pixels are
    those of the original image, so after a crop they stay within the part that was cropped to.

    Raises ValueError when a glimpse is no cell of the grid, or words, weights and cells do not agree in number.
    """
    weights, centres = np.asarray(weights), geometry.centres()
    if weights.ndim != 2 or weights.shape[1] != len(centres):
        raise ValueError(f"weights are {weights.shape}; a grid of {geometry.grid} needs (words, {len(centres)})")
    cells = weights.argmax(axis=1) if glimpses is None else np.asarray(glimpses, int)
    if cells.shape != weights.shape[:1] or not ((cells >= 0) & (cells < len(centres))).all():
        raise ValueError(f"glimpses are {cells}; {len(weights)} words need a cell each, 0 to {len(centres) - 1}")
    return centres[cells]


def merge(words: Sequence[str], points: np.ndarray) -> list[Fixation]:
    """The path (T, 2) as fixations: consecutive words at the same point become one, in their order.

    Raises ValueError when words and points differ in number.
    """
    path: list[Fixation] = []
    for t, (word, (x, y)) in enumerate(zip(words, np.asarray(points, float).tolist(), strict=True)):
        if path and path[-1].point == (x, y):
            path[-1] = replace(path[-1], words=(*path[-1].words, word))
        else:
            path.append(Fixation(point=(x, y), first=t, words=(word,)))
    return path
