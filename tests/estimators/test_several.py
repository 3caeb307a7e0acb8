"""K paths of a caption, and baselines from other passes: against enumeration of all K-tuples, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from attend.attention.select import Argmax, Expected, Forced
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.noise import Noise
from attend.estimators.paths import Charges, Paths
from attend.estimators.signals import reward_to_go
from attend.estimators.take import Given
from attend.training.objective import paths_of, rollout
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
THREE, TWO = bed.features(), bed.features(locations=2)
"""Features of three and of two locations; three paths are taken of two."""
NOISE = Noise(glimpse=torch.zeros(1, 1, 2))
UNBIASED = [name for name, one in BASELINES.items() if one.unbiased]
"""The other one has its tests in test_group."""
WITHOUT_SAMPLES = [Expected(), Argmax()]


@pytest.fixture(scope="module")
def model():
    return bed.captioner(bed.hard())


@pytest.fixture(scope="module")
def of_bound(model):
    """G_J."""
    return bed.gradient(model, bed.bound(model, THREE, WORDS))


def sampled_bound(model, several: int) -> torch.Tensor:
    """-E log (1/K) sum_k p(words | path k) over all K-tuples, p(paths) with its gradient."""

    def value(u):
        return math.log(several) - torch.logsumexp(-u.costs.sum(-1).flatten(), 0)

    return bed.over_tuples(model, TWO, WORDS, several, value, constant=False)


def settled(baseline: str) -> Average:
    """A moving average that is not the right one; that of the second place has not started."""
    return Average.of([2.0] if baseline == "average-per-place" else [1.3])


def ours(model, several: int, a: torch.Tensor = THREE, passed=None, **estimator):
    """The mean gradient of the loss as it is trained, over all K-tuples."""
    learner = bed.learner(bed.hard(samples=several, **estimator))
    average = settled(learner.settings.estimator.baseline)

    def estimate(u):
        return bed.loss(model, u, learner, average, words=1, passed=passed).total

    return bed.gradient(model, bed.over_tuples(model, a, WORDS, several, estimate))


def rolled(model, policy) -> torch.Tensor:
    """Costs of a pass without samples, (1, 1, 1, T)."""
    return model(THREE, WORDS, LENGTHS, policy).costs.detach()[:, :, None]


def rollout_for(model, baseline: str):
    policy = BASELINES[baseline].rollout
    return None if policy is None else rolled(model, policy)


@pytest.mark.thin
@pytest.mark.parametrize("baseline", UNBIASED)
@pytest.mark.parametrize("several", [1, 2])
@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_every_baseline_leaves_the_gradient_of_the_bound(model, of_bound, baseline, several, cost):
    several = max(several, BASELINES[baseline].paths)
    found = ours(model, several, passed=rollout_for(model, baseline), baseline=baseline, cost=cost)
    for name in of_bound:
        assert bed.distance(found, of_bound, name) < 1e-10, name


@pytest.mark.parametrize("baseline", ["soft", "self-critical"])
@pytest.mark.parametrize("cost", ["to-go", "sentence"])
def test_a_rollout_from_the_prefix_leaves_it_too(model, of_bound, baseline, cost):
    """From h_{t-1}, which has read s_<t: another pass for each word and sample."""
    several = 2
    learner = bed.learner(bed.hard(samples=several, baseline=baseline, rollout="prefix", cost=cost))

    def estimate(u):
        passed = rollout(model, Given(THREE, WORDS, LENGTHS), u, NOISE, learner)
        return bed.loss(model, u, learner, words=1, passed=passed).total

    found = bed.gradient(model, bed.over_tuples(model, THREE, WORDS, several, estimate))
    for name in of_bound:
        assert bed.distance(found, of_bound, name) < 1e-10, name


@pytest.mark.parametrize("baseline", ["soft", "self-critical"])
def test_the_passes_from_the_prefix_are_those_of_paths_left_there(model, baseline):
    learner = bed.learner(bed.hard(baseline=baseline, rollout="prefix"))
    for path in bed.paths(2):
        u = bed.along(model, THREE, WORDS, LENGTHS, path)
        passes = rollout(model, Given(THREE, WORDS, LENGTHS), u, NOISE, learner)
        ours = torch.stack([reward_to_go(passes[:, :, 0, t])[..., t] for t in range(2)], -1)
        assert torch.allclose(ours, continued(model, BASELINES[baseline].rollout, path, after=0))


def test_three_paths_leave_it_too(model):
    truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
    assert bed.distance(ours(model, 3, TWO, baseline="leave-one-out"), truth) < 1e-10


def test_the_own_path_in_the_mean_is_caught(model, of_bound, monkeypatch):
    """Then the score part is (K - 1)/K of what it should be."""
    included = lambda signal, *_: (signal.mean(-2, keepdim=True), None)  # noqa: E731
    monkeypatch.setitem(BASELINES, "leave-one-out", replace(BASELINES["leave-one-out"], function=included))
    found = ours(model, 2, baseline="leave-one-out")
    pathwise = bed.gradient(model, bed.over_tuples(model, THREE, WORDS, 1, bed.summed))
    half = {name: pathwise[name] + (of_bound[name] - pathwise[name]) / 2 for name in of_bound}
    assert bed.distance(found, half) < 1e-10 < 0.01 < bed.distance(found, of_bound, "attention")


def test_own_cost_is_biased_and_says_so(model, of_bound):
    assert bed.distance(ours(model, 1, cost="own"), of_bound, "attention") > 0.01


def continued(model, policy, path, after: int = 1) -> torch.Tensor:
    """For each place, the costs to go of a pass that leaves the path ``after`` it (0: before it has read s_t)."""
    found = []
    for t in range(2):
        u = model(THREE, WORDS, LENGTHS, Forced(path, t + after, policy))
        found.append(reward_to_go(u.costs)[..., t])
    return torch.stack(found, -1).detach()


@pytest.mark.parametrize("policy", WITHOUT_SAMPLES)
def test_a_rollout_from_the_state_after_the_glimpse_is_caught(model, of_bound, policy):
    """It has read s_t, so to subtract it takes away a part of the charge of s_t."""
    total = 0.0
    for path in bed.paths(2):
        u = bed.along(model, THREE, WORDS, LENGTHS, path)
        charge = (reward_to_go(u.costs) - continued(model, policy, path)).detach()
        total = total + u.log_probs.sum().exp().detach() * (u.costs.sum() + (charge * u.log_probs).sum())
    assert bed.distance(bed.gradient(model, total), of_bound, "attention") > 0.01


def test_an_own_step_difference_to_the_likeliest_glimpse_is_caught(model, of_bound):
    """l_t - l_t(argmax), which forgets that later words depend on s_t."""
    greedy, total = rolled(model, Argmax()), 0.0
    for path in bed.paths(2):
        u = bed.along(model, THREE, WORDS, LENGTHS, path)
        score = ((u.costs - greedy[:, :, 0]).detach() * u.log_probs).sum()
        total = total + u.log_probs.sum().exp().detach() * (u.costs.sum() + score)
    assert bed.distance(bed.gradient(model, total), of_bound, "attention") > 0.01


def test_self_critical_charges_nothing_on_the_greedy_path_alone(model):
    greedy = model(THREE, WORDS, LENGTHS, Argmax())
    for path in bed.paths(2):
        u = bed.along(model, THREE, WORDS, LENGTHS, path)
        charges = charged(u, bed.hard(baseline="self-critical"), greedy.costs.detach()[:, :, None])
        assert bool((charges.charge == 0).all()) == torch.equal(path, greedy.glimpses)


def charged(u, rule, passed=None) -> Charges:
    learner = bed.learner(rule)
    paths = paths_of(u, u.costs, learner, NOISE, False, passed)
    return learner.charge(paths, settled(rule.estimator.baseline))


@pytest.mark.parametrize("baseline", UNBIASED)
def test_no_baseline_moves_with_the_glimpse_it_is_subtracted_for(model, baseline):
    """Perturb s_1 with s_0 fixed: what is subtracted at word 1 stays (other paths unchanged)."""
    several, levels = 2, []
    rule = bed.hard(baseline=baseline, samples=several)
    for last in range(bed.LOCATIONS):
        path = torch.tensor([[[1, last], [2, 0]]])
        u = bed.along(model, THREE, WORDS, LENGTHS, path, several)
        charge = several * charged(u, rule, rollout_for(model, baseline)).charge[0, 0, 0, 1]
        levels.append(float(reward_to_go(u.costs.detach())[0, 0, 1] - charge))
    assert levels == pytest.approx([levels[0]] * 3, abs=1e-12)


def test_the_average_of_each_place_by_hand():
    costs = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 0.0, 0.0]]], dtype=torch.float64)  # two captions, to go 6 5 3 and 4
    real = torch.tensor([[[True] * 3], [[True, False, False]]])
    paths = Paths(costs=costs, log_probs=torch.zeros_like(costs), real=real, sampled=real)
    rule, average = bed.hard(baseline="average-per-place").estimator, Average.of([1.0, 2.0])
    charges = ESTIMATORS["reinforce"].charge(paths, rule, average)
    assert charges.charge.tolist() == [[[6 - 1, 5 - 2, 3 - 0]], [[4 - 1, 0, 0]]]
    average = average.after(charges.observed, decay=0.5)
    assert average.values() == [0.5 * 1 + 0.5 * 5, 0.5 * 2 + 0.5 * 5, 3.0]
    short = Paths(costs=costs[1:, :, :1], log_probs=costs[1:, :, :1], real=real[1:, :, :1], sampled=real[1:, :, :1])
    average = average.after(ESTIMATORS["reinforce"].charge(short, rule, average).observed, decay=0.5)
    assert average.values() == [0.5 * 3 + 0.5 * 4, 3.5, 3.0], "a place that no caption reached keeps its average"


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
    found = ESTIMATORS["vimco"].charge(paths, bed.hard(name="vimco").estimator, Average())
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
    right = ESTIMATORS["vimco"].charge

    def charge_of(paths, *rest):
        found = right(paths, *rest)
        return Charges(share(paths) if share else found.share, charge(paths) if charge else found.charge)

    return charge_of


def all_together(paths):
    """The mean of all costs in place of log I_{-k}: the own path counts, so it is no baseline."""
    cost = paths.costs.sum(-1)
    return (cost - cost.mean(-1, keepdim=True))[..., None].expand_as(paths.costs)


EQUAL = wrong(share=lambda paths: torch.full_like(paths.cost, 0.5))
OWN_INCLUDED = wrong(charge=all_together)


@pytest.mark.parametrize("charge", [EQUAL, OWN_INCLUDED])
def test_wrong_kinds_of_vimco_are_caught(model, monkeypatch, charge):
    truth = bed.gradient(model, sampled_bound(model, 2))
    monkeypatch.setitem(ESTIMATORS, "vimco", replace(ESTIMATORS["vimco"], charge=charge))
    assert bed.distance(ours(model, 2, TWO, name="vimco"), truth) > 0.001


@pytest.mark.parametrize("several", [1, 2, 3])
def test_wake_sleep_is_the_gradient_with_the_proposal_held_fixed(model, several):
    """-log (1/K) sum_k alpha(s^k) p(words | s^k) / q(s^k), where q is alpha without its gradient."""

    def value(u):
        log_w = u.log_probs - u.log_probs.detach() - u.costs
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
