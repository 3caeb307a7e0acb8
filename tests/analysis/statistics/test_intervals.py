"""Intervals, differences and tests: closed forms, scipy, numbers by hand, and how often the truth is inside."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from attend.analysis.statistics.intervals import holm, interval, of_pair, of_sums, paired, ratio
from attend.analysis.statistics.resampling import sums
from scipy import stats

from attend.metrics.captions import BLEU_STATISTICS, corpus_bleu
from tests.analysis.statistics.coverage import CASES, made

# Closed forms


def test_of_one_seed_the_interval_is_that_of_student():
    values = made(1, 400)
    found = interval(values)
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert [found.low - found.value, found.high - found.value] == pytest.approx([-half, half], rel=0.03)
    assert (found.seeds, found.images, found.level) == (1, 400, 0.95)
    assert found.method == "bootstrap over 400 images of one seed"


def test_of_one_image_the_interval_is_that_of_student_over_seeds():
    values = np.array([[3.0], [4.0], [8.0]])
    found = interval(values)
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
    assert [found.low, found.high] == pytest.approx([5 - half, 5 + half], rel=0.01)


def test_seeds_that_agree_leave_the_interval_of_the_images():
    one = made(1, 300)
    many, alone = interval(np.repeat(one, 4, axis=0)), interval(one)
    assert (many.low, many.high) == pytest.approx((alone.low, alone.high))
    assert many.method == "bootstrap over 4 seeds and 300 images"


def test_what_is_of_seed_and_image_together_is_counted_once():
    """Variance b/N + e/(S N) of the mean, with enough seeds for Student's t to be normal."""
    values = made(60, 500, of_images=0.5, of_both=3.0)
    found = interval(values)
    half = 1.96 * math.sqrt(0.25 / 500 + 9 / 60 / 500)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_a_ratio_is_weighted_and_its_spread_that_of_the_delta_method():
    draw = np.random.default_rng(1)
    weights = draw.integers(1, 30, size=(1, 800)).astype(float)
    values = draw.normal(size=(1, 800)) + weights / 10
    found = interval(values, weights=weights)
    mean = float(np.sum(values * weights) / np.sum(weights))
    error = math.sqrt(np.sum((weights * (values - mean)) ** 2)) / np.sum(weights)
    assert found.value == pytest.approx(mean)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.04)


def test_missing_values_are_left_out():
    values = np.array([[1.0, 2.0, np.nan, 4.0], [3.0, np.nan, 5.0, 6.0]])
    assert interval(values).value == pytest.approx((7 / 3 + 14 / 3) / 2)
    a, b = values, np.array([[0.0, np.nan, 1.0, 1.0], [1.0, 2.0, 3.0, np.nan]])
    assert paired(a, b).value == pytest.approx(((1 + 3) / 2 + (2 + 2) / 2) / 2)  # of what both have


def test_one_value_has_no_interval():
    found = interval([0.3])
    assert found.value == 0.3 and math.isnan(found.low) and math.isnan(found.high)
    assert found.method == "one value: nothing is known of chance"


# Other libraries


def test_the_interval_is_that_of_scipys_bootstrap():
    skewed = np.random.default_rng(3).exponential(size=(1, 300))
    found = interval(skewed)
    theirs = stats.bootstrap((skewed[0],), np.mean, method="percentile", n_resamples=10_000, random_state=0)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.012)


def test_p_is_that_of_scipys_permutation_test():
    a = np.random.default_rng(4).normal(0.3, 1, size=(1, 40))
    b = np.random.default_rng(5).normal(0.0, 1, size=(1, 40))
    theirs = stats.permutation_test(
        (a[0], b[0]),
        lambda x, y: np.mean(x) - np.mean(y),
        permutation_type="samples",
        n_resamples=10_000,
        random_state=0,
    )
    assert 0.01 < theirs.pvalue < 0.5  # where a wrong one would show
    assert paired(a, b).p == pytest.approx(theirs.pvalue, abs=0.02)


def test_p_is_that_of_all_swaps():
    """Of corpus BLEU-2 on eight images: 256 ways to swap, each scored."""
    a, b = bleu_statistics(8, better=0.25, key=6), bleu_statistics(8, key=7)
    score = bleu(2)
    both = sums(np.stack([a, b]))
    found = of_pair(both.of([0]), both.of([1]), score)
    seen = score(a.sum(0)) - score(b.sum(0))
    assert found.value == pytest.approx(seen)
    ways = [np.array(way)[:, None] for way in itertools.product((0, 1), repeat=8)]
    swapped = [score(np.where(way, b, a).sum(0)) - score(np.where(way, a, b).sum(0)) for way in ways]
    exact = np.mean(np.abs(swapped) >= abs(seen) - 1e-12)
    assert 0.02 < exact < 0.9
    assert found.p == pytest.approx(exact, abs=0.02)


def test_with_seeds_p_is_that_of_student_where_images_tell_nothing():
    a = np.array([[3.0], [4.0], [6.0], [7.5]]) + np.zeros((1, 1000))  # whose swaps move little
    found = paired(a, np.full(a.shape, 2.0))
    assert found.p == pytest.approx(stats.ttest_1samp(a[:, 0], 2.0).pvalue, abs=0.002)
    assert paired(a[:1], np.full((1, 1000), 2.0)).p == pytest.approx(1e-4, rel=0.1)  # one seed: these models, no others


def test_an_interval_without_zero_has_a_small_p_and_the_other_way_round():
    agree = []
    for key in range(60):
        a, b = made(3, 80, of_seeds=0.1, key=key) + 0.06 * (key % 10), made(3, 80, of_seeds=0.1, key=1000 + key)
        found = paired(a, b, resamples=2000)
        agree.append((found.p < 0.05) == (found.low > 0 or found.high < 0))
    assert np.mean(agree) >= 0.93


# Corpus scores


def bleu_statistics(images: int, *, better: float = 0.0, key: int = 0) -> np.ndarray:
    """Matches, guesses and lengths (N, 10) of captions that were never written."""
    draw = np.random.default_rng(key)
    length = draw.integers(6, 14, size=images)
    guesses = np.stack([length - n for n in range(4)], axis=1)
    matches = draw.binomial(guesses, np.array([0.6, 0.4, 0.3, 0.2]) * (1 + better))
    return np.column_stack([matches, guesses, length, draw.integers(6, 14, size=images)]).astype(float)


def bleu(n: int):
    return lambda sums: corpus_bleu(dict(zip(BLEU_STATISTICS, np.moveaxis(sums, -1, 0), strict=True)))[f"bleu{n}"]


def test_corpus_scores_are_computed_again_in_every_resample():
    """The deviation of BLEU-4 over resamples that are drawn and scored one by one, which is not that of a mean."""
    statistics = bleu_statistics(50)
    drawn = sums(statistics[None], resamples=4000)
    draw = np.random.default_rng(11)
    slow = [bleu(4)(statistics[draw.integers(50, size=50)].sum(0)) for _ in range(4000)]
    fast = bleu(4)(drawn.resampled[:, 0])
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.06)
    assert np.quantile(fast, [0.1, 0.9]) == pytest.approx(np.quantile(slow, [0.1, 0.9]), rel=0.02)
    found = of_sums(drawn, bleu(4))
    assert found.value == pytest.approx(bleu(4)(statistics.sum(0)))
    assert found.value != pytest.approx(np.mean(bleu(4)(statistics)), rel=0.05)  # the mean of sentences is another


def test_every_run_meets_the_same_images():
    statistics = np.repeat(bleu_statistics(30)[None], 3, axis=0)
    drawn = sums(statistics, resamples=50)
    for one in (drawn.whole, drawn.resampled, drawn.chosen):
        assert np.array_equal(one[..., 0, :], one[..., 2, :])
    one = np.ones((1, 30, 1))
    assert np.all(sums(one, resamples=50).resampled == 30)  # as many as there are
    assert np.std(sums(one, resamples=2000).chosen) == pytest.approx(math.sqrt(30) / 2, rel=0.1)


# What else a difference says


def test_the_effect_is_cohens_d_over_images():
    a, b = made(1, 500, key=1) + 0.4, made(1, 500, key=2)
    difference = (a - b)[0]
    assert paired(a, b).effect == pytest.approx(difference.mean() / difference.std(ddof=1), rel=0.03)


def test_the_chance_of_improvement_is_that_of_all_pairs_of_seeds():
    a, b = np.array([[1.0], [3.0], [5.0]]), np.array([[2.0], [3.0], [0.0]])
    assert paired(a, b).improvement == pytest.approx((1 + 2.5 + 3) / 9)
    same = made(3, 50)
    assert paired(same, same).improvement == pytest.approx(0.5, abs=0.01)


def test_the_smallest_difference_is_found_in_four_of_five_cases():
    detectable, found = [], []
    for key in range(200):
        a, b = made(1, 100, key=key), made(1, 100, key=1000 + key)
        alone = paired(a, b, resamples=400)
        detectable.append(alone.detectable)
        size = 2.8 * math.sqrt((2 + 2) / 100)  # z of 0.975 and of 0.8, times the true standard error
        there = paired(a + size, b, resamples=400)
        found.append(there.low > 0)
    assert np.mean(detectable) == pytest.approx(size, rel=0.03)
    assert 0.72 < np.mean(found) < 0.88


def test_what_is_equal_does_not_differ():
    same = made(3, 40)
    found = paired(same, same)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1) and math.isnan(found.effect)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06 is no less than the one before, and 0.04 x 1 is raised to it."""
    assert holm([0.04, 0.01, float("nan"), 0.03, 0.02])[:2] == pytest.approx([0.06, 0.04])
    adjusted = holm([0.04, 0.01, float("nan"), 0.03, 0.02])
    assert adjusted[3:] == pytest.approx([0.06, 0.06]) and math.isnan(adjusted[2])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


# How often the truth is inside


def coverage(seeds: int, case: str, found, datasets: int = 300) -> float:
    """How often an interval (low, high) of 60 images holds the mean."""
    of_seeds, of_images, of_both = CASES[case]
    inside = 0
    for key in range(datasets):
        values = made(seeds, 60, of_seeds=of_seeds, of_images=of_images, of_both=of_both, key=[seeds, key])
        low, high = found(values)
        inside += low <= 0 <= high
    return inside / datasets


def ours(values):
    found = interval(values, resamples=400)
    return found.low, found.high


def percentiles(values):
    """The plain bootstrap: seeds and images drawn with replacement, and the percentiles of their mean."""
    draw = np.random.default_rng(0)
    seeds, images = (draw.integers(n, size=(400, n)) for n in values.shape)
    means = [values[s][:, i].mean() for s, i in zip(seeds, images, strict=True)]
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.thin
@pytest.mark.parametrize(("seeds", "case"), [(1, "images"), *itertools.product((2, 3, 5), ("images", "both", "seeds"))])
def test_the_truth_is_inside_as_often_as_is_said(seeds, case):
    """95 % within what 300 data sets can tell, or more; of one seed where seeds do not differ."""
    assert coverage(seeds, case, ours) >= 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / 300)


@pytest.mark.parametrize(
    ("seeds", "most"), [(2, 0.75), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((3, 0.87), (5, 0.93)))]
)
def test_the_plain_bootstrap_of_few_seeds_says_too_much(seeds, most):
    assert coverage(seeds, "seeds", percentiles) < most


def test_a_true_null_is_rejected_no_more_often_than_is_said():
    rejected = []
    for key in range(300):
        a, b = (made(3, 60, of_seeds=0.2, key=[key, one]) for one in (0, 1))
        rejected.append(paired(a, b, resamples=400).p < 0.05)
    assert np.mean(rejected) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 300)


def test_the_order_of_draws_is_the_same_twice():
    values = made(3, 50)
    assert interval(values) == interval(values)
    assert interval(values, seed=1) != interval(values)


# Bad input


def test_wrong_choices():
    with pytest.raises(ValueError, match="level is 95, but must be between 0 and 1"):
        interval([1, 2], level=95)
    with pytest.raises(ValueError, match="pair the same seeds on the same images"):
        paired([[1, 2]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="seed 1 of 2 has no value on any image: leave it out"):
        interval([[1, 2], [math.nan, math.nan]])
    with pytest.raises(ValueError, match="seeds x images"):
        interval(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="resamples is 0"):
        interval([1, 2], resamples=0)


def test_images_without_a_value_are_no_part_of_n():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 20))
    others = rng.normal(size=(3, 20))
    spread = np.full((2, 3, 1000), np.nan)
    spread[:, :, 100:120] = values, others
    for alone, among in ((interval(values), interval(spread[0])), (paired(values, others), paired(*spread))):
        assert among == alone and among.images == 20
    one = np.full((1, 6), np.nan)
    one[0, 0] = 2.0
    assert interval(one).value == 2 and math.isnan(interval(one).low) and math.isnan(ratio(np.zeros(2)))


def test_a_resample_without_any_value_is_left_out():
    """A seed may have its only value on an image that others have too."""
    values = np.full((2, 6), 2.0)
    values[1, 1:] = np.nan
    found = interval(values, resamples=500)
    assert (found.value, found.low, found.high, found.images) == (2, 2, 2, 6)
