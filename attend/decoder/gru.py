"""The residual GRU: it steps first and looks with h_t, and its state never reads the image."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from attend.attention.attention import Memory
from attend.attention.select import Policy
from attend.decoder.protocol import Ask, Dropout, Inputs, Places, Word, dropped, mapped, start_embedding


class ResidualGRU(nn.Module):
    """E y -> GRU -> h, which asks; then the readout of LayerNorm(h + W z). h_0 is zero, and there is no gate.

    Source: the arrangement of popular tutorials since 2022. Differs from their Keras: LayerNorm adds 1e-5 to the
    variance (1e-3 there), scores are W a_i . U h / sqrt(width) (a_i . h there), and weights start as torch's GRUCell.
    """

    at_once = (Policy,)
    steady = True

    def __init__(
        self, features: int, vocabulary: int, embedding: int = 512, hidden: int = 512, *, embedding_range: float = 0.1
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.word_gates = nn.Linear(embedding, 3 * hidden)
        self.hidden_gates = nn.Linear(hidden, 3 * hidden)
        self.context = nn.Linear(features, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.logits = nn.Linear(hidden, vocabulary)
        start_embedding(self.embedding, embedding_range)
        for weight in (*self.word_gates.parameters(), *self.hidden_gates.parameters()):
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def memory(self, memory: Memory, words: int = 0, *, readout: bool = False) -> Memory:
        """W a_i (N, L, H) as values, if that is less work."""
        return mapped(memory, self.context.weight, words, readout=readout)

    def inputs(self, words: Tensor, place: Tensor, drop: Dropout | None = None) -> Inputs:
        """E y (M, E) and its part of the three gates (M, 3H)."""
        drop = drop or Dropout()
        embedded = dropped(self.embedding(words), drop.words)
        return Inputs(embedded, self.word_gates(embedded), drop.hidden, drop.deep)

    def start(self, memory: Memory, rows: int) -> tuple[Tensor]:
        """h_0 = 0 for R rows of each image: (N, R, H)."""
        return (memory.features.new_zeros(len(memory.features), rows, self.hidden),)

    def step(self, state: tuple, drive: Tensor, look: Ask) -> tuple[tuple, Word]:
        """One GRU step with the word's part of the gates (N, R, 3H): reset, update and new state. Then it looks."""
        (hidden,) = state
        reset, update, new = drive.chunk(3, dim=-1)
        old_reset, old_update, old_new = self.hidden_gates(hidden).chunk(3, dim=-1)
        keep = torch.sigmoid(update + old_update)
        written = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
        hidden = (1 - keep) * written + keep * hidden
        return (hidden,), self.word(hidden, look)

    def states(self, memory: Memory, inputs: Inputs, places: Places, look: Ask) -> Tensor:
        """h_1 .. h_T of given captions by the library's GRU: (N, C, T, H)."""
        words, ours = places.sequences(inputs.words)
        weights = [*self.word_gates.parameters(), *self.hidden_gates.parameters()]
        weights = [weights[0], weights[2], weights[1], weights[3]]
        options = (weights, True, 1, 0.0, self.training, False)  # biases, one layer, no dropout, one direction
        if isinstance(words, PackedSequence):
            start = words.data.new_zeros(1, int(words.batch_sizes[0]), self.hidden)
            states = torch.gru(words.data, words.batch_sizes, start, *options)[0].index_select(0, ours)
        else:
            states = torch.gru(words, words.new_zeros(1, words.shape[1], self.hidden), *options, False)[0].flatten(0, 1)
        return places.unpack(states)

    def word(self, state: Tensor, look: Ask) -> Word:
        """The readout reads h and z, which h asks for."""
        found = look(state)
        return Word(state, found.context, None, found)

    def readout(self, inputs: Inputs, hidden: Tensor, context: Tensor, projected: bool = False) -> Tensor:
        """Logits L_o LayerNorm(h + W z): (..., H), (..., D) -> (..., V). The words are not read again."""
        seen = self.norm(hidden + (context + self.context.bias if projected else self.context(context)))
        return self.logits(dropped(seen, inputs.drop_hidden))
