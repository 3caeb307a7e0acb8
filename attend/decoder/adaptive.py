"""Adaptive attention: an LSTM that steps first and looks with h_t, and a visual sentinel beside the image."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend.attention.attention import Memory
from attend.attention.select import Policy
from attend.decoder.protocol import Ask, Dropout, Inputs, Places, Word, dropped, mapped, mean_feature, start_embedding


class Adaptive(nn.Module):
    """[E y; v] -> LSTM -> h and the sentinel s = sigmoid(W_x [E y; v] + W_h h_{t-1}) tanh(m_t); readout of h + c.

    v = relu(W_b mean feature), m_t is the cell, and c = beta s + (1 - beta) W z. beta is the share of the sentinel's
    score v_s . tanh(W_s s + W_g h) in the softmax over the learned scores of all locations and its own. An evaluation
    control replaces the weights and leaves beta; without learned scores they are 0. The gate on the context is
    1 - beta. No state depends on a glimpse.

    Source: Lu et al. (2017), sections 2.2 and 2.3. Differs: the score of the sentinel has its own W_g and v_s; the
    features enter by a linear map, without their relu; beta is a share of a softmax at temperature 1, whatever the
    simplex and temperature of the weights; with hard attention the glimpse is one of the L locations, never the
    sentinel, and beta stays an average.
    """

    at_once = (Policy,)
    steady = True
    reads_scores = True

    def __init__(
        self, features: int, vocabulary: int, embedding: int = 512, hidden: int = 512, *, embedding_range: float = 0.1
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.image = nn.Linear(features, hidden)
        self.lstm = nn.LSTM(embedding + hidden, hidden, batch_first=True)
        self.sentinel_word = nn.Linear(embedding, hidden)
        self.sentinel_image = nn.Linear(hidden, hidden, bias=False)
        self.sentinel_hidden = nn.Linear(hidden, hidden, bias=False)
        self.sentinel_score = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
        self.context = nn.Linear(features, hidden, bias=False)
        self.logits = nn.Linear(hidden, vocabulary)
        start_embedding(self.embedding, embedding_range)

    def memory(self, memory: Memory, words: int = 0, *, readout: bool = False) -> Memory:
        """W a_i (N, L, H) as values, if that is less work."""
        return mapped(memory, self.context.weight, words, readout=readout)

    def inputs(self, words: Tensor, place: Tensor, drop: Dropout | None = None) -> Inputs:
        """E y (M, E), and its part of the LSTM's gates and of the sentinel's (M, 5H)."""
        drop = drop or Dropout()
        embedded = dropped(self.embedding(words), drop.words)
        weight = self.lstm.weight_ih_l0[:, : embedded.shape[-1]]
        gates = F.linear(embedded, weight, self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0)
        return Inputs(embedded, torch.cat([gates, self.sentinel_word(embedded)], -1), drop.hidden, drop.deep)

    def start(self, memory: Memory, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """h_0 = 0 and m_0 = 0 (N, R, H), and the image's part of all gates (N, R, 5H)."""
        none = memory.features.new_zeros(len(memory.features), rows, self.hidden)
        return none, none, self._image_gates(self._image(memory))[:, None].expand(-1, rows, -1)

    def step(self, state: tuple, drive: Tensor, look: Ask) -> tuple[tuple, Word]:
        """One LSTM step on the word, the image and h_{t-1}, and the sentinel. Then it looks."""
        hidden, cell, image = state
        gates, sentinel = (drive + image).split([4 * self.hidden, self.hidden], dim=-1)
        enter, forget, write, leave = (gates + F.linear(hidden, self.lstm.weight_hh_l0)).chunk(4, dim=-1)
        shown = torch.sigmoid(sentinel + self.sentinel_hidden(hidden))
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(write)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        return (hidden, cell, image), self.word((hidden, shown * torch.tanh(cell)), look)

    def states(self, memory: Memory, inputs: Inputs, places: Places, look: Ask) -> tuple[Tensor, Tensor]:
        """h and the sentinel s of all words (N, C, T, H) by the library's LSTM, which keeps no cell but the last.

        Since h = sigmoid(o) tanh(m), the sentinel sigmoid(g) tanh(m) is h sigmoid(g) / sigmoid(o).
        """
        words, drive = places.unpack(inputs.words), places.unpack(inputs.drive)
        image = self._image(memory)
        read = torch.cat([words, image[:, None, None].expand(*words.shape[:3], -1)], -1)
        hidden = self.lstm(read.flatten(0, 1))[0].view(*words.shape[:3], -1)
        before = F.pad(hidden, (0, 0, 1, -1))
        both = (drive + self._image_gates(image)[:, None, None])[..., 3 * self.hidden :]
        weight = torch.cat([self.lstm.weight_hh_l0[3 * self.hidden :], self.sentinel_hidden.weight])
        leave, shown = F.logsigmoid(both + F.linear(before, weight)).chunk(2, dim=-1)
        return hidden, hidden * (shown - leave).clamp(max=60).exp()  # or 0 times infinity

    def word(self, state: tuple[Tensor, Tensor], look: Ask) -> Word:
        """What the readout reads: h + beta s, and (1 - beta) z."""
        hidden, sentinel = state
        found = look(hidden)
        score = self.sentinel_score(torch.cat([sentinel, hidden], -1))
        if found.scores is None:
            others = math.log(found.weights.shape[-1])
        else:
            others = torch.logsumexp(found.scores, -1, keepdim=True)
        beta = torch.sigmoid(score - others)
        return Word(hidden + beta * sentinel, (1 - beta) * found.context, 1 - beta, found)

    def readout(self, inputs: Inputs, hidden: Tensor, context: Tensor, projected: bool = False) -> Tensor:
        """Logits L_o (h + beta s + (1 - beta) W z): (..., H), (..., D) -> (..., V). The words are not read again."""
        seen = hidden + (context if projected else self.context(context))
        return self.logits(dropped(seen, inputs.drop_hidden))

    def _image(self, memory: Memory) -> Tensor:
        """v (N, H)."""
        return F.relu(self.image(mean_feature(memory)))

    def _image_gates(self, image: Tensor) -> Tensor:
        """The image's part of all gates, (N, 5H)."""
        weight = self.lstm.weight_ih_l0[:, -self.hidden :]
        return torch.cat([F.linear(image, weight), self.sentinel_image(image)], -1)
