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


def forced(features: Tensor, weights: Tensor, glimpse: Tensor, proposal: Tensor | None = None) -> Selection:
    """Hard attention on a given path: z = a_s, for s (N, R); its log-probability has a gradient, z has none in s.

    Where it was drawn from a ``proposal`` q (N, R, L), that is log q(s).
    """
    chosen = (weights if proposal is None else proposal).gather(-1, glimpse[..., None]).squeeze(-1)
    images = torch.arange(len(features), device=features.device)[:, None]
    return Selection(features[images, glimpse], glimpse, log(chosen))


def log(weights: Tensor) -> Tensor:
    """log alpha; of an exact zero that of the smallest normal number, without a gradient, so that 0 log 0 is 0."""
    return weights.clamp(min=torch.finfo(weights.dtype).tiny).log()


def draw(weights: Tensor, noise: Tensor) -> Tensor:
    """Categorical(weights) (..., K) by inverting its distribution function at ``noise`` (...) in [0, 1)."""
    reached = weights.cumsum(-1)
    return (reached <= noise[..., None] * reached[..., -1:]).sum(-1).clamp(max=weights.shape[-1] - 1)


def sample(
    features: Tensor, weights: Tensor, noise: Tensor, soft: Tensor | None = None, proposal: Tensor | None = None
) -> Selection:
    """Hard attention: s ~ Categorical(alpha), or from a ``proposal`` q, drawn with ``noise`` (N, R) in [0, 1).

    Rows marked in ``soft`` (N, R) take the expected context instead (semi-sampling).

    Source: Xu et al. (2015), equations 5 and 6, and section 4.1 for the semi-sampling.
    """
    hard = forced(features, weights, draw((weights if proposal is None else proposal).detach(), noise), proposal)
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


def relaxed(features: Tensor, weights: Tensor, noise: Tensor, temperature: float = 1.0) -> Selection:
    """Gumbel-softmax: z = sum_i r_i a_i, r = softmax((log alpha + gumbel) / tau_g), with ``noise`` (N, R, L).

    Its largest weight is at i with probability alpha_i at every temperature, and is given as the glimpse.

    Source: Jang et al. (2017); Maddison et al. (2017).
    """
    weighed = relaxation(weights, noise, temperature)
    return Selection(weighed.to(features.dtype) @ features, *_glimpse(weights, weighed.argmax(-1)))


def relaxation(weights: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """softmax((log alpha + gumbel) / tau_g), gumbel = -log(-log noise): (..., L)."""
    return torch.softmax((log(weights) + gumbel(noise).to(weights.dtype)) / temperature, -1)


def gumbel(noise: Tensor) -> Tensor:
    """-log(-log u), Gumbel variables from uniform ones in [0, 1)."""
    return -torch.log(-torch.log(noise.clamp(min=torch.finfo(noise.dtype).tiny)))


def straight_through(features: Tensor, weights: Tensor, noise: Tensor) -> Selection:
    """Forward the glimpse of ``sample``, with ``noise`` (N, R); backward z = sum_i alpha_i a_i. Biased.

    Source: Bengio et al. (2013).
    """
    return _through(features, weights, weights, draw(weights.detach(), noise))


def gumbel_straight_through(features: Tensor, weights: Tensor, noise: Tensor, temperature: float = 1.0) -> Selection:
    """Forward the glimpse that ``relaxed`` makes largest, backward as ``relaxed``. Biased.

    Source: Jang et al. (2017).
    """
    weighed = relaxation(weights, noise, temperature)
    return _through(features, weights, weighed, weighed.argmax(-1))


def _through(features: Tensor, weights: Tensor, instead: Tensor, glimpse: Tensor) -> Selection:
    """Forward exactly a_s, backward the gradient of sum_i instead_i a_i."""
    forward = torch.nn.functional.one_hot(glimpse, weights.shape[-1]) + (instead - instead.detach())
    return Selection(forward.to(features.dtype) @ features, *_glimpse(weights, glimpse))


def _glimpse(weights: Tensor, glimpse: Tensor) -> tuple[Tensor, Tensor]:
    return glimpse, log(weights.gather(-1, glimpse[..., None]).squeeze(-1))


SELECTIONS = {"expected": expected, "top-k": top_k, "sample": sample, "argmax": argmax}

RELAXATIONS = {
    "relaxed": relaxed,
    "straight-through": straight_through,
    "gumbel-straight-through": gumbel_straight_through,
}
"""How estimators with a gradient along the context select while training; never in decoding."""


def distinct(weights: Tensor, several: int, noise: Tensor) -> Tensor:
    """K locations without replacement, (..., K): those of the largest log alpha + gumbel, for ``noise`` (..., L)."""
    return (log(weights) + gumbel(noise)).topk(several).indices


def best_and_rest(weights: Tensor, several: int, noise: Tensor) -> Tensor:
    """The K - 1 largest weights' locations, and one drawn from the others with ``noise`` (...): (..., K)."""
    best = weights.topk(several - 1).indices
    return torch.cat([best, draw(weights.scatter(-1, best, 0.0), noise)[..., None]], -1)


CHOICES = ("all", "distinct", "best-and-rest")
"""How estimators take several glimpses that are not drawn one by one."""
