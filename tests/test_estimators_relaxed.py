"""Gradients along the context: exact where chance can be enumerated or integrated, and else by many draws of a fixed
seed."""

from __future__ import annotations

import math

import pytest
import torch

from attend.attention import select as selections
from attend.captioner import Noise
from attend.estimators.baselines import MovingAverage
from attend.glimpses import taken
from attend.objective import objective
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO, THREE = bed.features(locations=2), bed.features()
ALPHA = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


# The relaxed selections


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_the_largest_of_a_relaxed_glimpse_has_the_frequencies_of_alpha(temperature):
    draws = 40_000
    chosen = selections.relaxed(
        torch.eye(3).double()[None], ALPHA.expand(1, draws, 3), bed.uniform(1, draws, 3), temperature
    )
    frequency = torch.bincount(chosen.glimpse.flatten(), minlength=3) / draws
    assert ((frequency - ALPHA).abs() < 4 * (ALPHA * (1 - ALPHA) / draws).sqrt()).all()
    assert torch.equal(chosen.context.argmax(-1), chosen.glimpse)  # features are the identity: z is the relaxed glimpse
    assert torch.allclose(chosen.context.sum(-1), torch.ones(()).double())
    if temperature == 0.1:
        assert chosen.context.amax(-1).mean() > 0.95


@pytest.mark.parametrize("name", ["straight-through", "gumbel-straight-through"])
def test_forward_is_exactly_the_glimpse(name):
    a = bed.features(2)
    weights = torch.softmax(bed.uniform(2, 5, 3), -1)
    noise = bed.uniform(2, 5, seed=1) if name == "straight-through" else bed.uniform(2, 5, 3, seed=1)
    chosen = selections.RELAXATIONS[name](a, weights, noise)
    assert torch.equal(chosen.context, a[torch.arange(2)[:, None], chosen.glimpse])
    assert len(set(chosen.glimpse.flatten().tolist())) == 3


def affine_gradient(select, noises) -> torch.Tensor:
    """The mean gradient, with respect to the logits, of a cost that is affine in z, over equally likely noises."""
    costs = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    logits = ALPHA.log().requires_grad_()
    found = 0.0
    for weight, noise in noises:
        z = select(torch.eye(3).double()[None], torch.softmax(logits, -1)[None, None], noise).context
        found = found + weight * torch.autograd.grad((z * costs).sum(), logits, retain_graph=True)[0]
    return found, torch.autograd.grad((torch.softmax(logits, -1) * costs).sum(), logits)[0]


def test_plain_straight_through_is_exact_for_one_word_and_an_affine_cost():
    each = [(float(p), torch.tensor([[u]])) for p, u in zip(ALPHA, [0.2, 0.6, 0.9], strict=True)]
    found, truth = affine_gradient(selections.straight_through, each)
    assert torch.allclose(found, truth, atol=1e-12)


@pytest.mark.parametrize("name", ["gumbel-straight-through", "relaxed"])
def test_the_gumbel_forms_are_biased_even_there(name):
    draws = 20_000
    logits = ALPHA.log().requires_grad_()
    weights = torch.softmax(logits, -1).expand(1, draws, 3)
    costs = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    z = selections.RELAXATIONS[name](torch.eye(3).double()[None], weights, bed.uniform(1, draws, 3)).context
    found = torch.autograd.grad((z * costs).sum() / draws, logits, retain_graph=True)[0]
    truth = torch.autograd.grad((torch.softmax(logits, -1) * costs).sum(), logits)[0]
    assert (found - truth).norm() / truth.norm() > 0.1


def quadrature(points: int = 4001) -> torch.Tensor:
    """Pairs of uniform numbers whose gumbels differ by a logistic variable on a fine grid of its quantiles, (P, 2)."""
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    logistic = torch.log(u) - torch.log1p(-u)
    half = torch.full_like(u, math.exp(-1.0))  # its gumbel is 0
    return torch.stack([torch.exp(-torch.exp(-logistic)), half], -1)


@bed.either_feed
def test_the_bias_of_the_gumbel_softmax_falls_with_the_temperature(feed):
    """Two locations and one word: the noise is one logistic variable, so the mean is an integral."""
    words, lengths, noises = torch.tensor([[[5]]]), torch.tensor([[1]]), quadrature()
    copies = len(noises)
    truth_model = bed.captioner(bed.hard(feed))
    truth = bed.gradient(truth_model, bed.bound(truth_model, TWO, words))
    biases = []
    for temperature in (4.0, 1.0, 0.25):
        rule = bed.hard(feed, name="gumbel-softmax", relaxation=temperature)
        model = bed.captioner(rule)
        noise = Noise(
            glimpse=torch.zeros(1, copies, 1), soft=torch.zeros(1, copies, dtype=torch.bool),
            places=noises[None, :, None],
        )  # fmt: skip
        trace = taken(model, TWO, words.expand(1, copies, 1), lengths.expand(1, copies), noise=noise)
        loss = objective(trace, rule, MovingAverage()).total
        found = bed.gradient(model, loss)
        biases.append(bed.distance(found, truth, "attention"))
    assert biases == sorted(biases, reverse=True) and biases[0] > 0.05 and biases[-1] < 0.2 * biases[0]


def test_the_variance_of_the_gumbel_softmax_grows_as_the_temperature_falls():
    """Of a cost that is quadratic in z."""
    draws, variances = 20_000, []
    costs = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for temperature in (4.0, 1.0, 0.25):
        logits = ALPHA.log().expand(1, draws, 3).clone().requires_grad_()
        z = selections.relaxed(
            torch.eye(3).double()[None], torch.softmax(logits, -1), bed.uniform(1, draws, 3), temperature
        )
        affine = (z.context * costs).sum(-1)
        slope = torch.autograd.grad((affine**2 / 2 + affine).sum(), logits)[0]
        variances.append(float(slope[0].var(0).sum()))
    assert variances == sorted(variances)


@bed.either_feed
def test_straight_through_is_biased_on_the_captioner(feed):
    """All its noise is the path, so its mean is enumerated: not the gradient of the bound, and it says so."""
    rule = bed.hard(feed, name="straight-through")
    model = bed.captioner(rule)
    truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
    total = 0.0
    for path in bed.paths(2, 2):
        alphas = model(TWO, WORDS, LENGTHS, path=path)
        first = alphas.weights[0, 0, torch.arange(2), 0]  # below it the noise picks location 0
        noise = torch.where(path == 0, 0.5 * first, (1 + first) / 2).detach()
        given = Noise(glimpse=noise, soft=torch.zeros(1, 1, dtype=torch.bool))
        trace = taken(model, TWO, WORDS, LENGTHS, noise=given)
        assert torch.equal(trace.glimpses, path)
        probability = alphas.log_probs.sum().exp().detach()
        total = total + probability * objective(trace, rule, MovingAverage(), words=1).total
    found = bed.gradient(model, total)
    assert bed.distance(found, truth, "attention") > 0.01
