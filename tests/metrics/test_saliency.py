"""Maps against fixations: by hand, by scipy, and by pysaliency where it is installed."""

import itertools

import numpy as np
import pytest
from scipy.stats import entropy, mannwhitneyu, norm, pearsonr, zscore

from attend.metrics.saliency import auc, cc, density, distribution, information_gain, kl, nss, shuffled_auc, sim
from attend.metrics.scanmatch import BINS, SIGMA, align, scanmatch

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


def test_shuffled_auc_is_mann_and_whitneys_u_against_other_images_fixations():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 8, (9, 12)).astype(float)
    here, there = rng.random((6, 2)) * (12, 9), rng.random((40, 2)) * (12, 9)
    a, b = ([values[int(y), int(x)] for x, y in points] for points in (here, there))
    assert shuffled_auc(values, here, there) == pytest.approx(mannwhitneyu(a, b).statistic / (6 * 40))
    assert shuffled_auc(values, there, there) == 0.5 and np.isnan(shuffled_auc(values, here, np.zeros((0, 2))))


def test_a_density_is_a_sum_of_gaussians():
    points = [(20.2, 15.9), (40.5, 30.5)]
    found = density(points, (60, 80), 3.0)
    x, y = np.arange(80), np.arange(60)
    truth = sum(np.outer(norm.pdf(y, int(py), 3), norm.pdf(x, int(px), 3)) for px, py in points)
    assert found.sum() == pytest.approx(1) and np.allclose(found, truth / truth.sum(), atol=2e-6)


def test_comparisons_of_maps_are_those_of_scipy():
    rng = np.random.default_rng(5)
    one, people = rng.random((7, 9)), rng.random((7, 9)) ** 3
    assert kl(one, people) == pytest.approx(entropy(people.ravel(), one.ravel()), abs=1e-5)
    assert cc(one, people) == pytest.approx(pearsonr(one.ravel(), people.ravel()).statistic)
    by_hand = sum(min(p, q) for p, q in zip((one / one.sum()).ravel(), (people / people.sum()).ravel(), strict=True))
    assert sim(one, people) == pytest.approx(by_hand)
    assert sim(one, one) == pytest.approx(1) and kl(one, one) == pytest.approx(0, abs=1e-12)
    assert np.isnan(cc(np.ones((2, 3)), np.eye(2, 3))) and np.isfinite(kl(np.eye(3), np.ones((3, 3))))
    assert np.allclose(distribution(np.zeros((2, 2))), 0.25)


def test_information_gain_is_in_bits_beyond_the_baseline():
    """A map that has four times the baseline's share at the fixated pixel gains two bits."""
    one, baseline = np.array([[4.0, 1, 1, 2]]) / 8, np.array([[1.0, 3, 3, 1]]) / 8
    assert information_gain(one, baseline, [(0, 0)]) == pytest.approx(2, abs=1e-5)
    assert information_gain(one, baseline, [(0, 0), (3, 0)]) == pytest.approx((2 + 1) / 2, abs=1e-5)
    assert information_gain(baseline, baseline, [(1, 0)]) == 0


def test_pysaliency_agrees(monkeypatch):
    """Another library: its names for NSS, CC, SIM and KL, and its area under the curve, which NumPy 2 has renamed."""
    if not hasattr(np, "trapz"):  # which pysaliency calls, and newer versions of numpy name otherwise
        monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    theirs = pytest.importorskip("pysaliency.metrics")
    roc = pytest.importorskip("pysaliency.roc")
    rng = np.random.default_rng(6)
    one, people, points = rng.random((20, 30)), rng.random((20, 30)) ** 4, rng.random((9, 2)) * (30, 20)
    xs, ys = points.astype(int).T
    assert nss(one, points) == pytest.approx(theirs.NSS(one, xs, ys).mean())
    assert cc(one, people) == pytest.approx(theirs.CC(one, people)) and sim(one, people) == pytest.approx(
        theirs.SIM(one, people)
    )
    p, q = (np.log(distribution(one)), np.log(distribution(people)))
    assert kl(one, people) == pytest.approx(theirs.probabilistic_image_based_kl_divergence(p, q))
    there = rng.random((50, 2)) * (30, 20)
    others = np.array([one[int(y), int(x)] for x, y in there])
    assert shuffled_auc(one, points, there) == pytest.approx(roc.general_roc(one[ys, xs], others)[0])
    fixated = np.zeros(one.shape, bool)
    fixated[ys, xs] = True
    assert auc(one, points) == pytest.approx(roc.general_roc(one[fixated], one[~fixated])[0])
    baseline = people + 0.1
    ours, habit = (np.log2(theirs.convert_saliency_map_to_density(some)[ys, xs]) for some in (one, baseline))
    assert information_gain(one, baseline, points) == pytest.approx(np.mean(ours - habit), abs=1e-4)


def test_an_alignment_is_the_best_of_all():
    """Every way to align three with four, with gaps of 0, one by one."""
    scores = np.random.default_rng(7).normal(size=(3, 4))
    best = 0.0
    for count in range(1, 4):
        for rows in itertools.combinations(range(3), count):
            for columns in itertools.combinations(range(4), count):
                best = max(best, scores[rows, columns].sum())
    assert align(scores) == pytest.approx(best)


def test_scanmatch_by_hand():
    """On 12 x 8 bins of a picture of 120 x 80: equal paths score 1; a neighbour costs a distance of one bin."""
    path = np.array([(5.0, 5.0), (65.0, 45.0), (115.0, 75.0)])
    assert BINS == (12, 8) and scanmatch(path, path, (120, 80)) == 1
    moved = path + np.array([(10, 0), (10, 0), (0, 0)])
    assert scanmatch(path, moved, (120, 80)) == pytest.approx(1 - 2 / (2 * SIGMA) / 3)
    assert scanmatch(path, path[:2], (120, 80)) == pytest.approx(2 / 3), "what is left over is a gap"
    assert np.isnan(scanmatch(path, path[:0], (120, 80)))
