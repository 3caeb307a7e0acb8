"""A glimpse and its log-probability in one kernel, and the gradient in another.

    s = number of i with sum_{j <= i} alpha_j <= u sum_j alpha_j,    log alpha_s

A program has a row of weights. The plain forms are ``attention.select.draw`` and ``log_at``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _forward(weights, noise, glimpse, log_prob, locations, TINY: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    alpha = tl.load(weights + row * locations + place, mask=place < locations, other=0)
    reached = tl.cumsum(alpha, 0)
    below = (reached <= tl.load(noise + row) * tl.max(reached, 0)) & (place < locations)
    drawn = tl.minimum(tl.sum(below.to(tl.int32), 0), locations - 1)
    tl.store(glimpse + row, drawn)
    chosen = tl.sum(tl.where(place == drawn, alpha, 0), 0)
    tl.store(log_prob + row, tl.log(tl.maximum(chosen, TINY)))


@triton.jit
def _gradient(weights, glimpse, slopes, of_weights, locations, TINY: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    exists = place < locations
    alpha = tl.load(weights + row * locations + place, mask=exists, other=0)
    slope = tl.load(slopes + row) / tl.maximum(alpha, TINY)
    here = (place == tl.load(glimpse + row)) & (alpha >= TINY)
    tl.store(of_weights + row * locations + place, tl.where(here, slope, 0), mask=exists)


def _sizes(weights: Tensor) -> tuple[int, float, int]:
    return weights.shape[-1], torch.finfo(weights.dtype).tiny, triton.next_power_of_2(weights.shape[-1])


@torch.library.custom_op("attend::draw_glimpse", mutates_args=())
def draw_glimpse(weights: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """s and log alpha(s), both (N, R), for weights (N, R, L) and noise (N, R) in [0, 1)."""
    weights, noise = weights.contiguous(), noise.contiguous()
    glimpse, log_prob = torch.empty_like(noise, dtype=torch.long), torch.empty_like(noise, dtype=weights.dtype)
    if weights.numel():
        _forward[(noise.numel(),)](weights, noise, glimpse, log_prob, *_sizes(weights))
    return glimpse, log_prob


@torch.library.custom_op("attend::draw_glimpse_gradient", mutates_args=())
def draw_glimpse_gradient(weights: Tensor, glimpse: Tensor, slopes: Tensor) -> Tensor:
    """The gradient of the weights under slopes (N, R) of the log-probabilities."""
    weights, glimpse, slopes = weights.contiguous(), glimpse.contiguous(), slopes.contiguous()
    of_weights = torch.empty_like(weights)
    if weights.numel():
        _gradient[(glimpse.numel(),)](weights, glimpse, slopes, of_weights, *_sizes(weights))
    return of_weights


@draw_glimpse.register_fake
def _(weights: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(noise, dtype=torch.long), torch.empty_like(noise, dtype=weights.dtype)


@draw_glimpse_gradient.register_fake
def _(weights: Tensor, glimpse: Tensor, slopes: Tensor) -> Tensor:
    return torch.empty_like(weights)


def _keep(ctx, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(inputs[0], output[0])


def _backward(ctx, _: Tensor | None, slopes: Tensor) -> tuple[Tensor, None]:
    return draw_glimpse_gradient(*ctx.saved_tensors, slopes), None


draw_glimpse.register_autograd(_backward, setup_context=_keep)
