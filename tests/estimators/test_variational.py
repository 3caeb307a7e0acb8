"""The variational estimator: q tied to alpha, q apart, q the posterior, and the network that learns q, enumerated."""

from __future__ import annotations

import sys

import pytest
import torch

from attend.attention.select import Forced, log
from attend.captioner.layout import Layout, Step, Whole
from attend.estimators.baselines import Average
from attend.estimators.paths import kl_divergence
from attend.estimators.signals import reward_to_go
from attend.estimators.take import Given
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)
GIVEN = Given(TWO, WORDS, LENGTHS)


def drawn(model, path, proposal, samples: int = 1):
    """The caption along a path that was drawn from a proposal."""
    return model(TWO, WORDS, LENGTHS, Forced(path, proposal=proposal), samples=samples)


def divergence(u) -> torch.Tensor:
    """KL(q || alpha) of each word and row."""
    q = u.spread(u.proposal)
    return kl_divergence(q, log(q), log(u.weights))


def variational(feed, model, proposal_of):
    """sum over paths of q(path) times the loss as it is trained: its gradient and its value.

    ``proposal_of`` returns q for a path.
    """
    learner, total, value, whole = bed.learner(bed.hard(feed, name="variational", baseline="none")), 0.0, 0.0, 0.0
    for path in bed.paths(2, 2):
        u = drawn(model, path, proposal_of(path))
        q = u.log_probs.sum().exp().detach()
        loss = bed.loss(model, u, learner, words=1)
        total, whole = total + q * loss.total, whole + float(q)
        value = value + q * (loss.terms["nll"] + loss.terms["kl"]).detach()
    assert whole == pytest.approx(1)
    return bed.gradient(model, total), value


@pytest.fixture()
def model(feed):
    return bed.captioner(bed.hard(feed))


def joint(model) -> dict[tuple[int, ...], float]:
    """p(path) p(words | path) of each path."""
    found = {}
    for path in bed.paths(2, 2):
        u = bed.along(model, TWO, WORDS, LENGTHS, path)
        found[tuple(path.flatten().tolist())] = float((u.log_probs.sum() - bed.summed(u)).exp().detach())
    return found


@bed.either_feed
def test_q_tied_to_alpha_is_the_bound_and_its_gradient(model, feed):
    memory = model.attention.memory(TWO)
    tied = lambda query, at: model.attention.weights(memory, query)[0]  # noqa: E731
    found, value = variational(feed, model, lambda path: tied)
    bound = bed.bound(model, TWO, WORDS)
    truth = bed.gradient(model, bound)
    assert torch.isclose(value, bound.detach())
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


@bed.either_feed
def test_q_equal_but_apart_has_the_value_and_no_score_part(model, feed):
    """Then attention learns from the KL alone, whose gradient is zero at its minimum."""

    def apart(path):
        weights = bed.along(model, TWO, WORDS, LENGTHS, path).weights.detach()
        return lambda query, at: at.cut(weights)

    found, value = variational(feed, model, apart)
    assert torch.isclose(value, bed.bound(model, TWO, WORDS).detach())
    pathwise = bed.gradient(model, bed.over_tuples(model, TWO, WORDS, 1, bed.summed))
    assert bed.distance(found, pathwise) < 1e-10
    if feed == "glimpse":
        assert all(not g.abs().max() > 1e-12 for name, g in found.items() if name.startswith("attention"))


@bed.either_feed
def test_the_posterior_gives_the_marginal_and_its_gradient(model, feed):
    p = joint(model)

    def posterior(path):
        first = int(path[0, 0, 0])

        def weights(t):
            if t == 0:
                mass = [sum(v for k, v in p.items() if k[0] == i) for i in range(2)]
            elif feed == "glimpse":
                mass = [p[first, i] for i in range(2)]
            else:
                mass = [sum(v for k, v in p.items() if k[1] == i) for i in range(2)]
            q = torch.tensor(mass, dtype=torch.float64)
            return (q / q.sum()).view(1, 1, 2)

        both = torch.stack([weights(0), weights(1)], 2)
        return lambda query, at: at.cut(both)

    found, value = variational(feed, model, posterior)
    marginal = bed.marginal(model, TWO, WORDS)
    assert torch.isclose(value, marginal.detach())
    truth = bed.gradient(model, marginal)
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


@pytest.mark.thin
@bed.either_feed
@pytest.mark.parametrize("baseline", ["none", "average", "average-per-place"])
@pytest.mark.parametrize("several", [1, 2])
def test_the_inference_network_gets_the_gradient_of_its_bound(feed, baseline, several):
    """Of E_q cost + KL(q || alpha) by enumeration, with q's probabilities differentiated: model and network."""
    rule = bed.hard(feed, name="variational", baseline=baseline, samples=several)
    model, learner = bed.captioner(rule), bed.learner(rule)
    every = dict(model.named_parameters()) | dict(learner.named_parameters())
    average = Average.of([2.0] if baseline == "average-per-place" else [1.3])
    whole, mean = 0.0, 0.0
    for path in bed.tuples(several, 2, 2):
        u = drawn(model, path, learner.learned(GIVEN, several), several)
        q = u.log_probs.sum().exp()
        mean = mean + q.detach() * bed.loss(model, u, learner, average, words=1).total
        whole = whole + q * (bed.summed(u) + divergence(u).sum()) / several
    for name, parameter in every.items():
        ours, truth = (
            torch.autograd.grad(one, parameter, retain_graph=True, allow_unused=True)[0] for one in (mean, whole)
        )
        if truth is None:
            continue
        assert torch.allclose(ours, truth, rtol=1e-9, atol=1e-11), name


def test_a_signal_without_the_future_kl_is_caught(monkeypatch):
    rule = bed.hard(name="variational", baseline="none")
    model, learner = bed.captioner(rule), bed.learner(rule)
    module = sys.modules["attend.estimators.reinforce"]
    monkeypatch.setattr(module, "signal_with_kl", lambda paths, settings: reward_to_go(paths.costs))
    whole, mean = 0.0, 0.0
    for path in bed.paths(2, 2):
        u = drawn(model, path, learner.learned(GIVEN, 1))
        q = u.log_probs.sum().exp()
        mean = mean + q.detach() * bed.loss(model, u, learner, words=1).total
        whole = whole + q * (bed.summed(u) + divergence(u).sum())
    key = learner.learned.key.weight
    ours, truth = (torch.autograd.grad(one, key, retain_graph=True)[0] for one in (mean, whole))
    assert (ours - truth).norm() / truth.norm() > 0.01


def test_the_inference_network_reads_the_whole_caption_and_no_padding():
    network = bed.learner(bed.hard(name="variational")).learned
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]]])
    hidden = bed.uniform(1, 2, 3, 5)

    def q(words, hidden):
        at = Whole(Layout.of(lengths, words.shape[2]))
        return network(Given(TWO, words, lengths), 1)(hidden.flatten(1, 2), at).unflatten(1, hidden.shape[1:3])

    whole = q(words, hidden)
    other = words.clone()
    other[0, 0, 2] = 6  # a later word moves the first weights
    assert not torch.allclose(q(other, hidden)[0, 0, 0], whole[0, 0, 0])
    padded = q(torch.nn.functional.pad(words, (0, 2)), torch.nn.functional.pad(hidden, (0, 0, 0, 2)))
    assert torch.allclose(padded[:, :, :3][:, 0], whole[:, 0]) and torch.allclose(padded[0, 1, :2], whole[0, 1, :2])
    for t in range(3):
        one = network(Given(TWO, words, lengths), 1)(hidden[:, :, t], Step(t, 1, 2))
        assert torch.allclose(one, whole[:, :, t])
