"""Controls: weights that are not learned, to say what attention adds."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], mask: Tensor | None = None, like: Tensor | None = None) -> Tensor:
    """alpha_i = 1/L, the mean feature; over the locations that ``mask`` keeps, where it is given."""
    weights = torch.ones(shape, device=None if like is None else like.device)
    if like is not None and like.dtype == torch.float64:
        weights = weights.double()
    if mask is not None:
        weights = weights * mask
    return weights / weights.sum(-1, keepdim=True)


def oracle(shares: Tensor, mask: Tensor | None = None) -> Tensor:
    """Weights in proportion to how much of each cell the word's boxes cover; uniform where a word has no box.

    Both over the locations that ``mask`` keeps, where it is given.
    """
    shares = shares if mask is None else shares * mask
    total = shares.sum(-1, keepdim=True)
    return torch.where(total > 0, shares / total.clamp(min=1e-12), uniform(shares.shape, mask, like=shares))
