"""The exact mean of an estimator that samples K paths one by one: a sum over all K-tuples of paths.

Where it exists, the bias of an estimator is known to the last digit, without the chance of draws.
"""

import torch
from attend.experiments.laboratory.exact import TUPLES, Exact, gradient_of
from torch import Tensor

from attend.estimators import Learner
from attend.estimators.baselines import Average
from attend.estimators.paths import Charges, Paths, by_path
from attend.estimators.signals import charged
from attend.training.objective import Counts

PLAIN = ("reinforce", "vimco", "wake-sleep", "xu2015-code")
"""Estimators that sample their paths one by one, and read of them the costs and the probabilities alone."""


def expectation(exact: Exact, learner: Learner, average: Average) -> Tensor | None:
    """E g, flat as in ``gradient_of``, with the moving average held fixed:

        sum over K-tuples of p(tuple) (sum_k share_k grad cost_k + sum_kt charge_kt grad log alpha_t(s_t^k))

    None for another estimator than PLAIN, for a baseline that makes a pass or has a network of its own, and if there
    are too many tuples.
    """
    rule, several = learner.settings.estimator, learner.settings.samples
    if exact.why or rule.name not in PLAIN or learner.critic is not None or learner.baseline.rollout is not None:
        return None
    apart = exact.captioner.apart
    u = exact.every()
    cost, log_prob, real = (by_path(u, part) for part in (u.costs, u.log_probs, u.real))
    paths = cost.shape[2]
    if paths**several * several * cost.shape[-1] > TUPLES:
        return None
    if apart and rule.facts.charged and charged(Paths(**_fields(cost, log_prob, real), apart=True), rule) != "own":
        return None  # a glimpse would be charged with words whose glimpses are others
    tuples = torch.cartesian_prod(*[torch.arange(paths, device=cost.device)] * several).view(-1, several)
    counts, loss = Counts.of(exact.subject.batch.lengths), 0.0
    weight = (rule.scale if learner.rule.scaled else 1.0) * (1 if learner.rule.divided else counts.captions)
    for one in zip(*(part.flatten(0, 1) for part in (cost, log_prob, real)), strict=True):
        costs, log_probs, _ = one
        chosen = Paths(**_fields(*(part.detach()[tuples] for part in one)), apart=apart)
        share, charge = _means(learner.charge(chosen, average), tuples, log_probs.detach(), apart)
        loss = loss + (share * costs).sum() + weight * (charge * log_probs).sum()
    return gradient_of(exact.captioner, loss / counts.words).double()


def _fields(costs: Tensor, log_probs: Tensor, real: Tensor) -> dict[str, Tensor]:
    return {"costs": costs, "log_probs": log_probs, "real": real, "sampled": real}


def _means(charges: Charges, tuples: Tensor, log_probs: Tensor, apart: bool) -> tuple[Tensor, Tensor]:
    """The mean share and the mean charge of each path (P, T), from those of all tuples (M, K, T)."""
    log_p = log_probs if apart else log_probs.sum(-1, keepdim=True)
    p = torch.log_softmax(log_p, 0)[tuples].sum(1, keepdim=True).exp()  # (M, 1, 1 or T)
    empty = torch.zeros_like(log_probs)
    return tuple(
        empty.index_add(0, tuples.flatten(), (p * part).expand(*tuples.shape, empty.shape[-1]).flatten(0, 1))
        for part in (charges.share, charges.charge)
    )
