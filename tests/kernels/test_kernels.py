"""Triton kernels beside their plain forms: on a GPU where there is one, else interpreted on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from attend import kernels
from attend.attention.score import ACTIVATIONS
from attend.attention.select import draw, log_at
from attend.captioner.captioner import decoding
from attend.decoder.lstm import LSTM
from attend.kernels.additive import additive_gradient, additive_scores
from attend.kernels.draw import draw_glimpse
from attend.kernels.lstm import lstm_cell
from tests import bed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (2, 2, 17, 65), (1, 4, 33, 130), (3, 1, 16, 64), (0, 2, 3, 4)]
SEVERAL = {"rtol": 1e-12, "atol": 1e-12}


def fresh(*shape: int, seed: int) -> Tensor:
    """Numbers that no test before has seen, behind others, so that a row too far reads what is not a zero."""
    drawn = 3 * torch.randn(
        shape[0] + 1, *shape[1:], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return drawn[1:].to(DEVICE).requires_grad_()


def poisoned(monkeypatch) -> None:
    """New tensors are full of NaN or -1, so that what a kernel leaves out is seen."""
    for name in ("empty_like", "new_empty"):
        owner = torch if name == "empty_like" else torch.Tensor
        make = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, make=make, **k: _filled(make(*a, **k)))


def _filled(new: Tensor) -> Tensor:
    return new.fill_(torch.nan if new.is_floating_point() else -1)


def gradients(output: Tensor, inputs: tuple, seed: int) -> tuple:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.autograd.grad((output * weights.to(DEVICE)).sum(), inputs)


@pytest.mark.thin
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_additive_scores_and_their_gradients(monkeypatch, shape, activation):
    images, rows, locations, width = shape
    keys, query = fresh(images, locations, width, seed=1), fresh(images, rows, width, seed=2)
    given = keys, query, fresh(width, seed=3)
    truth = ACTIVATIONS[activation].plain(keys[:, None] + query[:, :, None]) @ given[2]
    expected = gradients(truth, given, 4)
    poisoned(monkeypatch)
    ours = additive_scores(*given, activation == "tanh")
    torch.testing.assert_close(ours, truth, **SEVERAL)
    for one, other in zip(gradients(ours, given, 4), expected, strict=True):
        torch.testing.assert_close(one, other, **SEVERAL)


def test_scores_of_strided_tensors():
    keys, query = fresh(7, 2, 5, seed=1).movedim(0, 2), fresh(3, 7, 2, seed=2).permute(2, 0, 1)
    given = keys, query, fresh(7, seed=3)
    truth = torch.tanh(keys[:, None] + query[:, :, None]) @ given[2]
    torch.testing.assert_close(additive_scores(*given, True), truth, **SEVERAL)


def test_the_units_are_never_stored(monkeypatch):
    """The largest tensor that forward and backward make has as many numbers as keys or queries."""
    made, images, rows, locations, width = [], 2, 3, 17, 65
    make = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: made.append(make(*a, **k)) or made[-1])
    given = fresh(images, locations, width, seed=1), fresh(images, rows, width, seed=2), fresh(width, seed=3)
    additive_scores(*given, True)
    additive_gradient(*given, fresh(images, rows, locations, seed=4), True)
    assert 0 < max(one.numel() for one in made) <= images * max(rows, locations) * width


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 7, 40), (0, 2, 4)])
def test_the_lstm_cell_and_its_gradients(monkeypatch, shape):
    *several, hidden = shape
    gates, cell = fresh(*several, 4 * hidden, seed=1), fresh(*shape, seed=2)
    truth = torch.stack(LSTM.cell(gates, cell))
    expected = gradients(truth, (gates, cell), 3)
    poisoned(monkeypatch)
    ours = torch.stack(lstm_cell(gates, cell))
    torch.testing.assert_close(ours, truth, **SEVERAL)
    for one, other in zip(gradients(ours, (gates, cell), 3), expected, strict=True):
        torch.testing.assert_close(one, other, **SEVERAL)


def test_the_lstm_cell_of_torch():
    """Whose fourth gate is ours as well, but whose third and fourth are in the other order: i, f, g, o."""
    torch.manual_seed(0)
    theirs = torch.nn.LSTMCell(3, 4).double()
    x, hidden, cell = (torch.randn(5, n, dtype=torch.float64) for n in (3, 4, 4))
    enter, forget, write, leave = torch.nn.functional.linear(x, theirs.weight_ih, theirs.bias_ih).chunk(4, -1)
    more = torch.nn.functional.linear(hidden, theirs.weight_hh, theirs.bias_hh).chunk(4, -1)
    gates = torch.cat([enter + more[0], forget + more[1], leave + more[3], write + more[2]], -1)
    ours = lstm_cell(gates.to(DEVICE), cell.to(DEVICE))
    for one, other in zip(ours, theirs(x, (hidden, cell)), strict=True):
        torch.testing.assert_close(one, other.to(DEVICE), **SEVERAL)


@pytest.mark.thin
@pytest.mark.parametrize("feed", [None, *bed.FEEDS])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_captioner_on_kernels_is_the_captioner(monkeypatch, feed, activation):
    """Costs, weights and all gradients, with captions of several lengths and two samples of each."""
    attention = {"activation": activation} | ({"select": "sample", "feed": feed} if feed else {})
    model = bed.captioner(bed.settings(attention=attention)).to(DEVICE)
    model.padded = True
    words, lengths = bed.captions([[[4, 5, 2], [6, 2]], [[5, 4, 3, 6, 2], [2]]])
    noise = bed.uniform(2, 4, 5).to(DEVICE) if feed else None
    found = []
    for fused in (False, True):
        monkeypatch.setattr(kernels, "DEVICES", set())
        if fused:
            monkeypatch.setattr(kernels, "DEVICES", {DEVICE})
        a = bed.features(2).to(DEVICE).requires_grad_()
        u = model(a, words.to(DEVICE), lengths, decoding("sample" if feed else "expected", noise=noise), samples=2)
        total = u.costs.sum() + u.log_probs.sum() + u.weights.square().sum()
        found.append([u.costs, u.weights, *torch.autograd.grad(total, [a, *model.parameters()])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **SEVERAL)


def test_kernels_run_on_a_gpu_alone():
    assert not kernels.run_on(torch.zeros(1)) and not kernels.run_on(torch.zeros(1, device="meta"))


@pytest.mark.parametrize(("images", "rows", "locations"), [(1, 1, 1), (2, 3, 5), (3, 2, 64), (2, 40, 49), (0, 2, 3)])
def test_glimpses_are_those_of_the_plain_form(monkeypatch, images, rows, locations):
    """Drawn at noise from 0 to just below 1, with exact zeros among the weights; and the gradient of log alpha."""
    weights = torch.softmax(fresh(images, rows, locations, seed=1), -1).detach()
    weights = torch.where(weights < 0.2 / locations, 0, weights).requires_grad_()
    noise = torch.rand(images, rows, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(DEVICE)
    noise.view(-1)[:2] = torch.tensor([0.0, 1 - 2**-53])[: noise.numel()].double()
    glimpse = draw(weights.detach(), noise)
    log_prob = log_at(weights, glimpse)
    (expected,) = gradients(log_prob, (weights,), 3)
    poisoned(monkeypatch)
    found, ours = draw_glimpse(weights, noise)
    assert torch.equal(found, glimpse)
    torch.testing.assert_close(ours, log_prob, **SEVERAL)
    torch.testing.assert_close(gradients(ours, (weights,), 3)[0], expected, **SEVERAL)


@pytest.mark.parametrize(("weight", "drawn"), [(0.0, 2), (1e-310, 1)])
def test_a_glimpse_on_a_zero_has_no_gradient(weight, drawn):
    """Weights that are all zero draw the last location, as the plain form does; one below the smallest normal number
    is a zero to the logarithm."""
    weights = torch.full((1, 1, 3), weight, dtype=torch.float64, device=DEVICE, requires_grad=True)
    noise = torch.full((1, 1), 0.5, dtype=torch.float64, device=DEVICE)
    glimpse, log_prob = draw_glimpse(weights, noise)
    assert glimpse.item() == draw(weights.detach(), noise).item() == drawn
    torch.testing.assert_close(log_prob, log_at(weights, glimpse))
    assert not torch.autograd.grad(log_prob.sum(), weights)[0].any()
