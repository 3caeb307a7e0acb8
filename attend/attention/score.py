"""Score: how well each location fits what the decoder asks for, e = f(a, h)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attend import config

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


def additive(keys: Tensor, query: Tensor, vector: Tensor, activation: str = "tanh") -> Tensor:
    """e_i = v . activation(k_i + q), for keys k = W a (N, L, A), queries q = U h + b (N, R, A), v (A,) -> (N, R, L).

    The R rows of an image (captions, samples, beams) share its keys by view.

    Source: Bahdanau et al. (2015); Xu et al. (2015), equation 4.
    """
    return ACTIVATIONS[activation](keys[:, None] + query[:, :, None]) @ vector


def dot(keys: Tensor, query: Tensor) -> Tensor:
    """e_i = k_i . q / sqrt(A), for keys (..., L, A) and queries (..., R, A) -> (..., R, L).

    Source: Vaswani et al. (2017), section 3.2.1.
    """
    return query @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5


class AdditiveScore(nn.Module):
    """The parameters W, U, b and v of ``additive``; ``keys`` is computed once an image, ``forward`` at every word."""

    def __init__(self, settings: config.Attention, features: int, hidden: int) -> None:
        super().__init__()
        width = settings.width
        self.activation = settings.activation
        self.key = nn.Linear(features, width, bias=False)
        self.query = nn.Linear(hidden, width)
        self.vector = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))

    def keys(self, features: Tensor) -> Tensor:
        """W a: (N, L, D) -> (N, L, A)."""
        return self.key(features)

    def forward(self, keys: Tensor, hidden: Tensor) -> Tensor:
        """(N, L, A) and (N, R, H) -> (N, R, L)."""
        return additive(keys, self.query(hidden), self.vector, self.activation)


class DotScore(nn.Module):
    """The parameters W, U and b of ``dot``. K heads share out the A units, and each scores with its own."""

    def __init__(self, settings: config.Attention, features: int, hidden: int) -> None:
        super().__init__()
        self.heads = settings.heads
        self.key = nn.Linear(features, settings.width, bias=False)
        self.query = nn.Linear(hidden, settings.width)

    def keys(self, features: Tensor) -> Tensor:
        """W a by heads: (N, L, D) -> (N K, L, A/K)."""
        return by_head(self.key(features), self.heads)

    def forward(self, keys: Tensor, hidden: Tensor) -> Tensor:
        """(N K, L, A/K) and (N, R, H) -> (N K, R, L)."""
        return dot(keys, by_head(self.query(hidden), self.heads))


def by_head(values: Tensor, heads: int) -> Tensor:
    """(N, R, K x width) -> (N K, R, width): each head of an image stands where an image stood."""
    if heads == 1:
        return values
    return values.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)


SCORES = {"additive": AdditiveScore, "dot": DotScore}
