"""Attention: score, simplex and select in a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attend.attention import controls
from attend.attention.score import Keys, by_head
from attend.attention.select import At, Policy, Selection
from attend.attention.simplex import softmax


@dataclass(frozen=True)
class Memory:
    """What attention reads of N images.

    features (N, L, D), which locations exist (N, L), the keys (N, L, A) of the scores and the values (N, L, D) that
    select picks from. K heads have keys (N K, L, A/K) and values (N K, L, D/K), all heads of an image together.
    ``projected`` says that the values are the decoder's maps of the features (``Decoder.memory``).
    """

    features: Tensor
    mask: Tensor | None
    keys: Tensor | Keys | None
    values: Tensor
    projected: bool = False

    def first(self, images: int) -> Memory:
        """The first images, by view. All images without one, since the gradient of a view is a copy."""
        whole = len(self.features)
        if images == whole:
            return self
        parts = (self.features, self.mask, self.keys, self.values)
        first = (None if part is None else part[: images * (len(part) // whole)] for part in parts)
        return Memory(*first, self.projected)


class Look(NamedTuple):
    """The attention of the rows (N, R) at one word: weights alpha (N, R, L), what a policy selected, the query, and the
    scores e (N, R, L), if the decoder reads them."""

    weights: Tensor
    context: Tensor
    glimpse: Tensor | None
    log_prob: Tensor | None
    proposal: Tensor | None
    query: Tensor
    scores: Tensor | None


class Attention(nn.Module):
    """Where to look: ``memory`` once per image, then ``forward`` at every word for the R rows of each image.

        attention = Attention(AdditiveScore(features=512, hidden=256), features=512)
        memory = attention.memory(features)                          # (N, L, D), once per image
        look = attention(memory, query, Expected())                  # query (N, R, H), as often as you like
        look = attention(memory, query, Sample(torch.rand(N, R)))    # weights (N, R, L), context (N, R, D), ...

    With K heads each head scores and selects from its own share of the projected features. The context is the
    concatenation of the shares (Vaswani et al., 2017, section 3.2.2).

    Args:
        score: a module with ``keys`` and ``forward`` as those of ``AdditiveScore``; None if weights are a control.
        features: D.
        simplex: the map from scores to weights, called with (scores, temperature, mask).
        look: whose weights they are: "learned", "first" (learned, but the first word's query asks for all words), or
            the name of a control (``controls.CONTROLS``).
        grid: (rows, columns) of the L locations, row by row; needed by the control ``centre``.
    """

    def __init__(
        self,
        score: nn.Module | None,
        features: int,
        *,
        simplex: Callable[..., Tensor] = softmax,
        temperature: float = 1.0,
        heads: int = 1,
        look: str = "learned",
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if features % heads:
            raise ValueError(
                f"attention.heads is {heads}, which does not divide the {features} features of the encoder: "
                "choose a divisor"
            )
        if score is not None and heads != getattr(score, "heads", 1):
            raise ValueError(
                f"attention has heads={heads} and its score heads={getattr(score, 'heads', 1)}: pass the same to both"
            )
        if look == "centre" and grid is None:
            raise ValueError("attention.weights 'centre' needs the grid's rows and columns: pass grid")
        self.score, self.simplex, self.temperature, self.heads, self.look = score, simplex, temperature, heads, look
        self.reads_scores = False
        self.register_buffer("centre", None if grid is None else controls.centre(grid), persistent=False)
        self.value = nn.Linear(features, features) if heads > 1 else None

    @property
    def scored(self) -> bool:
        """Whether locations are scored: for the weights, or since the decoder reads the scores under a control too."""
        return self.look not in controls.CONTROLS or self.reads_scores

    def memory(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Project keys and values, once for all words and rows of an image.

        Args:
            features: (N, L, D). Feature maps (N, D, rows, columns) are ``maps.flatten(2).transpose(1, 2)``.
            mask: (N, L), True for the locations that exist.

        Raises:
            ValueError: features has another number of axes.
        """
        if features.ndim != 3:
            raise ValueError(
                f"features are {tuple(features.shape)}, but must be (N, L, D): images, locations and features; feature "
                "maps (N, D, rows, columns) are maps.flatten(2).transpose(1, 2)"
            )
        return Memory(
            features=features,
            mask=mask,
            keys=self.score.keys(features) if self.score is not None and self.scored else None,
            values=features if self.value is None else by_head(self.value(features), self.heads),
        )

    def weights(self, memory: Memory, query: Tensor, shown: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """alpha (N K, R, L) for queries (N, R, H), and the scores e (-inf where no location exists) if the decoder
        reads them and there are any.

        ``shown`` (N, R, L) is the input of a control, as boxes or noise.
        """
        mask = None if memory.mask is None else memory.mask[:, None]
        scores = None if memory.keys is None else self.score(memory.keys, query)
        known = scores if self.reads_scores else None
        if known is not None and mask is not None:
            known = known.masked_fill(~mask, -torch.inf)
        if self.look in controls.CONTROLS:
            shape = (*query.shape[:2], memory.features.shape[1])
            shown = self.centre.expand(shape) if self.look == "centre" else shown
            weights = controls.weights(self.look, shape, mask, shown, like=memory.features)
            return weights.repeat_interleave(self.heads, 0), known
        if mask is not None:
            mask = mask.repeat_interleave(self.heads, 0)
        return self.simplex(scores, self.temperature, mask), known

    def forward(
        self, memory: Memory, query: Tensor, policy: Policy, at: At | None = None, shown: Tensor | None = None
    ) -> Look:
        """The weights alpha (N, R, L) for queries (N, R, H), and what ``policy`` picks with them.

        The query is the state that decides where to look: R rows of each image, as one per sample. ``at`` is None but
        in the captioner.

        With several heads the weights are the mean over heads. The glimpse is that of the head whose own glimpse is
        most likely.

        Raises:
            ValueError: the query does not have three axes, or is not of the images of the memory.
        """
        if query.ndim != 3 or len(query) != len(memory.features):
            raise ValueError(
                f"query is {tuple(query.shape)}, but must be (N, R, H) for the N = {len(memory.features)} images of "
                "the memory: one row of each image is query[:, None]"
            )
        weights, scores = self.weights(memory, query, shown)
        chosen = policy(memory.values, weights, at if self.heads == 1 else _OfHeads(at, self.heads), query)
        if self.heads > 1:
            scores, (weights, chosen) = None, self._together(weights, chosen)
        return Look(weights, *chosen, query, scores)

    def _together(self, weights: Tensor, chosen: Selection) -> tuple[Tensor, Selection]:
        weights, context, glimpse, log_prob = (
            None if part is None else part.unflatten(0, (-1, self.heads)).transpose(1, 2)  # (N, R, K, ...)
            for part in (weights, chosen.context, chosen.glimpse, chosen.log_prob)
        )
        if glimpse is None:
            return weights.mean(2), Selection(context.flatten(2))
        surest = log_prob.detach().argmax(-1, keepdim=True)
        return weights.mean(2), Selection(context.flatten(2), glimpse.gather(-1, surest).squeeze(-1), log_prob.sum(-1))


@dataclass(frozen=True)
class _OfHeads:
    """A step whose parts are cut for K heads: given per row (N, R), or per row and head (N, R, K) -> (N K, R)."""

    at: At | None
    heads: int

    @property
    def t(self) -> int | Tensor:
        return self.at.t

    @property
    def start(self) -> _OfHeads:
        return replace(self, at=self.at.start)

    def cut(self, given: Tensor | None) -> Tensor | None:
        rows = given if self.at is None else self.at.cut(given)
        if rows is None:
            return None
        return by_head(rows if rows.ndim == 3 else torch.stack([rows] * self.heads, -1), self.heads).squeeze(-1)


def projected(memory: Memory, values: Tensor) -> Memory:
    """The same memory with the decoder's maps of the features as values."""
    return replace(memory, values=values, projected=True)
