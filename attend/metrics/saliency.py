"""How well a map of attention says where people looked: NSS and AUC.

A map is (height, width), one value a pixel, of any scale; fixated points are (n, 2) as (x, y) in its pixels. Both are
about ranks or deviations within one map, so neither rewards a map for being bright.
"""

import numpy as np


def nss(saliency: np.ndarray, points: np.ndarray) -> float:
    """Normalised scanpath saliency: the mean of (S - mean S) / std S at the fixated points. 0 is chance.

    NaN for a map that is the same everywhere. Raises ValueError for a point outside the map, or none at all.
    Source: Peters, Iyer, Itti and Koch (2005).
    """
    values, rows, columns = _read(saliency, points)
    if values.max() == values.min():
        return float("nan")
    return float((values[rows, columns].mean() - values.mean()) / values.std())


def auc(saliency: np.ndarray, points: np.ndarray) -> float:
    """The chance that a fixated pixel has a larger value than one that was not; equal values count half. 0.5 is chance.

    As in AUC-Judd the negatives are all other pixels; a pixel that was fixated twice counts once. It is the area under
    the whole curve. NaN where every pixel was fixated. Raises ValueError as ``nss``.

    Source: Judd, Durand and Torralba (2012).
    Differs: Judd's program joins the curve's points at the fixated values alone by straight lines, by which one
    fixation anywhere scores 0.75 on average; here it scores 0.5.
    """
    values, rows, columns = _read(saliency, points)
    fixated = np.zeros(values.shape, bool)
    fixated[rows, columns] = True
    hits, others = values[fixated], np.sort(values[~fixated])
    if not len(others):
        return float("nan")
    below = np.searchsorted(others, hits, "left") + np.searchsorted(others, hits, "right")
    return float(below.mean() / (2 * len(others)))


def _read(saliency: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, points = np.asarray(saliency, float), np.asarray(points, float).reshape(-1, 2)
    height, width = values.shape
    columns, rows = np.floor(points).astype(int).T
    if not len(points):
        raise ValueError("nobody looked anywhere; give one fixation at least")
    if not ((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)).all():
        raise ValueError(f"a fixation lies outside a map of {width} x {height} pixels")
    return values, rows, columns
