"""A linear map that a loop over words calls: the gradient of its weights is one product over all words.

Autograd computes it word by word, a product and a sum for every weight each time. Inside ``together`` a map instead
keeps its inputs x_t and the gradients g_t of its outputs while the gradient goes back through the words, and then

    dW = sum_t g_t^T x_t,    db = sum_t g_t

is one product. On a GPU these are most of the kernels of a step; on a CPU nothing is gained, so maps stay plain there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from attend import kernels


class LoopLinear(nn.Linear):
    """``nn.Linear`` for a map that is called at every word: x W^T + b, or x W^T + ``plus`` for (..., I) -> (..., O)."""

    shared: _Shared | None = None

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        if self.shared is not None:
            return _Call.apply(x, plus, self.shared.token, self.shared)
        if plus is None:
            return F.linear(x, self.weight, self.bias)
        flat = torch.addmm(plus.flatten(0, -2), x.flatten(0, -2), self.weight.t())
        return flat.view(plus.shape)


@contextlib.contextmanager
def together(module: nn.Module, device: torch.device) -> Iterator[None]:
    """While maps of the module are called here, the gradients of their weights wait for that of the first word.

    Without a gradient to compute, or on a device without kernels of ours, nothing is changed.
    """
    maps = [m for m in module.modules() if isinstance(m, LoopLinear) and m.weight.requires_grad]
    if not (torch.is_grad_enabled() and kernels.run_on(device)):
        maps = []
    try:
        for one in maps:
            one.shared = _Shared(one, device.type)
        yield
    finally:
        for one in maps:
            one.shared = None


class _Shared:
    """What the calls of a map share: weights in the precision of the pass, and x and g of each call on the way back.

    ``token`` is an empty tensor that every call depends on, so autograd comes to it when it has been to all calls.
    """

    def __init__(self, linear: LoopLinear, device: str) -> None:
        low = device != "meta" and torch.is_autocast_enabled(device)  # tensors without data have none
        self.precision = torch.get_autocast_dtype(device) if low else linear.weight.dtype
        self.weight = linear.weight.detach().to(self.precision)
        self.bias = None if linear.bias is None else linear.bias.detach().to(self.precision)
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.task = -1
        self.token = _Token.apply(linear.weight, linear.bias, self)

    def keep(self, x: Tensor, gradient: Tensor) -> None:
        task = torch._C._current_graph_task_id()
        if task != self.task:  # another backward pass; what one that stopped short has kept is dropped
            self.task, self.calls = task, []
        self.calls.append((x.flatten(0, -2), gradient.flatten(0, -2)))


class _Token(torch.autograd.Function):
    """An empty tensor whose gradient is that of the weights."""

    @staticmethod
    def forward(ctx, weight: Tensor, bias: Tensor | None, shared: _Shared) -> Tensor:
        ctx.shared = shared
        ctx.like = weight.dtype, None if bias is None else bias.dtype
        return weight.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, _: Tensor) -> tuple[Tensor, Tensor | None, None]:
        inputs, gradients = (torch.cat(parts) for parts in zip(*ctx.shared.calls, strict=True))
        ctx.shared.calls = []
        of_weight, of_bias = ctx.like
        bias = None if of_bias is None else gradients.sum(0, dtype=of_bias)
        return (gradients.t() @ inputs).to(of_weight), bias, None


class _Call(torch.autograd.Function):
    """x W^T + b, or + ``plus``, of one word."""

    @staticmethod
    def forward(ctx, x: Tensor, plus: Tensor | None, token: Tensor, shared: _Shared) -> Tensor:
        ctx.shared, ctx.types = shared, (x.dtype, None if plus is None else plus.dtype)
        low = x.to(shared.precision)
        ctx.save_for_backward(low)
        added = shared.bias if plus is None else plus.to(shared.precision).flatten(0, -2)
        flat, weight = low.flatten(0, -2), shared.weight.t()
        out = flat @ weight if added is None else torch.addmm(added, flat, weight)
        return out.view(*x.shape[:-1], weight.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x,) = ctx.saved_tensors
        ctx.shared.keep(x, gradient)
        of_x, of_plus = ctx.types
        back = (gradient @ ctx.shared.weight).to(of_x) if ctx.needs_input_grad[0] else None
        return back, None if of_plus is None else gradient.to(of_plus), None, None
