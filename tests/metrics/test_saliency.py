import numpy as np
import pytest
from scipy.stats import mannwhitneyu, zscore

from attend.metrics.saliency import auc, nss

MAP = np.array([[1.0, 2, 3], [4, 5, 9]])  # mean 4, variance 20/3


def test_nss_by_hand():
    assert nss(MAP, [(2.5, 1.5)]) == pytest.approx(5 / np.sqrt(20 / 3))
    assert nss(MAP, [(2, 1), (0.99, 0.99)]) == pytest.approx((5 - 3) / 2 / np.sqrt(20 / 3))
    assert nss(10 * MAP + 7, [(2, 1)]) == pytest.approx(nss(MAP, [(2, 1)]))


def test_auc_by_hand():
    assert auc(MAP, [(2, 1)]) == 1 and auc(MAP, [(0, 0)]) == 0
    assert auc(MAP, [(0, 1)]) == pytest.approx(3 / 5)  # 4 is above 1, 2 and 3
    assert auc(MAP, [(0, 1), (1, 0), (0, 1)]) == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert auc(np.ones((3, 4)), [(1, 1)]) == 0.5


@pytest.mark.parametrize("seed", range(20))
def test_other_libraries_agree(seed):
    """AUC is Mann and Whitney's U over the number of pairs; NSS is the mean z-score."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 8, (9, 12)).astype(float)
    points = rng.random((5, 2)) * (12, 9)
    fixated = np.zeros(values.shape, bool)
    fixated[tuple(points.astype(int).T[::-1])] = True
    u = mannwhitneyu(values[fixated], values[~fixated]).statistic
    assert auc(values, points) == pytest.approx(u / (fixated.sum() * (~fixated).sum()))
    z = zscore(values, axis=None)
    assert nss(values, points) == pytest.approx(np.mean([z[int(y), int(x)] for x, y in points]))


def test_chance_is_chance():
    """The mean over one fixation anywhere is 0 for NSS and a half for AUC, exactly."""
    values = np.random.default_rng(0).random((6, 7)).round(1)
    everywhere = [(x, y) for y in range(6) for x in range(7)]
    assert np.mean([auc(values, [point]) for point in everywhere]) == pytest.approx(0.5)
    assert np.mean([nss(values, [point]) for point in everywhere]) == pytest.approx(0, abs=1e-12)


def test_nothing_to_measure():
    assert np.isnan(nss(np.ones((2, 2)), [(0, 0)]))
    assert np.isnan(auc(np.ones((1, 1)), [(0, 0)]))
    for measure in (nss, auc):
        with pytest.raises(ValueError, match="outside a map of 3 x 2 pixels"):
            measure(MAP, [(3, 0)])
        with pytest.raises(ValueError, match="nobody looked anywhere"):
            measure(MAP, [])
