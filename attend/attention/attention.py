"""Attention: score, simplex and select in a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from attend import config
from attend.attention import controls
from attend.attention.score import SCORES, by_head
from attend.attention.select import Selection
from attend.attention.simplex import SIMPLEXES

Select = Callable[[Tensor, Tensor], Selection]


@dataclass(frozen=True)
class Memory:
    """What attention knows of N images.

    features (N, L, D), which locations exist (N, L), the keys (N, L, A) of the scores and the values (N, L, D) that
    select picks from. K heads have keys (N K, L, A/K) and values (N K, L, D/K), all heads of an image together.
    ``projected`` says that the values are what the decoder makes of features before it adds them (``LSTM.project``).
    """

    features: Tensor
    mask: Tensor | None
    keys: Tensor | None
    values: Tensor
    projected: bool = False

    def first(self, images: int) -> Memory:
        """The first images, by view; all of them without one, since the gradient of a view is a copy."""
        whole = len(self.features)
        if images == whole:
            return self
        parts = (self.features, self.mask, self.keys, self.values)
        first = (None if part is None else part[: images * (len(part) // whole)] for part in parts)
        return Memory(*first, self.projected)


class Attention(nn.Module):
    """Where to look: ``memory`` once an image, then ``forward`` at every word for the R rows of each image.

    With K heads each head scores and selects for itself, from its own share of the projected features; the context is
    their shares side by side (Vaswani et al., 2017, section 3.2.2).

    ``grid`` is (rows, columns) of the L locations, row by row. ``look`` says whose weights they are: the settings' own,
    or those of an evaluation control (``Model.looking``).
    """

    def __init__(
        self, settings: config.Attention, features: int, hidden: int, grid: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        if features % settings.heads:
            raise ValueError(
                f"attention.heads is {settings.heads}, which does not divide the {features} features of the encoder: "
                "choose a divisor"
            )
        if settings.weights == "centre" and grid is None:
            raise ValueError("attention.weights 'centre' needs the grid's rows and columns: pass grid")
        self.settings = settings
        self.look = settings.weights
        self.score = SCORES[settings.score](settings, features, hidden) if settings.learned else None
        self.register_buffer("centre", None if grid is None else controls.centre(grid), persistent=False)
        self.simplex = SIMPLEXES[settings.simplex]
        if settings.simplex == "entmax":
            self.simplex = partial(self.simplex, power=settings.power)
        self.value = nn.Linear(features, features) if settings.heads > 1 else None

    def memory(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Project keys and values, once for all words and rows of an image."""
        return Memory(
            features=features,
            mask=mask,
            keys=None if self.look in controls.CONTROLS else self.score.keys(features),
            values=features if self.value is None else by_head(self.value(features), self.settings.heads),
        )

    def weights(self, memory: Memory, hidden: Tensor, seen: Tensor | None = None) -> Tensor:
        """alpha (N K, R, L) for the states that ask (N, R, H); ``seen`` (N, R, L) is what a control is shown."""
        mask = None if memory.mask is None else memory.mask[:, None]
        if self.look in controls.CONTROLS:
            shape = (*hidden.shape[:2], memory.features.shape[1])
            return self._control(shape, mask, seen, memory.features).repeat_interleave(self.settings.heads, 0)
        if mask is not None:
            mask = mask.repeat_interleave(self.settings.heads, 0)
        return self.simplex(self.score(memory.keys, hidden), self.settings.temperature, mask)

    def _control(self, shape: tuple[int, ...], mask: Tensor | None, seen: Tensor | None, like: Tensor) -> Tensor:
        if self.look == "uniform":
            return controls.uniform(shape, mask, like=like)
        if self.look == "centre":
            seen = self.centre.expand(shape)
        if seen is None:
            raise ValueError(f"{self.look} attention needs {controls.CONTROLS[self.look]}")
        return controls.random(seen, mask) if self.look == "random" else controls.oracle(seen, mask)

    def forward(
        self, memory: Memory, hidden: Tensor, select: Select, seen: Tensor | None = None
    ) -> tuple[Tensor, Selection]:
        """The weights alpha (N, R, L) and what ``select`` picks with them.

        Of several heads the weights are the mean and the glimpse is that of the head that gave its own the most.
        """
        weights = self.weights(memory, hidden, seen)
        chosen = select(memory.values, weights)
        return (weights, chosen) if self.settings.heads == 1 else self._together(weights, chosen)

    def _together(self, weights: Tensor, chosen: Selection) -> tuple[Tensor, Selection]:
        weights, context, glimpse, log_prob = (
            part.unflatten(0, (-1, self.settings.heads)).transpose(1, 2)  # (N, R, K, ...)
            for part in (weights, chosen.context, chosen.glimpse, chosen.log_prob)
        )
        surest = log_prob.detach().argmax(-1, keepdim=True)
        glimpse = glimpse.gather(-1, surest).squeeze(-1)
        return weights.mean(2), Selection(context.flatten(2), glimpse, log_prob.sum(-1))


def rows_of_heads(rows: Tensor, heads: int) -> Tensor:
    """What is given a row (N, R), or a row and head (N, R, K), as ``select`` wants it: (N K, R)."""
    if heads == 1:
        return rows
    return by_head(rows if rows.ndim == 3 else torch.stack([rows] * heads, -1), heads).squeeze(-1)
