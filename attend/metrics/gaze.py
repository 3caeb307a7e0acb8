"""The path of the gaze over an image while a caption is written.

A *fixation* is one place and the run of consecutive words during which the gaze rested there; a *saccade* is the jump
from one fixation to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attend.chance import numpy_generator
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
    weights, centres = _weights(weights, geometry), geometry.centres()
    cells = weights.argmax(axis=1) if glimpses is None else np.asarray(glimpses, int)
    if cells.shape != weights.shape[:1] or not ((cells >= 0) & (cells < len(centres))).all():
        raise ValueError(f"glimpses are {cells}; {len(weights)} words need a cell each, 0 to {len(centres) - 1}")
    return centres[cells]


def centres_of_mass(weights: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The mean place under the weights (T, L) of each word, sum_i alpha_i centre_i / sum_i alpha_i: points (T, 2).

    Soft attention reads everywhere at once; its mean moves less than the cell of its largest weight, and where the
    weights have two peaks it lies between them, where the model looks least. Raises ValueError as ``fixations``.
    """
    weights = _weights(weights, geometry)
    return weights @ geometry.centres() / weights.sum(axis=1, keepdims=True).clip(1e-12)


def draw_cells(weights: np.ndarray, draws: int, seed: int | Sequence[int]) -> np.ndarray:
    """Cells (K, T) drawn from the weights (T, L) of each word, each word on its own, ``draws`` times.

    The draws are keyed by the seed: a larger number of them begins with the same. Where a model's state reads its
    glimpses, the weights of a word belong to the glimpses that were taken before it, so these are no paths that the
    model would have taken, but what its weights along one path spread over.
    """
    weights = np.asarray(weights, float)
    totals = weights.cumsum(axis=1)
    chance = numpy_generator("glimpses of a path", *np.atleast_1d(seed)).random((draws, len(weights)))
    below = totals[None] <= chance[..., None] * totals[:, -1][None, :, None]
    return below.sum(axis=2).clip(0, weights.shape[1] - 1)


def radius(geometry: Geometry) -> float:
    """Half the shorter side of a cell in pixels: places nearer than that are one place."""
    return 0.5 / max(geometry.affine[:2])


def merge(words: Sequence[str], points: np.ndarray, within: float = 0.0) -> list[Fixation]:
    """The path (T, 2) as fixations: consecutive words at one point become one, in their order.

    A word is at the point of those before it while it lies no farther than ``within`` pixels from their mean, which
    is then the fixation's point. Raises ValueError when words and points differ in number.
    """
    points = np.asarray(points, float)
    path: list[Fixation] = []
    for t, (word, point) in enumerate(zip(words, points, strict=True)):
        if path and np.linalg.norm(point - path[-1].point) <= within:
            last = path.pop()
            first, spoken, group = last.first, (*last.words, word), points[last.first : t + 1]
        else:
            first, spoken, group = t, (word,), points[t : t + 1]
        x, y = np.mean(group, axis=0).tolist() if (group != point).any() else point.tolist()
        path.append(Fixation(point=(x, y), first=first, words=spoken))
    return path


def places(points: np.ndarray, within: float) -> np.ndarray:
    """The number (n,) of the place of each point (n, 2): that of the nearest place before, if within, or a new one."""
    points = np.asarray(points, float).reshape(-1, 2)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    first: list[int] = []  # of each place, the point that was there first
    numbers = []
    for i in range(len(points)):
        number = int(far[i, first].argmin()) if first else 0
        if not first or far[i, first[number]] > within:
            first.append(i)
            number = len(first) - 1
        numbers.append(number)
    return np.array(numbers, int)


def entropy(weights: np.ndarray) -> np.ndarray:
    """Entropy (T,) in nats of the weights (T, L) of each word, - sum_i alpha_i log alpha_i."""
    weights = np.asarray(weights, float)
    weights = weights / weights.sum(axis=1, keepdims=True).clip(1e-12)
    return -(weights * np.log(weights, out=np.zeros_like(weights), where=weights > 0)).sum(axis=1)


def _weights(weights: np.ndarray, geometry: Geometry) -> np.ndarray:
    weights, cells = np.asarray(weights), geometry.grid[0] * geometry.grid[1]
    if weights.ndim != 2 or weights.shape[1] != cells:
        raise ValueError(f"weights are {weights.shape}; a grid of {geometry.grid} needs (words, {cells})")
    return weights
