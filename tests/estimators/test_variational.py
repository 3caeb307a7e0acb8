"""The variational estimator: q tied to alpha, q apart, q the posterior, and the network that learns q, enumerated."""

from __future__ import annotations

import sys

import pytest
import torch

from attend.attention import select as selections
from attend.captioner.traces import negative_log_likelihood
from attend.estimators.baselines import MovingAverage
from attend.estimators.helpers import kl_divergence
from attend.estimators.signals import reward_to_go
from attend.training.objective import objective
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)


def variational(feed, model, weights_of, a=TWO):
    """sum over paths of q(path) x the loss as it is trained, differentiated, and its value, for q given by
    ``weights_of``."""
    rule = bed.hard(feed, name="variational", baseline="none")
    total, value, whole = 0.0, 0.0, 0.0
    for path in bed.paths(2, a.shape[1]):
        trace = model(a, WORDS, LENGTHS, path=path, proposal=weights_of(path))
        q = trace.log_probs.sum().exp().detach()
        loss = objective(trace, rule, MovingAverage(), words=1)
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
        trace = model(TWO, WORDS, LENGTHS, path=path)
        found[tuple(path.flatten().tolist())] = float((trace.log_probs.sum() - bed.summed(trace)).exp().detach())
    return found


@bed.either_feed
def test_q_tied_to_alpha_is_the_bound_and_its_gradient(model, feed):
    memory = model.attention.memory(TWO)

    def tied(path):
        def proposal(hidden, t=None):
            rows = hidden.flatten(1, -2)
            return model.attention.weights(memory, rows).view(*hidden.shape[:-1], -1)

        return proposal

    found, value = variational(feed, model, tied)
    bound = bed.bound(model, TWO, WORDS)
    truth = bed.gradient(model, bound)
    assert torch.isclose(value, bound.detach())
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


@bed.either_feed
def test_q_equal_but_apart_has_the_value_and_no_score_part(model, feed):
    """Then attention learns from the KL alone, whose gradient is zero at its minimum."""

    def apart(path):
        trace = model(TWO, WORDS, LENGTHS, path=path)

        def proposal(hidden, t=None):
            weights = trace.weights.detach()
            return weights if t is None else weights[:, :, t]

        return proposal

    found, value = variational(feed, model, apart)
    assert torch.isclose(value, bed.bound(model, TWO, WORDS).detach())
    pathwise = bed.gradient(
        model, bed.over_tuples(model, TWO, WORDS, 1, lambda trace: negative_log_likelihood(trace).sum())
    )
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

        def proposal(hidden, t=None):
            return weights(t) if t is not None else torch.stack([weights(0), weights(1)], 2)

        return proposal

    found, value = variational(feed, model, posterior)
    marginal = bed.marginal(model, TWO, WORDS)
    assert torch.isclose(value, marginal.detach())
    truth = bed.gradient(model, marginal)
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name


@bed.either_feed
@pytest.mark.parametrize("baseline", ["none", "average", "average-per-place"])
@pytest.mark.parametrize("several", [1, 2])
def test_the_inference_network_gets_the_gradient_of_its_bound(feed, baseline, several):
    """Of E_q cost + KL(q || alpha) by enumeration, with q's probabilities differentiated: model and network."""
    rule = bed.hard(feed, name="variational", baseline=baseline, samples=several)
    model, helpers = bed.captioner(rule), bed.helpers(rule)
    every = dict(model.named_parameters()) | dict(helpers.named_parameters())
    rows = 1 if feed == "expected" else several
    whole, mean = 0.0, 0.0
    for path in bed.tuples(several, 2, 2):
        proposal = helpers.inference(TWO, WORDS, LENGTHS, rows)
        trace = model(TWO, WORDS, LENGTHS, path=path, samples=several, proposal=proposal)
        q = trace.log_probs.sum().exp()
        average = MovingAverage(value=1.3, places=[2.0])
        mean = mean + q.detach() * objective(trace, rule, average, words=1, helpers=helpers).total
        log_q, log_p = (selections.log(one) for one in (trace.proposal, trace.weights))
        elbo = (bed.summed(trace) / several) + kl_divergence(trace.proposal, log_q, log_p).sum() / rows
        whole = whole + q * elbo
    for name, parameter in every.items():
        ours, truth = (
            torch.autograd.grad(one, parameter, retain_graph=True, allow_unused=True)[0] for one in (mean, whole)
        )
        if truth is None:
            continue
        assert torch.allclose(ours, truth, rtol=1e-9, atol=1e-11), name


def test_a_signal_without_the_future_kl_is_caught(monkeypatch):
    rule = bed.hard(name="variational", baseline="none")
    model, helpers = bed.captioner(rule), bed.helpers(rule)
    module = sys.modules["attend.estimators.reinforce"]
    monkeypatch.setattr(module, "signal_with_kl", lambda paths, settings: reward_to_go(paths.costs))
    whole, mean = 0.0, 0.0
    for path in bed.paths(2, 2):
        trace = model(TWO, WORDS, LENGTHS, path=path, proposal=helpers.inference(TWO, WORDS, LENGTHS, 1))
        q = trace.log_probs.sum().exp()
        mean = mean + q.detach() * objective(trace, rule, MovingAverage(), words=1, helpers=helpers).total
        kl = kl_divergence(trace.proposal, selections.log(trace.proposal), selections.log(trace.weights)).sum()
        whole = whole + q * (bed.summed(trace) + kl)
    key = helpers.inference.key.weight
    ours, truth = (torch.autograd.grad(one, key, retain_graph=True)[0] for one in (mean, whole))
    assert (ours - truth).norm() / truth.norm() > 0.01


def test_the_inference_network_reads_the_whole_caption_and_no_padding():
    rule = bed.hard(name="variational")
    helpers = bed.helpers(rule)
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]]])
    hidden = bed.uniform(1, 2, 3, 5)
    whole = helpers.inference(TWO, words, lengths, 1)(hidden)
    other = words.clone()
    other[0, 0, 2] = 6  # a later word moves the first weights
    assert not torch.allclose(helpers.inference(TWO, other, lengths, 1)(hidden)[0, 0, 0], whole[0, 0, 0])
    longer = torch.nn.functional.pad(words, (0, 2))
    padded = helpers.inference(TWO, longer, lengths, 1)(torch.nn.functional.pad(hidden, (0, 0, 0, 2)))
    assert torch.allclose(padded[:, :, :3][:, 0], whole[:, 0]) and torch.allclose(padded[0, 1, :2], whole[0, 1, :2])
    for t in range(3):
        one = helpers.inference(TWO, words, lengths, 1)(hidden[:, :, t], t)
        assert torch.allclose(one, whole[:, :, t])
