"""Simplex: scores become weights that are not negative and sum to one, alpha = g(e).

All maps are softmax's relatives: alpha = argmax_p p . e + H(p) for a family of entropies H. They take scores (..., L),
the temperature that divides them and the locations that exist, and compute in fp32 or better. A sparse map gives exact
zeros: such a location is never sampled, and 0 log 0 is 0 in the entropy. The logarithm of an exact zero, which a path
that is forced or a q that is not alpha may ask for, is that of the smallest normal number (``select.log``): -87 nats in
fp32 instead of -inf, without a gradient.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attend.config import catalogue as facts


def softmax(scores: Tensor, temperature: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """alpha = softmax(e / tau) over the last axis, in fp32 or better; where ``mask`` is False, alpha is 0."""
    return torch.softmax(_ready(scores, temperature, mask), dim=-1)


def sparsemax(scores: Tensor, temperature: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """alpha = argmin_p |p - e / tau|^2 over the simplex, so max(e / tau - threshold, 0): many weights are exactly 0.

    Source: Martins and Astudillo (2016), algorithm 1.
    """
    return _Sparsemax.apply(_ready(scores, temperature, mask))


def entmax(scores: Tensor, temperature: float = 1.0, mask: Tensor | None = None, power: float = 1.5) -> Tensor:
    """alpha_i = max((power - 1) e_i / tau - threshold, 0)^(1 / (power - 1)): softmax at 1, sparsemax at 2.

    Source: Peters, Niculae and Martins (2019), whose alpha is ``power`` here; by bisection, their algorithm 1.
    """
    scores = _ready(scores, temperature, mask)
    return torch.softmax(scores, dim=-1) if power == 1 else _Entmax.apply(scores, power)


def at_least_fp32(values: Tensor) -> Tensor:
    """bf16 as fp32, and what is more exact as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _ready(scores: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    scores = at_least_fp32(scores)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores if temperature == 1 else scores / temperature


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor) -> Tensor:
        scores = scores - scores.amax(-1, keepdim=True)
        largest = scores.sort(-1, descending=True).values
        summed = largest.cumsum(-1)
        rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
        support = (1 + rank * largest > summed).sum(-1, keepdim=True)
        threshold = (summed.gather(-1, support - 1) - 1) / support
        alpha = (scores - threshold).clamp(min=0)
        ctx.save_for_backward(alpha)
        return alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, slopes: Tensor) -> Tensor:
        (alpha,) = ctx.saved_tensors
        return _through(slopes, (alpha > 0).to(slopes.dtype))


class _Entmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor, power: float) -> Tensor:
        scores = (power - 1) * (scores - scores.amax(-1, keepdim=True))
        low = torch.full_like(scores[..., :1], -1.0)  # there the largest alone has weight 1
        high = low * 0 - scores.shape[-1] ** (1 - power)  # there it has 1/L, and none has more
        for _ in range(60 if scores.dtype == torch.float64 else 30):
            middle = (low + high) / 2
            enough = _lifted(scores - middle, power).sum(-1, keepdim=True) >= 1
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        alpha = _lifted(scores - low, power)
        alpha = alpha / alpha.sum(-1, keepdim=True)
        ctx.save_for_backward(alpha)
        ctx.power = power
        return alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, slopes: Tensor) -> tuple[Tensor, None]:
        (alpha,) = ctx.saved_tensors
        return _through(slopes, torch.where(alpha > 0, alpha ** (2 - ctx.power), 0)), None


def _lifted(values: Tensor, power: float) -> Tensor:
    return values.clamp(min=0) ** (1 / (power - 1))


def _through(slopes: Tensor, curvature: Tensor) -> Tensor:
    """The gradient of the scores: s (g - s . g / sum s), where s is the inverse curvature of H on the support."""
    mean = (slopes * curvature).sum(-1, keepdim=True) / curvature.sum(-1, keepdim=True)
    return curvature * (slopes - mean)


SIMPLEXES = {"softmax": softmax, "sparsemax": sparsemax, "entmax": entmax}


def add(name: str, function: Callable[..., Tensor]) -> None:
    """A map of one's own: (scores, temperature, mask) -> weights, as ``softmax``. Its name is then known.

    ValueError if it is no function.
    """
    if not callable(function):
        raise ValueError(f"simplex.add was given {function!r} as {name!r}: give a function")
    SIMPLEXES[name] = function
    facts.SIMPLEXES.append(name)
