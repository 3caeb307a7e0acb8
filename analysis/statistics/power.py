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


def detectable(variance: float, degrees: float, level: float = 0.95) -> float:
    """The smallest true difference that as many seeds and images again find with probability POWER.

    ``variance`` is that of the estimated difference, itself estimated with so many degrees of freedom. So the true
    error is not known: it is the estimated one times sqrt(degrees / chi^2), and the power that is promised is the mean
    over what it may be. An estimate that came out small by luck does not promise too much.
    """
    if not variance or degrees < 1:
        return 0.0
    return math.sqrt(variance) * _factor(round(min(degrees, 1000.0), 1), level)


@lru_cache(maxsize=4096)
def _factor(degrees: float, level: float) -> float:
    """By how many estimated standard errors a difference must be away from 0."""
    known = np.sqrt(special.chdtri(degrees, PLACES) / degrees)  # the estimated error in units of the true one
    return optimize.brentq(lambda factor: power(factor * known, degrees, level) - POWER, 0.0, 1e4, xtol=1e-4)


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
