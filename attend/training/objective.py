"""From a pass over given captions to one loss and its named terms: likelihood, regularisers, surrogate.

Sums over words are divided by the number of real words of the whole minibatch, so that the mean is taken once, here,
and does not depend on how the minibatch is split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attend import config
from attend.attention.select import Forced, log
from attend.captioner.captioner import Captioner
from attend.captioner.layout import OnDevice
from attend.captioner.unrolled import Readout
from attend.data.batches import Batch
from attend.estimators import Learner
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.estimators.paths import Paths, by_look, by_path, kl_divergence
from attend.estimators.take import Given
from attend.evaluation.health import entropy
from attend.training.supervised import supervised


@dataclass(frozen=True)
class Counts:
    """Words and captions of the whole minibatch, if the captions at hand are a part of it; ``each`` is the words of a
    caption, None if there are no captions."""

    words: int | Tensor
    captions: int | Tensor

    @classmethod
    def of(cls, lengths: Tensor | OnDevice) -> Counts:
        """From lengths (N, C). Of lengths that only the device knows they stay there."""
        if isinstance(lengths, OnDevice):
            return cls(lengths.lengths.sum().clamp(min=1), (lengths.lengths > 0).sum())
        return cls(max(1, int(lengths.sum())), int((lengths > 0).sum()))

    @property
    def each(self) -> float | Tensor | None:
        if isinstance(self.captions, Tensor):
            return self.words / self.captions.clamp(min=1)
        return self.words / self.captions if self.captions else None


@dataclass(frozen=True)
class Loss:
    """The number to minimise and its terms, each a mean per word: nll in nats, and the terms added to it.

    ``observed`` (2, P) is what the moving average takes in, summed over this process.
    """

    total: Tensor
    terms: dict[str, Tensor]
    observed: Tensor | None = None


def likelihood(u: Readout) -> Tensor:
    """The cost of each word: -log p(y) in nats, (N, R, T)."""
    return u.costs


def loss_of(
    captioner: Captioner,
    features: Tensor,
    batch: Batch,
    noise: Noise,
    learner: Learner,
    average: Average,
    reward: Callable[[Readout], Tensor] = likelihood,
) -> tuple[Readout, Loss]:
    """The pass over a minibatch, or over a part of it, as the learner takes it, and its loss.

    ``batch.shares`` are shown to a control and are the targets of supervised attention.
    """
    given = Given(features, batch.words, batch.lengths, batch.shares)
    u = learner.take(captioner, given, noise)
    costs = reward(u)
    paths = None
    if learner.rule.charge is not None:
        paths = paths_of(u, costs, learner, noise, captioner.apart, rollout(captioner, given, u, noise, learner))
    return u, objective(u, costs, learner, average, Counts.of(batch.whole), paths, batch.shares)


def objective(
    u: Readout,
    costs: Tensor,
    learner: Learner,
    average: Average,
    counts: Counts,
    paths: Paths | None = None,
    shares: Tensor | None = None,
) -> Loss:
    """The loss of a minibatch: costs (N, R, T), regularisers and, with ``paths``, the surrogate of hard attention.

    The K samples of a caption are adjacent rows. The loss averages them, or weights them as the estimator says.
    Penalty, entropy and supervision are averaged over samples too, or weighted by the probability of each path if the
    paths were not sampled from alpha. The losses of the parts of a minibatch add up to that of the whole.
    """
    settings, words, costs = learner.settings, counts.words, by_path(u, costs)
    charges = None if paths is None else learner.charge(paths, average)
    rows: Tensor | float = 1 / u.looks
    if charges is not None and charges.weight is not None and not paths.apart:
        rows = charges.weight.flatten(1, 2)  # (N, R, 1)
    terms = {"nll": costs.mean(2).sum() / words}
    if settings.objective.doubly_stochastic:
        penalty = doubly_stochastic(u, settings.objective, counts.each, rows)
        penalty = penalty if learner.rule.penalised or charges is None else penalty.detach()
        terms["doubly_stochastic"] = settings.objective.doubly_stochastic * penalty / words
    if settings.objective.supervised:
        target = shares.repeat_interleave(u.looks, 1)
        cost = supervised(u.weights, target, settings.attention.sparse, rows)
        terms["supervised"] = settings.objective.supervised * cost / words
    if charges is not None:
        weight = 1 if learner.rule.divided else counts.captions
        nll, score = (charges.share * costs).sum(), (charges.charge * by_path(u, u.log_probs)).sum()
        if charges.value is not None:
            nll = nll - nll.detach() + charges.value.sum()
        if charges.slopes is not None:
            score = (charges.slopes.detach() * by_look(u, log(u.weights)).flatten(1, 2)).sum() / u.samples
        terms["nll"] = nll / words
        terms |= {name: loss / words for name, loss in learner.extra(paths, charges).items()}
        scale = settings.estimator.scale if learner.rule.scaled else 1.0
        terms["surrogate"] = scale * weight * score / words
        bonus = (rows * entropy(u.weights)).sum()
        terms["entropy_bonus"] = -settings.estimator.entropy * weight * bonus / words
    return Loss(sum(terms.values()), terms, None if charges is None else charges.observed)


def paths_of(
    u: Readout, costs: Tensor, learner: Learner, noise: Noise, apart: bool, passed: Tensor | None = None
) -> Paths:
    """What the estimator reads of a pass. ``passed`` are the costs of passes without samples (``rollout``)."""
    kl = None
    if u.proposal is not None:
        q, alpha = by_path(u, u.spread(u.proposal)), by_look(u, u.weights)
        kl = kl_divergence(q, log(q), log(alpha)) * by_path(u, u.real)
    return Paths(
        costs=by_path(u, costs).detach(),
        log_probs=by_path(u, u.log_probs).detach(),
        real=by_path(u, u.real),
        sampled=by_path(u, (u.glimpses >= 0) & u.real),
        rollout=passed,
        apart=apart,
        level=None if learner.critic is None else by_look(u, learner.critic(u)),
        kl=kl,
        unrolled=u,
        noise=noise,
        learned=learner.learned,
    )


@torch.no_grad()
def rollout(captioner: Captioner, given: Given, u: Readout, noise: Noise, learner: Learner) -> Tensor | None:
    """Costs of the passes without samples that the baseline asks for, under the same dropout; None if it asks for none.

    One pass from the first word, (N, C, 1, T), or one from the sampled prefix before each word, (N, C, K, T, T): row t
    has the glimpses of ``u`` before word t and the baseline's policy from there on.
    """
    policy = learner.baseline.rollout
    if policy is None:
        return None
    if learner.settings.estimator.rollout == "start" or captioner.apart:
        return given.unroll(captioner, policy, 1, noise).costs[:, :, None]
    path = u.glimpses.clamp(min=0)
    passes = [given.unroll(captioner, Forced(path, t, policy), u.samples, noise) for t in range(u.real.shape[-1])]
    return torch.stack([by_path(one, one.costs) for one in passes], 3)


def doubly_stochastic(
    u: Readout, settings: config.Objective, each: float | Tensor | None = None, rows: Tensor | float | None = None
) -> Tensor:
    """sum_i (target - sum_t alpha_ti)^2, summed over captions; ``mean`` divides so that it is a mean after all.

    If every sample has its own attention, the penalty is averaged over samples, or weighted by ``rows`` (N, R, 1). For
    ``mean``, ``each`` is the average number of words per caption if the captions are a part of a minibatch.

    Source: Xu et al. (2015), equation 14 (sum, target 1).
    """
    mass = u.weights.sum(2)  # (N, C, L)
    lengths = u.maps.real.sum(-1, keepdim=True)  # (N, C, 1)
    target = lengths / mass.shape[-1] if settings.target == "length" else 1.0
    rows = 1 / u.looks if rows is None else rows
    penalty = (rows * (target - mass) ** 2 * (lengths > 0)).sum()
    if settings.reduce == "sum":
        return penalty
    return penalty / mass.shape[-1] * (lengths.sum() / (lengths > 0).sum() if each is None else each)
