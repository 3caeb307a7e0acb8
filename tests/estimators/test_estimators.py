"""Every estimator is tested against the enumerated gradient of the bound: the real captioner, no Monte-Carlo error."""

from __future__ import annotations

import importlib
import inspect
import itertools
from dataclasses import replace

import pytest
import torch

from attend.attention.select import Sample
from attend.config import Estimator
from attend.config.catalogue import FACTS
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.noise import Noise
from attend.estimators.paths import Paths
from attend.estimators.signals import reward_to_go, sentence_cost
from tests import bed

WORDS = torch.tensor([[[4, 5, 2]]])


@pytest.fixture(scope="module")
def model():
    return bed.captioner(bed.settings(attention={"select": "sample"}))


@pytest.fixture(scope="module")
def truth(model):
    return bed.gradient(model, bed.bound(model, bed.features(), WORDS))


def variant(score):
    """The estimate sum l_t + score(u, costs), with a score part of its own."""

    def estimate(u):
        return u.costs.sum() + score(u, u.costs.detach())

    return estimate


def reinforce(log_probs, charge, baseline=0.0):
    return ((charge - baseline).detach() * log_probs).sum(-1)


def own_step(u, costs):
    return reinforce(u.log_probs, costs).sum()


def strictly_later(u, costs):
    return reinforce(u.log_probs, reward_to_go(costs) - costs).sum()


def no_gradient(u, costs):
    return reinforce(u.log_probs.detach(), reward_to_go(costs)).sum()


@pytest.mark.thin
@pytest.mark.parametrize("cost", ["to-go", "sentence"])
@pytest.mark.parametrize("baseline", ["none", "average", "average-per-word", "average-per-place"])
@pytest.mark.parametrize("value", [None, 2.5])
def test_reinforce_is_the_gradient_of_the_bound(model, truth, cost, baseline, value):
    settings = bed.settings(
        attention={"select": "sample"}, estimator={"semi": 0.0, "entropy": 0.0, "cost": cost, "baseline": baseline}
    )
    started = [3.0, 0.5] if baseline == "average-per-place" else [value]  # the third place has not started
    learner, average = bed.learner(settings), Average.of([] if value is None else started)
    ours = bed.expectation(model, bed.features(), WORDS, lambda u: bed.loss(model, u, learner, average, words=1).total)
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
    """One glimpse is charged, with l_t, and compared with its share of the score part. All later words depend on it if
    the state reads it; else none does."""
    entry = ESTIMATORS["reinforce"]

    def charge(paths, *rest):
        charges = entry.charge(paths, *rest)
        return replace(charges, charge=charges.charge * (torch.arange(3) == t))

    rule = bed.hard(feed, cost="own", baseline="none")
    model = bed.captioner(rule)
    truth = 0.0
    for path in bed.paths(3):
        u = bed.along(model, bed.features(), WORDS, torch.tensor([[3]]), path)
        others = u.log_probs.detach().sum() - u.log_probs[..., t].detach().sum()
        truth = truth + (others + u.log_probs[..., t].sum()).exp() * bed.summed(u).detach()
    monkeypatch.setitem(ESTIMATORS, "reinforce", replace(entry, charge=charge))
    learner = bed.learner(rule)
    ours = bed.expectation(
        model, bed.features(), WORDS, lambda u: bed.loss(model, u, learner, words=1).terms["surrogate"]
    )
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
    model.attention.weights = lambda memory, query, shown: weights(memory, query.detach(), shown)
    try:
        ours = bed.expectation(
            model,
            bed.features(),
            WORDS,
            variant(lambda u, costs: reinforce(u.log_probs, reward_to_go(costs)).sum()),
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
        u = bed.along(model, a, words.expand(rows, -1, -1), lengths, torch.cat(combination))
        probability = u.log_probs.sum().exp().detach()
        signal = sentence_cost(u.costs.detach())
        observed = torch.tensor([[float(signal[..., 0].sum())], [rows]], dtype=torch.float64)
        (updated,) = Average.of([3.0]).after(observed, decay=0.9).values()
        costs_only = costs_only + probability * u.costs.sum() / rows
        leaky = leaky + probability * reinforce(u.log_probs, signal, updated).sum() / rows
    pathwise, score = bed.gradient(model, costs_only), bed.gradient(model, leaky)
    shrunk = {n: pathwise[n] + score[n] / (1 - (1 - 0.9) / rows) for n in truth}
    total = {n: pathwise[n] + score[n] for n in truth}
    assert bed.distance(total, truth, "attention") > 0.01
    assert bed.distance(shrunk, truth) < 1e-10


def test_the_old_value_is_used_and_then_moved(model):
    settings = bed.settings(attention={"select": "sample"}, estimator={"baseline": "average", "semi": 0.0})
    u = bed.along(model, bed.features(), WORDS, torch.tensor([[3]]), torch.tensor([[[0, 1, 2]]]))
    costs, average = u.costs.detach(), Average.of([2.0])
    loss = bed.loss(model, u, bed.learner(settings), average, words=1)
    expected = ((reward_to_go(costs) - 2.0) * u.log_probs).sum()
    assert torch.isclose(loss.terms["surrogate"], expected)
    (moved,) = average.after(loss.observed, decay=0.9).values()
    assert moved == pytest.approx(0.9 * 2.0 + 0.1 * float(reward_to_go(costs).mean()))


def test_the_average_of_sentences_counts_each_once():
    """However many words it has: (4 x 4 + 1 x 6) / 5 would be an average over words."""
    costs = torch.tensor([[1.0, 1.0, 1.0, 1.0], [6.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    real = torch.tensor([[True] * 4, [True, False, False, False]])
    for kind, mean in (("average", (4 + 6) / 2), ("average-per-word", (4 + 6) / 5)):
        rule = Estimator(cost="sentence", baseline=kind)
        costs_, real_ = costs[:, None], real[:, None]  # one path each
        paths = Paths(costs=costs_, log_probs=torch.zeros_like(costs_), real=real_, sampled=real_)
        charges = ESTIMATORS["reinforce"].charge(paths, rule, Average())
        assert Average().after(charges.observed, decay=0.9).values() == pytest.approx([mean])


def test_the_baseline_does_not_see_the_glimpse(model):
    """Another s_t does not change b_t: the surrogates of two paths differ by costs and log alpha alone."""
    settings = bed.settings(attention={"select": "sample"}, estimator={"semi": 0.0, "entropy": 0.0})
    learner = bed.learner(settings)
    for path in bed.paths(3):
        u = bed.along(model, bed.features(), WORDS, torch.tensor([[3]]), path)
        loss = bed.loss(model, u, learner, Average.of([1.7]), words=1)
        charge = reward_to_go(u.costs.detach()) - 1.7 * torch.tensor([3.0, 2.0, 1.0])
        assert torch.isclose(loss.terms["surrogate"], (charge * u.log_probs).sum())


def test_semi_sampling_is_half_bound_and_half_soft(model, truth):
    """If the coin is enumerated, it is the mean of J's gradient and of the soft cost's."""
    learner, average = bed.learner(bed.settings(attention={"select": "sample"})), Average.of([1.0])
    a, lengths = bed.features(), torch.tensor([[3]])
    noise = Noise(glimpse=bed.uniform(1, 1, 3), soft=torch.tensor([[True]]))
    u = model(a, WORDS, lengths, Sample(noise.glimpse, noise.mixed))
    assert (u.glimpses == -1).all() and not u.log_probs.any()
    loss = bed.loss(model, u, learner, average, words=1)
    heads = bed.gradient(model, loss.total)
    soft = bed.gradient(model, bed.summed(model(a, WORDS, lengths)))
    assert bed.distance(heads, soft) < 1e-12
    assert average.after(loss.observed, decay=0.9).values() == [1.0]
    tails = bed.expectation(model, a, WORDS, lambda u: bed.loss(model, u, learner, average, words=1).total)
    ours = {name: (heads[name] + tails[name]) / 2 for name in heads}
    assert bed.distance(ours, {name: (truth[name] + soft[name]) / 2 for name in truth}) < 1e-10


def test_samples_follow_alpha():
    """At evenly spaced noise the inverse distribution function gives counts of exactly alpha, and no masked cell."""
    alpha = torch.tensor([0.0, 0.5, 0.125, 0.375, 0.0], dtype=torch.float64)
    noise = (torch.arange(800) + 0.5) / 800
    values = torch.randn(1, 5, 2).double()
    drawn = Sample(noise[None].double())(values, alpha.expand(1, 800, 5))
    assert torch.equal(drawn.glimpse[0].bincount(minlength=5), torch.tensor([0, 400, 100, 300, 0]))
    assert torch.allclose(drawn.log_prob.exp(), alpha[drawn.glimpse])
    edge = Sample(torch.zeros(1, 1).double())(values, alpha.expand(1, 1, 5))
    assert edge.glimpse.item() == 1


def test_the_table_of_estimators_is_what_the_configuration_offers():
    assert Estimator().name in ESTIMATORS
    assert Estimator().baseline in BASELINES
    assert list(ESTIMATORS) == list(FACTS)
    facts = FACTS["reinforce"]
    assert facts.unbiased and facts.target == "bound" and facts.select == "sample"


EXACT = {  # the test of each estimator against enumeration, with feed "glimpse" and with feed "expected"
    "reinforce": (
        "estimators.test_several.test_every_baseline_leaves_the_gradient_of_the_bound",
        "captioner.test_feed.test_reinforce_is_the_gradient_of_the_bound",
    ),
    "enumeration": ("estimators.test_distinct.test_enumeration_is_the_gradient_of_the_bound",) * 2,
    "marginal": ("estimators.test_distinct.test_marginal_is_the_gradient_of_the_marginal",) * 2,
    "vimco": (
        "estimators.test_several.test_vimco_is_the_gradient_of_the_bound_of_k_samples",
        "captioner.test_feed.test_estimators_of_several_samples_compare_the_samples_of_a_word",
    ),
    "wake-sleep": (
        "estimators.test_several.test_wake_sleep_is_the_gradient_with_the_proposal_held_fixed",
        "captioner.test_feed.test_estimators_of_several_samples_compare_the_samples_of_a_word",
    ),
    "sum-and-sample": ("estimators.test_distinct.test_sum_and_sample_is_the_gradient_of_the_bound",) * 2,
    "unordered-set": ("estimators.test_distinct.test_unordered_set_is_the_gradient_of_the_bound",) * 2,
    "rebar": ("estimators.test_control.test_rebar_and_relax_are_the_gradient_of_the_bound_of_the_captioner",) * 2,
    "relax": ("estimators.test_control.test_rebar_and_relax_are_the_gradient_of_the_bound_of_the_captioner",) * 2,
    "gumbel-softmax": ("estimators.test_relaxed.test_the_bias_of_the_gumbel_softmax_falls_with_the_temperature",) * 2,
    "straight-through": ("estimators.test_relaxed.test_straight_through_is_biased_on_the_captioner",) * 2,
    "gumbel-straight-through": ("estimators.test_relaxed.test_the_gumbel_straight_through_by_hand",) * 2,
    "variational": ("estimators.test_variational.test_the_inference_network_gets_the_gradient_of_its_bound",) * 2,
    "xu2015-code": ("estimators.test_released.test_its_mean_is_that_factor_times_the_score_part_of_the_bound", None),
}  # fmt: skip


def parameters(test) -> dict[str, list]:
    """The values of each parameter of a test."""
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
    """This fails for a new estimator without a test, and for one that is no longer among its test's parameters."""
    named = EXACT[name][bed.FEEDS.index(feed)]
    if named is None:
        with pytest.raises(ValueError, match=name):
            bed.hard(feed, name=name)
        return
    file, _, test = named.rpartition(".")
    test = getattr(importlib.import_module(f"tests.{file}"), test)
    given = parameters(test)
    if "name" in given:
        assert name in given["name"]
    elif name != Estimator().name:
        assert f'"{name}"' in inspect.getsource(test)
    if "feed" in given:
        assert feed in given["feed"]
    else:  # the file has one feed
        assert feed == ("expected" if file == "captioner.test_feed" else "glimpse")
