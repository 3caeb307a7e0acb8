"""The residual GRU: it steps first and looks after its step, and its state never sees the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.attention.attention import Memory
from attend.decoder.protocol import Drop, State, start_embedding


class ResidualGRU(nn.Module):
    """E y -> GRU -> h, which asks; then the readout of LayerNorm(h + W z). The state never sees the image.

    The word's part of the three gates runs once over all words, as in the LSTM; h_0 is zero and there is no gate.

    Source: the arrangement of popular tutorials since 2022. Weights start as in torch's GRUCell.
    """

    looks_first = False

    def __init__(self, settings: config.Decoder, features: int, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        words, hidden = settings.embedding, settings.hidden
        self.embedding = nn.Embedding(vocabulary, words)
        self.word_gates = nn.Linear(words, 3 * hidden)
        self.hidden_gates = nn.Linear(hidden, 3 * hidden)
        self.context = nn.Linear(features, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.logits = nn.Linear(hidden, vocabulary)
        start_embedding(self.embedding, settings)
        for weight in (*self.word_gates.parameters(), *self.hidden_gates.parameters()):
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def start(self, memory: Memory, rows: int) -> State:
        """h_0 = 0 for R rows of each image: (N, R, H)."""
        return State(memory.features.new_zeros(len(memory.features), rows, self.settings.hidden))

    def gate(self, hidden: Tensor) -> None:
        """There is none."""

    def project(self, features: Tensor) -> Tensor:
        """W times the features (N, L, D) instead of a context: (N, L, H)."""
        return F.linear(features, self.context.weight)

    def read(self, context: Tensor, projected: bool) -> tuple[None, Tensor]:
        """The gates see nothing of it, the readout all."""
        return None, context

    def shown(self, memory: Memory) -> tuple[Tensor, bool]:
        """W times the features (N, L, H), and True."""
        return memory.values if memory.projected else self.project(memory.values), True

    def step(self, state: State, word_gates: Tensor, context_gates: None = None) -> State:
        """One GRU step, from the word's part of the gates (N, R, 3H): reset, update and new state."""
        reset, update, new = word_gates.chunk(3, dim=-1)
        old_reset, old_update, old_new = self.hidden_gates(state.hidden).chunk(3, dim=-1)
        keep = torch.sigmoid(update + old_update)
        written = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
        return State((1 - keep) * written + keep * state.hidden)

    def readout(
        self, words: Tensor, hidden: Tensor, context: Tensor, drop: Drop | None = None, projected: bool = False
    ) -> Tensor:
        """Logits L_o LayerNorm(h + W z): (..., H), (..., D) -> (..., V); the words (..., E) are not read again."""
        seen = self.norm(hidden + (context + self.context.bias if projected else self.context(context)))
        return self.logits(seen if drop is None else seen * drop[0])
