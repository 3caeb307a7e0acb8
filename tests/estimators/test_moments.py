"""E |g|^2 of the score part by enumeration, against a slow loop that is written for nothing else."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from attend.attention import select
from attend.data.text import SPECIALS, START
from attend.estimators.baselines import MovingAverage
from attend.training.objective import objective
from tests import bed

WORDS = [5, 2]
THREE = bed.features()
LEVEL = 3.0
"""Of the moving average, frozen."""

RULES = [(cost, baseline) for cost in ("to-go", "sentence") for baseline in ("none", "average")]


def moment(feed: str, cost: str, baseline: str) -> float:
    """sum over paths of p(path) |g(path)|^2, g the gradient of the surrogate as it is trained, in all parameters."""
    rule = bed.hard(feed, cost=cost, baseline=baseline)
    model, found = bed.captioner(rule), 0.0
    for path in bed.paths(2):
        trace = model(THREE, torch.tensor([[WORDS]]), torch.tensor([[2]]), path=path)
        surrogate = objective(trace, rule, MovingAverage(value=LEVEL), words=1).terms["surrogate"]
        squares = sum(float(g.square().sum()) for g in bed.gradient(model, surrogate).values())
        found += float(trace.log_probs.sum().exp().detach()) * squares
    return found


def by_hand(feed: str) -> dict[tuple[str, str], float]:
    """The same for all rules: word after word as search goes, charges of plain numbers, a gradient a glimpse."""
    model, found = bed.captioner(bed.hard(feed)), dict.fromkeys(RULES, 0.0)
    memory = model.attention.memory(THREE)
    for path in bed.paths(2):
        state, spoken = model.decoder.start(memory, 1), SPECIALS.index(START)
        costs, chances, slopes = [], [], []
        for t, word in enumerate(WORDS):
            look = partial(select.forced, glimpse=path[:, :, t])
            state, glance = model.step(memory, state, torch.tensor([[spoken]]), look)
            alpha = glance.weights[0, 0, path[0, 0, t]]
            costs.append(-float(glance.log_probs[0, 0, word].detach()))
            chances.append(float(alpha.detach()))
            slopes.append(bed.gradient(model, alpha.log()))
            spoken = word
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
            found[cost, baseline] += math.prod(chances) * squares
    return found


@bed.either_feed
def test_the_second_moments_are_those_of_a_slow_loop(feed):
    """Values on this bed and no theorems: here the cost to go and the baseline both lower them."""
    truth = by_hand(feed)
    ours = {rule: moment(feed, *rule) for rule in RULES}
    assert ours == pytest.approx(truth, rel=1e-10)
    for one in ("none", "average"):
        assert ours["to-go", one] < 0.9 * ours["sentence", one]
    for one in ("to-go", "sentence"):
        assert ours[one, "average"] < 0.9 * ours[one, "none"]
