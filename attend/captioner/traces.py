"""What every user of a trace computes of it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from attend.captioner.captioner import Trace
from attend.captioner.readings import at_least_fp32


def by_path(trace: Trace, values: Tensor) -> Tensor:
    """Rows (N, C K, T) as (N, C, K, T)."""
    return values.unflatten(1, (-1, trace.samples))


def by_look(trace: Trace, values: Tensor) -> Tensor:
    """Rows of the weights (N, C or C K, T, ...) as (N, C, K, T, ...)."""
    values = values.unflatten(1, (-1, trace.looks))
    return values.expand(-1, -1, trace.samples, *values.shape[3:])


def negative_log_likelihood(trace: Trace) -> Tensor:
    """l = -log p(y) of each real word, (M,) in nats."""
    if trace.logits is None:
        return trace.costs
    return F.cross_entropy(at_least_fp32(trace.logits), trace.targets, reduction="none")


def ranks(trace: Trace) -> Tensor:
    """How many words were thought more likely than each real word, (M,): 0 is a word that was guessed."""
    logits = trace.logits.detach()
    return (logits > logits.gather(1, trace.targets[:, None])).sum(1)


def entropy(weights: Tensor) -> Tensor:
    """H = -sum_i alpha_i log alpha_i in nats, (..., L) -> (...); 0 log 0 = 0, also in the gradient."""
    return -(weights * weights.clamp(min=1e-12).log()).sum(-1)
