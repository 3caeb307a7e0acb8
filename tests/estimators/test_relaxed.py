"""Gradients along the context: exact if chance can be enumerated or integrated, else by many draws of a fixed seed."""

from __future__ import annotations

import math

import pytest
import torch

from attend.attention.select import GumbelStraightThrough, Policy, Relaxed, Selection, StraightThrough
from attend.captioner.search import log_probs
from attend.estimators.noise import Noise
from attend.estimators.take import Given
from attend.training.objective import loss_of
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO, THREE = bed.features(locations=2), bed.features()
ALPHA = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
LOCATIONS = torch.eye(3).double()[None]
"""Features that are the identity: the context is the relaxed glimpse itself."""


# The relaxed policies


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_the_largest_of_a_relaxed_glimpse_has_the_frequencies_of_alpha(temperature):
    draws = 40_000
    chosen = Relaxed(bed.uniform(1, draws, 3), temperature)(LOCATIONS, ALPHA.expand(1, draws, 3))
    frequency = torch.bincount(chosen.glimpse.flatten(), minlength=3) / draws
    assert ((frequency - ALPHA).abs() < 4 * (ALPHA * (1 - ALPHA) / draws).sqrt()).all()
    assert torch.equal(chosen.context.argmax(-1), chosen.glimpse)
    assert torch.allclose(chosen.context.sum(-1), torch.ones(()).double())
    if temperature == 0.1:
        assert chosen.context.amax(-1).mean() > 0.95


@pytest.mark.parametrize("policy", [StraightThrough, GumbelStraightThrough])
def test_forward_is_exactly_the_glimpse(policy):
    a = bed.features(2)
    weights = torch.softmax(bed.uniform(2, 5, 3), -1)
    noise = bed.uniform(2, 5, seed=1) if policy is StraightThrough else bed.uniform(2, 5, 3, seed=1)
    chosen = policy(noise)(a, weights)
    assert torch.equal(chosen.context, a[torch.arange(2)[:, None], chosen.glimpse])
    assert len(set(chosen.glimpse.flatten().tolist())) == 3


def affine_gradient(policies) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over policies of the gradient, with respect to the logits, of a cost that is affine in z; and the exact
    gradient."""
    costs = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    logits = ALPHA.log().requires_grad_()
    found = 0.0
    for weight, policy in policies:
        z = policy(LOCATIONS, torch.softmax(logits, -1)[None, None]).context
        found = found + weight * torch.autograd.grad((z * costs).sum(), logits, retain_graph=True)[0]
    return found, torch.autograd.grad((torch.softmax(logits, -1) * costs).sum(), logits)[0]


def test_plain_straight_through_is_exact_for_one_word_and_an_affine_cost():
    each = [(float(p), StraightThrough(torch.tensor([[u]]))) for p, u in zip(ALPHA, [0.2, 0.6, 0.9], strict=True)]
    found, truth = affine_gradient(each)
    assert torch.allclose(found, truth, atol=1e-12)


@pytest.mark.parametrize("policy", [GumbelStraightThrough, Relaxed])
def test_the_gumbel_forms_are_biased_even_there(policy):
    draws = 20_000
    logits = ALPHA.log().requires_grad_()
    weights = torch.softmax(logits, -1).expand(1, draws, 3)
    costs = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    z = policy(bed.uniform(1, draws, 3))(LOCATIONS, weights).context
    found = torch.autograd.grad((z * costs).sum() / draws, logits, retain_graph=True)[0]
    truth = torch.autograd.grad((torch.softmax(logits, -1) * costs).sum(), logits)[0]
    assert (found - truth).norm() / truth.norm() > 0.1


def quadrature(points: int = 4001) -> torch.Tensor:
    """Pairs of uniform numbers whose gumbels differ by a logistic variable on a fine grid of its quantiles, (P, 2)."""
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    logistic = torch.log(u) - torch.log1p(-u)
    gumbels = torch.stack([logistic, -logistic], -1).clamp(min=0)  # one is 0: none so low that its number is 0
    return torch.exp(-torch.exp(-gumbels))


ONE, LENGTH = torch.tensor([[[5]]]), torch.tensor([[1]])
"""One word over two locations has noise of one logistic variable, so its mean is an integral."""


def integrated(name: str, feed: str, temperature: float):
    """The model, and the gradient of the loss as it is trained, its mean over all noise."""
    rule, noises = bed.hard(feed, name=name, relaxation=temperature), quadrature()
    model, learner, copies = bed.captioner(rule), bed.learner(rule), len(noises)
    noise = Noise(glimpse=torch.zeros(1, copies, 1), places=noises[None, :, None])
    batch = bed.batch(TWO, ONE.expand(1, copies, 1), LENGTH.expand(1, copies))
    _, loss = loss_of(model, TWO, batch, noise, learner, learner.start())
    return model, bed.gradient(model, loss.total)


def biases(name: str, feed: str, temperatures: tuple[float, ...]) -> list[float]:
    found = []
    for temperature in temperatures:
        model, gradient = integrated(name, feed, temperature)
        found.append(bed.distance(gradient, bed.gradient(model, bed.bound(model, TWO, ONE)), "attention"))
    return found


@bed.either_feed
def test_the_bias_of_the_gumbel_softmax_falls_with_the_temperature(feed):
    off = biases("gumbel-softmax", feed, (4.0, 1.0, 0.25))
    assert off == sorted(off, reverse=True) and off[0] > 0.05 and off[-1] < 0.2 * off[0]


@bed.either_feed
def test_the_bias_of_the_gumbel_straight_through_stays_at_every_temperature(feed):
    """It tends to the cost's slopes at both glimpses, half of each, where the bound has the difference."""
    assert min(biases("gumbel-straight-through", feed, (4.0, 1.0, 0.25, 0.05))) > 0.1


@bed.either_feed
@pytest.mark.parametrize("temperature", [4.0, 1.0, 0.25, 0.05])
def test_the_gumbel_straight_through_by_hand(feed, temperature):
    """Per noise: the slope of the cost at the glimpse that it picks, times r (1 - r) / tau_g of its relaxation.

    r = sigmoid((lambda - x) / tau_g) for the log-odds lambda of the second location and a logistic x, so the second is
    picked if x < lambda.
    """
    model, found = integrated("gumbel-straight-through", feed, temperature)
    passes = [bed.along(model, TWO, ONE, LENGTH, path) for path in bed.paths(1, 2)]
    odds = passes[0].weights[0, 0, 0].log().diff().squeeze()
    share, through = [0.0, 0.0], [0.0, 0.0]
    points = 4001
    for u in ((i + 0.5) / points for i in range(points)):
        x = math.log(u / (1 - u))
        r, s = 1 / (1 + math.exp((x - float(odds.detach())) / temperature)), int(x < float(odds.detach()))
        share[s] += 1 / points
        through[s] += r * (1 - r) / temperature / points
    assert share == pytest.approx(passes[0].weights.flatten().tolist(), abs=1 / points)
    if temperature == 0.05:
        assert through == pytest.approx([share[0] * share[1] / 2] * 2, rel=0.05)
    total = sum(weight * bed.summed(u) for weight, u in zip(share, passes, strict=True))
    total = total + sum(through[s] * slope(model, s) for s in range(2)) * odds
    by_hand = bed.gradient(model, total)
    for name in by_hand:
        assert torch.allclose(found[name], by_hand[name], rtol=1e-9, atol=1e-11), name


def slope(model, s: int) -> float:
    """d l / d z along a_1 - a_0 at z = a_s, of the first word."""
    at = []

    class At(Policy):
        def __call__(self, values, weights, *_):
            at.append((values[:, s, None].detach().requires_grad_(), (values[:, 1] - values[:, 0]).detach()))
            return Selection(at[0][0], torch.zeros(1, 1, dtype=torch.long), weights[..., 0].log())

    memory, state = model.start(TWO)
    _, u = model.step(memory, state, torch.ones(1, 1, dtype=torch.long), At())
    (along,) = torch.autograd.grad(-log_probs(u)[0, 0, ONE.item()], at[0][0])
    return float((along * at[0][1]).sum())


def test_the_variance_of_the_gumbel_softmax_grows_as_the_temperature_falls():
    """Of a cost that is quadratic in z."""
    draws, variances = 20_000, []
    costs = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for temperature in (4.0, 1.0, 0.25):
        logits = ALPHA.log().expand(1, draws, 3).clone().requires_grad_()
        z = Relaxed(bed.uniform(1, draws, 3), temperature)(LOCATIONS, torch.softmax(logits, -1))
        affine = (z.context * costs).sum(-1)
        slope = torch.autograd.grad((affine**2 / 2 + affine).sum(), logits)[0]
        variances.append(float(slope[0].var(0).sum()))
    assert variances == sorted(variances)


@bed.either_feed
def test_straight_through_is_biased_on_the_captioner(feed):
    """All its noise is the path, so its mean is enumerated: it is not the gradient of the bound."""
    rule = bed.hard(feed, name="straight-through")
    model, learner = bed.captioner(rule), bed.learner(rule)
    truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
    total = 0.0
    for path in bed.paths(2, 2):
        forced = bed.along(model, TWO, WORDS, LENGTHS, path)
        first = forced.weights[0, 0, torch.arange(2), 0]  # noise below it picks location 0
        noise = Noise(glimpse=torch.where(path == 0, 0.5 * first, (1 + first) / 2).detach())
        u = learner.take(model, Given(TWO, WORDS, LENGTHS), noise)
        assert torch.equal(u.glimpses, path)
        total = total + forced.log_probs.sum().exp().detach() * bed.loss(model, u, learner, words=1).total
    found = bed.gradient(model, total)
    assert bed.distance(found, truth, "attention") > 0.01
