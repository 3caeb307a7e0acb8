"""REBAR and RELAX: without bias by many draws of a fixed seed, known wrong kinds are rejected by the same z-test."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attend.attention.select import Policy, Sample, Selection, draw
from attend.captioner.captioner import Captioner
from attend.captioner.search import log_probs
from attend.captioner.unrolled import Unrolled
from attend.data.text import SPECIALS, START
from attend.estimators import control
from attend.estimators.control import conditional, slopes
from attend.estimators.noise import Noise
from attend.estimators.signals import reward_to_go
from attend.training.objective import loss_of
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)
ALPHA = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


@pytest.mark.parametrize("glimpse", [0, 1, 2])
def test_the_conditional_relaxation_always_reproduces_its_glimpse(glimpse):
    noise = torch.cat([bed.uniform(1000, 3), torch.zeros(1, 3), torch.ones(1, 3) - 1e-9])
    z = conditional(ALPHA.log().expand(len(noise), 3), torch.full((len(noise),), glimpse), noise)
    assert torch.isfinite(z).all() and (z.argmax(-1) == glimpse).all()


def test_the_conditional_relaxation_has_the_distribution_of_the_free_one():
    """Mixed over s ~ alpha it is log alpha + gumbel: first two moments, by draws."""
    draws = 100_000
    s = draw(ALPHA.expand(draws, 3), bed.uniform(draws))
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
    s = draw(ALPHA.expand(DRAWS, 3), bed.uniform(DRAWS))
    learned = learned and (lambda relaxed: (relaxed**3).sum(-1) * 2.0 * torch.ones((), requires_grad=True))
    found = estimate(ALPHA.log(), COSTS, DRAWS, bed.uniform(DRAWS, 3, seed=1), s, PLAIN, learned, eta)
    assert z_of(found.detach()) < 4


def test_without_a_control_variate_it_is_reinforce():
    s = draw(ALPHA.expand(100, 3), bed.uniform(100))
    found = estimate(ALPHA.log(), COSTS, 100, bed.uniform(100, 3, seed=1), s, PLAIN, eta=0.0)
    onehot = torch.nn.functional.one_hot(s, 3) - ALPHA
    assert torch.allclose(found, COSTS[s][:, None] * onehot)


def test_a_good_control_variate_lowers_the_variance():
    """It takes over what all glimpses cost alike."""
    s = draw(ALPHA.expand(DRAWS, 3), bed.uniform(DRAWS))
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
        return conditional(log_alpha, draw(log_alpha.exp().detach(), noise[..., 0]), noise.roll(1, -1))

    return {"z~ = z": same, "z~ detached": detached, "another glimpse": free}[kind]


@pytest.mark.parametrize("kind", ["z~ = z", "z~ detached", "another glimpse"])
def test_planted_bugs_are_rejected_by_the_same_test(monkeypatch, kind):
    monkeypatch.setattr(control, "conditional", planted(kind))
    s = draw(ALPHA.expand(DRAWS, 3), bed.uniform(DRAWS))
    noise = bed.uniform(DRAWS, 3, seed=1)
    assert z_of(estimate(ALPHA.log(), COSTS, DRAWS, noise, s, PLAIN)) > 8


def test_what_the_control_variate_learns_from_is_the_variance():
    """Its loss is the mean square of the estimate, and its gradient that of a finite difference in eta."""
    s, noise = draw(ALPHA.expand(500, 3), bed.uniform(500)), bed.uniform(500, 3, seed=1)

    def loss(eta):
        return estimate(ALPHA.log(), COSTS, 500, noise, s, PLAIN, eta=eta).square().sum()

    eta = torch.ones((), dtype=torch.float64, requires_grad=True)
    none = lambda relaxed: relaxed.new_zeros(relaxed.shape[:-1])  # noqa: E731
    found = slopes(ALPHA.log().expand(500, 3), s, COSTS[s], noise, 0.7, PLAIN, none, eta)
    (slope,) = torch.autograd.grad(found.square().sum(), eta)
    assert float(slope) == pytest.approx(float(loss(1.001) - loss(0.999)) / 0.002, rel=1e-5)


# On the captioner

PARTS = ("attention", "decoder.hidden_gates", "decoder.initial_hidden.0")


def mean_of(model, learner, copies: int, seed: int) -> dict[str, Tensor]:
    """The gradient of the loss as it is trained: every path by its probability, the noise of z and z~ by draws."""
    many = WORDS.expand(1, copies, -1), LENGTHS.expand(1, copies)
    total = 0.0
    for number, path in enumerate(bed.paths(2, 2)):
        places = bed.uniform(1, copies, 2, 2, seed=100 * seed + number)
        noise = Noise(glimpse=torch.zeros(1, copies, 2), places=places)
        u = bed.along(model, TWO, *many, path.expand(1, copies, 2))
        probability = u.log_probs[0, 0].sum().exp().detach()
        loss = bed.loss(model, u, learner, words=copies, noise=noise)
        total = total + probability * (loss.total - loss.terms["control"])
    return bed.gradient(model, total)


def z_of_captioner(model, learner, copies: int = 400, seeds: int = 12) -> dict[str, float]:
    """By part of the model: how far the mean's projection on the true gradient is from it, in standard errors."""
    truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
    found = [mean_of(model, learner, copies, seed) for seed in range(1, seeds + 1)]
    off = {}
    for part in PARTS:
        names = [one for one in truth if one.startswith(part)]
        along = torch.tensor([sum(float((g[one] * truth[one]).sum()) for one in names) for g in found])
        size = sum(float((truth[one] ** 2).sum()) for one in names)
        off[part] = abs(float(along.mean()) - size) / (float(along.std()) / math.sqrt(seeds) + 1e-12)
    return off


@bed.either_feed
@pytest.mark.parametrize("name", ["rebar", "relax"])
def test_rebar_and_relax_are_the_gradient_of_the_bound_of_the_captioner(feed, name):
    """By a z-test for every part, and exactly REINFORCE if eta is 0."""
    rule = bed.hard(feed, name=name, relaxation=0.5, baseline="none")
    model, learner = bed.captioner(rule), bed.learner(rule)
    if name == "rebar":
        truth = bed.gradient(model, bed.bound(model, TWO, WORDS))
        torch.nn.init.zeros_(learner.learned.eta)
        found = mean_of(model, learner, 400, 0)
        for parameter in truth:
            assert bed.distance(found, truth, parameter) < 1e-10, parameter
        torch.nn.init.ones_(learner.learned.eta)
    else:
        torch.nn.init.normal_(learner.learned.out.weight)
    off = z_of_captioner(model, learner)
    assert max(off.values()) < 4.5, off


OWN_WORD = Unrolled.again


def along_the_path(u: Unrolled, weights: Tensor) -> Tensor:
    """c_t = sum_{k >= t} l_k(z_k): each word's relaxed glimpse at the logits and the state that hard s_<k led to.

    As it should, its own word's part alone has a gradient in the noise: only its value depends on s_t.
    """
    own = OWN_WORD(u, weights)
    return own + (reward_to_go(own) - own).detach()


class Mixed(Policy):
    """Context and value under given weights (N, R, L), or under alpha itself."""

    def __init__(self, given: Tensor | None) -> None:
        self.given = given

    def __call__(self, values, alpha, *_):
        return Selection((alpha if self.given is None else self.given) @ values, alpha.argmax(-1), alpha.amax(-1).log())


def rolled_on(model: Captioner, later: str) -> Callable[[Unrolled, Tensor], Tensor]:
    """c_t = the cost to go of a pass that leaves h_{t-1} with the relaxed glimpse z_t, and attends on its own.

    At the words after t it reads the expected context of its own weights, or, ``later`` "hard", the relaxed glimpses
    z_k, whose logits are conditioned on hard s_<k, and so on s_t.
    """

    def to_go(u: Unrolled, weights: Tensor, t: int) -> Tensor:
        words, total, state = u.spread(u.targets), 0.0, u.seen[t][1]
        previous = torch.cat([torch.full_like(words[..., :1], SPECIALS.index(START)), words[..., :-1]], -1)
        for k in range(t, words.shape[2]):
            given = weights[:, :, t] if k == t else weights[:, :, k].detach() if later == "hard" else None
            state, one = model.step(u.memory, state, previous[:, :, k], Mixed(given), k)
            total = total - log_probs(one).gather(-1, words[:, :, k, None]).squeeze(-1)
        return total

    def costs(u: Unrolled, weights: Tensor) -> Tensor:
        return torch.stack([to_go(u, weights, t) for t in range(weights.shape[2])], -1)

    return costs


@pytest.mark.parametrize("kind", ["z~ = z", "z~ detached", "another glimpse", "c has seen hard s_t"])
def test_planted_bugs_are_rejected_on_the_captioner(monkeypatch, kind):
    """Two words, the state fed the glimpse: the last kind is wrong only if a later word depends on s_t."""
    rule = bed.hard(name="rebar", relaxation=0.5, baseline="none")
    model, learner = bed.captioner(rule), bed.learner(rule)
    if kind == "c has seen hard s_t":
        monkeypatch.setattr(Unrolled, "again", along_the_path)
    else:
        monkeypatch.setattr(control, "conditional", planted(kind))
    off = z_of_captioner(model, learner)
    assert off["attention"] > 8, off


@pytest.mark.parametrize("later", [pytest.param("hard", marks=pytest.mark.slow), "expected"])
def test_a_relaxed_rollout_may_look_ahead_and_not_at_logits_of_the_hard_path(monkeypatch, later):
    """So c is rejected because it depends on s_t, not because it looks ahead. The bias is some per cent of one part, so
    this takes more draws than the others."""
    rule = bed.hard(name="rebar", relaxation=0.5, baseline="none")
    model, learner = bed.captioner(rule, seed=4), bed.learner(rule)
    monkeypatch.setattr(Unrolled, "again", rolled_on(model, later))
    off = z_of_captioner(model, learner, copies=6000)
    assert max(off.values()) > 8 if later == "hard" else max(off.values()) < 4.5, off


@bed.either_feed
@pytest.mark.parametrize(
    ("estimator", "term"),
    [({"baseline": "learned"}, "critic"), ({"name": "rebar"}, "control"), ({"name": "relax"}, "control")],
)
def test_networks_beside_the_model_leave_it_alone(feed, estimator, term):
    """Their losses have no gradient in the model's parameters."""
    rule = bed.hard(feed, semi=0.0, **estimator)
    model, learner, a = bed.captioner(rule), bed.learner(rule), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]], [[6, 4, 2], [2]]])
    noise = Noise.draw(rule, tuple(words.shape), 0, 0, 3)
    _, loss = loss_of(model, a, bed.batch(a, words, lengths), noise, learner, learner.start())
    assert loss.terms.keys() & {"critic", "control"} == {term}
    assert all(not g.any() for g in bed.gradient(model, loss.terms[term]).values())
    found = torch.autograd.grad(loss.terms[term], list(learner.parameters()), allow_unused=True)
    assert any(g is not None and g.any() for g in found)


@bed.either_feed
@pytest.mark.parametrize("cell", [{}, *bed.BLIND.values(), bed.SHARED, {"gate": "vector"}])
def test_words_read_out_again_cost_what_they_cost(feed, cell):
    """Under the one-hot weights of its own path, every word costs what it cost in the pass."""
    rule = bed.settings(
        attention={"select": "sample", "feed": feed}, decoder={"embedding": 4, "hidden": 5, "dropout": 0.4} | cell,
        estimator={"samples": 2},
    )  # fmt: skip
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]], [[6, 4, 2], [2]]])
    noise = Noise.draw(rule, tuple(words.shape), 0, 0, 3)
    u = model(a, words, lengths, Sample(noise.glimpse), samples=2, drop=noise.drop)
    onehot = torch.nn.functional.one_hot(u.glimpses, 3).double()
    assert torch.allclose(u.again(onehot), u.costs, atol=1e-10)
    assert torch.equal(u.maps.spread(u.maps.targets)[:, :: u.looks], words)
