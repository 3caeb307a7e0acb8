"""MultiMatch: how alike two paths of the gaze are, in five ways that need not agree.

Each path is the sequence of its saccades u_i, vectors in pixels from one fixation to the next. The two sequences are
aligned as a whole: of all ways through the table M(i, j) = |u_i - v_j| from (0, 0) to the last pair, by steps down,
right and down-right, that of the smallest sum. With d the picture's diagonal, the medians over the aligned pairs give

    shape      1 - |u - v| / 2d
    direction  1 - (angle between u and v) / pi
    length     1 - ||u| - |v|| / d
    position   1 - |start of u - start of v| / d
    duration   1 - |t - t'| / max(t, t'), for the durations t, t' of the fixations where u and v start

1 is equal. What chance gives is far above 0 and differs between the five, so compare with other images' paths.

Source: Dewhurst et al. (2012), It depends on how you look at it: scanpath comparison in multiple dimensions with
MultiMatch, Behavior Research Methods 44; Jarodzka, Holmqvist and Nyström (2010).
Differs: of ways of equal sum, which grids are full of, the one with the fewest pairs counts; a path needs two
fixations, where the published programs ask for three; and small saccades are not joined first.
"""

from dataclasses import dataclass

import numpy as np

DIMENSIONS = ("shape", "direction", "length", "position", "duration")


@dataclass(frozen=True, kw_only=True)
class Path:
    """Fixations in their order: points (n, 2) as (x, y) and durations (n,), in any unit, all above 0."""

    points: np.ndarray
    durations: np.ndarray

    def __post_init__(self) -> None:
        if np.ndim(self.points) != 2 or np.shape(self.points) != (len(self.durations), 2):
            shape = np.shape(self.points)
            raise ValueError(f"points are {shape} for {len(self.durations)} durations; give (n, 2) and (n,)")
        if not (np.asarray(self.durations) > 0).all():
            raise ValueError("a fixation lasts no time; give durations above 0")


def similarity(one: Path, other: Path, size: tuple[float, float]) -> dict[str, float]:
    """The five similarities of DIMENSIONS, in [0, 1] for points inside a picture of ``size`` (width, height).

    Raises ValueError if a path has a single fixation, and so no saccade to compare.
    """
    for path in (one, other):
        if len(path.durations) < 2:
            raise ValueError(f"a path of {len(path.durations)} fixation has no saccade; give two fixations at least")
    diagonal = float(np.hypot(*size))
    u, v = np.diff(one.points, axis=0), np.diff(other.points, axis=0)
    i, j = align(np.linalg.norm(u[:, None] - v[None], axis=2))
    turn = np.abs(np.arctan2(u[i, 1], u[i, 0]) - np.arctan2(v[j, 1], v[j, 0]))
    lengths = np.linalg.norm(u[i], axis=1) - np.linalg.norm(v[j], axis=1)
    apart = np.linalg.norm(np.asarray(one.points)[i] - np.asarray(other.points)[j], axis=1)
    t, s = np.asarray(one.durations, float)[i], np.asarray(other.durations, float)[j]
    differences = (
        np.linalg.norm(u[i] - v[j], axis=1) / (2 * diagonal),
        np.minimum(turn, 2 * np.pi - turn) / np.pi,
        np.abs(lengths) / diagonal,
        apart / diagonal,
        np.abs(t - s) / np.maximum(t, s),
    )
    return {name: float(1 - np.median(d)) for name, d in zip(DIMENSIONS, differences, strict=True)}


def align(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, both (n,), of the way of smallest sum through the costs (R, C), both ends included.

    Steps go down, right or down-right; of equal sums the fewest pairs count, then the step down.
    """
    rows, columns = costs.shape
    best = [[(0.0, 0, -1, -1)] * columns for _ in range(rows)]  # sum, pairs, and where from
    table = costs.tolist()
    for i in range(rows):
        for j in range(columns):
            before = [(*best[a][b][:2], a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 <= b]
            total, pairs, a, b = min(before, key=lambda way: (round(way[0], 6), way[1]), default=(0.0, 0, -1, -1))
            best[i][j] = (total + table[i][j], pairs + 1, a, b)
    way, (i, j) = [], (rows - 1, columns - 1)
    while i >= 0:
        way.append((i, j))
        i, j = best[i][j][2:]
    found = np.array(way[::-1])
    return found[:, 0], found[:, 1]
