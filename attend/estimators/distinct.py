"""Estimators of the bound from K different paths: none is paid for twice."""

import torch
from torch import Tensor

from attend import config
from attend.estimators.baselines import Average
from attend.estimators.paths import Charges, Paths


def sum_and_sample(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
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
    among = torch.softmax(paths.log_prob[..., :-1, :], -2)  # p / summed, also where p is too small for a number
    level = (among * paths.cost[..., :-1, :]).sum(-2, keepdim=True)
    return Charges(share, share * (paths.cost - level) * paths.sampled, weight=share)


def unordered_set(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """K paths without replacement, a set S, each weighed by how likely it is to come first:

        share_k = p_k R(S, k),    R(S, k) = p(S | k first) / p(S),
        charge_t^k = share_k (cost_k - sum_j p_j R_k(S, j) cost_j) at every t,

    where R_k(S, j) is the same ratio after k has been drawn, and 1 for j = k: so the sum has the mean E cost whatever k
    is. It needs two paths; with one this is REINFORCE without a baseline.

    Source: Kool et al. (2020), equations 13 and 17.
    """
    log_p = paths.log_prob.double().transpose(-1, -2)  # (..., 1 or T, K)
    cost = paths.cost.double().transpose(-1, -2)
    share = first_share(log_p)
    level = torch.zeros_like(cost)
    if log_p.shape[-1] > 1:
        level = (second_share(log_p) * cost[..., None, :]).sum(-1)
    charge = share * (cost - level)
    share, charge = (part.transpose(-1, -2).to(paths.costs.dtype) for part in (share, charge))
    return Charges(share, charge * paths.sampled, weight=share)


def first_share(log_p: Tensor) -> Tensor:
    """p_k R(S, k) = p_k p(S | k first) / p(S), (..., K), for the log-probabilities (..., K) of the members of a set."""
    p, odds, rest = _scaled(log_p)
    members = (1 << p.shape[-1]) - 1
    after = [_drawn(p, odds, rest, members & ~(1 << k)) for k in range(p.shape[-1])]
    return odds * torch.stack(after, -1) / _drawn(p, odds, rest, members)[..., None]


def second_share(log_p: Tensor) -> Tensor:
    """p_j R_k(S, j) in row k: the same for the members other than k, drawn after it; p_k for j = k. (..., K, K)."""
    p, odds, rest = _scaled(log_p)
    several = p.shape[-1]
    members = (1 << several) - 1
    rows = []
    for k in range(several):
        others = members & ~(1 << k)
        whole = _drawn(p, odds, rest, others)
        row = [odds[..., j] * _drawn(p, odds, rest, others & ~(1 << j)) / whole for j in range(several)]
        rows.append(torch.stack([*row[:k], p[..., k], *row[k + 1 :]], -1))
    return torch.stack(rows, -2)


def _scaled(log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The probabilities of the members, the same over the largest of them, and the mass outside the set.

    The probability of a long path is too small for a number, and that of a set of them all the more; but shares do not
    change where ``_drawn`` takes odds for them. Odds below 1e-35 count as that.
    """
    largest = log_p.amax(-1, keepdim=True)
    odds = (log_p - largest).exp().clamp(min=1e-35)
    p = odds * largest.exp()
    return p, odds, (1 - p.sum(-1)).clamp(min=0)


def _drawn(p: Tensor, odds: Tensor, rest: Tensor, members: int) -> Tensor:
    """The probability that the first draws, without replacement, are just these members (a bit each), (...), over the
    largest p once for each of them.

    What is drawn from is these members and ``rest``, the mass outside the whole set: members of the set that are
    missing here were drawn before. f(A) = sum_{a in A} f(A - a) odds_a / (rest + p(members - (A - a))).
    """
    inside = [k for k in range(p.shape[-1]) if members >> k & 1]
    found = {0: torch.ones_like(rest)}
    for some in range(1, 1 << len(inside)):
        total = torch.zeros_like(rest)
        for place, k in enumerate(inside):
            if some >> place & 1:
                before = some & ~(1 << place)
                left = sum(p[..., j] for spot, j in enumerate(inside) if not before >> spot & 1) + rest
                total = total + found[before] * odds[..., k] / left.clamp(min=1e-300)
        found[some] = total
    return found[(1 << len(inside)) - 1]
