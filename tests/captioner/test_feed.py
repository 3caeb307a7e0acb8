"""If the state is fed the expected context: exact sums over L glimpses per word, and estimators against them."""

from __future__ import annotations

import math

import pytest
import torch

from attend.attention.select import Sample
from attend.captioner import unrolled
from attend.captioner.captioner import decoding
from attend.captioner.search import beam_search
from attend.captioner.unrolled import EveryLocation, Marginal
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.noise import Noise
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)
ROWS = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [4, 4, 5, 2]]]
DECODERS = {
    "scalar": {},
    "no gate": {"gate": "none"},
    "vector": {"gate": "vector"},
    **bed.BLIND,
    "every": bed.EVERY,
    "shared": bed.SHARED,
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
        u = bed.along(model, a, words, lengths, torch.full(shape, i))
        costs.append(u.costs)
    return torch.stack(costs, -1), u.weights


def bound(model, a, words, lengths) -> torch.Tensor:
    """J = sum_t sum_i alpha_t(i) l_t(i)."""
    costs, weights = read(model, a, words, lengths)
    return (weights * costs).sum()


def marginal(model, a, words, lengths) -> torch.Tensor:
    """-log p(y) = -sum_t log sum_i alpha_t(i) p(y_t | i)."""
    costs, weights = read(model, a, words, lengths)
    real = torch.arange(words.shape[2]) < lengths[..., None]
    return -((weights * (-costs).exp()).sum(-1).where(real, 1.0)).log().sum()


def test_the_state_reads_no_glimpse_and_the_readout_does(model):
    """Weights are those of the soft pass, and a word's cost depends on its own glimpse alone."""
    words, lengths = torch.tensor([[[4, 5, 2]]]), torch.tensor([[3]])
    one, other = (bed.along(model, TWO, words, lengths, torch.tensor([[path]])) for path in ([0, 1, 0], [1, 1, 0]))
    soft = model(TWO, words, lengths)
    assert torch.equal(one.weights, soft.weights) and torch.equal(other.weights, soft.weights)
    assert (one.cost != other.cost).tolist() == [True, False, False]


def test_the_sum_over_words_is_the_sum_over_paths(model):
    """J of L glimpses per word against all L^T paths, in value and gradient."""
    whole = bed.bound(model, bed.features(), WORDS)
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
    u = model(a, words, lengths, EveryLocation())
    loss = bed.loss(model, u, bed.learner(settings(DECODERS[decoder], name=name)), words=1)
    value = target(model, a, words, lengths)
    assert torch.isclose(loss.terms["nll"], value, atol=1e-10)
    truth, found = bed.gradient(model, value), bed.gradient(model, loss.total)
    for parameter in truth:
        assert torch.allclose(found[parameter], truth[parameter], rtol=1e-9, atol=1e-11), parameter
    assert bed.distance(found, truth, "attention") < 1e-10


@pytest.mark.thin
@pytest.mark.parametrize("baseline", [name for name, one in BASELINES.items() if one.unbiased])
@pytest.mark.parametrize("several", [1, 2])
@pytest.mark.parametrize("cost", [None, "to-go"])
def test_reinforce_is_the_gradient_of_the_bound(model, baseline, several, cost):
    """Also for the cost to go, whose later part has the mean zero; own cost is the default here."""
    several = max(several, BASELINES[baseline].paths)
    rule = settings(baseline=baseline, samples=several, cost=cost)
    truth = bed.gradient(model, bound(model, TWO, WORDS, LENGTHS))
    learner, passed, policy = bed.learner(rule), None, BASELINES[baseline].rollout
    if policy:
        passed = model(TWO, WORDS, LENGTHS, policy).costs.detach()[:, :, None]
    average = Average.of([2.0, None] if baseline == "average-per-place" else [1.3])

    def estimate(u):
        return bed.loss(model, u, learner, average, words=1, passed=passed).total

    found = bed.gradient(model, bed.over_tuples(model, TWO, WORDS, several, estimate))
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


@pytest.mark.parametrize("name", ["enumeration", "marginal"])
def test_an_exact_gradient_is_not_scaled(model, name):
    u = model(TWO, WORDS, LENGTHS, EveryLocation())
    one, other = (bed.loss(model, u, bed.learner(settings(name=name, scale=scale))).total for scale in (1.0, 0.1))
    assert torch.equal(one, other)


def test_own_cost_is_the_default():
    assert settings().cost == "own" and settings(cost="to-go").cost == "to-go"
    assert bed.settings(attention={"select": "sample"}).cost == "to-go"


def several_bound(model, several: int, held: bool) -> torch.Tensor:
    """-E sum_t log (1/K) sum_k p(y_t | s_t^k), over K-tuples of paths; the importance weights' own alpha ``held``."""

    def value(u):
        log_w = (u.log_probs - u.log_probs.detach() if held else 0) - u.costs
        return (math.log(several) - torch.logsumexp(log_w, 1)).sum()

    return bed.over_tuples(model, TWO, WORDS, several, value, constant=held)


@pytest.mark.parametrize("name", ["vimco", "wake-sleep"])
@pytest.mark.parametrize("several", [1, 2, 3])
def test_estimators_of_several_samples_compare_the_samples_of_a_word(model, name, several):
    truth = bed.gradient(model, several_bound(model, several, held=name == "wake-sleep"))
    learner = bed.learner(settings(name=name, samples=several, semi=0.0))
    estimate = lambda u: bed.loss(model, u, learner, words=1).total  # noqa: E731
    found = bed.gradient(model, bed.over_tuples(model, TWO, WORDS, several, estimate))
    for parameter in truth:
        assert bed.distance(found, truth, parameter) < 1e-10, parameter


@pytest.mark.parametrize("logits", [1, 40, 2**24])
@pytest.mark.parametrize("policy", [EveryLocation(), Marginal()])
def test_how_many_words_are_read_at_once_changes_nothing(monkeypatch, logits, policy):
    rule = settings({"dropout": 0.5, "dropout_words": 0.3})
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions(ROWS)
    drop = bed.double(Noise.draw(rule, tuple(words.shape), 0, 0)).drop
    costs, gradients = [], []
    for limits in ({}, {"LOGITS": logits, "KEPT": 0}):
        for name, limit in limits.items():
            monkeypatch.setattr(unrolled, name, limit)
        u = model(a, words, lengths, policy, drop=drop)
        costs.append(u.cost)
        gradients.append(bed.gradient(model, u.cost.sum()))
    assert torch.allclose(*costs, atol=1e-12)
    assert bed.distance(*reversed(gradients)) < 1e-10


def test_dropout_of_a_word_is_the_same_for_all_its_glimpses():
    rule = settings({"dropout": 0.5})
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions(ROWS)
    drop = Noise.draw(rule, tuple(words.shape), 0, 0).drop
    every = model(a, words, lengths, EveryLocation(), drop=drop).costs.unflatten(1, (2, -1))
    for i in range(bed.LOCATIONS):
        one = bed.along(model, a, words, lengths, torch.full(words.shape, i), drop=drop)
        assert torch.allclose(every[:, :, i], one.costs, atol=1e-12)


def test_the_marginal_is_a_distribution_and_its_cost_is_the_sum_over_paths(model):
    words, lengths = bed.captions(ROWS)
    u = model(bed.features(2), words, lengths, Marginal())
    assert torch.allclose(u.logits.exp().sum(-1), torch.ones(()).double())
    assert torch.isclose(u.cost.sum(), marginal(model, bed.features(2), words, lengths), atol=1e-12)


@pytest.mark.parametrize("decode", ["expected", "argmax", "sample", "marginal"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_search_scores_its_caption_as_a_teacher_forced_pass_does(decode, decoder):
    model, a = bed.captioner(settings(DECODERS[decoder])), bed.features(3)
    noise = torch.rand((3, 1, 6), generator=torch.Generator().manual_seed(1)).expand(3, 4, 6)
    found = beam_search(model, a, decoding(decode, noise=noise), beam=4, max_length=6)
    bed.search_agrees(model, a, decode, noise, found)


def test_semi_sampling_leaves_out_the_words_of_soft_rows(model):
    """Soft rows take the expected context in the readout too, and have no glimpse to charge."""
    rule = settings()
    words, lengths = bed.captions(ROWS)
    noise = Noise.draw(rule, tuple(words.shape), 0, 0)
    noise = Noise(glimpse=noise.glimpse, soft=torch.tensor([[True, True], [False, False]]))
    u = model(bed.features(2), words, lengths, Sample(noise.glimpse, noise.mixed))
    assert (u.glimpses[0][u.real[0]] == -1).all() and (u.glimpses[1][u.real[1]] >= 0).all()
    soft = model(bed.features(2), words, lengths)
    assert torch.allclose(u.costs[0], soft.costs[0]) and not torch.allclose(u.costs[1], soft.costs[1])


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
