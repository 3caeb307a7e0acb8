"""Estimators whose gradient runs along the context: what is sampled is the noise, and nothing is charged."""

import torch

from attend import config
from attend.attention.select import GumbelStraightThrough, Policy, Relaxed, StraightThrough
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.estimators.paths import Charges, Paths
from attend.estimators.reinforce import equal_shares


def pathwise(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """share_k = 1/K, charge = 0: the mean over K draws of the cost's own gradient, through the relaxed glimpse.

    Source: Jang et al. (2017); Maddison et al. (2017); Bengio et al. (2013).
    """
    return Charges(equal_shares(paths), torch.zeros_like(paths.costs))


def gumbel_softmax(noise: Noise, settings: config.Config) -> Policy:
    """The relaxed glimpse."""
    return Relaxed(noise.places, settings.estimator.relaxation)


def straight_through(noise: Noise, settings: config.Config) -> Policy:
    """A sample whose gradient is that of the mean."""
    return StraightThrough(noise.glimpse)


def gumbel_straight_through(noise: Noise, settings: config.Config) -> Policy:
    """A sample whose gradient is that of the relaxed glimpse."""
    return GumbelStraightThrough(noise.places, settings.estimator.relaxation)
