"""How sharp weights are, and others that are exactly as sharp: two ways to compare looks at equal sharpness.

The sharper weights are, the more of them falls into one box by luck or by habit, so a share of attention in a box says
little unless what stands beside it is as sharp. Sharpness is the mean over words of the entropy of their weights,

    H(alpha) = - sum_i alpha_i log alpha_i    (nats; 0 is one cell, log L all cells alike).
"""

from collections.abc import Callable

import numpy as np

from attend.geometry import centre_weights

HALVINGS = 60
"""Of a bisection: more than the digits of a float64."""
EVEN = 1e-6
"""Nats below those of an even look that count as even."""


def entropy(weights: np.ndarray) -> np.ndarray:
    """H in nats (...) of weights (..., L), which are normalised first; 0 for weights that are all 0."""
    weights = np.asarray(weights, float)
    total = weights.sum(-1, keepdims=True)
    share = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return -(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(-1)


def centre_of(grid: tuple[int, int], nats: float) -> np.ndarray:
    """The Gaussian (L,) at the centre (``geometry.centre_weights``) whose entropy is ``nats``: as sharp as a model.

    Where no Gaussian is so sharp (the centre of an even number of cells lies between them) it is the sharpest there
    is, all of it in the middle cells, and where none is so even it is the even look.
    """

    def at(log_width: float) -> np.ndarray:
        return centre_weights(grid, np.exp(log_width))

    if nats > np.log(grid[0] * grid[1]) - EVEN:
        return np.full(grid[0] * grid[1], 1 / (grid[0] * grid[1]))
    return at(_root(lambda one: entropy(at(one)), nats, -6.0, 4.0))


def tempered(weights: np.ndarray, nats: float) -> tuple[np.ndarray, float]:
    """Weights (M, L) as alpha^(1/tau) / sum alpha^(1/tau), by the one tau at which their mean entropy is ``nats``.

    Also returns tau: below 1 it makes weights sharper. Weights of exactly 0 stay 0. Where no tau gives it, tau is the
    end of [1/50, 50] that comes nearest.
    """
    weights = np.asarray(weights, float)
    largest = weights.max(-1, keepdims=True)
    share = np.divide(weights, largest, out=np.zeros_like(weights), where=largest > 0)

    def at(log_tau: float) -> np.ndarray:
        return share ** np.exp(-log_tau)

    log_tau = _root(lambda one: entropy(at(one)).mean(), nats, -np.log(50), np.log(50))
    found = at(log_tau)
    return found / np.maximum(found.sum(-1, keepdims=True), 1e-300), float(np.exp(log_tau))


def _root(rising: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a function that rises takes a value, or the end of the range that comes nearest."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > value else (middle, high)
    return (low + high) / 2
