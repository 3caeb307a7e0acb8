"""Gradients along the context and control variates: exact where chance can be enumerated or integrated, and else by
many draws of a fixed seed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from attend.attention import select as selections
from attend.captioner import Noise
from attend.estimators import control
from attend.estimators.baselines import MovingAverage
from attend.estimators.control import conditional, slopes
from attend.glimpses import taken
from attend.objective import negative_log_likelihood, objective
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
    draws, variances = 20_000, []
    for temperature in (4.0, 1.0, 0.25):
        logits = ALPHA.log().expand(1, draws, 3).clone().requires_grad_()
        z = selections.relaxed(
            torch.eye(3).double()[None], torch.softmax(logits, -1), bed.uniform(1, draws, 3), temperature
        )
        slope = torch.autograd.grad(PLAIN(z.context).sum(), logits)[0]
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


# REBAR and RELAX


@pytest.mark.parametrize("glimpse", [0, 1, 2])
def test_the_conditional_relaxation_always_reproduces_its_glimpse(glimpse):
    noise = torch.cat([bed.uniform(1000, 3), torch.zeros(1, 3), torch.ones(1, 3) - 1e-9])
    z = conditional(ALPHA.log().expand(len(noise), 3), torch.full((len(noise),), glimpse), noise)
    assert torch.isfinite(z).all() and (z.argmax(-1) == glimpse).all()


def test_the_conditional_relaxation_has_the_distribution_of_the_free_one():
    """Mixed over s ~ alpha it is log alpha + gumbel: first two moments, by draws."""
    draws = 100_000
    s = selections.draw(ALPHA.expand(draws, 3), bed.uniform(draws))
    z = conditional(ALPHA.log().expand(draws, 3), s, bed.uniform(draws, 3, seed=1))
    mean, variance = ALPHA.log() + 0.5772156649, math.pi**2 / 6
    assert ((z.mean(0) - mean).abs() < 4 * math.sqrt(variance / draws)).all()
    assert ((z.var(0) - variance).abs() < 0.06).all()


def estimate(log_alpha, costs, draws, noise, glimpse, plain, learned=None, eta=1.0, temperature=0.7):
    none = lambda relaxed: relaxed.new_zeros(relaxed.shape[:-1])  # noqa: E731
    return slopes(
        log_alpha.expand(draws, 3), glimpse, costs[glimpse], noise, temperature, plain, learned or none,
        torch.tensor(eta, dtype=torch.float64),
    )  # fmt: skip


COSTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
PLAIN = lambda relaxed: (relaxed * COSTS).sum(-1) ** 2 / 2 + (relaxed * COSTS).sum(-1)  # noqa: E731
DRAWS = 60_000


def z_of(found: torch.Tensor) -> float:
    """The largest deviation from the gradient of sum alpha cost, in standard errors."""
    truth = ALPHA * (COSTS - (ALPHA * COSTS).sum())
    off = (found.mean(0) - truth) / (found.std(0) / math.sqrt(len(found)))
    return float(off.abs().max())


@pytest.mark.parametrize("eta", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("learned", [None, lambda relaxed: (relaxed**3).sum(-1) * 2.0])
def test_rebar_and_relax_have_no_bias_whatever_the_control_variate(eta, learned):
    s = selections.draw(ALPHA.expand(DRAWS, 3), bed.uniform(DRAWS))
    learned = learned and (lambda relaxed: (relaxed**3).sum(-1) * 2.0 * torch.ones((), requires_grad=True))
    found = estimate(ALPHA.log(), COSTS, DRAWS, bed.uniform(DRAWS, 3, seed=1), s, PLAIN, learned, eta)
    assert z_of(found.detach()) < 4


def test_without_a_control_variate_it_is_reinforce():
    s = selections.draw(ALPHA.expand(100, 3), bed.uniform(100))
    found = estimate(ALPHA.log(), COSTS, 100, bed.uniform(100, 3, seed=1), s, PLAIN, eta=0.0)
    onehot = torch.nn.functional.one_hot(s, 3) - ALPHA
    assert torch.allclose(found, COSTS[s][:, None] * onehot)


def test_a_good_control_variate_lowers_the_variance():
    """It takes over what all glimpses cost alike."""
    s = selections.draw(ALPHA.expand(DRAWS, 3), bed.uniform(DRAWS))
    costs = COSTS + 3
    affine = lambda relaxed: (relaxed * costs).sum(-1)  # noqa: E731
    variance = [
        float(estimate(ALPHA.log(), costs, DRAWS, bed.uniform(DRAWS, 3, seed=1), s, affine, eta=eta).var(0).sum())
        for eta in (0.0, 1.0)
    ]
    assert variance[1] < 0.2 * variance[0]


def planted(kind: str):
    """Known wrong kinds of REBAR."""

    def same(log_alpha, glimpse, noise):  # with the derivative of z
        return log_alpha + (conditional(log_alpha, glimpse, noise) - log_alpha).detach()

    def detached(log_alpha, glimpse, noise):
        return conditional(log_alpha.detach(), glimpse, noise) + 0 * log_alpha

    def free(log_alpha, glimpse, noise):  # z~ drawn without its condition, so that it knows nothing of s
        return conditional(log_alpha, selections.draw(log_alpha.exp().detach(), noise[..., 0]), noise.roll(1, -1))

    return {"z~ = z": same, "z~ detached": detached, "another glimpse": free}[kind]


@pytest.mark.parametrize("kind", ["z~ = z", "z~ detached", "another glimpse"])
def test_planted_bugs_are_rejected_by_the_same_test(monkeypatch, kind):
    monkeypatch.setattr(control, "conditional", planted(kind))
    s = selections.draw(ALPHA.expand(DRAWS, 3), bed.uniform(DRAWS))
    noise = bed.uniform(DRAWS, 3, seed=1)
    assert z_of(estimate(ALPHA.log(), COSTS, DRAWS, noise, s, PLAIN)) > 8


def test_what_the_control_variate_learns_from_is_the_variance():
    """Its loss is the mean square of the estimate, and its gradient that of a finite difference in eta."""
    s, noise = selections.draw(ALPHA.expand(500, 3), bed.uniform(500)), bed.uniform(500, 3, seed=1)

    def loss(eta):
        return estimate(ALPHA.log(), COSTS, 500, noise, s, PLAIN, eta=eta).square().sum()

    eta = torch.ones((), dtype=torch.float64, requires_grad=True)
    none = lambda relaxed: relaxed.new_zeros(relaxed.shape[:-1])  # noqa: E731
    found = slopes(ALPHA.log().expand(500, 3), s, COSTS[s], noise, 0.7, PLAIN, none, eta)
    (slope,) = torch.autograd.grad(found.square().sum(), eta)
    assert float(slope) == pytest.approx(float(loss(1.001) - loss(0.999)) / 0.002, rel=1e-5)


@bed.either_feed
@pytest.mark.parametrize("name", ["rebar", "relax"])
def test_rebar_and_relax_are_the_gradient_of_the_bound_of_the_captioner(feed, name):
    """Every path weighed by its probability, and the noise of z and z~ by draws: a z-test for every parameter's
    projection on its true gradient, and exactly REINFORCE where eta is 0."""
    copies = 400
    rule = bed.hard(feed, name=name, relaxation=0.5, baseline="none")
    model, helpers = bed.captioner(rule), bed.helpers(rule)
    truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
    if name == "relax":
        torch.nn.init.normal_(helpers.control.network["out"].weight)
    many = WORDS.expand(1, copies, -1), LENGTHS.expand(1, copies)

    def mean(eta: float, seed: int):
        torch.nn.init.constant_(helpers.control.eta, eta)
        total = 0.0
        for number, path in enumerate(bed.paths(2, 2)):
            places = bed.uniform(1, copies, 2, 2, seed=100 * seed + number)
            given = Noise(
                glimpse=torch.zeros(1, copies, 2), soft=torch.zeros(1, copies, dtype=torch.bool), places=places
            )
            trace = model(TWO, *many, path=path.expand(1, copies, 2), noise=given, replay=True)
            probability = trace.log_probs[0, 0].sum().exp().detach()
            loss = objective(trace, rule, MovingAverage(), words=copies, helpers=helpers)
            total = total + probability * (loss.total - loss.terms["control"])
        return bed.gradient(model, total)

    if name == "rebar":
        found = mean(0.0, 0)
        for parameter in truth:
            assert bed.distance(found, truth, parameter) < 1e-10, parameter
    seeds = [mean(1.0, seed) for seed in range(1, 13)]
    for part in ("attention", "decoder.hidden_gates", "decoder.initial_hidden.0"):
        names = [one for one in truth if one.startswith(part)]
        along = [sum(float((g[one] * truth[one]).sum()) for one in names) for g in seeds]
        size = sum(float((truth[one] ** 2).sum()) for one in names)
        mean_, deviation = torch.tensor(along).mean(), torch.tensor(along).std() / math.sqrt(len(along))
        assert abs(float(mean_) - size) < 4.5 * float(deviation) + 1e-12, part


@bed.either_feed
def test_helpers_leave_the_model_alone(feed):
    """What they learn from has no gradient in the model's parameters."""
    for estimator in ({"baseline": "learned"}, {"name": "rebar"}, {"name": "relax"}):
        rule = bed.hard(feed, semi=0.0, **estimator)
        model, helpers = bed.captioner(rule), bed.helpers(rule)
        words, lengths = bed.captions([[[4, 5, 2], [5, 2]], [[6, 4, 2], [2]]])
        noise = Noise.draw(rule, tuple(words.shape), 0, 0, 3)
        trace = taken(model, bed.features(2), words, lengths, noise=noise, helpers=helpers)
        terms = objective(trace, rule, MovingAverage(), helpers=helpers).terms
        (term,) = terms.keys() & {"critic", "control"}
        assert all(not g.any() for g in bed.gradient(model, terms[term]).values())
        given = [g for g in torch.autograd.grad(terms[term], list(helpers.parameters()), allow_unused=True)]
        assert any(g is not None and g.any() for g in given)


@bed.either_feed
@pytest.mark.parametrize(
    "cell", [{}, {"cell": "gru-residual", "gate": "none", "readout": "linear"}, {"gate": "vector"}]
)
def test_words_said_once_more_cost_what_they_cost(feed, cell):
    """Replayed under the one-hot weights of its own path, every word costs what it cost in the pass."""
    rule = bed.settings(
        attention={"select": "sample", "feed": feed}, decoder={"embedding": 4, "hidden": 5, "dropout": 0.4} | cell,
        estimator={"samples": 2},
    )  # fmt: skip
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]], [[6, 4, 2], [2]]])
    noise = Noise.draw(rule, tuple(words.shape), 0, 0, 3)
    noise = replace(noise, soft=torch.zeros_like(noise.soft))
    trace = model(a, words, lengths, select="sample", noise=noise, samples=2, replay=True)
    onehot = torch.nn.functional.one_hot(trace.glimpses, 3).double()
    costs = trace.spread(negative_log_likelihood(trace))
    assert torch.allclose(trace.replay.costs(onehot), costs, atol=1e-10)
    assert torch.equal(trace.replay.said[:, :: trace.looks], words)
