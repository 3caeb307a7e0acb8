"""ScanMatch: how alike two paths of the gaze are as sequences of places.

Each fixation is the bin of a grid of 12 x 8 that it falls into. The two sequences are aligned as in biology (Needleman
and Wunsch, 1970): two bins that stand beside each other score

    1 - d / (2 sigma),    d their distance in bins and sigma the deviation of a saccade's length,

a gap scores 0, and of all ways to align them the largest sum counts, over the length of the longer sequence. Equal
sequences score 1.

Source: Cristino et al. (2010), ScanMatch: a novel method for comparing fixation sequences, Behav. Research Methods 42.
Differs: durations are left out, and sigma is given instead of measured on each pair.
"""

from collections.abc import Sequence

import numpy as np

BINS = (12, 8)
"""Columns and rows."""
SIGMA = 3.5
"""Bins: a saccade of people over a photograph is a quarter to a third of its width."""


def scanmatch(one: np.ndarray, other: np.ndarray, size: tuple[float, float]) -> float:
    """The score of two paths, points (n, 2) and (m, 2) as (x, y) in a picture of ``size`` (width, height).

    NaN if one has no fixation.
    """
    a, b = (binned(points, size) for points in (one, other))
    if not len(a) or not len(b):
        return float("nan")
    apart = np.linalg.norm(a[:, None] - b[None], axis=2)
    return align(1 - apart / (2 * SIGMA)) / max(len(a), len(b))


def binned(points: Sequence, size: tuple[float, float]) -> np.ndarray:
    """The bins of points, (n, 2) as (column, row)."""
    places = np.asarray(points, float).reshape(-1, 2) / size * BINS
    return np.clip(np.floor(places), 0, np.array(BINS) - 1)


def align(scores: np.ndarray) -> float:
    """The largest sum of scores (n, m) of an alignment, whose gaps score 0."""
    best = np.zeros((scores.shape[0] + 1, scores.shape[1] + 1))
    for i, j in np.ndindex(scores.shape):
        best[i + 1, j + 1] = max(best[i, j] + scores[i, j], best[i, j + 1], best[i + 1, j])
    return float(best[-1, -1])
