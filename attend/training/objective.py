"""From a trace to one loss and its named terms: negative log-likelihood, regularisers, surrogate.

Sums over words are divided by ``words``, the number of real words of the whole minibatch, so that the mean is taken
once, here, and is the same however the minibatch is split.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attend import config
from attend.attention.select import log
from attend.captioner.captioner import Trace
from attend.captioner.traces import by_look, by_path, entropy, negative_log_likelihood
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import MovingAverage
from attend.estimators.control import slopes
from attend.estimators.helpers import Control, Helpers, kl_divergence, squared_error
from attend.estimators.paths import Paths
from attend.estimators.signals import signal_with_kl, words_charged
from attend.training.supervised import supervised


@dataclass(frozen=True)
class Loss:
    """The number to minimise and what it is made of, each a mean a word: nll in nats, and the terms added to it."""

    total: Tensor
    terms: dict[str, Tensor]


def objective(
    trace: Trace,
    settings: config.Config,
    baseline: MovingAverage | None = None,
    words: int | None = None,
    captions: int | None = None,
    rollout: Tensor | None = None,
    helpers: Helpers | None = None,
    shares: Tensor | None = None,
) -> Loss:
    """The loss of a minibatch. With ``baseline``, the hard model's surrogate is added and the baseline updated.

    A trace of K samples has the K rows of a caption side by side, and the loss is the mean over them, or as the
    estimator weighs them; so are penalty, entropy and supervision where its paths are not drawn from alpha but are
    different ones, by how likely each is. ``words`` and ``captions``, each counted once, are those of the whole
    minibatch where the trace is a part of it: the losses of the parts then add up to that of the whole. ``rollout`` are
    costs of passes without samples (``glimpses.rollout_costs``), for the baselines that want them; ``helpers`` are what
    the estimator learns beside the model, from terms of their own; ``shares`` (N, C, T, L) of the cells in the boxes of
    the words are for supervised attention.
    """
    words = words or int(trace.captions.sum())
    costs = by_path(trace, trace.spread(negative_log_likelihood(trace)))
    terms = {"nll": costs.mean(2).sum() / words}
    learns_hard = settings.attention.hard and baseline is not None
    entry = ESTIMATORS[settings.estimator.name]
    rows: Tensor | float = 1 / trace.looks
    if learns_hard:
        log_probs, real = by_path(trace, trace.log_probs), by_path(trace, trace.real)
        level, kl = judged(trace, helpers), divergence(trace)
        paths = Paths(
            costs=costs.detach(), log_probs=log_probs.detach(), real=real,
            sampled=by_path(trace, trace.glimpses).ge(0) & real,
            rollout=rollout,
            apart=settings.attention.feed == "expected",
            level=None if level is None else level.detach(),
            kl=None if kl is None else kl.detach(),
        )  # fmt: skip
        charges = entry.function(paths, settings.estimator, baseline)
        if charges.weight is not None and not paths.apart:
            rows = charges.weight.flatten(1, 2)  # (N, R, 1)
    if settings.objective.doubly_stochastic:
        penalty = doubly_stochastic(trace, settings.objective, words / captions if captions else None, rows)
        if learns_hard and not entry.penalised:
            penalty = penalty.detach()
        terms["doubly_stochastic"] = settings.objective.doubly_stochastic * penalty / words
    if settings.objective.supervised:
        told = shares.repeat_interleave(trace.looks, 1)
        cost = supervised(trace.weights, told, settings.attention.sparse, rows)
        terms["supervised"] = settings.objective.supervised * cost / words
    if learns_hard:
        weight = 1 if entry.divided else captions or int(trace.captions.any(-1).sum())
        nll, score = (charges.share * costs).sum(), (charges.charge * log_probs).sum()
        if charges.value is not None:
            nll = nll - nll.detach() + charges.value.sum()
        terms["nll"] = nll / words
        if kl is not None:
            terms["kl"] = kl.mean(2).sum() / words
        if level is not None:
            level = level * words_charged(paths, settings.estimator)
            error = squared_error(level, signal_with_kl(paths, settings.estimator), paths.sampled)
            terms["critic"] = error / trace.samples / words
        if helpers is not None and helpers.control is not None:
            charge = trace.samples * charges.charge
            found, log_alpha = controlled(trace, charge, settings.estimator.relaxation, helpers.control)
            score = (found.detach() * log_alpha).sum() / trace.samples
            terms["control"] = found.square().sum() / trace.samples / words
        scale = 1.0 if entry.facts.select == "all" else settings.estimator.scale  # without chance nothing is to damp
        terms["surrogate"] = scale * weight * score / words
        bonus = (rows * entropy(trace.weights)).sum()
        terms["entropy_bonus"] = -settings.estimator.entropy * weight * bonus / words
    return Loss(sum(terms.values()), terms)


def judged(trace: Trace, helpers: Helpers | None) -> Tensor | None:
    """What the critic expects each word to cost, (N, C, K, T), a word that is charged."""
    if helpers is None or helpers.critic is None:
        return None
    replay = trace.replay
    return by_look(trace, helpers.critic(replay.asked, replay.memory.features, replay.said, trace.looked))


def divergence(trace: Trace) -> Tensor | None:
    """KL(q || alpha) of each word in nats, (N, C, K, T), where glimpses were drawn from q."""
    if trace.proposal is None:
        return None
    return by_look(trace, kl_divergence(trace.proposal, log(trace.proposal), log(trace.weights)) * trace.looked)


def controlled(trace: Trace, charge: Tensor, temperature: float, control: Control) -> tuple[Tensor, Tensor]:
    """The estimate of the gradient with respect to log alpha, and log alpha, both (N, R, T, L); 0 where not sampled.

    charge (N, C, K, T) is what each glimpse is charged with before the control variate.
    """
    replay = trace.replay
    log_alpha = by_look(trace, log(trace.weights)).flatten(1, 2)
    asked = by_look(trace, replay.asked).flatten(1, 2)
    found = slopes(
        log_alpha, trace.glimpses.clamp(min=0), charge.flatten(1, 2), replay.places, temperature, replay.costs,
        lambda relaxed: control.learned(relaxed, replay.memory.features, asked), control.eta,
    )  # fmt: skip
    return found * (trace.real & (trace.glimpses >= 0))[..., None], log_alpha


def doubly_stochastic(
    trace: Trace, settings: config.Objective, each: float | None = None, rows: Tensor | float | None = None
) -> Tensor:
    """sum_i (target - sum_t alpha_ti)^2, summed over captions; ``mean`` divides so that it is a mean after all.

    Of a caption's samples that look for themselves, it is their mean, or what ``rows`` (N, R, 1) make of them. For the
    other mean, ``each`` is how many words a caption has on average, where the trace is a part of a minibatch.

    Source: Xu et al. (2015), equation 14 (sum, target 1).
    """
    mass = trace.weights.sum(2)  # (N, C, L)
    lengths = trace.looked.sum(-1, keepdim=True)  # (N, C, 1)
    target = lengths / mass.shape[-1] if settings.target == "length" else 1.0
    rows = 1 / trace.looks if rows is None else rows
    penalty = (rows * (target - mass) ** 2 * (lengths > 0)).sum()
    if settings.reduce == "sum":
        return penalty
    return penalty / mass.shape[-1] * (each or lengths.sum() / (lengths > 0).sum())
