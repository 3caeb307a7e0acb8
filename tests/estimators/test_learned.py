"""The learned baseline: exact with the state before the glimpse, biased with the one after it, and never divided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from attend.captioner.captioner import Captioner, Trace
from attend.config import Config
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import MovingAverage
from attend.estimators.helpers import Helpers
from attend.estimators.paths import Charges, Paths
from attend.training.objective import objective
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LONGER = torch.tensor([[[5, 2, 4]]])
THREE = bed.features()


def made(feed: str) -> tuple[Config, Captioner, Helpers]:
    """A model and a critic that tells states apart."""
    rule = bed.hard(feed, baseline="learned", cost="to-go")
    helpers = bed.helpers(rule)
    with torch.no_grad():
        for parameter in helpers.critic.parameters():
            parameter.mul_(3)
    return rule, bed.captioner(rule), helpers


def mean_of(model, rule, helpers, term="total", change: Callable[[Trace], Trace] = lambda trace: trace):
    """Over all paths, the gradient of the loss as it is trained, or of one of its terms."""

    def estimate(trace):
        loss = objective(change(trace), rule, MovingAverage(), words=1, helpers=helpers)
        return loss.total - loss.terms["critic"] if term == "total" else loss.terms[term]

    return bed.gradient(model, bed.over_tuples(model, THREE, WORDS, 1, estimate, replay=True))


def with_states_after(model: Captioner) -> Callable[[Trace], Trace]:
    """h_t in place of h_{t-1}: what attention asks the next word with, one word further than there are."""

    def change(trace: Trace) -> Trace:
        path = torch.nn.functional.pad(trace.glimpses, (0, 1))
        further = model(THREE, LONGER, torch.tensor([[3]]), path=path, replay=True).replay.asked
        assert torch.allclose(further[:, :, :2], trace.replay.asked, atol=1e-12)
        return replace(trace, replay=replace(trace.replay, asked=further[:, :, 1:]))

    return change


@bed.either_feed
def test_a_critic_of_the_state_that_has_read_the_glimpse_is_caught(feed):
    """Where the state reads no glimpse, none is as good as the other."""
    rule, model, helpers = made(feed)
    truth = bed.gradient(model, bed.bound(model, THREE, WORDS))
    assert bed.distance(mean_of(model, rule, helpers), truth) < 1e-10
    off = bed.distance(mean_of(model, rule, helpers, change=with_states_after(model)), truth)
    assert off < 1e-10 if feed == "expected" else off > 0.01


def divided(by: Callable[[Paths, Charges], torch.Tensor | float]):
    """REINFORCE, its advantages divided."""
    entry = ESTIMATORS["reinforce"]

    def function(paths, *rest):
        found = entry.function(paths, *rest)
        return replace(found, charge=found.charge / by(paths, found))

    return replace(entry, function=function)


def deviation(decay: float, old: float, found: Charges) -> torch.Tensor:
    """A running deviation that has taken in the advantages it divides."""
    return (decay * old**2 + (1 - decay) * found.charge.square().mean()).sqrt()


@bed.either_feed
def test_dividing_the_advantages_by_a_constant_only_rescales_the_score_part(monkeypatch, feed):
    """The code divides by nothing. The old value of a running deviation would be a constant; a deviation that is
    updated before its use is none, and no factor makes the score part of it."""
    rule, model, helpers = made(feed)
    whole = bed.gradient(model, bed.bound(model, THREE, WORDS))
    pathwise = bed.gradient(model, bed.over_tuples(model, THREE, WORDS, 1, bed.summed))
    score = {name: whole[name] - pathwise[name] for name in whole}
    assert bed.distance(mean_of(model, rule, helpers, "surrogate"), score) < 1e-10
    monkeypatch.setitem(ESTIMATORS, "reinforce", divided(lambda *_: 1.7))
    rescaled = {name: score[name] / 1.7 for name in score}
    assert bed.distance(mean_of(model, rule, helpers, "surrogate"), rescaled) < 1e-10
    monkeypatch.undo()
    monkeypatch.setitem(ESTIMATORS, "reinforce", divided(lambda _, found: deviation(0.9, 1.7, found)))
    leaky = mean_of(model, rule, helpers, "surrogate")
    along = sum(float((leaky[name] * score[name]).sum()) for name in score)
    best = along / sum(float(score[name].square().sum()) for name in score)
    nearest = {name: best * score[name] for name in score}
    assert bed.distance(leaky, nearest) > 0.01


@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_the_target_and_the_states_of_the_critic_are_constants(cost):
    """Its error has no gradient in the model, and it is that of the signal it is subtracted from."""
    rule, model, helpers = made("glimpse")
    rule = replace(rule, estimator=replace(rule.estimator, cost=cost))
    for path in bed.paths(2):
        trace = model(THREE, WORDS, torch.tensor([[2]]), path=path, replay=True)
        terms = objective(trace, rule, MovingAverage(), words=1, helpers=helpers).terms
        assert not any(g.any() for g in bed.gradient(model, terms["critic"]).values())
        level = helpers.critic(trace.replay.asked, THREE, WORDS, trace.real).flatten().tolist()
        costs = bed.costs_of(trace).flatten().tolist()
        signal = [sum(costs[t:] if cost == "to-go" else costs) for t in range(2)]
        words = [2 - t if cost == "to-go" else 2 for t in range(2)]
        by_hand = sum((one * c - r) ** 2 for one, c, r in zip(words, level, signal, strict=True))
        assert float(terms["critic"].detach()) == pytest.approx(by_hand)
