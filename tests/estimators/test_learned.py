"""The learned baseline is exact if it reads the state before the glimpse, and biased if it reads the state after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from attend.captioner.captioner import Captioner
from attend.captioner.unrolled import Readout
from attend.estimators import ESTIMATORS, Learner, Rule
from attend.estimators.paths import Charges, Paths
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LONGER = torch.tensor([[[5, 2, 4]]])
THREE = bed.features()


def made(feed: str, cost: str = "to-go") -> tuple[Captioner, Learner]:
    """A model, and a critic whose levels differ between states."""
    rule = bed.hard(feed, baseline="learned", cost=cost)
    learner = bed.learner(rule)
    with torch.no_grad():
        for parameter in learner.critic.parameters():
            parameter.mul_(3)
    return bed.captioner(rule), learner


def mean_of(model, learner, term="total", change: Callable[[Readout], Readout] = lambda u: u):
    """The mean over all paths of the gradient of the loss without the critic's, or of one of its terms."""

    def estimate(u):
        loss = bed.loss(model, change(u), learner, words=1)
        return loss.total - loss.terms["critic"] if term == "total" else loss.terms[term]

    return bed.gradient(model, bed.over_tuples(model, THREE, WORDS, 1, estimate))


def with_states_after(model: Captioner) -> Callable[[Readout], Readout]:
    """h_t in place of h_{t-1}: the query of the next word, from a pass that is one word longer."""

    def change(u: Readout) -> Readout:
        path = torch.nn.functional.pad(u.glimpses, (0, 1))
        longer = bed.along(model, THREE, LONGER, bed.one_caption(LONGER), path).maps
        queries = longer.spread(longer.query)
        assert torch.allclose(queries[:, :, :2], u.maps.spread(u.maps.query), atol=1e-12)
        maps = replace(u.maps)
        vars(maps)["query"] = maps.layout.pack(queries[:, :, 1:])
        return maps if u.maps is u else replace(u, maps=maps)

    return change


@bed.either_feed
def test_a_critic_of_the_state_that_has_read_the_glimpse_is_caught(feed):
    """If the state reads no glimpse, both states are exact."""
    model, learner = made(feed)
    truth = bed.gradient(model, bed.bound(model, THREE, WORDS))
    assert bed.distance(mean_of(model, learner), truth) < 1e-10
    off = bed.distance(mean_of(model, learner, change=with_states_after(model)), truth)
    assert off < 1e-10 if feed == "expected" else off > 0.01


def divided(by: Callable[[Paths, Charges], torch.Tensor | float]) -> Rule:
    """REINFORCE with its advantages divided."""
    entry = ESTIMATORS["reinforce"]

    def charge(paths, *rest):
        charges = entry.charge(paths, *rest)
        return replace(charges, charge=charges.charge / by(paths, charges))

    return replace(entry, charge=charge)


def deviation(decay: float, old: float, charges: Charges) -> torch.Tensor:
    """A running deviation that was updated with the advantages that it divides."""
    return (decay * old**2 + (1 - decay) * charges.charge.square().mean()).sqrt()


@bed.either_feed
def test_dividing_the_advantages_by_a_constant_only_rescales_the_score_part(feed):
    """The code does not divide. The old value of a running deviation would be a constant. A deviation that is updated
    before its use is not constant, and no factor turns it into the score part."""
    model, learner = made(feed)
    whole = bed.gradient(model, bed.bound(model, THREE, WORDS))
    pathwise = bed.gradient(model, bed.over_tuples(model, THREE, WORDS, 1, bed.summed))
    score = {name: whole[name] - pathwise[name] for name in whole}
    assert bed.distance(mean_of(model, learner, "surrogate"), score) < 1e-10
    learner.rule = divided(lambda *_: 1.7)
    rescaled = {name: score[name] / 1.7 for name in score}
    assert bed.distance(mean_of(model, learner, "surrogate"), rescaled) < 1e-10
    learner.rule = divided(lambda _, charges: deviation(0.9, 1.7, charges))
    leaky = mean_of(model, learner, "surrogate")
    along = sum(float((leaky[name] * score[name]).sum()) for name in score)
    best = along / sum(float(score[name].square().sum()) for name in score)
    nearest = {name: best * score[name] for name in score}
    assert bed.distance(leaky, nearest) > 0.01


@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_the_target_and_the_states_of_the_critic_are_constants(cost):
    """The critic's error has no gradient in the model. Its target is the signal that it is subtracted from."""
    model, learner = made("glimpse", cost)
    for path in bed.paths(2):
        u = bed.along(model, THREE, WORDS, torch.tensor([[2]]), path)
        terms = bed.loss(model, u, learner, words=1).terms
        assert not any(g.any() for g in bed.gradient(model, terms["critic"]).values())
        level, costs = learner.critic(u).flatten().tolist(), u.costs.flatten().tolist()
        signal = [sum(costs[t:] if cost == "to-go" else costs) for t in range(2)]
        words = [2 - t if cost == "to-go" else 2 for t in range(2)]
        by_hand = sum((one * c - r) ** 2 for one, c, r in zip(words, level, signal, strict=True))
        assert float(terms["critic"].detach()) == pytest.approx(by_hand)
