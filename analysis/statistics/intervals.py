"""Means and differences with their intervals over seeds and images.

Scores y_si of seed s on image i vary with the seed, with the image, and with their interaction. Images are resampled,
the same for all seeds, and scores are computed again. Seeds are too few to be resampled: if they differ, the bootstrap
over two, three or five seeds covers the truth in 63, 77 or 85 of 100 cases instead of 95. So the effect of the seed is
sampled from Student's t, scaled by the observed deviation:

    mean + sqrt(share) (mean of resampled images - mean) + sqrt(s^2 / S) t

where s^2 is the variance of the score between seeds, of this row alone with S - 1 degrees of freedom or of all rows of
a table with theirs (``pooling``), and share is the fraction of the images' variance that all seeds have in common. The
rest, the interaction of seed and image, is already in s. ``docs/statistics.md`` reports coverage.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from attend.analysis.statistics.pooling import Spread, known_of
from attend.analysis.statistics.power import detectable
from attend.analysis.statistics.resampling import Score, Sums, sums
from scipy import stats

from attend.chance import numpy_generator


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score and its interval over seeds and images at ``level``. ``method`` names the method in words.

    ``low`` and ``high`` are NaN if there is one seed on one image. ``lowest`` and ``highest`` are the scores of the
    seeds; ``degrees`` the degrees of freedom of what is known of other seeds, 0 if the interval is over images alone.
    """

    value: float
    low: float
    high: float
    level: float
    seeds: int
    images: int
    method: str
    lowest: float
    highest: float
    degrees: int

    @property
    def says_nothing(self) -> bool:
        """Whether it is so wide that the range over seeds says more: two seeds, with nothing to pool them with."""
        return self.degrees == 1 and (self.seeds == 1 or self.lowest < self.highest)

    @property
    def shown(self) -> tuple[float, float, float]:
        """Value, low and high, or the lowest and the highest seed where the interval says nothing."""
        return (self.value, self.lowest, self.highest) if self.says_nothing else self.ends

    @property
    def ends(self) -> tuple[float, float, float]:
        """Value, low and high."""
        return self.value, self.low, self.high


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """a - b on the same images and seeds.

    ``p`` is two-sided: the probability of a difference as large if images swap a and b at random and seeds vary as
    observed. ``p_images`` is that of the swaps alone, so it holds for these runs only, not for new seeds.
    ``effect`` is Cohen's d_z over images: the difference divided by the standard deviation of an image's contribution.
    ``equal_within`` is the smallest margin of equivalence that two one-sided tests at 5 % each affirm (TOST): a and b
    differ by less. ``detectable`` is the smallest true difference that as many seeds and images find with power 80 %.
    ``over_images`` is the variance that the images bring into the difference, whatever the seeds.
    ``improvement`` is the probability that a run of a beats a run of b on such images, over all pairs of seeds.
    """

    p: float
    p_images: float
    effect: float
    equal_within: float
    detectable: float
    over_images: float
    improvement: float


def interval(values, *, weights=None, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean over seeds of each seed's mean over its images, with its interval.

    ``values`` (S, N), or (N,) for one seed; NaN is missing. With ``weights`` (S, N) a seed's mean is weighted, for
    example by the number of words of an image.

    Raises:
        ValueError: the shapes do not fit, the level is not between 0 and 1, or a seed has no value.
    """
    statistics = means(values, weights)
    statistics = statistics[:, _known(statistics)]
    return of_sums(sums(statistics, resamples=resamples, seed=seed), ratio, level=level, seed=seed)


def paired(a, b, *, weights=None, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Difference:
    """a - b of means as in ``interval``, both (S, N) on the same seeds and images. A value that one lacks is left out.

    Raises:
        ValueError: as ``interval``, or shapes that differ.
    """
    a, b = (np.atleast_2d(np.asarray(one, float)) for one in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"a has shape {a.shape} and b {b.shape}: pair the same seeds on the same images")
    missing = np.isnan(a) | np.isnan(b)
    a, b = (np.where(missing, np.nan, one) for one in (a, b))
    statistics = np.concatenate([means(a, weights), means(b, weights)])
    both = sums(statistics[:, _known(statistics)], resamples=resamples, seed=seed)
    first, second = both.of(slice(len(a))), both.of(slice(len(a), None))
    return of_pair(first, second, ratio, level=level, seed=seed)


def within(found: Interval, least: float, largest: float) -> Interval:
    """The interval, or difference, cut to the range of possible scores."""
    return replace(found, low=max(found.low, least), high=min(found.high, largest))


def mean_of_known(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean of the values that are known along an axis, NaN if none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing
        return np.nanmean(np.asarray(values, float), axis=axis)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of values and their weights -> the mean; NaN if nothing was summed."""
    weight = sums[..., 1]
    return np.divide(sums[..., 0], weight, out=np.full(weight.shape, np.nan), where=weight > 0)


def of_sums(drawn: Sums, score: Score, *, spread: Spread | None = None, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean over seeds of a corpus score, with its interval; ``spread`` is that of all rows, if it is known."""
    whole, resampled = score(drawn.whole), score(drawn.resampled)
    _check(level, whole)
    value, spread = float(whole.mean()), known_of(whole, spread)
    low, high = _ends(whole, resampled, drawn.images, spread, level, seed)
    return Interval(value=value, low=low, high=high, level=level, **_facts(whole, drawn.images, spread))


def of_pair(
    a: Sums, b: Sums, score: Score, *, spread: Spread | None = None, level: float = 0.95, seed: int = 0
) -> Difference:
    """a - b of a corpus score, the seeds paired in their order; ``spread`` as in ``of_sums``, of such differences."""
    a_whole, b_whole, a_again, b_again = score(a.whole), score(b.whole), score(a.resampled), score(b.resampled)
    whole, resampled = a_whole - b_whole, a_again - b_again
    _check(level, whole)
    images, value, spread = a.images, float(whole.mean()), known_of(whole, spread)
    low, high = _ends(whole, resampled, images, spread, level, seed)
    # two one-sided tests at 5 % affirm what holds the interval at 90 %
    equal = np.abs(_ends(whole, resampled, images, spread, 2 * level - 1, seed)).max()
    moved = b.chosen - a.chosen
    swapped = score(a.whole + moved) - score(b.whole - moved)  # (R, S)
    least = abs(value) - 1e-12 * max(1.0, abs(value))  # a draw without swaps may differ from value by rounding
    noises = _noises(whole, swapped, 0.0, spread, seed)
    ps = [float((1 + np.sum(np.abs(noise) >= least)) / (1 + len(noise))) for noise in noises]
    together, shared, seeds = _variances(whole, resampled, spread)
    deviation, degrees = np.sqrt(together * images), spread.degrees if spread else 0
    wins = a_again[:, :, None] - b_again[:, None, :]
    return Difference(
        value=value,
        low=low,
        high=high,
        level=level,
        p=max(ps),
        p_images=ps[0],
        effect=float(value / deviation) if deviation else np.nan,
        equal_within=float(equal),
        detectable=max(detectable(together, 0.0, 0, level), detectable(shared, seeds, degrees, level)),
        over_images=shared,
        improvement=float(np.mean(wins > 0) + np.mean(wins == 0) / 2),
        **_facts(whole, images, spread),
    )


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, adjusted: p_(k) -> max_{j <= k} min(1, (m - j + 1) p_(j)), in ascending order.

    The probability of one or more false positives among those below 0.05 is then at most 5 %. NaN is no test and stays.
    Source: Holm (1979).
    """
    adjusted = np.array(ps, float)
    order = np.argsort(adjusted, kind="stable")[: np.sum(~np.isnan(adjusted))]  # NaN is last
    steps = np.minimum(1.0, np.arange(len(order), 0, -1) * adjusted[order])
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted.tolist()


def _variances(whole: np.ndarray, drawn: np.ndarray, spread: Spread | None) -> tuple[float, float, float]:
    """Variances of the mean over seeds: over images for these seeds, its part common to all seeds, and over seeds.

    whole (S,) has the seeds' scores, drawn (R, S) their scores on resampled images. The first and the third variance
    both contain the interaction of seed and image. So the total variance is the second plus the third. Of one seed the
    part in common is not known, and is taken for the whole.
    """
    seeds = len(whole)
    together = float(np.nanvar(drawn.mean(axis=1)))
    over_seeds = 0.0 if spread is None else spread.variance / seeds
    if seeds == 1:
        return together, together, over_seeds
    alone = float(np.nanmean(np.nanvar(drawn, axis=0)))
    shared = max(0.0, (seeds * together - alone) / (seeds - 1))
    return together, shared, over_seeds


def _noises(whole: np.ndarray, drawn: np.ndarray, centre: float, spread: Spread | None, seed: int) -> list[np.ndarray]:
    """Samples (R,) of the error of the mean over seeds: from images alone, and from images and seeds."""
    noise = drawn.mean(axis=1) - centre
    noise = noise[np.isfinite(noise)]
    if spread is None:
        return [noise]
    together, shared, seeds = _variances(whole, drawn, spread)
    places = numpy_generator("places of the ends", seed).permutation(len(noise)) + 0.5
    student = stats.t.ppf(places / len(noise), spread.degrees)  # each quantile once
    return [noise, noise * (np.sqrt(shared / together) if together else 0.0) + np.sqrt(seeds) * student]


def _ends(
    whole: np.ndarray, drawn: np.ndarray, images: int, spread: Spread | None, level: float, seed: int
) -> tuple[float, float]:
    """The wider of the two intervals: seeds that agree by chance do not make it narrower than that over images."""
    if images == 1 and spread is None:
        return np.nan, np.nan
    wider = 1.0
    if images > 1:  # Hesterberg (2015): for n values the bootstrap's deviation is too small, and its tails are normal
        tails = stats.t.ppf((1 + level) / 2, images - 1) / stats.norm.ppf((1 + level) / 2)
        wider = tails * np.sqrt(images / (images - 1))
    value = float(whole.mean())
    ends = [
        np.quantile(noise, [(1 - level) / 2, (1 + level) / 2])
        for noise in _noises(whole, value + wider * (drawn - value), value, spread, seed)
    ]
    return value + float(min(low for low, _ in ends)), value + float(max(high for _, high in ends))


def _facts(whole: np.ndarray, images: int, spread: Spread | None) -> dict:
    """The numbers of seeds and images, the range of the seeds, what is known of others, and the method in words."""
    seeds, degrees = len(whole), spread.degrees if spread else 0
    many = f"{images:,} {'image' if images == 1 else 'images'}"
    over = (
        f"{many} of one seed"
        if seeds == 1 and not degrees
        else f"{seeds} {'seed' if seeds == 1 else 'seeds'} and {many}"
    )
    method = f"bootstrap over {over}" if degrees or images > 1 else "one value: nothing is known of chance"
    if degrees > seeds - 1:
        method += f", the spread of seeds pooled ({degrees} degrees of freedom)"
    seen = {"lowest": float(whole.min()), "highest": float(whole.max())}
    return {"seeds": seeds, "images": images, "method": method, "degrees": degrees} | seen


def means(values, weights=None) -> np.ndarray:
    """Values and weights (S, N) -> statistics (S, N, 2) whose ``ratio`` is the mean."""
    values = np.atleast_2d(np.asarray(values, float))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values must be seeds x images, at least one of each, not {values.shape}")
    weights = np.ones(values.shape) if weights is None else np.broadcast_to(np.asarray(weights, float), values.shape)
    weights = np.where(np.isnan(values), 0.0, weights)
    return np.stack([np.where(np.isnan(values), 0.0, values) * weights, weights], axis=-1)


def _known(statistics: np.ndarray) -> np.ndarray:
    """Mask (N,) of the images that have a value for some seed: only they count. All images if none has a value."""
    known = (statistics[..., 1] > 0).any(axis=0)
    return known if known.any() else np.ones_like(known)


def _check(level: float, whole: np.ndarray) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, but must be between 0 and 1, for example 0.95")
    if not np.isfinite(whole).all():
        seed = int(np.flatnonzero(~np.isfinite(whole))[0])
        raise ValueError(f"seed {seed} of {len(whole)} has no value on any image: leave it out")
