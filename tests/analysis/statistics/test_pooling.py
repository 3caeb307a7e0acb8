"""Pooled spreads by hand and by analysis of variance, power by the noncentral t, and how often both hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attend.analysis.statistics.intervals import paired
from attend.analysis.statistics.pooling import Spread, of_differences, of_scores, own, pooled
from attend.analysis.statistics.power import POWER, detectable, half_width, power, seeds_needed
from scipy import stats

from tests.analysis.statistics.coverage import held
from tests.analysis.statistics.coverage import power as found_again


def by_seed(values) -> dict[int, float]:
    return dict(enumerate(np.asarray(values, float).tolist()))


def test_variances_are_weighted_by_their_degrees_of_freedom():
    assert own(np.array([1.0, 3.0])) == Spread(2.0, 1) and own(np.array([1.0])) is None
    assert pooled([Spread(2.0, 1), None, Spread(5.0, 2)]) == Spread(4.0, 3) and pooled([None]) is None
    # two ways of decoding one variant, of variances 2 and 4, count as one row of variance 3
    found = of_scores([[by_seed([1, 3]), by_seed([0, 8**0.5])], [by_seed([1, 2, 3])], [by_seed([7])]])
    assert found == pytest.approx(Spread((3 * 1 + 1 * 2) / 3, 3))


def test_a_row_whose_seeds_are_equal_says_nothing_of_others():
    """As the mass of uniform attention."""
    rows = [by_seed([1, 3]), by_seed([2, 2]), by_seed([4, 8])]
    assert of_scores([[row] for row in rows]) == of_scores([[rows[0]], [rows[2]]])
    assert of_differences(rows) == pytest.approx(of_differences([rows[0], rows[2]]))


def test_the_spread_of_two_rows_is_that_of_their_differences():
    a, b = [1.0, 4.0, 2.0], [0.0, 1.0, 5.0]
    found = of_differences([by_seed(a), by_seed(b)])
    assert found == pytest.approx(Spread(np.var(np.subtract(a, b), ddof=1), 2))


def test_of_many_rows_it_is_the_mean_over_all_pairs():
    """In a whole layout twice the residual mean square of rows x seeds is the mean variance of all differences."""
    values = np.random.default_rng(0).normal(size=(5, 4))
    found = of_differences([by_seed(row) for row in values])
    pairs = [np.var(values[i] - values[j], ddof=1) for i in range(5) for j in range(i)]
    assert found == pytest.approx(Spread(np.mean(pairs), 4 * 3))
    moved = values + np.random.default_rng(1).normal(size=(1, 4)) * 100
    assert of_differences([by_seed(row) for row in moved]) == pytest.approx(found), "what a seed does to all is in none"


def test_seeds_that_a_row_lacks_leave_the_rest():
    values = np.random.default_rng(2).normal(size=(3, 4))
    rows = [by_seed(row) for row in values]
    del rows[0][3], rows[1][0]
    lone = by_seed([5.0])
    found = of_differences([*rows, lone])
    cells = [(r, s) for r, row in enumerate(rows) for s in row]
    design = np.array([[*(r == i for i in range(3)), *(s == j for j in range(1, 4))] for r, s in cells], float)
    y = np.array([rows[r][s] for r, s in cells])
    residual = y - design @ np.linalg.solve(design.T @ design, design.T @ y)
    assert found == pytest.approx(Spread(2 * residual @ residual / (10 - 6), 4))
    assert of_differences([by_seed([1, 2]), lone]) is None and of_differences([]) is None
    assert of_differences([{0: 1.0, 1: 2.0}, {2: 1.0, 3: 2.0}]) is None, "no seed in common"


@pytest.mark.parametrize(("degrees", "away"), [(3, 2.0), (8, 3.0), (40, 1.0), (12, 0.0)])
def test_power_is_that_of_the_noncentral_t(degrees, away):
    least = stats.t.ppf(0.975, degrees)
    truth = stats.nct.sf(least, degrees, away) + stats.nct.cdf(-least, degrees, away) if away else 0.05
    assert power(away, degrees) == pytest.approx(truth, abs=1e-3)


def test_with_a_known_error_the_detectable_difference_is_that_of_a_book():
    assert detectable(4.0, 0.0, 0) == pytest.approx(2 * (1.960 + 0.842), rel=1e-3)
    assert detectable(2.0, 2.0, 100_000) == pytest.approx(2 * (1.960 + 0.842), rel=3e-3)
    assert detectable(0.0, 4.0, 3) > 2 * detectable(0.0, 1.0, 8) > 0 == detectable(0.0, 0.0, 3)


@pytest.mark.parametrize(("normal", "student", "degrees"), [(1.0, 1.0, 3), (1.0, 0.2, 1), (0.3, 1.0, 2), (0.0, 2.0, 4)])
def test_the_width_of_normal_and_student_together_is_that_of_draws(normal, student, degrees):
    draw = np.random.default_rng(0)
    drawn = normal * draw.normal(size=400_000) + student * draw.standard_t(degrees, size=400_000)
    found = float(half_width(normal, np.array(student), degrees, 0.95))
    assert found == pytest.approx(np.quantile(np.abs(drawn), 0.95), rel=0.02)


def test_the_seeds_that_are_needed_find_the_difference_and_fewer_do_not():
    needed = seeds_needed(0.05, 0.03**2, 0.01**2)
    draw = np.random.default_rng(0)

    def found(seeds):
        """Of 4,000 experiments with two variants; what the images do to all seeds alike is known."""
        values = 0.05 + 0.03 * draw.normal(size=(4000, seeds)) + 0.01 * draw.normal(size=(4000, 1))
        error = np.sqrt(values.var(axis=1, ddof=1) / seeds + 0.01**2)
        return np.mean(np.abs(values.mean(axis=1)) / error > stats.t.ppf(0.975, seeds - 1))

    assert found(needed) >= POWER - 0.03 and found(needed - 2) < POWER
    assert seeds_needed(0.05, 0.03**2, 0.01**2, variants=8) < needed
    assert seeds_needed(0.01, 0.03**2, 0.01**2) is None, "the images alone hide it"


def test_equal_within_is_the_margin_of_two_one_sided_tests():
    """One value an image and many images: as scipy's two t-tests have it."""
    a, b = np.random.default_rng(3).normal(size=(2, 1, 400))
    found = paired(a, b)
    difference = (a - b)[0]
    p = max(
        stats.ttest_1samp(difference, -found.equal_within, alternative="greater").pvalue,
        stats.ttest_1samp(difference, found.equal_within, alternative="less").pvalue,
    )
    assert p == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("rows", "seeds", "case"),
    [(8, 2, "seeds"), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((8, 2, "all"), (4, 3, "both")))],
)
@pytest.mark.parametrize("differences", [pytest.param(False, marks=pytest.mark.slow), True])
def test_pooled_intervals_hold_what_they_say_and_are_narrower(rows, seeds, case, differences):
    most = 2.5 * math.sqrt(0.05 * 0.95 / 200)
    inside, width = held(200, rows, seeds, case, differences=differences)
    _, alone = held(40, rows, seeds, case, pool=False, differences=differences)
    assert inside >= 0.95 - most and width < 0.75 * alone


@pytest.mark.parametrize("case", ["seeds", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("rows", "seeds"), [(2, 2), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((4, 3), (2, 5)))]
)
def test_what_is_said_to_be_detectable_is_found_four_times_in_five(rows, seeds, case):
    assert found_again(150, rows, seeds, case) == pytest.approx(POWER, abs=2.5 * math.sqrt(0.16 / 150))
