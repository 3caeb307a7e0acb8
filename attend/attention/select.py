"""Select: the context that the weights pick from the features, z = phi(a, alpha). Soft and hard differ here only.

Each function takes features (N, L, D) and weights (N, R, L) and returns a ``Selection``. What else it needs (noise, a
path, k) is bound beforehand: ``functools.partial(sample, noise=u)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attend import config


@dataclass(frozen=True)
class Selection:
    """context z (N, R, D); the glimpse s (N, R), -1 where there is none; log alpha(s) (N, R), 0 where none."""

    context: Tensor
    glimpse: Tensor
    log_prob: Tensor


def expected(features: Tensor, weights: Tensor) -> Selection:
    """Soft attention: z = sum_i alpha_i a_i. Source: Xu et al. (2015), equation 8."""
    context = weights.to(features.dtype) @ features
    none = torch.full(weights.shape[:-1], -1, dtype=torch.long, device=weights.device)
    return Selection(context, none, weights.new_zeros(weights.shape[:-1]))


def forced(features: Tensor, weights: Tensor, glimpse: Tensor) -> Selection:
    """Hard attention on a given path: z = a_s, for s (N, R); its log-probability has a gradient, z has none in s."""
    chosen = weights.gather(-1, glimpse[..., None]).squeeze(-1)
    images = torch.arange(len(features), device=features.device)[:, None]
    return Selection(features[images, glimpse], glimpse, chosen.log())


def draw(weights: Tensor, noise: Tensor) -> Tensor:
    """Categorical(weights) (..., K) by inverting its distribution function at ``noise`` (...) in [0, 1)."""
    reached = weights.cumsum(-1)
    return (reached <= noise[..., None] * reached[..., -1:]).sum(-1).clamp(max=weights.shape[-1] - 1)


def sample(features: Tensor, weights: Tensor, noise: Tensor, soft: Tensor | None = None) -> Selection:
    """Hard attention: s ~ Categorical(alpha), drawn with ``noise`` (N, R) in [0, 1).

    Rows marked in ``soft`` (N, R) take the expected context instead (semi-sampling).

    Source: Xu et al. (2015), equations 5 and 6, and section 4.1 for the semi-sampling.
    """
    hard = forced(features, weights, draw(weights.detach(), noise))
    if soft is None or not bool(soft.any()):
        return hard
    mean = expected(features, weights)
    return Selection(
        torch.where(soft[..., None], mean.context, hard.context),
        torch.where(soft, mean.glimpse, hard.glimpse),
        torch.where(soft, mean.log_prob, hard.log_prob),
    )


def top_k(features: Tensor, weights: Tensor, top: int = config.Attention.top) -> Selection:
    """The expected context under the ``top`` largest weights, z = sum_kept alpha_i a_i / sum_kept alpha_i.

    Without chance, and the weights that are kept have a gradient (one alone has none); of equal ones, which are kept is
    torch's choice. With ``top`` of L or more it is ``expected``. The record keeps alpha itself, before the cut.
    """
    if top >= weights.shape[-1]:
        return expected(features, weights)
    kept, places = weights.topk(top, dim=-1)
    return expected(features, torch.zeros_like(weights).scatter(-1, places, kept / kept.sum(-1, keepdim=True)))


def argmax(features: Tensor, weights: Tensor) -> Selection:
    """Hard attention without chance: the location with the largest weight. A way to decode; alpha learns nothing."""
    return forced(features, weights, weights.argmax(-1))


SELECTIONS = {"expected": expected, "top-k": top_k, "sample": sample, "argmax": argmax}
