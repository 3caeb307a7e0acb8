"""Means, differences and their intervals over seeds and images: what a table may claim.

Scores y_si of seed s on image i have three sources of chance: the seed, the image, and what is of both. Images are
resampled, the same for all seeds, and scores computed again. Seeds are too few to be resampled (of three, a bootstrap
covers far less than it says), so their part is drawn from Student's t on S - 1 degrees of freedom, with the spread that
the seeds show. ``docs/statistics.md`` says what was measured of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.resampling import Score, Sums, sums

POWER = 0.8
"""Chance at which the smallest detectable difference would have been found."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score, and where chance of seeds and images leaves it at ``level``. ``method`` says how that was found.

    ``low`` and ``high`` are NaN where one seed on one image tells nothing of chance.
    """

    value: float
    low: float
    high: float
    level: float
    seeds: int
    images: int
    method: str


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """a - b on the same images and seeds.

    ``p`` is two-sided: how often a difference as large comes about where images swap a and b at random, and seeds
    spread as they do. ``effect`` is Cohen's d_z over images: the difference in standard deviations of an image's part.
    ``detectable`` is the smallest difference that so many seeds and images find at ``level`` with a chance of 80 %.
    ``improvement`` is the chance that a run of a beats a run of b on images like these, over all pairs of seeds.
    """

    p: float
    effect: float
    detectable: float
    improvement: float


def interval(values, *, weights=None, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The mean over seeds of each seed's mean over its images, with its interval.

    ``values`` (S, N), or (N,) for one seed; NaN is missing. With ``weights`` (S, N) a seed's mean is weighted, as by
    the words of an image.

    Raises:
        ValueError: shapes that do not fit, a level that is none, or a seed without any value.
    """
    statistics = _means(values, weights)
    return of_sums(sums(statistics, resamples=resamples, seed=seed), ratio, level=level, seed=seed)


def paired(a, b, *, weights=None, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Difference:
    """a - b of means as in ``interval``, both (S, N) on the same seeds and images. What one lacks, both lack.

    Raises:
        ValueError: as ``interval``, or shapes that differ.
    """
    a, b = (np.atleast_2d(np.asarray(one, float)) for one in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"a is {a.shape} and b {b.shape}: pair the same seeds on the same images")
    missing = np.isnan(a) | np.isnan(b)
    a, b = (np.where(missing, np.nan, one) for one in (a, b))
    both = sums(np.concatenate([_means(a, weights), _means(b, weights)]), resamples=resamples, seed=seed)
    first, second = both.of(slice(len(a))), both.of(slice(len(a), None))
    return of_pair(first, second, ratio, level=level, seed=seed)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of values and their weights -> the mean; NaN where nothing was summed."""
    weight = sums[..., 1]
    return np.divide(sums[..., 0], weight, out=np.full(weight.shape, np.nan), where=weight > 0)


def of_sums(drawn: Sums, score: Score, *, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean over seeds of a corpus score, with its interval."""
    whole, resampled = score(drawn.whole), score(drawn.resampled)
    _check(level, whole)
    value, noise = float(whole.mean()), _noise(whole, resampled, seed)
    low, high = _ends(value, noise, level, drawn.images * len(whole))
    return Interval(value=value, low=low, high=high, level=level, **_said(len(whole), drawn.images))


def of_pair(a: Sums, b: Sums, score: Score, *, level: float = 0.95, seed: int = 0) -> Difference:
    """a - b of a corpus score, the seeds paired in their order."""
    pairs = [(score(x), score(y)) for x, y in ((a.whole, b.whole), (a.resampled, b.resampled))]
    (a_whole, b_whole), (a_again, b_again) = pairs
    whole, resampled = a_whole - b_whole, a_again - b_again
    _check(level, whole)
    value, noise = float(whole.mean()), _noise(whole, resampled, seed)
    images, seeds = a.images, len(whole)
    low, high = _ends(value, noise, level, images * seeds)
    moved = b.chosen - a.chosen
    swapped = score(a.whole + moved) - score(b.whole - moved)  # (R, S)
    null = _noise(whole, swapped, seed, centre=0.0)
    reached = np.abs(null) >= abs(value) - 1e-12 * max(1.0, abs(value))
    spread = float(np.nanstd(np.nanmean(resampled, axis=1), ddof=1)) if images > 1 else 0.0
    error = np.hypot(spread, whole.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else 0.0)
    wins = a_again[:, :, None] - b_again[:, None, :]
    return Difference(
        value=value,
        low=low,
        high=high,
        level=level,
        p=float((1 + reached.sum()) / (1 + len(null))),
        effect=float(value / (spread * np.sqrt(images))) if spread else np.nan,
        detectable=float((high - low) / 2 + stats.norm.ppf(POWER) * error),
        improvement=float(np.mean(wins > 0) + np.mean(wins == 0) / 2),
        **_said(seeds, images),
    )


def _noise(whole: np.ndarray, resampled: np.ndarray, seed: int, centre: float | None = None) -> np.ndarray:
    """What chance adds to the mean over seeds: draws (R,) from images and seeds together.

    whole (S,) are the scores of the seeds, resampled (R, S) those on resampled images.
    """
    mean = np.nanmean(resampled, axis=1)
    noise = mean - (whole.mean() if centre is None else centre)
    seeds = len(whole)
    if seeds == 1:
        return noise
    spread = whole.std(ddof=1) / np.sqrt(seeds)
    generator = np.random.default_rng([seed, 2])
    return noise + spread * generator.standard_t(seeds - 1, size=len(noise))


def _ends(value: float, noise: np.ndarray, level: float, units: int) -> tuple[float, float]:
    if units == 1:
        return np.nan, np.nan
    low, high = np.quantile(noise, [(1 - level) / 2, (1 + level) / 2])
    return value + float(low), value + float(high)


def _said(seeds: int, images: int) -> dict:
    """n, and the method in words."""
    many = f"{images:,} {'image' if images == 1 else 'images'}"
    over = f"{many} of one seed" if seeds == 1 else f"{seeds} seeds and {many}"
    method = f"bootstrap over {over}" if seeds * images > 1 else "one value: nothing is known of chance"
    return {"seeds": seeds, "images": images, "method": method}


def _means(values, weights) -> np.ndarray:
    """Values and weights (S, N) -> statistics (S, N, 2) whose ``ratio`` is the mean."""
    values = np.atleast_2d(np.asarray(values, float))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values are seeds x images, at least one of each, not {values.shape}")
    weights = np.ones(values.shape) if weights is None else np.broadcast_to(np.asarray(weights, float), values.shape)
    weights = np.where(np.isnan(values), 0.0, weights)
    return np.stack([np.where(np.isnan(values), 0.0, values) * weights, weights], axis=-1)


def _check(level: float, whole: np.ndarray) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, but must be between 0 and 1, as 0.95")
    if not np.isfinite(whole).all():
        seed = int(np.flatnonzero(~np.isfinite(whole))[0])
        raise ValueError(f"seed {seed} of {len(whole)} has no value on any image: leave it out")
