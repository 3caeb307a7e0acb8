"""REINFORCE with plain arguments: worked by hand, against enumeration, and against the captioner's own estimator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attend.estimators import reinforce_loss
from attend.estimators.baselines import mean_of_others
from tests import bed

LOCATIONS = 3


def leaves(*values: object) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def slopes(loss: Tensor, *inputs: Tensor) -> list[list]:
    return [one.tolist() for one in torch.autograd.grad(loss.sum(), inputs)]


def test_two_samples_with_leave_one_out_by_hand():
    costs, log_probs = leaves([[1.0, 4.0]], [[-0.5, -2.0]])
    loss = reinforce_loss(costs, log_probs)
    assert loss.tolist() == [2.5]
    assert slopes(loss, costs, log_probs) == [[[0.5, 0.5]], [[-1.5, 1.5]]]  # (1 - 4) / 2 and (4 - 1) / 2


def test_a_glimpse_is_charged_with_the_costs_from_its_own_step_on():
    costs, log_probs = leaves([[[1.0, 2.0, 4.0]]], [[[-0.1, -0.2, -0.3]]])
    loss = reinforce_loss(costs, log_probs, baseline=None)
    assert loss.tolist() == [7.0]
    assert slopes(loss, costs, log_probs) == [[[[1.0, 1.0, 1.0]]], [[[7.0, 6.0, 4.0]]]]


def test_one_cost_is_charged_to_all_glimpses_of_its_sample():
    costs, log_probs = leaves([[3.0], [5.0]], [[[-0.1, -0.2]], [[-0.3, -0.4]]])
    loss = reinforce_loss(costs, log_probs, baseline=torch.tensor([[1.0], [2.0]]))
    assert loss.tolist() == [3.0, 5.0]
    assert slopes(loss, costs, log_probs) == [[[1.0], [1.0]], [[[2.0, 2.0]], [[3.0, 3.0]]]]


def test_costs_that_do_not_depend_on_the_parameters_teach_attention_alone():
    (log_probs,) = leaves([[-1.0, -1.0]])
    assert slopes(reinforce_loss(torch.tensor([[1.0, 0.0]]), log_probs, baseline=0.5), log_probs) == [[[0.25, -0.25]]]


def test_a_baseline_is_a_constant():
    costs, log_probs, baseline = leaves([[1.0, 4.0]], [[-0.5, -2.0]], [[1.0]])
    assert torch.autograd.grad(
        reinforce_loss(costs, log_probs, baseline=baseline).sum(), baseline, allow_unused=True
    ) == (None,)


class Paths:
    """Two glimpses of three locations and a cost after each: the second glimpse and both costs depend on the first."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        shapes = ((3,), (3, 3), (3,), (3, 3))
        self.parameters = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]

    def along(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Costs and log-probabilities (N, K, 2) of paths (N, K, 2)."""
        first, second, cost_first, cost_second = self.parameters
        one, two = path.unbind(-1)
        log_probs = first.log_softmax(-1)[one], second.log_softmax(-1)[one, two]
        return torch.stack([cost_first[one] ** 2, cost_second[one, two].exp()], -1), torch.stack(log_probs, -1)

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.cat([one.flatten() for one in torch.autograd.grad(loss, self.parameters)])

    def exact(self) -> Tensor:
        """The gradient of the expected cost."""
        costs, log_probs = self.along(every(1))
        return self.gradient((log_probs.sum((1, 2)).exp() * costs.sum((1, 2))).sum())

    def expected(self, samples: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The expectation of the gradient of ``loss`` over all K-tuples of paths."""
        costs, log_probs = self.along(every(samples))
        probability = log_probs.sum((1, 2)).exp().detach()
        assert probability.sum().item() == pytest.approx(1)
        return self.gradient((probability * loss(costs, log_probs)).sum())


def every(samples: int) -> Tensor:
    """All K-tuples of paths, (9^K, K, 2)."""
    return torch.cartesian_prod(*[torch.arange(LOCATIONS)] * (2 * samples)).view(-1, samples, 2)


def distance(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def later(costs: Tensor) -> Tensor:
    """b_1 is a number; b_2 is a function of the first glimpse, through its cost."""
    return torch.stack([torch.full_like(costs[..., 0], 0.7), 2 * costs[..., 0].detach()], -1)


LOSSES = {
    "none": (1, lambda c, p: reinforce_loss(c, p, baseline=None)),
    "number": (1, lambda c, p: reinforce_loss(c, p, baseline=1.3)),
    "scalar tensor": (2, lambda c, p: reinforce_loss(c, p, baseline=torch.tensor(1.3))),
    "function of what was before": (2, lambda c, p: reinforce_loss(c, p, baseline=later(c))),
    "leave-one-out": (2, reinforce_loss),
    "leave-one-out of three": (3, reinforce_loss),
    "one cost": (1, lambda c, p: reinforce_loss(c.sum(-1), p, baseline=None)),
    "one cost, leave-one-out": (2, lambda c, p: reinforce_loss(c.sum(-1), p)),
    "one cost, a baseline for each step": (1, lambda c, p: reinforce_loss(c.sum(-1), p, baseline=later(c))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_unbiased(name):
    paths = Paths()
    assert distance(paths.expected(*LOSSES[name]), paths.exact()) < 1e-10


@pytest.mark.parametrize(
    ("samples", "loss"),
    [
        (2, lambda c, p: reinforce_loss(c.sum(-1), p, baseline=c.sum(-1).mean(1, keepdim=True))),  # own sample included
        (1, lambda c, p: reinforce_loss(c, p, baseline=0.5 * c)),  # depends on the glimpse that it is subtracted for
        (1, lambda c, p: reinforce_loss(c, p[..., :1].expand_as(p), baseline=None)),  # another glimpse's probability
    ],
)
def test_a_wrong_use_is_biased(samples, loss):
    paths = Paths()
    assert distance(paths.expected(samples, loss), paths.exact()) > 1e-2


@bed.either_feed
def test_it_is_the_captioner_s_own_estimator(feed):
    """The gradient of REINFORCE with leave-one-out in the captioner, from the costs of a pass."""
    rule = bed.hard(feed, name="reinforce", baseline="leave-one-out", samples=3, scale=1.0)
    model, learner, a = bed.captioner(rule), bed.learner(rule), bed.features()
    words, lengths = bed.captions([[[4, 5, 2], [6, 2]]])
    path = torch.randint(LOCATIONS, (1, 6, 3), generator=torch.Generator().manual_seed(0))
    u = bed.along(model, a, words, lengths, path, samples=3)
    truth = bed.gradient(model, bed.loss(model, u, learner, words=1).total)
    costs, log_probs = (part.unflatten(1, (2, 3))[0] for part in (u.costs, u.log_probs))  # (C, K, T)
    if feed == "expected":  # each word is an example of its own
        costs, log_probs = (part.transpose(1, 2).flatten(0, 1) for part in (costs, log_probs))  # (C T, K)
    assert bed.distance(bed.gradient(model, reinforce_loss(costs, log_probs).sum()), truth) < 1e-12


def test_the_mean_of_the_others():
    assert mean_of_others(torch.tensor([[1.0], [2.0], [6.0]])).tolist() == [[4.0], [3.5], [1.5]]


def two(*shape: int) -> Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("costs", "log_probs", "baseline", "says"),
    [
        (two(4), two(4, 1), None, r"costs must be \(N, K\) or \(N, K, T\).*costs\[:, None\]"),
        (two(4, 1), two(4), None, r"log_probs must be \(N, K\)"),
        (two(4, 2), two(4, 3), None, "the numbers of examples and samples must agree"),
        (two(4, 2), two(2, 4), None, "the numbers of examples and samples must agree"),
        (two(4, 2, 3), two(4, 2), None, "one cost or as many as glimpses"),
        (two(4, 1), two(4, 1), "leave-one-out", "there is one: draw two or more"),
        (two(4, 2), two(4, 2), "average", "baseline is 'average', but must be 'leave-one-out'"),
        (two(4, 2), two(4, 2), two(4), r"baseline must be \(N, K\)"),
        (two(4, 2), two(4, 2), two(2, 4), "does not fit"),
    ],
)
def test_what_does_not_fit_is_one_sentence(costs, log_probs, baseline, says):
    with pytest.raises(ValueError, match=says) as error:
        reinforce_loss(costs, log_probs, baseline=baseline)
    assert "\n" not in str(error.value)
