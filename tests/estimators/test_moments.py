"""E |g|^2 of the score part by enumeration, against a slow loop of its own."""

from __future__ import annotations

import math

import pytest
import torch

from attend.attention.select import Forced
from attend.captioner import search
from attend.data.text import SPECIALS, START
from attend.estimators.baselines import Average
from tests import bed

WORDS = [5, 2]
THREE = bed.features()
LEVEL = 3.0
"""The value of the moving average, which does not move."""

RULES = [(cost, baseline) for cost in ("to-go", "sentence") for baseline in ("none", "average")]


def moment(feed: str, cost: str, baseline: str) -> float:
    """sum over paths of p(path) |g(path)|^2, where g is the gradient of the surrogate in all parameters."""
    rule = bed.hard(feed, cost=cost, baseline=baseline)
    model, learner, total = bed.captioner(rule), bed.learner(rule), 0.0
    for path in bed.paths(2):
        u = bed.along(model, THREE, torch.tensor([[WORDS]]), torch.tensor([[2]]), path)
        surrogate = bed.loss(model, u, learner, Average.of([LEVEL]), words=1).terms["surrogate"]
        squares = sum(float(g.square().sum()) for g in bed.gradient(model, surrogate).values())
        total += float(u.log_probs.sum().exp().detach()) * squares
    return total


def by_hand(feed: str) -> dict[tuple[str, str], float]:
    """The same for all rules: one step per word as in search, charges of plain numbers, one gradient per glimpse."""
    model, moments = bed.captioner(bed.hard(feed)), dict.fromkeys(RULES, 0.0)
    for path in bed.paths(2):
        (memory, state), previous = model.start(THREE), SPECIALS.index(START)
        costs, chances, slopes = [], [], []
        for t, word in enumerate(WORDS):
            state, u = model.step(memory, state, torch.tensor([[previous]]), Forced(path), t)
            alpha = u.weights[0, 0, 0, path[0, 0, t]]
            costs.append(-float(search.log_probs(u)[0, 0, word].detach()))
            chances.append(float(alpha.detach()))
            slopes.append(bed.gradient(model, alpha.log()))
            previous = word
        for cost, baseline in RULES:
            charges = []
            for t in range(2):
                signal = 0.0
                for k in range(2):
                    if k >= t or cost == "sentence":
                        signal += costs[k]
                charges.append(signal - LEVEL if baseline == "average" else signal)
            squares = 0.0
            for name in slopes[0]:
                whole = sum(charge * slope[name] for charge, slope in zip(charges, slopes, strict=True))
                squares += float((whole**2).sum())
            moments[cost, baseline] += math.prod(chances) * squares
    return moments


@bed.either_feed
def test_the_second_moments_are_those_of_a_slow_loop(feed):
    """On this test bed the cost to go and the baseline both lower the moments. In general they need not."""
    truth = by_hand(feed)
    ours = {rule: moment(feed, *rule) for rule in RULES}
    assert ours == pytest.approx(truth, rel=1e-10)
    for one in ("none", "average"):
        assert ours["to-go", one] < 0.9 * ours["sentence", one]
    for one in ("to-go", "sentence"):
        assert ours[one, "average"] < 0.9 * ours[one, "none"]
