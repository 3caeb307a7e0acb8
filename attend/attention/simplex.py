"""Simplex: scores become weights that are not negative and sum to one, alpha = g(e)."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax(scores: Tensor, temperature: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """alpha = softmax(e / tau) over the last axis, in fp32 or better; where ``mask`` is False, alpha is 0."""
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores / temperature, dim=-1)


SIMPLEXES = {"softmax": softmax}
