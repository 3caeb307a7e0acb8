"""How well a map of attention says where people looked: NSS, three AUCs, KL, CC, SIM and information gain.

A map is (height, width), one value a pixel, of any scale; fixated points are (n, 2) as (x, y) in its pixels. NSS and
the AUCs are about ranks or deviations within one map. KL, CC, SIM and information gain compare the map, as a
distribution over pixels, with a ``density`` of people's fixations.

Source: Bylinskii et al. (2019), What do different evaluation metrics tell us about saliency models?; Kümmerer et al.
(2015) for information gain.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

LEAST = 1e-7
"""The share of an even map that is mixed into a distribution where its logarithm is taken: no pixel is impossible."""


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
    return _area(values[fixated], values[~fixated])


def shuffled_auc(saliency: np.ndarray, points: np.ndarray, others: np.ndarray) -> float:
    """``auc`` whose negatives are the points (m, 2) that were fixated on other images; every point counts.

    A look at the centre, where people look on every image, scores about 0.5. NaN without others. Raises as ``nss``.
    Source: Zhang et al. (2008), SUN.
    """
    values, rows, columns = _read(saliency, points)
    if not len(others):
        return float("nan")
    _, their_rows, their_columns = _read(saliency, others)
    return _area(values[rows, columns], values[their_rows, their_columns])


def density(points: np.ndarray, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Fixations (n, 2) as a distribution (height, width): their counts, blurred by a Gaussian of ``sigma`` pixels."""
    counts = np.zeros(shape)
    _, rows, columns = _read(counts, points)
    np.add.at(counts, (rows, columns), 1)
    blurred = gaussian_filter(counts, sigma, mode="constant")
    return blurred / blurred.sum()


def kl(saliency: np.ndarray, people: np.ndarray) -> float:
    """sum_i q_i log(q_i / p_i) in nats, of the map p from people's density q: 0 is equal, and lower is better."""
    p, q = distribution(saliency), distribution(people)
    return float((q * np.log(q / p)).sum())


def cc(saliency: np.ndarray, people: np.ndarray) -> float:
    """Pearson's correlation of the map and people's density, over pixels; NaN for a map that is the same everywhere."""
    if np.ptp(saliency) == 0 or np.ptp(people) == 0:
        return float("nan")
    return float(np.corrcoef(np.ravel(saliency), np.ravel(people))[0, 1])


def sim(saliency: np.ndarray, people: np.ndarray) -> float:
    """What the map and people's density have in common, sum_i min(p_i, q_i): 1 is equal."""
    return float(np.minimum(_shares(saliency), _shares(people)).sum())


def information_gain(saliency: np.ndarray, baseline: np.ndarray, points: np.ndarray) -> float:
    """The mean of log2 p_i - log2 b_i at the fixated pixels: bits a fixation by which the map beats a baseline b."""
    p, rows, columns = _read(distribution(saliency), points)
    b = distribution(baseline)
    return float(np.mean(np.log2(p[rows, columns]) - np.log2(b[rows, columns])))


def distribution(saliency: np.ndarray) -> np.ndarray:
    """A map as shares of its pixels, of which LEAST are spread over all of them."""
    shares = _shares(saliency)
    return (1 - LEAST) * shares + LEAST / shares.size


def _shares(saliency: np.ndarray) -> np.ndarray:
    """A map as shares of its sum; even if it is 0 everywhere."""
    values = np.asarray(saliency, float)
    total = values.sum()
    return values / total if total > 0 else np.full(values.shape, 1 / values.size)


def _area(hits: np.ndarray, others: np.ndarray) -> float:
    """The chance that a hit is larger than another value; equal ones count half. NaN if there is no other."""
    if not len(others):
        return float("nan")
    others = np.sort(others)
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
