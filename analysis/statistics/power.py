"""What a number of seeds and images can find: the smallest detectable difference, and the seeds that one needs."""

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

POWER = 0.8
"""The probability with which the smallest detectable difference is detected."""
PLACES = (np.arange(200) + 0.5) / 200
"""Quantiles at which a chance is averaged."""


def power(away: np.ndarray | float, degrees: float, level: float = 0.95) -> float:
    """The probability that Student's test at ``level`` finds a difference of ``away`` true standard errors.

    The statistic has the noncentral t-distribution: (away + z) / sqrt(chi^2 / degrees) with a normal z. Of several
    ``away`` it is the mean.
    """
    least = stats.t.ppf((1 + level) / 2, degrees)
    asked = least * np.sqrt(special.chdtri(degrees, PLACES) / degrees)  # in true standard errors
    away = np.reshape(away, (-1, 1))
    return float(np.mean(special.ndtr(away - asked) + special.ndtr(-asked - away)))


def detectable(over_images: float, over_seeds: float, degrees: int, level: float = 0.95) -> float:
    """The smallest true difference that as many seeds and images again find with probability POWER.

    ``over_images`` is the variance that the images bring into a difference, whatever the seeds, and is taken for known;
    ``over_seeds`` that of the mean over seeds, which is estimated with so many ``degrees`` of freedom (0: there is
    none). So neither the true error is known, nor how wide the interval of a further experiment will be: the power that
    is promised is the mean over both, each the estimate times chi^2 / degrees or its inverse. An estimate that came out
    small by luck does not promise too much.
    """
    if not over_seeds or not degrees:
        return math.sqrt(over_images) * (stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER))
    known = special.chdtri(degrees, PLACES[::4]) / degrees  # a variance's estimate in units of the true one
    true = over_seeds / known[:, None]
    error = np.sqrt(over_images + true)
    least = half_width(math.sqrt(over_images), np.sqrt(true * known[None]), degrees, level)

    def lacking(difference: float) -> float:
        found = special.ndtr((difference - least) / error) + special.ndtr((-difference - least) / error)
        return float(np.mean(found)) - POWER

    return optimize.brentq(lacking, 0.0, 1e4 * math.sqrt(over_images + over_seeds), rtol=1e-4)


def half_width(normal: float, student: np.ndarray, degrees: int, level: float) -> np.ndarray:
    """Half the width of the interval of normal z + student t, for deviations of a normal and of Student's t."""
    if not normal:
        return student * stats.t.ppf((1 + level) / 2, degrees)
    shares, widths = _widths(degrees, level)
    whole = np.hypot(normal, student)
    return whole * np.interp(student / whole, shares, widths)


@lru_cache(maxsize=256)
def _widths(degrees: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Half widths of sqrt(1 - r^2) z + r t for shares r in [0, 1] of the deviation."""
    shares = np.linspace(0, 1, 41)
    student = stats.t.ppf(np.linspace(0.5, 1, 2001)[:-1] + 1 / 8000, degrees)

    def beyond(width: float, share: float) -> float:
        normal = max(math.sqrt(1 - share**2), 1e-6)
        inside = special.ndtr((width - share * student) / normal) - special.ndtr((-width - share * student) / normal)
        return float(np.mean(inside)) - level

    most = 2 * stats.t.ppf((1 + level) / 2, degrees) + 2
    return shares, np.array([optimize.brentq(beyond, 0.0, most, args=(share,)) for share in shares])


def seeds_needed(
    difference: float, seed_variance: float, image_variance: float, variants: int = 2, most: int = 1000
) -> int | None:
    """The smallest number of seeds of each of so many variants that finds a true difference with probability POWER.

    ``seed_variance`` is that of the difference of two variants from one seed to the next, ``image_variance`` what the
    images add to the mean over any number of seeds. None if not even ``most`` seeds find it.
    """
    for seeds in range(2, most + 1):
        away = abs(difference) / math.sqrt(seed_variance / seeds + image_variance)
        if power(away, (variants - 1) * (seeds - 1)) >= POWER:
            return seeds
    return None
