"""What the readout says of each glimpse where the state is fed the expected context (``attention.feed: expected``).

The state is the same whatever the glimpses, so every location of every word can be read: L readouts a word. They are
computed for some words of one image at a time and, where they are too many to keep, once more for the gradient: so
memory is bounded by KEPT and LOGITS, whatever the minibatch.

Source: Deng et al. (2018), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attend.decoder.gru import ResidualGRU
from attend.decoder.lstm import LSTM
from attend.decoder.protocol import Drop

LOGITS = 2**24
"""Logits that are computed at once: 64 MiB of fp32, and a few times that in the softmax and its gradient."""

KEPT = 2**27
"""Logits of a minibatch that are kept for the gradient: 512 MiB of fp32. Where there are more, none is."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """M real words, each with the state that reads it: what ``readout`` is given but for the context.

    values (N, L, E or D) of the locations, ``projected`` or not; image (M,) of each word; words (M, E), hidden (M, H),
    gate (M, 1 or D) or None, dropout factors or None, targets (M,).
    """

    decoder: LSTM | ResidualGRU
    values: Tensor
    projected: bool
    image: Tensor
    words: Tensor
    hidden: Tensor
    gate: Tensor | None
    drop: Drop | None
    targets: Tensor

    def logits(self, context: Tensor, several: int) -> Tensor:
        """Of ``several`` contexts of each word, one after another (M several, E or D): (M several, V)."""
        context = context.unflatten(0, (-1, several))
        context = context if self.gate is None else self.gate[:, None] * context
        drop = None if self.drop is None else tuple(one[:, None] for one in self.drop)
        logits = self.decoder.readout(self.words[:, None], self.hidden[:, None], context, drop, self.projected)
        return logits.flatten(0, 1)

    def costs(self) -> Tensor:
        """-log p(y | glimpse at i) in nats, (M, L)."""

        def cost(logits: Tensor, targets: Tensor) -> Tensor:
            targets = targets[:, None].expand(logits.shape[:2])
            costs = F.cross_entropy(at_least_fp32(logits).flatten(0, 1), targets.flatten(), reduction="none")
            return costs.view(targets.shape)

        return self._everywhere(cost, self.targets)

    def mixture(self, weights: Tensor) -> Tensor:
        """log sum_i alpha_i p(. | glimpse at i) for weights (M, L): (M, V)."""

        def mixed(logits: Tensor, weights: Tensor) -> Tensor:
            log_probs = torch.log_softmax(at_least_fp32(logits), -1)
            return torch.logsumexp(log_probs + weights.log()[..., None], 1)

        return self._everywhere(mixed, weights)

    def _everywhere(self, function: Callable[[Tensor, Tensor], Tensor], given: Tensor) -> Tensor:
        """function(logits (m, L, V), given (m, ...)) -> (m, ...), for m words of one image after another."""
        order = torch.argsort(self.image, stable=True)
        counts = torch.bincount(self.image, minlength=len(self.values)).tolist()
        of_word = self.values.shape[1] * self.decoder.logits.out_features
        most, again = max(1, LOGITS // of_word), of_word * len(self.image) > KEPT

        def read(rows: Tensor, values: Tensor) -> Tensor:
            context = values[None] if self.gate is None else self.gate[rows, None] * values
            drop = None if self.drop is None else tuple(one[rows, None] for one in self.drop)
            return function(
                self.decoder.readout(self.words[rows, None], self.hidden[rows, None], context, drop, self.projected),
                given[rows],
            )

        found = []
        for values, of_image in zip(self.values, order.split(counts), strict=True):
            for rows in of_image.split(most) if len(of_image) else ():
                if again:
                    found.append(checkpoint(read, rows, values, use_reentrant=False, preserve_rng_state=False))
                else:
                    found.append(read(rows, values))
        found = found or [read(order, self.values.sum(0))]  # of no words, and with a gradient
        return torch.cat(found)[torch.argsort(order)]


def at_least_fp32(logits: Tensor) -> Tensor:
    """Logits as the softmax wants them: bf16 as fp32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
