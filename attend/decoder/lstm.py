"""The LSTM of Xu et al. (2015): it looks with h_{t-1}, then steps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend import kernels
from attend.attention.attention import Memory, projected
from attend.decoder.protocol import (
    Ask,
    Dropout,
    Inputs,
    Word,
    cheaper_per_location,
    dropped,
    mean_feature,
    start_embedding,
)
from attend.kernels.maps import LoopLinear

TERMS = ("word", "hidden", "context")
"""What the deep output may read."""


class LSTM(nn.Module):
    """[E y; beta z; h] -> LSTM -> readout. Attention is asked with h_{t-1}, and the LSTM reads the context.

    Embeddings (by default) and LSTM weights start from U(-0.1, 0.1) and gate biases from 0.

    Args:
        features: D.
        vocabulary: V.
        embedding: E.
        hidden: H.
        gate: of the context: "none", one number per word ("scalar") or one per feature ("vector").
        readout: the terms of the deep output, some of TERMS; none is a linear map of the state.
        initial: h_0 and c_0 are a perceptron of the mean feature ("tanh"), a linear map of it ("linear"), or 0
            ("zeros"): all that is known of the image then comes through attention.
        embedding_range: r of U(-r, r).

    Source: Xu et al. (2015), section 3.1.2. Differs from torch's LSTMCell: one bias instead of two, and the word's
    part of the four gates is a product of its own, so that it runs once over all words of a caption, outside the loop
    over time.
    """

    at_once = ()
    steady = True

    def __init__(
        self,
        features: int,
        vocabulary: int,
        embedding: int = 512,
        hidden: int = 512,
        *,
        gate: str = "scalar",
        readout: Sequence[str] = TERMS,
        initial: str = "tanh",
        embedding_range: float = 0.1,
    ) -> None:
        super().__init__()
        self.hidden, self.gate_kind, self.terms = hidden, gate, tuple(readout)
        self.embedding = nn.Embedding(vocabulary, embedding)
        bend = nn.Tanh if initial == "tanh" else nn.Identity
        seen = initial != "zeros"
        self.initial_hidden = nn.Sequential(nn.Linear(features, hidden), bend()) if seen else None
        self.initial_cell = nn.Sequential(nn.Linear(features, hidden), bend()) if seen else None
        self.word_gates = nn.Linear(embedding, 4 * hidden)
        self.context_gates = LoopLinear(features, 4 * hidden, bias=False)
        self.hidden_gates = LoopLinear(hidden, 4 * hidden, bias=False)
        width = {"none": 0, "scalar": 1, "vector": features}[gate]
        self.gate_score = LoopLinear(hidden, width) if width else None
        self.readout_hidden = nn.Linear(hidden, embedding) if "hidden" in readout else None
        self.readout_context = nn.Linear(features, embedding, bias=False) if "context" in readout else None
        self.logits = nn.Linear(embedding if readout else hidden, vocabulary)
        start_embedding(self.embedding, embedding_range)
        for weight in (self.word_gates, self.context_gates, self.hidden_gates):
            nn.init.uniform_(weight.weight, -0.1, 0.1)
        nn.init.zeros_(self.word_gates.bias)

    def memory(self, memory: Memory, words: int = 0, *, readout: bool = False) -> Memory:
        """Values that are multiplied with the context matrices already, (N, L, 4H + E), where that is less work.

        A gate that is one number per word, and a mean under weights, commute with the map;
        a vector gate does not. Several heads have projected values already.
        """
        if readout:
            return self._for_readout(memory)
        several_heads = memory.values is not memory.features
        if self.gate_kind == "vector" or several_heads or not cheaper_per_location(memory, words):
            return memory
        maps = [self.context_gates, self.readout_context] if self.readout_context else [self.context_gates]
        return projected(memory, F.linear(memory.features, torch.cat([one.weight for one in maps])))

    def _for_readout(self, memory: Memory) -> Memory:
        if memory.projected:
            return projected(memory, memory.values[..., 4 * self.hidden :])
        return memory if self.gate_kind == "vector" else projected(memory, self.readout_context(memory.values))

    def inputs(self, words: Tensor, place: Tensor, drop: Dropout | None = None) -> Inputs:
        """E y (M, E) and its part of the four gates (M, 4H)."""
        drop = drop or Dropout()
        embedded = dropped(self.embedding(words), drop.words)
        return Inputs(embedded, self.word_gates(embedded), drop.hidden, drop.deep)

    def start(self, memory: Memory, rows: int) -> tuple[Tensor, Tensor]:
        """h_0 and c_0, two maps of the mean feature or 0, for R rows of each image by view: (N, R, H)."""
        if self.initial_hidden is None:
            hidden = cell = memory.features.new_zeros(len(memory.features), self.hidden)
        else:
            mean = mean_feature(memory)
            hidden, cell = self.initial_hidden(mean), self.initial_cell(mean)
        return hidden[:, None].expand(-1, rows, -1), cell[:, None].expand(-1, rows, -1)

    def step(self, state: tuple, drive: Tensor, look: Ask) -> tuple[tuple, Word]:
        """beta = sigmoid(w . h_{t-1} + b), then one LSTM step on the word, the gated context and h_{t-1}."""
        hidden, cell = state
        found = look(hidden)
        gate = None if self.gate_score is None else torch.sigmoid(self.gate_score(hidden))
        context = found.context if gate is None else gate * found.context
        if look.projected:
            gates, context = context.split([4 * self.hidden, context.shape[-1] - 4 * self.hidden], dim=-1)
            context = context.contiguous()  # a view would keep the gates' part until the readout
        else:
            gates = self.context_gates(context)
        hidden, cell = self.cell(self.hidden_gates(hidden, drive + gates), cell)
        return (hidden, cell), Word(hidden, context, gate, found)

    @staticmethod
    def cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """h_t = sigmoid(o) tanh(c_t), c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g), of the four gates (..., 4H) in the
        order i, f, o, g. On CUDA it is one kernel (``attend.kernels.lstm``)."""
        if kernels.run_on(gates):
            from attend.kernels.lstm import lstm_cell  # it needs Triton

            return lstm_cell(gates, cell)
        open_, write = gates.split([3 * cell.shape[-1], cell.shape[-1]], dim=-1)
        enter, forget, leave = torch.sigmoid(open_).chunk(3, dim=-1)
        cell = torch.addcmul(forget * cell, enter, torch.tanh(write))
        return leave * torch.tanh(cell), cell

    def readout(self, inputs: Inputs, hidden: Tensor, context: Tensor, projected: bool = False) -> Tensor:
        """Logits L_o tanh(E y + L_h h + L_z beta z), or L_o h: (..., H), (..., D) -> (..., V).

        With ``projected`` the context is L_z beta z already.

        Source: Xu et al. (2015), equation 7. Differs: the tanh, which is the released code's.
        """
        hidden = dropped(hidden, inputs.drop_hidden)
        if not self.terms:
            return self.logits(hidden)
        terms = [inputs.words] if "word" in self.terms else []
        if self.readout_hidden is not None:
            terms.append(self.readout_hidden(hidden))
        if self.readout_context is not None:
            terms.append(context if projected else self.readout_context(context))
        return self.logits(dropped(torch.tanh(sum(terms)), inputs.drop_deep))
