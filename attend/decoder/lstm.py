"""One step of the decoder, and its readout: the LSTM of Xu et al. (2015), and a GRU that looks after its step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.attention.attention import Memory
from attend.decoder.protocol import Drop, State, start_embedding


class LSTM(nn.Module):
    """[E y; beta z; h] -> LSTM -> readout. Attention asks with h_{t-1}, and the LSTM reads what it finds.

    Embeddings (by default) and LSTM weights start from U(-0.1, 0.1) and gate biases from 0.

    Source: Xu et al. (2015), section 3.1.2. Differs from torch's LSTMCell: one bias instead of two, and the word's
    part of the four gates is a product of its own, so that it runs once over all words of a caption, outside the loop
    over time.
    """

    looks_first = True

    def __init__(self, settings: config.Decoder, features: int, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        words, hidden = settings.embedding, settings.hidden
        deep = settings.readout == "deep"
        self.embedding = nn.Embedding(vocabulary, words)
        self.initial_hidden = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        self.initial_cell = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        self.word_gates = nn.Linear(words, 4 * hidden)
        self.context_gates = nn.Linear(features, 4 * hidden, bias=False)
        self.hidden_gates = nn.Linear(hidden, 4 * hidden, bias=False)
        widths = {"none": 0, "scalar": 1, "vector": features}
        self.gate_score = nn.Linear(hidden, widths[settings.gate]) if widths[settings.gate] else None
        self.readout_hidden = nn.Linear(hidden, words) if deep and settings.readout_hidden else None
        self.readout_context = nn.Linear(features, words, bias=False) if deep and settings.readout_context else None
        self.logits = nn.Linear(words if deep else hidden, vocabulary)
        start_embedding(self.embedding, settings)
        for weight in (self.word_gates, self.context_gates, self.hidden_gates):
            nn.init.uniform_(weight.weight, -0.1, 0.1)
        nn.init.zeros_(self.word_gates.bias)

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

    def project(self, features: Tensor) -> Tensor | None:
        """All that a context is multiplied with, times the features (N, L, D) instead: (N, L, 4H + E) or (N, L, 4H).

        A gate that is one number a word, and a mean under weights, change nothing in that; a vector gate does (None).
        """
        if self.settings.gate == "vector":
            return None
        maps = [self.context_gates, self.readout_context] if self.readout_context else [self.context_gates]
        return F.linear(features, torch.cat([one.weight for one in maps]))

    def read(self, context: Tensor, projected: bool) -> tuple[Tensor, Tensor]:
        """Of a context (N, R, D), or what ``project`` made of it: its part of the gates, and what the readout wants."""
        if projected:
            gates = 4 * self.settings.hidden
            return context.split([gates, context.shape[-1] - gates], dim=-1)
        return self.context_gates(context), context

    def shown(self, memory: Memory) -> tuple[Tensor, bool]:
        """What the readout wants of each location (N, L, E), and True; with a vector gate the values, and False."""
        if memory.projected:
            return memory.values[..., 4 * self.settings.hidden :], True
        if self.settings.gate == "vector":
            return memory.values, False
        return self.readout_context(memory.values), True

    def step(self, state: State, word_gates: Tensor, context_gates: Tensor) -> State:
        """One LSTM step, from the word's and the gated context's parts of the gates, both (N, R, 4H)."""
        gates = word_gates + context_gates + self.hidden_gates(state.hidden)
        enter, forget, leave, write = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * state.cell + torch.sigmoid(enter) * torch.tanh(write)
        return State(torch.sigmoid(leave) * torch.tanh(cell), cell)

    def readout(
        self, words: Tensor, hidden: Tensor, context: Tensor, drop: Drop | None = None, projected: bool = False
    ) -> Tensor:
        """Logits L_o tanh(E y + L_h h + L_z beta z), or L_o h: (..., E), (..., H), (..., D) -> (..., V).

        Where the features were ``projected``, the context is L_z beta z already.

        Source: Xu et al. (2015), equation 7. Differs: the tanh, which is the released code's.
        """
        hidden = hidden if drop is None else hidden * drop[0]
        if self.settings.readout == "linear":
            return self.logits(hidden)
        terms = []
        if self.settings.readout_word:
            terms.append(words)
        if self.readout_hidden is not None:
            terms.append(self.readout_hidden(hidden))
        if self.readout_context is not None:
            terms.append(context if projected else self.readout_context(context))
        deep = torch.tanh(sum(terms))
        return self.logits(deep if drop is None else deep * drop[1])
