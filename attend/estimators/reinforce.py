"""The score-function estimator and its signals. Pure functions on tensors (..., T); padded words have cost 0."""

from __future__ import annotations

import torch
from torch import Tensor

from attend import config
from attend.estimators.baselines import MovingAverage


def reward_to_go(costs: Tensor) -> Tensor:
    """R_t = sum_{k >= t} l_k, (..., T) in nats: the cost of a word and of all that follow it.

    The word's own cost belongs to it: s_t is seen by p(y_t). Without it the estimator is biased.
    """
    return costs.flip(-1).cumsum(-1).flip(-1)


def sentence_cost(costs: Tensor) -> Tensor:
    """The whole caption's cost at every word, (..., T)."""
    return costs.sum(-1, keepdim=True).expand_as(costs)


def words_charged(real: Tensor, cost: str) -> Tensor:
    """How many real words the signal at each word sums, (..., T): what a baseline per word is multiplied with."""
    return SIGNALS[cost](real)


def reinforce(log_probs: Tensor, signal: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """Surrogate sum_t (R_t - b_t) log alpha_t(s_t), (...): its gradient is the score part of grad J.

    Signal and baseline are constants here; log alpha_t(s_t) is not detached, so that the score part reaches
    everything that h_{t-1} depends on. Unbiased for any b_t that depends on neither s_t nor what follows it.

    Source: Williams (1992); Xu et al. (2015), equation 12.
    Differs: the paper charges every glimpse with the whole sentence; ``reward_to_go`` drops what is past, which has
    the same mean.
    """
    advantage = (signal - baseline).detach()
    return (advantage * log_probs).sum(-1)


SIGNALS = {"to-go": reward_to_go, "sentence": sentence_cost}


def with_moving_average(
    log_probs: Tensor, costs: Tensor, real: Tensor, sampled: Tensor, settings: config.Estimator, baseline: MovingAverage
) -> Tensor:
    """The surrogate of each caption (...), and the baseline moved on *after* its old value was used.

    For (..., T): log alpha(s), costs (constants here), which words are real and which of them were sampled. Words that
    were not (semi-sampling) have log-probability 0 and take no part, neither here nor in the baseline.
    """
    signal = SIGNALS[settings.cost](costs.detach())
    level = torch.zeros_like(signal)
    if settings.baseline != "none":
        charged = words_charged(real, settings.cost).to(signal.dtype)
        per = charged if settings.baseline == "average-per-word" else torch.ones_like(charged)
        level = (baseline.value or 0.0) * per
        if bool(sampled.any()):
            counted = sampled.to(signal.dtype)
            if settings.cost == "sentence":
                counted = counted / counted.sum(-1, keepdim=True).clamp(min=1)  # a sentence is seen once, not a word
            baseline.update(float((signal * counted).sum() / (per * counted).sum()))
    return reinforce(log_probs, signal * sampled, level * sampled)
