"""Attention piece by piece: score, simplex, select and controls, each against a loop or a hand-worked number."""

from __future__ import annotations

import itertools
import math
from typing import get_args, get_type_hints

import pytest
import torch

from attend import config
from attend.attention import controls, score
from attend.attention.attention import Attention
from attend.attention.score import ACTIVATIONS, LARGE, AdditiveScore, Keys, additive
from attend.attention.select import Argmax, Expected, Forced, Policy, Sample
from attend.attention.simplex import softmax
from attend.captioner.captioner import DECODINGS, decoding

IMAGES, ROWS, LOCATIONS, FEATURES = 2, 3, 4, 5


def drawn(*shape, seed=0, gradient=False):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.requires_grad_(gradient)


@pytest.fixture
def features():
    return drawn(IMAGES, LOCATIONS, FEATURES, seed=1)


@pytest.fixture
def weights():
    return torch.softmax(drawn(IMAGES, ROWS, LOCATIONS, seed=2), -1).requires_grad_()


@pytest.fixture(params=["in blocks", "kept"])
def units(request, monkeypatch):
    """The units of the additive score are computed in blocks, and again for the gradient, or simply kept."""
    if request.param == "in blocks":
        monkeypatch.setattr(score, "FEW", 0)


def of_sums(keys, activation):
    """Keys without exponentials: each unit is computed from k + q."""
    return Keys(keys)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("known", [of_sums, Keys.of], ids=["of sums", "of products"])
def test_the_additive_score_is_a_loop_over_locations_and_units(activation, known):
    keys, query, vector = drawn(IMAGES, LOCATIONS, 5, seed=1), drawn(IMAGES, ROWS, 5, seed=2), drawn(5, seed=3)
    scores = additive(known(keys, activation), query, vector, activation)
    by_hand = {"tanh": math.tanh, "relu": lambda x: max(x, 0)}[activation]
    for n, r, i in itertools.product(range(IMAGES), range(ROWS), range(LOCATIONS)):
        units = (float(vector[u]) * by_hand(float(keys[n, i, u] + query[n, r, u])) for u in range(5))
        assert float(scores[n, r, i]) == pytest.approx(sum(units))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("block", [1, 2 * ROWS * LOCATIONS * 5, 10**9])
@pytest.mark.parametrize("known", [of_sums, Keys.of], ids=["of sums", "of products"])
def test_the_gradient_of_the_additive_score_is_autograds(activation, block, known, monkeypatch):
    """In blocks of one image, of two (the last is smaller), and all at once."""
    monkeypatch.setattr(score, "FEW", 0)
    monkeypatch.setitem(score.BLOCK, "cpu", block)
    given = [drawn(3, LOCATIONS, 5, seed=1), drawn(3, ROWS, 5, seed=2), drawn(5, seed=3)]
    keys, query, vector = (tensor.requires_grad_() for tensor in given)
    truth = getattr(torch, activation)(keys[:, None] + query[:, :, None]) @ vector
    slopes = drawn(*truth.shape, seed=4)
    scores = additive(known(keys, activation), query, vector, activation)
    assert torch.allclose(scores, truth, rtol=1e-12, atol=1e-12)
    pairs = (torch.autograd.grad(e, (keys, query, vector), slopes) for e in (scores, truth))
    for ours, autograds in zip(*pairs, strict=True):
        assert torch.allclose(ours, autograds, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("size", [1e-3, 1.0, 4.5])
@pytest.mark.parametrize("known", [of_sums, Keys.of], ids=["of sums", "of products"])
def test_the_additive_score_in_fp32_is_as_exact_as_torchs_tanh(known, size):
    """Beside float64, at the paper's width: near 0, where 2 sigmoid(2 x) - 1 loses relative precision, and up to where
    products of exponentials are just used."""
    keys, query = (drawn(2, count, 512, seed=count).mul(size).clamp(-19.9, 19.9) for count in (50, 3))
    vector = drawn(512, seed=3) / 512**0.5
    truth = torch.tanh(keys[:, None] + query[:, :, None]) @ vector
    keys, query, vector = (tensor.float() for tensor in (keys, query, vector))
    plain = torch.tanh(keys[:, None] + query[:, :, None]) @ vector
    ours = additive(known(keys, "tanh"), query, vector)
    assert (ours - truth).abs().max() < max(4 * float((plain - truth).abs().max()), 4e-6)


@pytest.mark.parametrize(
    "key, query",
    [(300.0, -299.5), (-299.5, 300.0), (45.0, -44.5), (19.9, -21.0), (19.9, -45.0), (-19.9, 45.0), (1.0, 300.0)],
)
def test_exponentials_that_overflow_change_nothing(key, query, monkeypatch):
    """Large keys have none, and for others tanh(k + q) is -1 or 1 where that of a query overflows."""
    monkeypatch.setattr(score, "FEW", 0)
    keys = Keys.of(torch.full((1, 2, 3), key), "tanh")
    assert (keys.falling is None) == (abs(key) >= LARGE)
    given = torch.full((1, 1, 3), query, requires_grad=True)
    scores = additive(keys, given, torch.ones(3))
    assert scores.tolist() == [[pytest.approx([3 * math.tanh(key + query)] * 2, rel=1e-5)]]
    (slope,) = torch.autograd.grad(scores.sum(), given)
    assert slope.tolist() == [[pytest.approx([2 * (1 - math.tanh(key + query) ** 2)] * 3, abs=1e-6)]]


def test_what_is_not_a_number_stays_so(monkeypatch):
    monkeypatch.setattr(score, "FEW", 0)
    keys, query = torch.zeros(1, 2, 3), torch.zeros(1, 1, 3)
    for k, q in ((keys + math.nan, query), (keys, query + math.nan)):
        assert bool(additive(Keys.of(k, "tanh"), q, torch.ones(3)).isnan().all())


@pytest.mark.usefixtures("units")
def test_the_additive_score_is_fp32_under_bf16():
    keys, query, vector = drawn(2, 4, 5, seed=1).float(), drawn(2, 3, 5, seed=2).float(), drawn(5, seed=3).float()
    keys.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        scores = additive(keys.bfloat16(), query.bfloat16(), vector)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, additive(keys.bfloat16().float(), query.bfloat16().float(), vector))
    scores.sum().backward()
    assert keys.grad.dtype == torch.float32 and bool(keys.grad.abs().sum() > 0)


def test_softmax_of_logarithms_gives_their_proportions():
    scores = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).log()
    assert softmax(scores).tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_the_temperature_divides():
    """At 1/2 the proportions are squared, at 2 their roots are taken: hot is flat."""
    scores = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).log()
    assert softmax(scores, 0.5).tolist() == pytest.approx([1 / 14, 4 / 14, 9 / 14])
    roots = [1, math.sqrt(2), math.sqrt(3)]
    assert softmax(scores, 2.0).tolist() == pytest.approx([root / sum(roots) for root in roots])


def test_softmax_is_computed_in_full_precision_and_without_overflow():
    assert softmax(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert softmax(torch.tensor([1e4, 0.0]), 0.01).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_a_masked_location_has_no_weight_and_no_gradient(temperature):
    scores, mask = drawn(4, gradient=True), torch.tensor([True, False, True, True])
    alpha = softmax(scores, temperature, mask)
    assert torch.allclose(alpha[mask], softmax(scores[mask], temperature)) and alpha[1] == 0
    alpha[0].backward()
    assert scores.grad.isfinite().all() and scores.grad[1] == 0 and scores.grad[0] != 0


def test_expected_is_the_weighted_sum(features, weights):
    chosen = Expected()(features, weights)
    for n, r in itertools.product(range(IMAGES), range(ROWS)):
        by_hand = sum(weights[n, r, i] * features[n, i] for i in range(LOCATIONS))
        assert torch.allclose(chosen.context[n, r], by_hand)
    assert chosen.glimpse is None and chosen.log_prob is None


def test_forced_takes_the_given_path(features, weights):
    path = torch.tensor([[3, 0, 0], [1, 2, 3]])
    chosen = Forced(path)(features, weights)
    for n, r in itertools.product(range(IMAGES), range(ROWS)):
        assert torch.equal(chosen.context[n, r], features[n, path[n, r]])
        truth = math.log(weights[n, r, path[n, r]].detach())
        assert chosen.log_prob[n, r].item() == pytest.approx(truth)
    assert torch.equal(chosen.glimpse, path)


def test_argmax_takes_the_location_of_the_largest_weight(features, weights):
    chosen = Argmax()(features, weights)
    assert torch.equal(chosen.glimpse, weights.max(-1).indices)
    assert torch.allclose(chosen.log_prob, weights.max(-1).values.log())


@pytest.mark.parametrize("select", ["sample", "argmax"])
def test_a_hard_context_has_no_gradient_in_alpha_and_its_log_probability_has(features, weights, select):
    """d log alpha(s) / d alpha_i is 1 / alpha_s at s and 0 elsewhere; the features keep their gradient."""
    features.requires_grad_()
    noise = torch.rand(IMAGES, ROWS, generator=torch.Generator().manual_seed(0))
    chosen = decoding(select, noise=noise)(features, weights)
    to_weights, to_features = torch.autograd.grad(chosen.context.sum(), (weights, features), allow_unused=True)
    assert to_weights is None and to_features.sum() == chosen.context.numel()
    (slope,) = torch.autograd.grad(chosen.log_prob.sum(), weights)
    here = torch.nn.functional.one_hot(chosen.glimpse, LOCATIONS).bool()
    assert torch.allclose(slope[here], 1 / weights[here]) and not slope[~here].any()


def test_the_soft_context_has_a_gradient_in_alpha(features, weights):
    (slope,) = torch.autograd.grad(Expected()(features, weights).context.sum(), weights)
    assert torch.allclose(slope, features.sum(-1)[:, None].expand_as(slope))


def largest_z(alpha, glimpses):
    counts, draws = glimpses.bincount(minlength=len(alpha)), len(glimpses)
    return float(((counts - draws * alpha).abs() / (draws * alpha * (1 - alpha)).sqrt()).max())


def test_glimpses_come_as_often_as_alpha_says():
    alpha, draws = torch.tensor([0.05, 0.3, 0.45, 0.2]), 20_000
    noise = torch.rand(1, draws, generator=torch.Generator().manual_seed(0))
    glimpses = Sample(noise)(drawn(1, 4, 2).float(), alpha.expand(1, draws, 4)).glimpse[0]
    assert largest_z(alpha, glimpses) < 3.5
    assert largest_z(softmax(alpha.log(), 0.9), glimpses) > 4


def test_noise_at_its_ends_never_hits_a_location_without_weight():
    alpha = torch.tensor([0.0, 0.4, 0.0, 0.6, 0.0])
    noise = torch.tensor([[0.0, 0.4 - 1e-6, 0.4 + 1e-6, 1 - 2**-24]])
    chosen = Sample(noise)(torch.ones(1, 5, 2), alpha.expand(1, 4, 5))
    assert chosen.glimpse.tolist() == [[1, 1, 3, 3]] and chosen.log_prob.isfinite().all()


def test_rows_marked_soft_take_the_expectation(features, weights):
    noise, soft = torch.full((IMAGES, ROWS), 0.5), torch.tensor([[True, False, False], [False, True, True]])
    mixed = Sample(noise, soft)(features, weights)
    mean, hard = Expected()(features, weights), Sample(noise)(features, weights)
    assert torch.equal(mixed.context[soft], mean.context[soft])
    assert (mixed.glimpse[soft] == -1).all() and not mixed.log_prob[soft].any()
    for name in ("context", "glimpse", "log_prob"):
        assert torch.equal(getattr(mixed, name)[~soft], getattr(hard, name)[~soft])


def test_uniform_is_even_over_the_locations_that_exist():
    mask = torch.tensor([[True, True, False, True]])
    assert controls.uniform((2, 4)).tolist() == [[0.25] * 4] * 2
    assert controls.uniform((1, 4), mask)[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert controls.uniform((1, 4), like=drawn(1)).dtype == torch.float64


def test_oracle_looks_in_proportion_to_the_boxes_and_evenly_without():
    shares = torch.tensor([[1.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    assert controls.oracle(shares).tolist() == [[0.5, 0.25, 0.0, 0.25], [0.25] * 4]
    masked = controls.oracle(shares, torch.tensor([False, True, True, True]))
    assert masked[0].tolist() == [0.0, 0.5, 0.0, 0.5]
    assert masked[1].tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("kind", ["learned", "uniform", "oracle"])
def test_all_weights_are_a_distribution_over_the_locations_that_exist(features, kind):
    attention = Attention(AdditiveScore(FEATURES, 6, width=3), FEATURES, look=kind).double()
    mask = torch.tensor([[True, True, True, False], [True, False, True, True]])
    shares = torch.zeros(IMAGES, ROWS, LOCATIONS)
    shares[0, 1, 2:] = 0.5
    memory = attention.memory(features, mask)
    found = attention(memory, drawn(IMAGES, ROWS, 6), Expected(), shown=shares)
    weights = found.weights
    assert torch.allclose(weights.sum(-1), torch.ones(()).to(weights.dtype))
    assert (weights >= 0).all() and not weights[~mask[:, None].expand_as(weights)].any()
    assert torch.allclose(found.context, weights.to(features.dtype) @ features)


def test_oracle_attention_without_boxes_says_what_it_needs(features):
    attention = Attention(None, FEATURES, look="oracle")
    with pytest.raises(ValueError, match="boxes"):
        attention.weights(attention.memory(features), drawn(IMAGES, ROWS, 6))


def test_the_tables_are_what_the_configuration_offers():
    hints = get_type_hints(config.Attention)
    for name, table in (("activation", ACTIVATIONS),):
        assert set(table) == set(get_args(hints[name]))
    assert set(DECODINGS) == set(get_args(config.Decode)) >= set(get_args(hints["select"]))
    assert all(isinstance(decoding(name, noise=torch.zeros(1, 1, 1)), Policy) for name in DECODINGS)
