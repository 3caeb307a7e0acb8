"""One step of the decoder, and its readout: the LSTM of Xu et al. (2015) with a gated context and deep output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attend import config
from attend.attention.attention import Memory


class State(NamedTuple):
    """h and c of the LSTM, each (N, R, H)."""

    hidden: Tensor
    cell: Tensor

    def first(self, images: int, rows: int) -> State:
        """The first rows of the first images, by view."""
        return State(self.hidden[:images, :rows], self.cell[:images, :rows])


class Decoder(nn.Module):
    """[E y; beta z; h] -> LSTM -> deep output.

    Embeddings (by default) and LSTM weights start from U(-0.1, 0.1) and gate biases from 0.

    Differs from torch's LSTMCell: one bias instead of two, and the word's part of the four gates is a product of its
    own, so that it runs once over all words of a caption, outside the loop over time.
    """

    def __init__(self, settings: config.Decoder, features: int, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        words, hidden = settings.embedding, settings.hidden
        self.embedding = nn.Embedding(vocabulary, words)
        self.initial_hidden = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        self.initial_cell = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        self.word_gates = nn.Linear(words, 4 * hidden)
        self.context_gates = nn.Linear(features, 4 * hidden, bias=False)
        self.hidden_gates = nn.Linear(hidden, 4 * hidden, bias=False)
        widths = {"none": 0, "scalar": 1, "vector": features}
        self.gate_score = nn.Linear(hidden, widths[settings.gate]) if widths[settings.gate] else None
        self.readout_hidden = nn.Linear(hidden, words) if settings.readout_hidden else None
        self.readout_context = nn.Linear(features, words, bias=False) if settings.readout_context else None
        self.logits = nn.Linear(words, vocabulary)
        nn.init.uniform_(self.embedding.weight, -settings.embedding_range, settings.embedding_range)
        for weight in (self.word_gates, self.context_gates, self.hidden_gates):
            nn.init.uniform_(weight.weight, -0.1, 0.1)
        nn.init.zeros_(self.word_gates.bias)
        self.embedding.weight.requires_grad_(not settings.freeze_embeddings)

    def start(self, memory: Memory, rows: int) -> State:
        """h_0 and c_0, two perceptrons of the mean feature, for R rows of each image by view: (N, R, H)."""
        if memory.mask is None:
            mean = memory.features.mean(1)
        else:
            mean = (memory.features * memory.mask[..., None]).sum(1) / memory.mask.sum(1, keepdim=True)
        spread = (len(mean), rows, self.settings.hidden)
        hidden, cell = self.initial_hidden(mean), self.initial_cell(mean)
        return State(hidden[:, None].expand(spread), cell[:, None].expand(spread))

    def gate(self, hidden: Tensor) -> Tensor | None:
        """beta = sigmoid(w . h_{t-1} + b): (N, R, 1) or (N, R, D); None without a gate."""
        return None if self.gate_score is None else torch.sigmoid(self.gate_score(hidden))

    def step(self, state: State, word_gates: Tensor, context: Tensor) -> State:
        """One LSTM step, from the word's part of the gates (N, R, 4H) and the gated context (N, R, D)."""
        gates = word_gates + self.context_gates(context) + self.hidden_gates(state.hidden)
        enter, forget, leave, write = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * state.cell + torch.sigmoid(enter) * torch.tanh(write)
        return State(torch.sigmoid(leave) * torch.tanh(cell), cell)

    def readout(
        self, words: Tensor, hidden: Tensor, context: Tensor, drop: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Logits L_o tanh(E y + L_h h + L_z beta z): (..., E), (..., H), (..., D) -> (..., V).

        ``drop`` are the dropout factors on h (..., H) and on the tanh (..., E).

        Source: Xu et al. (2015), equation 7. Differs: the tanh, which is the released code's.
        """
        terms = []
        if self.settings.readout_word:
            terms.append(words)
        if self.readout_hidden is not None:
            terms.append(self.readout_hidden(hidden if drop is None else hidden * drop[0]))
        if self.readout_context is not None:
            terms.append(self.readout_context(context))
        deep = torch.tanh(sum(terms))
        return self.logits(deep if drop is None else deep * drop[1])
