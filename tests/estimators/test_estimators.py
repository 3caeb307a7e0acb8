"""Every estimator against the enumerated gradient of the bound: the real captioner, no Monte-Carlo tolerance."""

from __future__ import annotations

import importlib
import inspect
import itertools
from dataclasses import replace

import pytest
import torch

from attend.attention import select
from attend.captioner.captioner import Noise
from attend.captioner.traces import negative_log_likelihood
from attend.config import Estimator
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.estimators.paths import Paths
from attend.estimators.signals import reward_to_go, sentence_cost
from attend.training.objective import objective
from tests import bed

WORDS = torch.tensor([[[4, 5, 2]]])


@pytest.fixture(scope="module")
def model():
    return bed.captioner(bed.settings(attention={"select": "sample"}))


@pytest.fixture(scope="module")
def truth(model):
    return bed.gradient(model, bed.bound(model, bed.features(), WORDS))


def variant(score):
    """An estimate with a score part of its own: sum l_t + score(trace, costs)."""

    def estimate(trace):
        costs = trace.spread(negative_log_likelihood(trace))
        return costs.sum() + score(trace, costs.detach())

    return estimate


def reinforce(log_probs, charge, baseline=0.0):
    return ((charge - baseline).detach() * log_probs).sum(-1)


def own_step(trace, costs):
    return reinforce(trace.log_probs, costs).sum()


def strictly_later(trace, costs):
    return reinforce(trace.log_probs, reward_to_go(costs) - costs).sum()


def no_gradient(trace, costs):
    return reinforce(trace.log_probs.detach(), reward_to_go(costs)).sum()


@pytest.mark.parametrize("cost", ["to-go", "sentence"])
@pytest.mark.parametrize("baseline", ["none", "average", "average-per-word", "average-per-place"])
@pytest.mark.parametrize("value", [None, 2.5])
def test_reinforce_is_the_gradient_of_the_bound(model, truth, cost, baseline, value):
    settings = bed.settings(
        attention={"select": "sample"}, estimator={"semi": 0.0, "entropy": 0.0, "cost": cost, "baseline": baseline}
    )

    def estimate(trace):
        places = [] if value is None else [3.0, 0.5]  # and none yet of the third place
        return objective(trace, settings, MovingAverage(value=value, places=places), words=1).total

    ours = bed.expectation(model, bed.features(), WORDS, estimate)
    for name in truth:
        assert bed.distance(ours, truth, name) < 1e-10, name


@pytest.mark.parametrize("wrong", [own_step, strictly_later, no_gradient])
def test_wrong_signals_are_caught(model, truth, wrong):
    ours = bed.expectation(model, bed.features(), WORDS, variant(wrong))
    assert bed.distance(ours, truth, "attention") > 0.01


def test_own_step_cost_is_exact_for_one_word(model):
    words = torch.tensor([[[4]]])
    truth = bed.gradient(model, bed.bound(model, bed.features(), words))
    ours = bed.expectation(model, bed.features(), words, variant(own_step))
    assert bed.distance(ours, truth) < 1e-10


@bed.either_feed
@pytest.mark.parametrize("t", range(3))
def test_own_step_cost_is_exact_for_the_last_glimpse(monkeypatch, feed, t):
    """One glimpse is charged, with l_t, and compared with its share of the score part: all later words depend on it
    where the state reads it, and else none."""
    entry = ESTIMATORS["reinforce"]

    def charged(paths, *rest):
        found = entry.function(paths, *rest)
        return replace(found, charge=found.charge * (torch.arange(3) == t))

    rule = bed.hard(feed, cost="own", baseline="none")
    model = bed.captioner(rule)
    truth = 0.0
    for path in bed.paths(3):
        trace = model(bed.features(), WORDS, torch.tensor([[3]]), path=path)
        others = trace.log_probs.detach().sum() - trace.log_probs[..., t].detach().sum()
        truth = truth + (others + trace.log_probs[..., t].sum()).exp() * bed.summed(trace).detach()
    monkeypatch.setitem(ESTIMATORS, "reinforce", replace(entry, function=charged))
    ours = bed.expectation(
        model, bed.features(), WORDS,
        lambda trace: objective(trace, rule, MovingAverage(), words=1).terms["surrogate"],
    )  # fmt: skip
    truth = bed.gradient(model, truth)
    if t == 2 or feed == "expected":
        assert bed.distance(ours, truth) < 1e-10
    else:
        assert bed.distance(ours, truth, "attention") > 0.005


def test_without_a_gradient_through_the_samples_attention_learns_nothing(model):
    ours = bed.expectation(model, bed.features(), WORDS, variant(no_gradient))
    assert all(float(g.abs().max()) == 0 for name, g in ours.items() if name.startswith("attention"))


def test_a_detached_state_is_caught(model, truth):
    """The score part must reach the LSTM through h_{t-1}."""
    weights = model.attention.weights
    model.attention.weights = lambda memory, hidden, shares: weights(memory, hidden.detach(), shares)
    try:
        ours = bed.expectation(
            model,
            bed.features(),
            WORDS,
            variant(lambda trace, costs: reinforce(trace.log_probs, reward_to_go(costs)).sum()),
        )
    finally:
        del model.attention.weights
    assert bed.distance(ours, truth, "attention") < 1e-10
    assert bed.distance(ours, truth, "decoder.hidden_gates") > 0.01


@pytest.mark.parametrize("rows", [1, 2])
def test_a_baseline_updated_before_its_use_is_caught(model, rows):
    """For B samples in a minibatch it scales the score part by 1 - (1 - decay)/B: 0.9 for one, 0.95 for two."""
    a, words, lengths = bed.features().expand(rows, -1, -1), WORDS[..., :2], torch.tensor([[2]] * rows)
    truth = bed.gradient(model, bed.bound(model, bed.features(), words))
    costs_only, leaky = 0.0, 0.0
    for combination in itertools.product(list(bed.paths(2)), repeat=rows):
        trace = model(a, words.expand(rows, -1, -1), lengths, path=torch.cat(combination))
        costs = trace.spread(negative_log_likelihood(trace))
        probability = trace.log_probs.sum().exp().detach()
        signal = sentence_cost(costs.detach())
        baseline = MovingAverage(decay=0.9, value=3.0)
        baseline.update(float(signal[..., 0].mean()))
        costs_only = costs_only + probability * costs.sum() / rows
        leaky = leaky + probability * reinforce(trace.log_probs, signal, baseline.value).sum() / rows
    pathwise, score = bed.gradient(model, costs_only), bed.gradient(model, leaky)
    shrunk = {n: pathwise[n] + score[n] / (1 - (1 - 0.9) / rows) for n in truth}
    total = {n: pathwise[n] + score[n] for n in truth}
    assert bed.distance(total, truth, "attention") > 0.01
    assert bed.distance(shrunk, truth) < 1e-10


def test_the_old_value_is_used_and_then_moved(model):
    settings = bed.settings(attention={"select": "sample"}, estimator={"baseline": "average", "semi": 0.0})
    trace = model(bed.features(), WORDS, torch.tensor([[3]]), path=torch.tensor([[[0, 1, 2]]]))
    costs = trace.spread(negative_log_likelihood(trace)).detach()
    baseline = MovingAverage(decay=0.9, value=2.0)
    loss = objective(trace, settings, baseline, words=1)
    expected = ((reward_to_go(costs) - 2.0) * trace.log_probs).sum()
    assert torch.isclose(loss.terms["surrogate"], expected)
    assert baseline.value == pytest.approx(0.9 * 2.0 + 0.1 * float(reward_to_go(costs).mean()))


def test_the_average_of_sentences_counts_each_once():
    """However many words it has: (4 x 4 + 1 x 6) / 5 would be an average over words."""
    costs = torch.tensor([[1.0, 1.0, 1.0, 1.0], [6.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    real = torch.tensor([[True] * 4, [True, False, False, False]])
    for kind, mean in (("average", (4 + 6) / 2), ("average-per-word", (4 + 6) / 5)):
        baseline = MovingAverage()
        rule = Estimator(cost="sentence", baseline=kind)
        costs_, real_ = costs[:, None], real[:, None]  # one path each
        paths = Paths(costs=costs_, log_probs=torch.zeros_like(costs_), real=real_, sampled=real_)
        ESTIMATORS["reinforce"].function(paths, rule, baseline)
        assert baseline.value == pytest.approx(mean)


def test_the_baseline_does_not_see_the_glimpse(model):
    """Perturbing s_t leaves b_t where it was: the surrogates of two paths differ by costs and log alpha alone."""
    settings = bed.settings(attention={"select": "sample"}, estimator={"semi": 0.0, "entropy": 0.0})
    for path in bed.paths(3):
        trace = model(bed.features(), WORDS, torch.tensor([[3]]), path=path)
        costs = trace.spread(negative_log_likelihood(trace)).detach()
        loss = objective(trace, settings, MovingAverage(value=1.7), words=1)
        constant = 1.7 * torch.tensor([3.0, 2.0, 1.0])
        assert torch.isclose(loss.terms["surrogate"], ((reward_to_go(costs) - constant) * trace.log_probs).sum())


def test_semi_sampling_is_half_bound_and_half_soft(model, truth):
    """With the coin enumerated: mean of J's gradient and of the soft cost's."""
    settings = bed.settings(attention={"select": "sample"})
    a, lengths = bed.features(), torch.tensor([[3]])
    noise = Noise(glimpse=torch.rand(1, 1, 3), soft=torch.tensor([[True]]))
    trace = model(a, WORDS, lengths, select="sample", noise=noise)
    assert (trace.glimpses == -1).all() and not trace.log_probs.any()
    baseline = MovingAverage(value=1.0)
    heads = bed.gradient(model, objective(trace, settings, baseline, words=1).total)
    soft = bed.gradient(model, bed.summed(model(a, WORDS, lengths, select="expected")))
    assert bed.distance(heads, soft) < 1e-12
    assert baseline.value == 1.0
    estimate = lambda trace: objective(trace, settings, MovingAverage(value=1.0), words=1).total  # noqa: E731
    tails = bed.expectation(model, a, WORDS, estimate)
    ours = {name: (heads[name] + tails[name]) / 2 for name in heads}
    assert bed.distance(ours, {name: (truth[name] + soft[name]) / 2 for name in truth}) < 1e-10


def test_samples_follow_alpha():
    """Inverting the distribution function at evenly spaced noise counts out alpha itself; masked cells never come."""
    alpha = torch.tensor([0.0, 0.5, 0.125, 0.375, 0.0], dtype=torch.float64)
    noise = (torch.arange(800) + 0.5) / 800
    drawn = select.sample(torch.randn(1, 5, 2).double(), alpha.expand(1, 800, 5), noise[None].double())
    assert torch.equal(drawn.glimpse[0].bincount(minlength=5), torch.tensor([0, 400, 100, 300, 0]))
    assert torch.allclose(drawn.log_prob.exp(), alpha[drawn.glimpse])
    edge = select.sample(torch.randn(1, 5, 2).double(), alpha.expand(1, 1, 5), torch.zeros(1, 1).double())
    assert edge.glimpse.item() == 1


def test_the_table_of_estimators_is_what_the_configuration_offers():
    assert Estimator().name in ESTIMATORS
    assert Estimator().baseline in BASELINES
    entry = ESTIMATORS["reinforce"]
    assert entry.unbiased and entry.target == "bound" and entry.facts.select == "sample"


EXACT = {  # the test of each estimator against enumeration, where the state reads the glimpses and where it does not
    "reinforce": (
        "estimators_several.test_every_baseline_leaves_the_gradient_of_the_bound",
        "feed.test_reinforce_is_the_gradient_of_the_bound",
    ),
    "enumeration": ("estimators_distinct.test_enumeration_is_the_gradient_of_the_bound",) * 2,
    "marginal": ("estimators_distinct.test_marginal_is_the_gradient_of_the_marginal",) * 2,
    "vimco": (
        "estimators_several.test_vimco_is_the_gradient_of_the_bound_of_k_samples",
        "feed.test_estimators_of_several_samples_compare_those_of_a_word",
    ),
    "wake-sleep": (
        "estimators_several.test_wake_sleep_is_the_gradient_with_the_proposal_held_fixed",
        "feed.test_estimators_of_several_samples_compare_those_of_a_word",
    ),
    "sum-and-sample": ("estimators_distinct.test_sum_and_sample_is_the_gradient_of_the_bound",) * 2,
    "unordered-set": ("estimators_distinct.test_unordered_set_is_the_gradient_of_the_bound",) * 2,
    "rebar": ("estimators_control.test_rebar_and_relax_are_the_gradient_of_the_bound_of_the_captioner",) * 2,
    "relax": ("estimators_control.test_rebar_and_relax_are_the_gradient_of_the_bound_of_the_captioner",) * 2,
    "gumbel-softmax": ("estimators_relaxed.test_the_bias_of_the_gumbel_softmax_falls_with_the_temperature",) * 2,
    "straight-through": ("estimators_relaxed.test_straight_through_is_biased_on_the_captioner",) * 2,
    "gumbel-straight-through": ("estimators_relaxed.test_the_gumbel_straight_through_by_hand",) * 2,
    "variational": ("estimators_variational.test_the_inference_network_gets_the_gradient_of_its_bound",) * 2,
    "xu2015-code": ("released.test_its_mean_is_that_factor_times_the_score_part_of_the_bound", None),
}  # fmt: skip


def parameters(test) -> dict[str, list]:
    """The values that each parameter of a test is given."""
    found = {}
    for mark in getattr(test, "pytestmark", []):
        if mark.name != "parametrize":
            continue
        names, rows = mark.args
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        for row in rows:
            if isinstance(row, type(pytest.param())):
                row = row.values
            elif len(names) == 1:
                row = [row]
            for name, value in zip(names, row, strict=True):
                found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("feed", bed.FEEDS)
def test_every_estimator_has_its_exact_test(name, feed):
    """One that is added without is seen here, and one that is taken out of its test's parameters."""
    named = EXACT[name][bed.FEEDS.index(feed)]
    if named is None:
        with pytest.raises(ValueError, match=name):
            bed.hard(feed, name=name)
        return
    file, test = named.split(".")
    test = getattr(importlib.import_module(f"tests.test_{file}"), test)
    given = parameters(test)
    if "name" in given:
        assert name in given["name"]
    elif name != Estimator().name:
        assert f'"{name}"' in inspect.getsource(test)
    if "feed" in given:
        assert feed in given["feed"]
    else:  # then it is the one of its file
        assert feed == ("expected" if file == "feed" else "glimpse")
