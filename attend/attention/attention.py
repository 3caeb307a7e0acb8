"""Attention: score, simplex and select in a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from attend import config
from attend.attention import controls
from attend.attention.score import SCORES
from attend.attention.select import Selection
from attend.attention.simplex import SIMPLEXES

Select = Callable[[Tensor, Tensor], Selection]


@dataclass(frozen=True)
class Memory:
    """What attention knows of N images: features (N, L, D), their keys (N, L, A) and which locations exist (N, L)."""

    features: Tensor
    keys: Tensor | None
    mask: Tensor | None = None

    def first(self, images: int) -> Memory:
        """The first images, by view."""
        keys = None if self.keys is None else self.keys[:images]
        mask = None if self.mask is None else self.mask[:images]
        return Memory(self.features[:images], keys, mask)


class Attention(nn.Module):
    """Where to look: ``memory`` once an image, then ``forward`` at every word for the R rows of each image."""

    def __init__(self, settings: config.Attention, features: int, hidden: int) -> None:
        super().__init__()
        self.settings = settings
        self.score = (
            SCORES[settings.score](features, hidden, settings.width, settings.activation)
            if settings.weights == "learned"
            else None
        )

    def memory(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Project the keys, once for all words and rows of an image."""
        return Memory(features, None if self.score is None else self.score.keys(features), mask)

    def weights(self, memory: Memory, hidden: Tensor, shares: Tensor | None = None) -> Tensor:
        """alpha (N, R, L) for the states before the word (N, R, H); ``shares`` (N, R, L) is what the oracle sees."""
        mask = None if memory.mask is None else memory.mask[:, None]
        if self.score is not None:
            simplex = SIMPLEXES[self.settings.simplex]
            return simplex(self.score(memory.keys, hidden), self.settings.temperature, mask)
        if self.settings.weights == "oracle":
            if shares is None:
                raise ValueError("oracle attention needs the boxes of the words: use data that has them (scenes)")
            return controls.oracle(shares, mask)
        shape = (*hidden.shape[:2], memory.features.shape[1])
        return controls.uniform(shape, mask, like=memory.features)

    def forward(
        self, memory: Memory, hidden: Tensor, select: Select, shares: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """The weights alpha (N, R, L) and what ``select`` picks with them."""
        weights = self.weights(memory, hidden, shares)
        return weights, select(memory.features, weights)
