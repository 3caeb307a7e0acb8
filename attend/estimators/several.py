"""Estimators that compare K paths of a caption by how likely they make it, w_k = prod_t p(y_t | s^k)."""

import math

import torch
from torch import Tensor

from attend import config
from attend.estimators.baselines import Average
from attend.estimators.paths import Charges, Paths


def vimco(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """The gradient of the K-sample bound -E log I, I = (1/K) sum_k w_k, without bias:

        share_k = w_k / sum_j w_j,    charge_t^k = -log I + log I_{-k} at every t,

    where I_{-k} has the geometric mean of the other w_j in place of w_k. With K = 1 there are none: log I_{-k} = 0.
    Where words are apart (``attention.feed: expected``) each has its own w_k = p(y_t | s_t^k).

    Source: Mnih and Rezende (2016).
    """
    log_w = -paths.cost.transpose(-1, -2)  # (..., 1 or T, K)
    several = log_w.shape[-1]
    log_i = _log_mean(log_w)
    charge = -log_i[..., None].expand_as(log_w)
    if several > 1:
        others = (log_w.sum(-1, keepdim=True) - log_w) / (several - 1)  # the geometric mean, in logarithms
        own = torch.eye(several, dtype=torch.bool, device=log_w.device)
        replaced = torch.where(own, others[..., None], log_w[..., None, :])  # (..., K, K), row k without path k
        charge = charge + _log_mean(replaced)
    return Charges(shares(paths), charge.transpose(-1, -2) * paths.sampled, -log_i)


def wake_sleep(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """Self-normalised importance weights, with the prior alpha as a proposal that is held fixed:

        share_k = w_k / sum_j w_j,    charge_t^k = -share_k at every t.

    The gradient of the K-sample bound with respect to all but the proposal. Each path pulls at its own alpha, no
    baseline is needed, and the bias against the gradient of the marginal falls as 1/K.

    Source: Ba et al. (2015), wake phase p.
    """
    share = shares(paths)
    return Charges(share, -share * paths.sampled, -_log_mean(-paths.cost.transpose(-1, -2)))


def shares(paths: Paths) -> Tensor:
    """w_k / sum_j w_j, (..., K, 1 or T)."""
    return torch.softmax(-paths.cost, -2)


def _log_mean(log_w: Tensor) -> Tensor:
    """log (1/K) sum_k w_k over the last axis."""
    return torch.logsumexp(log_w, -1) - math.log(log_w.shape[-1])
