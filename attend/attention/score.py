"""Score: how well each location fits what the decoder asks for, e = f(a, h)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


def additive(keys: Tensor, query: Tensor, vector: Tensor, activation: str = "tanh") -> Tensor:
    """e_i = v . activation(k_i + q), for keys k = W a (N, L, A), queries q = U h + b (N, R, A), v (A,) -> (N, R, L).

    The R rows of an image (captions, samples, beams) share its keys by view.

    Source: Bahdanau et al. (2015); Xu et al. (2015), equation 4.
    """
    return ACTIVATIONS[activation](keys[:, None] + query[:, :, None]) @ vector


class AdditiveScore(nn.Module):
    """The parameters W, U, b and v of ``additive``; ``keys`` is computed once an image, ``forward`` at every word."""

    def __init__(self, features: int, hidden: int, width: int, activation: str = "tanh") -> None:
        super().__init__()
        self.activation = activation
        self.key = nn.Linear(features, width, bias=False)
        self.query = nn.Linear(hidden, width)
        self.vector = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))

    def keys(self, features: Tensor) -> Tensor:
        """W a: (N, L, D) -> (N, L, A)."""
        return self.key(features)

    def forward(self, keys: Tensor, hidden: Tensor) -> Tensor:
        """(N, L, A) and (N, R, H) -> (N, R, L)."""
        return additive(keys, self.query(hidden), self.vector, self.activation)


SCORES = {"additive": AdditiveScore}
