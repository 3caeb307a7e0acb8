"""What an LSTM does after its products, in one kernel, and its gradient in another.

    i, f, o, g = gates;    c' = sigmoid(f) c + sigmoid(i) tanh(g);    h' = sigmoid(o) tanh(c')

The gates (M, 4H) come before their sigmoids and tanh, in the order of ``decoder.lstm``. Backward computes them again.

The plain form is in ``decoder.lstm.LSTM.cell``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from attend.kernels.tanh import tanh

BLOCK = 256


@triton.jit
def _parts(gates, cell, at, number, H: tl.constexpr):
    """sigmoid(i), sigmoid(f), sigmoid(o), tanh(g) and c of a block of the M H numbers, in fp32 or fp64."""
    exists = at < number
    start = at // H * (4 * H) + at % H
    enter = tl.load(gates + start, mask=exists, other=0)
    precise = tl.float64 if enter.dtype == tl.float64 else tl.float32
    enter = tl.sigmoid(enter.to(precise))
    forget = tl.sigmoid(tl.load(gates + start + H, mask=exists, other=0).to(precise))
    leave = tl.sigmoid(tl.load(gates + start + 2 * H, mask=exists, other=0).to(precise))
    write = tanh(tl.load(gates + start + 3 * H, mask=exists, other=0).to(precise))
    return enter, forget, leave, write, tl.load(cell + at, mask=exists, other=0).to(precise), start, exists


@triton.jit
def _forward(gates, cell, hidden_out, cell_out, number, H: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    enter, forget, leave, write, before, _, exists = _parts(gates, cell, at, number, H)
    after = forget * before + enter * write
    tl.store(cell_out + at, after, mask=exists)
    tl.store(hidden_out + at, leave * tanh(after), mask=exists)


@triton.jit
def _gradient(
    gates, cell, of_hidden, of_cell, of_gates, of_before, number, H: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    enter, forget, leave, write, before, start, exists = _parts(gates, cell, at, number, H)
    bent = tanh(forget * before + enter * write)
    of_h = tl.load(of_hidden + at, mask=exists, other=0).to(bent.dtype)
    of_c = tl.load(of_cell + at, mask=exists, other=0).to(bent.dtype) + of_h * leave * (1 - bent * bent)
    tl.store(of_gates + start, of_c * write * enter * (1 - enter), mask=exists)
    tl.store(of_gates + start + H, of_c * before * forget * (1 - forget), mask=exists)
    tl.store(of_gates + start + 2 * H, of_h * bent * leave * (1 - leave), mask=exists)
    tl.store(of_gates + start + 3 * H, of_c * enter * (1 - write * write), mask=exists)
    tl.store(of_before + at, of_c * forget, mask=exists)


def _grid(cell: Tensor) -> tuple[int]:
    return (triton.cdiv(cell.numel(), BLOCK),)


@torch.library.custom_op("attend::lstm_cell", mutates_args=())
def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """h' and c' (..., H), of gates (..., 4H) before their sigmoids and tanh, and c (..., H)."""
    gates, cell = gates.contiguous(), cell.contiguous()
    hidden, after = torch.empty_like(cell), torch.empty_like(cell)
    if cell.numel():
        _forward[_grid(cell)](gates, cell, hidden, after, cell.numel(), cell.shape[-1], BLOCK)
    return hidden, after


@torch.library.custom_op("attend::lstm_cell_gradient", mutates_args=())
def lstm_cell_gradient(gates: Tensor, cell: Tensor, of_hidden: Tensor, of_cell: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of gates and cell."""
    gates, cell, of_hidden, of_cell = (part.contiguous() for part in (gates, cell, of_hidden, of_cell))
    of_gates, of_before = torch.empty_like(gates), torch.empty_like(cell)
    if cell.numel():
        given = (gates, cell, of_hidden, of_cell, of_gates, of_before)
        _gradient[_grid(cell)](*given, cell.numel(), cell.shape[-1], BLOCK)
    return of_gates, of_before


@lstm_cell.register_fake
def _(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(cell), torch.empty_like(cell)


@lstm_cell_gradient.register_fake
def _(gates: Tensor, cell: Tensor, of_hidden: Tensor, of_cell: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gates), torch.empty_like(cell)


def _keep(ctx, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, of_hidden: Tensor, of_cell: Tensor) -> tuple[Tensor, Tensor]:
    return lstm_cell_gradient(*ctx.saved_tensors, of_hidden, of_cell)


lstm_cell.register_autograd(_backward, setup_context=_keep)
