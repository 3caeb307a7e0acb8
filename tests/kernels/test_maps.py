"""Maps of a loop whose weights get their gradient at once, beside autograd's, word by word."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

from attend import kernels
from attend.kernels.maps import LoopLinear, together


class Loop(nn.Module):
    """h_t = tanh(U h_{t-1} + V h_{t-1} + x_t), and a readout of every third state alone."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.one, self.other = LoopLinear(4, 4, bias=bias).double(), LoopLinear(4, 4, bias=False).double()

    def forward(self, x: torch.Tensor, shared: bool) -> torch.Tensor:
        """x (T, N, R, 4); with ``shared`` the gradients of the weights are one product."""
        hidden, found = x[0], []
        kernels.DEVICES.clear()
        kernels.DEVICES.update({"cpu"} if shared else {"cuda"})
        with together(self, x.device):
            for drive in x:
                hidden = torch.tanh(self.one(hidden) + self.other(hidden, drive))
                found.append(hidden)
        kernels.DEVICES.clear()
        kernels.DEVICES.add("cuda")
        return torch.stack(found[::3])


def given(steps: int = 5) -> torch.Tensor:
    return torch.randn(steps, 2, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()


def close(some, others) -> None:
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_autograd(bias):
    loop, x = Loop(bias), given()
    inputs = [x, *loop.parameters()]
    plain, shared = loop(x, False), loop(x, True)
    close([shared], [plain])
    close(torch.autograd.grad(shared.sin().sum(), inputs), torch.autograd.grad(plain.sin().sum(), inputs))


def test_a_pass_that_stops_short_leaves_nothing_for_the_next():
    """The gradient of x alone never comes to the weights; the whole gradient of the same graph is not disturbed."""
    loop, x = Loop(), given()
    inputs = [x, *loop.parameters()]
    expected = torch.autograd.grad(loop(x, False).sin().sum(), inputs)
    total = loop(x, True).sin().sum()
    (alone,) = torch.autograd.grad(total, [x], retain_graph=True)
    close([alone], expected[:1])
    for _ in range(2):
        close(torch.autograd.grad(total, inputs, retain_graph=True), expected)


def test_the_weights_alone_and_frozen_weights():
    loop, x = Loop(), given()
    expected = torch.autograd.grad(loop(x, False).sum(), [*loop.parameters()])
    close(torch.autograd.grad(loop(x.detach(), True).sum(), [*loop.parameters()]), expected)
    loop.one.requires_grad_(False)
    expected = torch.autograd.grad(loop(x, False).sum(), [x, loop.other.weight])
    close(torch.autograd.grad(loop(x, True).sum(), [x, loop.other.weight]), expected)


def test_in_bf16_products_are_rounded_and_their_sum_is_not():
    """The gradient of the weights is nearer to that in fp32 than autograd's, which rounds every word's."""
    loop, x = Loop().float(), given(steps=60).detach().float()
    exact = torch.autograd.grad(loop(x, False).sum(), [*loop.parameters()])
    far = []
    for shared in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            total = loop(x, shared).float().sum()
        found = torch.autograd.grad(total, [*loop.parameters()])
        assert [one.dtype for one in found] == [torch.float32] * 3
        far.append(sum((one - other).norm() / other.norm() for one, other in zip(found, exact, strict=True)))
    assert far[1] < 1.2 * far[0] < 0.3


def test_nothing_is_shared_without_a_gradient_or_elsewhere(monkeypatch):
    loop, x = Loop(), given()
    with together(loop, x.device):
        assert loop.one.shared is None
    monkeypatch.setattr(kernels, "DEVICES", {"cpu"})
    with torch.no_grad(), together(loop, x.device):
        assert loop.one.shared is None
    with pytest.raises(RuntimeError, match="broken"), together(loop, x.device):
        assert loop.one.shared is not None
        raise RuntimeError("broken")
    assert loop.one.shared is None
