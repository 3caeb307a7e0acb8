"""Estimators of the bound from K different paths: none is paid for twice."""

from __future__ import annotations

import torch
from torch import Tensor

from attend import config
from attend.estimators.baselines import MovingAverage
from attend.estimators.paths import Charges, Paths


def sum_and_sample(paths: Paths, settings: config.Estimator, average: MovingAverage) -> Charges:
    """The first K - 1 paths are summed by their probability, the last one stands for all the rest:

        share_k = p_k,  share_K = 1 - sum_{k<K} p_k,    charge_t^k = share_k (cost_k - b) at every t.

    Unbiased for any fixed choice of the first, and without variance where they are all there are; b is their mean cost.
    Where words are apart the choice is the K - 1 largest weights of a word. Else it is of whole paths, and at the
    length of a real caption no K - 1 of them hold much of the probability: it is nearly REINFORCE.

    Source: Liu et al. (2019).
    """
    p = paths.log_prob.exp()[..., :-1, :]
    summed = p.sum(-2, keepdim=True)
    share = torch.cat([p, (1 - summed).clamp(min=0)], -2)
    level = (p * paths.cost[..., :-1, :]).sum(-2, keepdim=True) / summed
    return Charges(share, share * (paths.cost - level) * paths.sampled)


def unordered_set(paths: Paths, settings: config.Estimator, average: MovingAverage) -> Charges:
    """K paths without replacement, a set S, each weighed by how likely it is to come first:

        share_k = p_k R(S, k),    R(S, k) = p(S | k first) / p(S),
        charge_t^k = share_k (cost_k - sum_j p_j R_k(S, j) cost_j) at every t,

    where R_k(S, j) is the same ratio after k has been drawn, and 1 for j = k: so the sum has the mean E cost whatever k
    is. It needs two paths; with one this is REINFORCE without a baseline.

    Source: Kool et al. (2020), equations 13 and 17.
    """
    p = paths.log_prob.double().exp().clamp(min=1e-290).transpose(-1, -2)  # (..., 1 or T, K)
    cost = paths.cost.double().transpose(-1, -2)
    share = p * first_ratio(p)
    level = torch.zeros_like(cost)
    if p.shape[-1] > 1:
        level = (p[..., None, :] * second_ratio(p) * cost[..., None, :]).sum(-1)
    charge = share * (cost - level)
    share, charge = (part.transpose(-1, -2).to(paths.costs.dtype) for part in (share, charge))
    return Charges(share, charge * paths.sampled)


def first_ratio(p: Tensor) -> Tensor:
    """R(S, k) = p(S | k first) / p(S), (..., K), for the probabilities p (..., K) of the members of a set."""
    members = (1 << p.shape[-1]) - 1
    rest = (1 - p.sum(-1)).clamp(min=0)
    after = [_drawn(p, rest, members & ~(1 << k)) for k in range(p.shape[-1])]
    return torch.stack(after, -1) / _drawn(p, rest, members)[..., None]


def second_ratio(p: Tensor) -> Tensor:
    """R_k(S, j) in row k: the same for the members other than k, drawn after it; 1 for j = k. (..., K, K)."""
    several = p.shape[-1]
    members = (1 << several) - 1
    rest = (1 - p.sum(-1)).clamp(min=0)
    rows = []
    for k in range(several):
        others = members & ~(1 << k)
        whole = _drawn(p, rest, others)
        row = [_drawn(p, rest, others & ~(1 << j)) / whole for j in range(several)]
        rows.append(torch.stack([*row[:k], torch.ones_like(rest), *row[k + 1 :]], -1))
    return torch.stack(rows, -2)


def _drawn(p: Tensor, rest: Tensor, members: int) -> Tensor:
    """The probability that the first draws, without replacement, are just these members (a bit each), (...).

    What is drawn from is these members and ``rest``, the mass outside the whole set: members of the set that are
    missing here were drawn before. f(A) = sum_{a in A} f(A - a) p_a / (rest + p(members - (A - a))).
    """
    inside = [k for k in range(p.shape[-1]) if members >> k & 1]
    found = {0: torch.ones_like(rest)}
    for some in range(1, 1 << len(inside)):
        total = torch.zeros_like(rest)
        for place, k in enumerate(inside):
            if some >> place & 1:
                before = some & ~(1 << place)
                left = sum(p[..., j] for spot, j in enumerate(inside) if not before >> spot & 1) + rest
                total = total + found[before] * p[..., k] / left.clamp(min=1e-300)
        found[some] = total
    return found[(1 << len(inside)) - 1]
