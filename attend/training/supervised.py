"""Supervised attention: where the words' boxes are known, alpha is told to lie in them."""

import torch
from torch import Tensor

MIXED = 0.01
"""Share of uniform weights in the logarithm, where a map gives exact zeros."""
FLOOR = 1e-30
"""The least weight in the logarithm: softmax is below it where a score is 69 under the largest, and fp32 soon ends."""


def supervised(weights: Tensor, shares: Tensor, sparse: bool = False, rows: Tensor | float = 1.0) -> Tensor:
    """- sum over words with boxes of sum_i g_i log alpha_i, in nats: the cross-entropy of alpha to the boxes.

    ``weights`` alpha (..., L); ``shares`` (..., L) of each cell's area inside the word's boxes, and g is these made to
    sum to one. Words without boxes, and padding, add nothing. Each word counts by ``rows``, which may be (...).

    A ``sparse`` map gives exact zeros, and slopes without bound beside them: there the logarithm is that of
    0.99 alpha_i + 0.01/L, so a cell that is missed costs log 100 L (8.5 nats for 49) and slopes stay finite. A cell
    with weight 0 is still taught nothing, since its score does not move alpha; the others are.

    Source: Liu et al. (2017), arXiv 1605.09553, their strong supervision. Ours in particular: cells count by the share
    of their area, so the edge of a box is soft; all words that have boxes are told, in a phrase every one of it; it is
    summed over words as their cost is and divided by as many (``objective``), so lambda weighs a told word against a
    word's cost; and of several heads the mean map is told.
    """
    total = shares.sum(-1, keepdim=True)
    target = torch.where(total > 0, shares / total.clamp(min=1e-12), 0.0)
    if sparse:
        weights = (1 - MIXED) * weights + MIXED / weights.shape[-1]
    return -(rows * (target * weights.clamp(min=FLOOR).log()).sum(-1)).sum()
