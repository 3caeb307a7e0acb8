"""Maps onto the simplex: hand-worked numbers, two algorithms that agree, another library, gradients by differences."""

from __future__ import annotations

import math

import entmax as theirs
import pytest
import torch

from attend.attention.select import Sample
from attend.attention.simplex import SIMPLEXES, entmax, softmax, sparsemax
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.evaluation.health import entropy
from tests import bed


def scores(seed: int = 0, shape: tuple[int, ...] = (6, 9), scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sparsemax_by_hand():
    """e = (1, 0.6, -1): the threshold of two is (1 + 0.6 - 1)/2 = 0.3, and the third is below it."""
    assert sparsemax(torch.tensor([1.0, 0.6, -1.0])).tolist() == pytest.approx([0.7, 0.3, 0.0])
    assert sparsemax(torch.tensor([3.0, 1.0])).tolist() == [1, 0], "a lead of 1 takes all"
    assert sparsemax(torch.zeros(4)).tolist() == [0.25] * 4


def test_entmax_by_hand():
    """Of two scores 0 and -d at power 1.5 the roots of the weights differ by d/2, and their squares sum to 1."""
    d = 0.8
    first, second = entmax(torch.tensor([0.0, -d], dtype=torch.float64)).tolist()
    assert math.sqrt(first) - math.sqrt(second) == pytest.approx(d / 2) and first + second == pytest.approx(1)
    assert entmax(torch.tensor([0.0, -2.0])).tolist() == pytest.approx([1, 0]), "a lead of 2 takes all"


@pytest.mark.parametrize("name", SIMPLEXES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_weights_are_on_the_simplex(name, scale):
    for dtype, near in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        alpha = SIMPLEXES[name](scores(scale=scale).to(dtype))
        assert alpha.dtype == dtype and bool((alpha >= 0).all())
        assert torch.allclose(alpha.sum(-1), torch.ones(6, dtype=dtype), atol=near)
    if name != "softmax" and scale == 1:
        assert bool((alpha == 0).any())


def test_entmax_is_softmax_at_one_and_sparsemax_at_two():
    e = scores()
    assert torch.equal(entmax(e, power=1), softmax(e))
    assert torch.allclose(entmax(e, power=1 + 1e-5), softmax(e), atol=1e-4)
    assert torch.allclose(entmax(e, power=2), sparsemax(e), atol=1e-14), "bisection and sorting"


@pytest.mark.parametrize("seed", range(3))
def test_they_are_the_entmax_package(seed):
    e, slopes = scores(seed).requires_grad_(), scores(seed + 10)
    pairs = [
        (sparsemax(e), theirs.sparsemax(e, -1)),
        (entmax(e), theirs.entmax15(e, -1)),
        (entmax(e, power=1.2), theirs.entmax_bisect(e, alpha=1.2, dim=-1, n_iter=80)),
    ]
    for mine, known in pairs:
        assert torch.allclose(mine, known, atol=1e-9)
        gradients = (torch.autograd.grad(alpha, e, slopes, retain_graph=True)[0] for alpha in (mine, known))
        assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("power", [1.2, 1.5, 1.8, 2.0])
def test_gradients_are_differences(power):
    """At scores where no weight is about to become 0."""
    e = scores(4, (3, 5))
    alpha = entmax(e, power=power)
    assert not bool(((alpha > 0) & (alpha < 1e-5)).any()) and bool((alpha == 0).any()) == (power >= 1.5)
    assert torch.autograd.gradcheck(lambda e: entmax(e, power=power), e.requires_grad_(), atol=1e-5)
    if power == 2:
        assert torch.autograd.gradcheck(sparsemax, e)


@pytest.mark.parametrize("name", SIMPLEXES)
def test_the_temperature_divides_and_masking_is_dropping(name):
    e, mask = scores(), torch.rand(9, generator=torch.Generator().manual_seed(1)) < 0.7
    map_ = SIMPLEXES[name]
    assert torch.allclose(map_(e, 0.4), map_(e / 0.4), atol=1e-14)
    e.requires_grad_()
    alpha = map_(e, 0.7, mask)
    assert torch.allclose(alpha[:, mask], map_(e[:, mask], 0.7), atol=1e-14) and not alpha[:, ~mask].any()
    (slopes,) = torch.autograd.grad(alpha[:, mask][:, 0].sum(), e)
    assert bool(slopes.isfinite().all()) and not slopes[:, ~mask].any()


@pytest.mark.parametrize("name", SIMPLEXES)
def test_reinforce_is_the_gradient_of_the_bound_over_the_support(name):
    """A path through a weight of 0 has no probability. The probabilities of the others sum to 1."""
    settings = bed.settings(attention={"select": "sample", "simplex": name}, estimator={"semi": 0.0, "entropy": 0.0})
    model, words, lengths = bed.captioner(settings, seed=1), torch.tensor([[[5, 2]]]), torch.tensor([[2]])
    truth, ours, whole, left_out = 0.0, 0.0, 0.0, 0
    learner = bed.learner(settings)
    for path in bed.paths(2):
        u = bed.along(model, bed.features(), words, lengths, path)
        probability = u.log_probs.sum().exp()
        if u.weights.gather(-1, path[..., None]).prod() == 0:
            left_out += 1
            continue
        whole += float(probability.detach())
        truth = truth + probability * bed.summed(u)
        ours = ours + probability.detach() * bed.loss(model, u, learner, Average.of([1.0]), words=1).total
    assert whole == pytest.approx(1) and (left_out > 0) == (name != "softmax")
    truth, ours = bed.gradient(model, truth), bed.gradient(model, ours)
    for part in truth:
        assert bed.distance(ours, truth, part) < 1e-10, part


def test_a_location_of_weight_zero_is_never_sampled_and_adds_no_entropy():
    alpha = sparsemax(torch.tensor([[[2.0, 1.6, -3.0, -9.0]]], dtype=torch.float64).expand(1, 500, 4))
    settings = bed.settings(attention={"select": "sample", "simplex": "sparsemax"})
    noise = Noise.draw(settings, (1, 500, 1), 0, 0).glimpse[..., 0].double()
    glimpses = Sample(noise)(bed.features(1, locations=4), alpha).glimpse
    assert set(glimpses.flatten().tolist()) == {0, 1}
    share = torch.tensor([0.7, 0.3], dtype=torch.float64)
    assert float(entropy(alpha[0, 0])) == pytest.approx(float(-(share * share.log()).sum()))
