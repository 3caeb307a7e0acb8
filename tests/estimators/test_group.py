"""The baseline of a group (GRPO): by hand, by what leaves it unchanged, and its bias by enumeration of all pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from attend.experiments.laboratory.exact import Exact
from attend.experiments.laboratory.expectation import expectation
from attend.experiments.laboratory.measure import GRADIENT, Way, drawn
from attend.experiments.laboratory.statistics import distance
from attend.experiments.laboratory.subjects import Subject

from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, EPSILON, Average
from attend.estimators.paths import Paths
from attend.estimators.signals import own_cost, reward_to_go
from tests import bed

WORDS, LENGTHS = torch.tensor([[[5, 2]]]), torch.tensor([[2]])


def advantage(costs: torch.Tensor, sampled: torch.Tensor | None = None) -> torch.Tensor:
    """K times the charge of sampled sentences, from costs (K, T)."""
    real = torch.ones_like(costs, dtype=torch.bool)
    paths = Paths(costs=costs, log_probs=-costs, real=real, sampled=real if sampled is None else sampled)
    rule = bed.hard(baseline="group", samples=len(costs), cost="sentence").estimator
    charges = ESTIMATORS["reinforce"].charge(paths, rule, Average())
    assert charges.observed is None and charges.share.flatten().tolist() == [1 / len(costs)] * len(costs)
    return len(costs) * charges.charge


def test_three_samples_by_hand():
    """Costs 1, 2 and 6 nats: their mean is 3, and their deviation the root of (4 + 1 + 9) / 2."""
    costs = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    wanted = torch.tensor([[-2.0], [-1.0], [3.0]]) / (math.sqrt(7) + EPSILON)
    assert torch.allclose(advantage(costs), wanted.double(), atol=1e-12)


def test_two_samples_are_told_apart_and_no_more():
    """However much they differ: so a caption that does not depend on its glimpses weighs like any other."""
    for gap in (1.0, 50.0):
        found = advantage(torch.tensor([[3.0], [3.0 + gap]], dtype=torch.float64)).flatten()
        assert found.tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)], rel=3e-4)


def test_neither_a_shift_nor_a_scale_of_the_costs_changes_it():
    costs = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    found = advantage(costs)
    assert torch.allclose(advantage(costs + 7), found, atol=1e-12)
    assert torch.allclose(advantage(9 * costs), found, rtol=1e-3) and not torch.equal(advantage(9 * costs), found)
    assert float(found[:, 0].sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("off", [0.0, 1e-6])
def test_samples_that_cost_the_same_teach_nothing(off):
    """A difference of rounding stays small: EPSILON is in the denominator."""
    costs = torch.full((4, 2), 2.5) + torch.tensor([[0.0], [off], [0.0], [0.0]])
    found = advantage(costs)
    assert bool(found.isfinite().all()) and float(found.abs().max()) <= 4 * off / EPSILON


def test_images_that_took_the_expected_context_are_not_charged():
    costs = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)
    assert not advantage(costs, torch.zeros_like(costs, dtype=torch.bool)).any()


def subject(feed: str) -> Subject:
    model = bed.captioner(bed.settings(attention={"select": "sample", "feed": feed, "width": 6}))
    features = bed.features()
    batch = bed.batch(features, WORDS, LENGTHS)
    return Subject(settings=model.settings, captioner=model, features=features, batch=batch, checkpoint="bed", seed=0)


def by_definition(where: Subject, signal) -> dict[str, torch.Tensor]:
    """The mean over all pairs of paths, written from the formula: p(pair) sum_k (grad l + A_k grad log p_k) / 2."""
    every = [bed.along(where.captioner, where.features, WORDS, LENGTHS, path) for path in bed.paths(2)]
    total = 0.0
    for pair in itertools.product(every, repeat=2):
        p = math.exp(sum(float(u.log_probs.detach().sum()) for u in pair))
        first, second = (signal(u.costs.detach()) for u in pair)
        mean, deviation = (first + second) / 2, (first - second).abs() / math.sqrt(2)
        for u, charged in zip(pair, (first, second), strict=True):
            score = ((charged - mean) / (deviation + EPSILON) * u.log_probs).sum()
            total = total + p * (u.costs.sum() + score) / 2
    return bed.gradient(where.captioner, total / 2)  # per word


def flat(where: Subject, gradient: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient[name].flatten() for name, _ in where.captioner.named_parameters()])


@bed.either_feed
def test_its_bias_is_what_enumeration_says_and_what_the_laboratory_reports(feed):
    where = subject(feed)
    mean = by_definition(where, own_cost if feed == "expected" else reward_to_go)
    whole, words = bed.bound(where.captioner, where.features, WORDS), 2
    truth = bed.gradient(where.captioner, whole / words)
    bias = bed.distance(mean, truth, "attention")
    assert bias > 0.05, "the bed shows it"
    way = Way.of(where, GRADIENT | {"name": "reinforce", "baseline": "group", "samples": 2})
    exact = Exact(where)
    trained = bed.over_tuples(
        where.captioner, where.features, WORDS, 2, lambda u: bed.loss(where.captioner, u, way.learner, words=2).total
    )
    assert bed.distance(bed.gradient(where.captioner, trained), mean) < 1e-10, "the loss as it is trained"
    rows = {row.group: row for row in drawn("group", way, exact, 2)}
    assert rows["attention"].exactly == pytest.approx(bias, rel=1e-9) and rows["attention"].biased
    assert distance(expectation(exact, way.learner, way.average), flat(where, mean), slice(None)) < 1e-10


@bed.either_feed
@pytest.mark.parametrize("name", [name for name, one in BASELINES.items() if not (one.rollout or one.learns)])
def test_of_the_baselines_the_group_alone_is_biased(feed, name):
    where = subject(feed)
    way = Way.of(where, GRADIENT | {"name": "reinforce", "baseline": name, "samples": 2})
    row = drawn(name, way, Exact(where), 2)[0]
    assert (row.exactly < 1e-10) == BASELINES[name].unbiased == (not row.biased)


@pytest.mark.parametrize("name", ["vimco", "wake-sleep"])
def test_others_that_sample_paths_have_no_exact_bias_against_their_own_target(name):
    where = subject("glimpse")
    way = Way.of(where, GRADIENT | {"name": name, "samples": 2})
    assert all(row.exactly < 1e-10 for row in drawn(name, way, Exact(where), 2))


def test_own_cost_and_the_released_rule_have_the_bias_of_their_enumeration():
    where = subject("glimpse")
    for rule in ({"name": "reinforce", "baseline": "none", "cost": "own"}, {"name": "xu2015-code", "scale": 0.1}):
        way, exact = Way.of(where, GRADIENT | rule), Exact(where)
        found = bed.expectation(
            where.captioner, where.features, WORDS,
            lambda u, way=way: bed.loss(where.captioner, u, way.learner, way.average).total,
        )  # fmt: skip
        ours = expectation(exact, way.learner, way.average)
        assert distance(ours, flat(where, found), slice(None)) < 1e-10
        assert drawn("", way, exact, 2)[0].exactly > 0.01


def test_the_exact_mean_is_left_out_if_it_is_not_one_sum():
    where = subject("glimpse")
    for rule in ({"baseline": "soft"}, {"samples": 40, "baseline": "group"}):
        way = Way.of(where, GRADIENT | {"name": "reinforce"} | rule)
        assert expectation(Exact(where), way.learner, way.average) is None
