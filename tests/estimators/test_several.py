"""K paths of a caption, and baselines that look at other passes: against enumeration of all K-tuples, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.estimators.paths import Charges, Paths
from attend.estimators.signals import reward_to_go
from attend.training.glimpses import prefix_costs
from attend.training.objective import judged, objective
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
THREE, TWO = bed.features(), bed.features(locations=2)
"""Locations: two, where paths are taken three at a time."""


@pytest.fixture(scope="module")
def model():
    return bed.captioner(bed.hard())


@pytest.fixture(scope="module")
def of_bound(model):
    """G_J."""
    return bed.gradient(model, bed.bound(model, bed.features(), WORDS))


def sampled_bound(model, several: int) -> torch.Tensor:
    """-E log (1/K) sum_k p(words | path k) over all K-tuples, p(paths) with its gradient."""

    def value(trace):
        return math.log(several) - torch.logsumexp(-bed.costs_of(trace).sum(-1).flatten(), 0)

    return bed.over_tuples(model, TWO, WORDS, several, value, constant=False)


def ours(model, several: int, a: torch.Tensor = THREE, rollout=None, **estimator):
    """The mean gradient of the loss as it is trained, over all K-tuples."""
    rule = bed.hard(samples=several, **estimator)

    def estimate(trace):
        average = MovingAverage(value=1.3, places=[2.0])
        return objective(trace, rule, average, words=1, rollout=rollout, helpers=helpers).total

    helpers = bed.helpers(rule)
    return bed.gradient(model, bed.over_tuples(model, a, WORDS, several, estimate, replay=True))


def rolled(model, select: str) -> torch.Tensor:
    """Costs of a pass without samples, (1, 1, T)."""
    return bed.costs_of(model(bed.features(), WORDS, LENGTHS, select=select)).detach()[:, :, None]


def rollout_for(model, baseline: str):
    select = BASELINES[baseline].rollout
    return None if select is None else rolled(model, select)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("several", [1, 2])
@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_every_baseline_leaves_the_gradient_of_the_bound(model, of_bound, baseline, several, cost):
    several = max(several, BASELINES[baseline].paths)
    found = ours(model, several, rollout=rollout_for(model, baseline), baseline=baseline, cost=cost)
    for name in of_bound:
        assert bed.distance(found, of_bound, name) < 1e-10, name


@pytest.mark.parametrize("baseline", ["soft", "self-critical"])
@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_a_rollout_from_the_prefix_leaves_it_too(model, of_bound, baseline, cost):
    """From h_{t-1}, which has read s_<t: another pass for each word, of every sample."""
    select, several = BASELINES[baseline].rollout, 2
    rule = bed.hard(samples=several, baseline=baseline, rollout="prefix", cost=cost)

    def estimate(trace):
        passes = prefix_costs(model, bed.features(), WORDS, LENGTHS, select, trace, None)
        return objective(trace, rule, MovingAverage(), words=1, rollout=passes).total

    found = bed.gradient(model, bed.over_tuples(model, THREE, WORDS, several, estimate))
    for name in of_bound:
        assert bed.distance(found, of_bound, name) < 1e-10, name


@pytest.mark.parametrize("select", ["expected", "argmax"])
def test_the_passes_from_the_prefix_are_those_of_paths_left_there(model, select):
    for path in bed.paths(2):
        trace = model(THREE, WORDS, LENGTHS, path=path)
        passes = prefix_costs(model, THREE, WORDS, LENGTHS, select, trace, None)
        ours = torch.stack([reward_to_go(passes[:, :, 0, t])[..., t] for t in range(2)], -1)
        assert torch.allclose(ours, continued(model, select, path, after=0))


def test_three_paths_leave_it_too(model):
    truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
    assert bed.distance(ours(model, 3, TWO, baseline="leave-one-out"), truth) < 1e-10


def test_the_own_path_in_the_mean_is_caught(model, of_bound, monkeypatch):
    """Then the score part is (K - 1)/K of what it should be."""
    included = lambda signal, *_: signal.mean(-2, keepdim=True)  # noqa: E731
    monkeypatch.setitem(BASELINES, "leave-one-out", BASELINES["leave-one-out"].__class__(function=included, paths=2))
    found = ours(model, 2, baseline="leave-one-out")
    pathwise = bed.gradient(model, bed.over_tuples(model, bed.features(), WORDS, 1, bed.summed))
    half = {name: pathwise[name] + (of_bound[name] - pathwise[name]) / 2 for name in of_bound}
    assert bed.distance(found, half) < 1e-10 < 0.01 < bed.distance(found, of_bound, "attention")


def test_own_cost_is_biased_and_says_so(model, of_bound):
    assert bed.distance(ours(model, 1, cost="own"), of_bound, "attention") > 0.01


def continued(model, select: str, path, after: int = 1) -> torch.Tensor:
    """For each place, the costs to go of a pass that leaves the path ``after`` it (0: before it has read s_t)."""
    found = []
    for t in range(2):
        trace = model(bed.features(), WORDS, LENGTHS, path=path, select=select, until=t + after)
        found.append(reward_to_go(bed.costs_of(trace))[..., t])
    return torch.stack(found, -1).detach()


@pytest.mark.parametrize("select", ["expected", "argmax"])
def test_a_rollout_from_the_state_after_the_glimpse_is_caught(model, of_bound, select):
    """It has seen s_t, so subtracting it takes away what s_t should be charged."""
    total = 0.0
    for path in bed.paths(2):
        trace = model(bed.features(), WORDS, LENGTHS, path=path)
        costs = bed.costs_of(trace)
        charge = (reward_to_go(costs) - continued(model, select, path)).detach()
        total = total + trace.log_probs.sum().exp().detach() * (costs.sum() + (charge * trace.log_probs).sum())
    assert bed.distance(bed.gradient(model, total), of_bound, "attention") > 0.01


def test_an_own_step_difference_to_the_likeliest_glimpse_is_caught(model, of_bound):
    """l_t - l_t(argmax), which forgets that later words depend on s_t."""
    greedy, total = rolled(model, "argmax"), 0.0
    for path in bed.paths(2):
        trace = model(bed.features(), WORDS, LENGTHS, path=path)
        costs = bed.costs_of(trace)
        score = ((costs - greedy[:, :, 0]).detach() * trace.log_probs).sum()
        total = total + trace.log_probs.sum().exp().detach() * (costs.sum() + score)
    assert bed.distance(bed.gradient(model, total), of_bound, "attention") > 0.01


def test_self_critical_charges_nothing_on_the_greedy_path_alone(model):
    greedy = model(bed.features(), WORDS, LENGTHS, select="argmax")
    for path in bed.paths(2):
        trace = model(bed.features(), WORDS, LENGTHS, path=path)
        charges = charged(trace, 1, bed.hard(baseline="self-critical"), bed.costs_of(greedy).detach()[:, :, None])
        assert bool((charges.charge == 0).all()) == torch.equal(path, greedy.glimpses)


def charged(trace, several: int, rule, rollout=None, average: MovingAverage | None = None) -> Charges:
    parts = (bed.costs_of(trace).detach(), trace.log_probs.detach(), trace.real, trace.glimpses >= 0)
    costs, log_probs, real, sampled = (part.unflatten(1, (-1, several)) for part in parts)
    level = judged(trace, bed.helpers(rule))
    paths = Paths(
        costs=costs, log_probs=log_probs, real=real, sampled=sampled,
        rollout=rollout, level=None if level is None else level.detach(),
    )  # fmt: skip
    average = average or MovingAverage(value=1.3, places=[2.0])
    return ESTIMATORS[rule.estimator.name].function(paths, rule.estimator, average)


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_baseline_moves_with_the_glimpse_it_is_subtracted_for(model, baseline):
    """Perturb s_1 with s_0 fixed: what is subtracted at word 1 stays (other paths unchanged)."""
    several, levels = 2, []
    rule = bed.hard(baseline=baseline, samples=2)
    for last in range(bed.LOCATIONS):
        path = torch.tensor([[[1, last], [2, 0]]])
        trace = model(bed.features(), WORDS, LENGTHS, path=path, samples=several, replay=True)
        charge = several * charged(trace, several, rule, rollout_for(model, baseline)).charge[0, 0, 0, 1]
        levels.append(float(reward_to_go(bed.costs_of(trace).detach())[0, 0, 1] - charge))
    assert levels == pytest.approx([levels[0]] * 3, abs=1e-12)


def test_the_average_of_each_place_by_hand():
    costs = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 0.0, 0.0]]], dtype=torch.float64)  # two captions, to go 6 5 3 and 4
    real = torch.tensor([[[True] * 3], [[True, False, False]]])
    paths = Paths(costs=costs, log_probs=torch.zeros_like(costs), real=real, sampled=real)
    average = MovingAverage(decay=0.5, places=[1.0, 2.0])
    charges = ESTIMATORS["reinforce"].function(paths, bed.hard(baseline="average-per-place").estimator, average)
    assert charges.charge.tolist() == [[[6 - 1, 5 - 2, 3 - 0]], [[4 - 1, 0, 0]]]
    assert average.places == [0.5 * 1 + 0.5 * 5, 0.5 * 2 + 0.5 * 5, 3.0]
    short = Paths(costs=costs[1:, :, :1], log_probs=costs[1:, :, :1], real=real[1:, :, :1], sampled=real[1:, :, :1])
    ESTIMATORS["reinforce"].function(short, bed.hard(baseline="average-per-place").estimator, average)
    assert average.places == [0.5 * 3 + 0.5 * 4, 3.5, 3.0], "a place that no caption reached stays"


@pytest.mark.parametrize("several", [1, 2, 3])
def test_vimco_is_the_gradient_of_the_bound_of_k_samples(model, several):
    truth = bed.gradient(model, sampled_bound(model, several))
    found = ours(model, several, TWO, name="vimco")
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


def test_vimco_with_one_sample_is_reinforce(model, of_bound):
    assert bed.distance(ours(model, 1, name="vimco"), of_bound) < 1e-10


def test_the_bounds_come_down_to_the_marginal(model):
    """J >= two samples >= three samples >= -log p, in value, and VIMCO's gradient tends to the marginal's."""
    bounds = [*(sampled_bound(model, k) for k in (1, 2, 3)), bed.marginal(model, TWO, WORDS)]
    values = [float(one.detach()) for one in bounds]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.01
    truth = bed.gradient(model, bed.marginal(model, TWO, WORDS))
    off = [bed.distance(ours(model, k, TWO, name="vimco"), truth) for k in (1, 2, 3)]
    assert off == sorted(off, reverse=True) and off[-1] > 0.001


def test_vimco_by_hand():
    """Each path's stand-in is the geometric mean of the others: any function of them would be without bias too."""
    cost = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    real = torch.ones(3, 1, dtype=torch.bool)
    paths = Paths(costs=cost[:, None], log_probs=torch.zeros(3, 1), real=real, sampled=real)
    found = ESTIMATORS["vimco"].function(paths, bed.hard(name="vimco").estimator, MovingAverage())
    w = [math.exp(-c) for c in (1, 2, 4)]
    total = sum(w)
    by_hand = []
    for k in range(3):
        a, b = (w[j] for j in range(3) if j != k)
        by_hand.append(-math.log(total / 3) + math.log((a + b + math.sqrt(a * b)) / 3))
    assert found.charge[:, 0].tolist() == pytest.approx(by_hand)
    assert found.share[:, 0].tolist() == pytest.approx([one / total for one in w])


def wrong(share=None, charge=None):
    """VIMCO with one of its two parts replaced."""
    right = ESTIMATORS["vimco"].function

    def function(paths, *rest):
        found = right(paths, *rest)
        return Charges(share(paths) if share else found.share, charge(paths) if charge else found.charge)

    return function


def all_together(paths):
    """The mean of all costs in place of log I_{-k}: the own path counts, so it is no baseline."""
    cost = paths.costs.sum(-1)
    return (cost - cost.mean(-1, keepdim=True))[..., None].expand_as(paths.costs)


EQUAL = wrong(share=lambda paths: torch.full_like(paths.cost, 0.5))
OWN_INCLUDED = wrong(charge=all_together)


@pytest.mark.parametrize("function", [EQUAL, OWN_INCLUDED])
def test_wrong_kinds_of_vimco_are_caught(model, monkeypatch, function):
    truth = bed.gradient(model, sampled_bound(model, 2))
    monkeypatch.setitem(ESTIMATORS, "vimco", ESTIMATORS["vimco"].__class__(
        facts=ESTIMATORS["vimco"].facts, function=function, target="", unbiased=True, source="",
    ))  # fmt: skip
    assert bed.distance(ours(model, 2, TWO, name="vimco"), truth) > 0.001


@pytest.mark.parametrize("several", [1, 2, 3])
def test_wake_sleep_is_the_gradient_with_the_proposal_held_fixed(model, several):
    """-log (1/K) sum_k alpha(s^k) p(words | s^k) / q(s^k), where q is alpha without its gradient."""

    def value(trace):
        log_w = trace.log_probs - trace.log_probs.detach() - bed.costs_of(trace)
        return math.log(several) - torch.logsumexp(log_w.sum(-1).flatten(), 0)

    truth = bed.gradient(model, bed.over_tuples(model, TWO, WORDS, several, value))
    found = ours(model, several, TWO, name="wake-sleep")
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


def test_wake_sleep_tends_to_the_marginal_and_is_not_vimco(model):
    truth = bed.gradient(model, bed.marginal(model, TWO, WORDS))
    found = [ours(model, k, TWO, name="wake-sleep") for k in (1, 2, 3)]
    off = [bed.distance(one, truth) for one in found]
    assert off == sorted(off, reverse=True)
    assert bed.distance(found[1], bed.gradient(model, sampled_bound(model, 2)), "attention") > 0.01
