"""Estimators whose gradient runs along the context: what is sampled is the noise, and nothing is charged."""

from __future__ import annotations

import torch

from attend import config
from attend.estimators.baselines import MovingAverage
from attend.estimators.paths import Charges, Paths
from attend.estimators.reinforce import equal_shares


def pathwise(paths: Paths, settings: config.Estimator, average: MovingAverage) -> Charges:
    """share_k = 1/K, charge = 0: the mean over K draws of the cost's own gradient, through the relaxed glimpse.

    Source: Jang et al. (2017); Maddison et al. (2017); Bengio et al. (2013).
    """
    return Charges(equal_shares(paths), torch.zeros_like(paths.costs))
