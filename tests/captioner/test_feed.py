"""Where the state is fed the expected context: exact sums over L glimpses a word, and estimators against them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from attend.captioner import readings
from attend.captioner.captioner import Noise
from attend.captioner.search import beam_search
from attend.captioner.traces import negative_log_likelihood
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.evaluation.generate import chooser
from attend.training.objective import objective
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)
ROWS = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [4, 4, 5, 2]]]
DECODERS = {
    "scalar": {},
    "no gate": {"gate": "none"},
    "vector": {"gate": "vector"},
    "gru": {"cell": "gru-residual", "gate": "none", "readout": "linear"},
}


def settings(decoder=None, **estimator):
    return bed.settings(
        attention={"select": "sample", "feed": "expected"},
        estimator={"entropy": 0.0} | ({"semi": 0.0} if "name" not in estimator else {}) | estimator,
        decoder={"embedding": 4, "hidden": 5, "dropout": 0.0} | (decoder or {}),
    )


@pytest.fixture(scope="module")
def model():
    return bed.captioner(settings())


def read(model, a, words, lengths) -> tuple[torch.Tensor, torch.Tensor]:
    """l_t(i) and alpha_t(i), both (N, C, T, L), from one forced pass for each location i."""
    costs, shape = [], words.shape
    for i in range(a.shape[1]):
        trace = model(a, words, lengths, path=torch.full(shape, i))
        costs.append(trace.spread(negative_log_likelihood(trace)))
    return torch.stack(costs, -1), trace.weights


def bound(model, a, words, lengths) -> torch.Tensor:
    """J = sum_t sum_i alpha_t(i) l_t(i)."""
    costs, weights = read(model, a, words, lengths)
    return (weights * costs).sum()


def marginal(model, a, words, lengths) -> torch.Tensor:
    """-log p(y) = -sum_t log sum_i alpha_t(i) p(y_t | i)."""
    costs, weights = read(model, a, words, lengths)
    real = torch.arange(words.shape[2]) < lengths[..., None]
    return -((weights * (-costs).exp()).sum(-1).where(real, 1.0)).log().sum()


def test_the_state_knows_nothing_of_the_glimpses_and_the_readout_all(model):
    """Weights are those of the soft pass, and a word's cost moves with its own glimpse alone."""
    words, lengths = torch.tensor([[[4, 5, 2]]]), torch.tensor([[3]])
    one, other = (model(TWO, words, lengths, path=torch.tensor([[path]])) for path in ([0, 1, 0], [1, 1, 0]))
    soft = model(TWO, words, lengths)
    assert torch.equal(one.weights, soft.weights) and torch.equal(other.weights, soft.weights)
    moved = negative_log_likelihood(one) != negative_log_likelihood(other)
    assert moved.tolist() == [True, False, False]


def test_the_sum_over_words_is_the_sum_over_paths(model):
    """J of L glimpses a word against all L^T paths, in value and gradient."""
    whole = bed.bound(model, bed.features(), WORDS, lambda trace: negative_log_likelihood(trace).sum())
    ours = bound(model, bed.features(), WORDS, LENGTHS)
    assert torch.isclose(ours, whole, atol=1e-12)
    assert bed.distance(bed.gradient(model, ours), bed.gradient(model, whole)) < 1e-10


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("target", [bound, marginal])
def test_enumeration_and_marginal_are_exact(decoder, target):
    """Two images with two captions each of other lengths, in one pass; value, and the gradient of each parameter."""
    name = {bound: "enumeration", marginal: "marginal"}[target]
    model, a = bed.captioner(settings(DECODERS[decoder])), bed.features(2)
    words, lengths = bed.captions(ROWS)
    trace = model(a, words, lengths, select="all")
    loss = objective(trace, settings(DECODERS[decoder], name=name), MovingAverage(), words=1)
    value = target(model, a, words, lengths)
    assert torch.isclose(loss.terms["nll"], value, atol=1e-10)
    truth, found = bed.gradient(model, value), bed.gradient(model, loss.total)
    for parameter in truth:
        assert torch.allclose(found[parameter], truth[parameter], rtol=1e-9, atol=1e-11), parameter
    assert bed.distance(found, truth, "attention") < 1e-10


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("several", [1, 2])
@pytest.mark.parametrize("cost", [None, "to-go"])
def test_reinforce_is_the_gradient_of_the_bound(model, baseline, several, cost):
    """Also for the cost to go, whose later part has the mean zero; own cost is the default here."""
    several = max(several, BASELINES[baseline].paths)
    rule = settings(baseline=baseline, samples=several, cost=cost)
    truth = bed.gradient(model, bound(model, TWO, WORDS, LENGTHS))
    select = BASELINES[baseline].rollout
    if select:
        trace = model(TWO, WORDS, LENGTHS, select=select)
        rollout = trace.spread(negative_log_likelihood(trace)).detach()[:, :, None]

    def estimate(trace):
        average = MovingAverage(value=1.3, places=[2.0])
        rolled = rollout if select else None
        return objective(trace, rule, average, words=1, rollout=rolled, helpers=helpers).total

    helpers = bed.helpers(rule)
    found = bed.gradient(model, bed.over_tuples(model, TWO, WORDS, several, estimate, replay=True))
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


@pytest.mark.parametrize("name", ["enumeration", "marginal"])
def test_what_is_computed_without_chance_is_not_damped(model, name):
    trace = model(TWO, WORDS, LENGTHS, select="all")
    one, other = (objective(trace, settings(name=name, scale=scale), MovingAverage()).total for scale in (1.0, 0.1))
    assert torch.equal(one, other)


def test_own_cost_is_charged_unless_another_is_asked_for():
    assert settings().cost == "own" and settings(cost="to-go").cost == "to-go"
    assert bed.settings(attention={"select": "sample"}).cost == "to-go"


def several_bound(model, several: int, held: bool) -> torch.Tensor:
    """-E sum_t log (1/K) sum_k p(y_t | s_t^k), over K-tuples of paths; the importance weights' own alpha ``held``."""

    def value(trace):
        costs = trace.spread(negative_log_likelihood(trace))
        log_w = (trace.log_probs - trace.log_probs.detach() if held else 0) - costs
        return (math.log(several) - torch.logsumexp(log_w, 1)).sum()

    return bed.over_tuples(model, TWO, WORDS, several, value, constant=held)


@pytest.mark.parametrize("name", ["vimco", "wake-sleep"])
@pytest.mark.parametrize("several", [1, 2, 3])
def test_estimators_of_several_samples_compare_those_of_a_word(model, name, several):
    truth = bed.gradient(model, several_bound(model, several, held=name == "wake-sleep"))
    rule = settings(name=name, samples=several, semi=0.0)
    estimate = lambda trace: objective(trace, rule, MovingAverage(), words=1).total  # noqa: E731
    found = bed.gradient(model, bed.over_tuples(model, TWO, WORDS, several, estimate))
    for parameter in truth:
        assert bed.distance(found, truth, parameter) < 1e-10, parameter


@pytest.mark.parametrize("logits", [1, 40, 2**24])
@pytest.mark.parametrize("select", ["all", "marginal"])
def test_how_many_words_are_read_at_once_changes_nothing(monkeypatch, logits, select):
    rule = settings({"dropout": 0.5, "dropout_words": 0.3})
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions(ROWS)
    noise = Noise.draw(rule, tuple(words.shape), 0, 0)
    whole = model(a, words, lengths, select=select, noise=noise)
    monkeypatch.setattr(readings, "LOGITS", logits)
    monkeypatch.setattr(readings, "KEPT", 0)
    parts = model(a, words, lengths, select=select, noise=noise)
    one, other = (bed.gradient(model, negative_log_likelihood(trace).sum()) for trace in (whole, parts))
    assert torch.allclose(negative_log_likelihood(whole), negative_log_likelihood(parts), atol=1e-12)
    assert bed.distance(other, one) < 1e-10


def test_dropout_of_a_word_is_the_same_for_all_its_glimpses():
    rule = settings({"dropout": 0.5})
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions(ROWS)
    noise = Noise.draw(rule, tuple(words.shape), 0, 0)
    every = model(a, words, lengths, select="all", noise=noise)
    every = every.spread(negative_log_likelihood(every)).unflatten(1, (2, -1))
    for i in range(bed.LOCATIONS):
        one = model(a, words, lengths, path=torch.full(words.shape, i), noise=noise)
        assert torch.allclose(every[:, :, i], one.spread(negative_log_likelihood(one)), atol=1e-12)


def test_the_marginal_of_a_trace_is_a_distribution_and_its_cost_the_marginals(model):
    words, lengths = bed.captions(ROWS)
    trace = model(bed.features(2), words, lengths, select="marginal")
    assert torch.allclose(trace.logits.exp().sum(-1), torch.ones(()).double())
    value = negative_log_likelihood(trace).sum()
    assert torch.isclose(value, marginal(model, bed.features(2), words, lengths), atol=1e-12)


@pytest.mark.parametrize("decode", ["expected", "argmax", "sample", "marginal"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_search_scores_its_caption_as_the_trace_does(decode, decoder):
    model, a = bed.captioner(settings(DECODERS[decoder])), bed.features(3)
    noise = torch.rand((3, 6, 1), generator=torch.Generator().manual_seed(1)).expand(3, 6, 4)
    found = beam_search(model, model.attention.memory(a), chooser(decode, noise), 4, 6)
    bed.search_says_what_the_trace_does(model, a, decode, noise, found)


def test_semi_sampling_leaves_out_the_words_of_soft_rows(model):
    """Half of the images take the expected context in the readout too, and charge nothing."""
    rule = settings()
    words, lengths = bed.captions(ROWS)
    noise = Noise.draw(rule, tuple(words.shape), 0, 0)
    noise = replace(noise, soft=torch.tensor([[True, True], [False, False]]))
    trace = model(bed.features(2), words, lengths, select="sample", noise=noise)
    assert (trace.glimpses[0][trace.real[0]] == -1).all() and (trace.glimpses[1][trace.real[1]] >= 0).all()
    soft = model(bed.features(2), words, lengths)
    ours, theirs = (one.spread(negative_log_likelihood(one)) for one in (trace, soft))
    assert torch.allclose(ours[0], theirs[0]) and not torch.allclose(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"attention": {"feed": "expected"}}, "has no glimpses that the recurrent network could read"),
        ({"attention": {"select": "sample", "feed": "expected", "score": "dot", "heads": 5}}, "is for one head"),
        (
            {"attention": {"select": "sample", "feed": "expected"}, "decoder": {"readout": "linear"}},
            "set decoder.readout deep",
        ),
        ({"attention": {"select": "sample"}, "search": {"decode": "marginal"}}, "choose another"),
    ],
)
def test_combinations_that_cannot_be(sections, words):
    with pytest.raises(ValueError, match=words):
        bed.settings(**sections)
