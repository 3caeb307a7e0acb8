"""The words of a pass once more, each on its own: with other weights, at the state it was said from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from attend.attention.attention import Memory
from attend.captioner.readings import Readings, at_least_fp32
from attend.decoder.gru import ResidualGRU
from attend.decoder.lstm import LSTM
from attend.decoder.protocol import Drop, State


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What the R rows of a pass were said from.

    asked (N, R, T, H) and cells (or None), the states before each word; live (T, N, R) marks the M real words; word
    gates, words (M, E), dropout factors and targets (M,) in time-major order. ``readings`` stands for all these where
    the state is fed the expected context. places are the numbers drawn for every location.
    """

    decoder: LSTM | ResidualGRU
    memory: Memory
    asked: Tensor
    cells: Tensor | None
    live: Tensor
    word_gates: Tensor
    words: Tensor
    drop: Drop | None
    targets: Tensor
    places: Tensor | None = None
    readings: Readings | None = None

    @property
    def said(self) -> Tensor:
        """The words to be said, (N, R, T), 0 at padding."""
        return self.targets.new_zeros(self.live.shape).masked_scatter(self.live, self.targets).permute(1, 2, 0)

    def costs(self, weights: Tensor) -> Tensor:
        """-log p(y) of each word alone under weights (N, R, T, L), all before it as it was: (N, R, T), 0 at padding.

        Where the state is fed the expected context R may be K times as many rows, the samples of a caption.
        """
        values = self.memory.values if self.readings is None else self.readings.values
        context = (weights.flatten(1, 2).to(values.dtype) @ values).unflatten(1, weights.shape[1:3]).permute(2, 0, 1, 3)
        samples = weights.shape[1] // self.asked.shape[1]
        live = self.live.repeat_interleave(samples, 2)
        if self.readings is not None:
            logits, targets = self.readings.logits(context[live], samples), self.targets.repeat_interleave(samples)
        else:
            logits, targets = self._logits(context[live]), self.targets
        costs = F.cross_entropy(at_least_fp32(logits), targets, reduction="none")
        return costs.new_zeros(live.shape).masked_scatter(live, costs).permute(1, 2, 0)

    def _logits(self, context: Tensor) -> Tensor:
        """Of contexts (M, D): one step of the decoder for all words at once."""
        state = State(
            *(None if one is None else one.permute(2, 0, 1, 3)[self.live] for one in (self.asked, self.cells))
        )
        if not self.decoder.looks_first:
            state = self.decoder.step(state, self.word_gates)
        gate = self.decoder.gate(state.hidden)
        gates, context = self.decoder.read(context if gate is None else gate * context, self.memory.projected)
        if self.decoder.looks_first:
            state = self.decoder.step(state, self.word_gates, gates)
        return self.decoder.readout(self.words, state.hidden, context, self.drop, self.memory.projected)
