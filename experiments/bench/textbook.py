"""The captioner as popular tutorials arrange it, for `attend bench` to compare with: the same equations, one by one.

The features are repeated for every caption, the keys projected again at every word, an LSTMCell reads word and context
together, the readout runs at every word, the batch shrinks as captions end, and beam search takes one image at a time.
It has the weights of a captioner of ours, so that both must find the same loss and the same captions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend.captioner.captioner import Captioner
from attend.captioner.search import NEVER
from attend.config import Config
from attend.data.text import END, SPECIALS, START

GATES = (0, 1, 3, 2)
"""Our order of an LSTM's gates (enter, forget, leave, write) -> torch's."""


class Textbook(nn.Module):
    """Soft or hard attention over features (B, L, D), with a scalar gate and a deep output."""

    def __init__(self, ours: Captioner, settings: Config) -> None:
        super().__init__()
        decoder, score = ours.decoder, ours.attention.score
        features, hidden = decoder.context_gates.in_features, settings.decoder.hidden
        words, width = settings.decoder.embedding, settings.attention.width
        self.hard, self.probability = settings.attention.hard, settings.decoder.dropout
        self.features_attention = nn.Linear(features, width, bias=False)
        self.hidden_attention = nn.Linear(hidden, width)
        self.full_attention = nn.Linear(width, 1, bias=False)
        self.embedding = nn.Embedding(decoder.embedding.num_embeddings, words)
        self.initial_hidden, self.initial_cell = nn.Linear(features, hidden), nn.Linear(features, hidden)
        self.gate = nn.Linear(hidden, 1)
        self.cell = nn.LSTMCell(words + features, hidden)
        self.from_hidden, self.from_context = nn.Linear(hidden, words), nn.Linear(features, words, bias=False)
        self.logits = nn.Linear(words, decoder.embedding.num_embeddings)
        with torch.no_grad():
            for mine, its in (
                (self.features_attention, score.key), (self.hidden_attention, score.query),
                (self.embedding, decoder.embedding), (self.initial_hidden, decoder.initial_hidden[0]),
                (self.initial_cell, decoder.initial_cell[0]), (self.gate, decoder.gate_score),
                (self.from_hidden, decoder.readout_hidden), (self.from_context, decoder.readout_context),
                (self.logits, decoder.logits),
            ):  # fmt: skip
                mine.load_state_dict(its.state_dict())
            self.full_attention.weight.copy_(score.vector[None])
            read = torch.cat([decoder.word_gates.weight, decoder.context_gates.weight], dim=1)
            for mine, its in (
                (self.cell.weight_ih, read), (self.cell.weight_hh, decoder.hidden_gates.weight),
                (self.cell.bias_ih, decoder.word_gates.bias), (self.cell.bias_hh, torch.zeros(4 * hidden)),
            ):  # fmt: skip
                mine.copy_(torch.cat([its.chunk(4)[gate] for gate in GATES]))

    def attend(self, features: Tensor, hidden: Tensor) -> Tensor:
        """alpha (B, L)."""
        units = torch.tanh(self.features_attention(features) + self.hidden_attention(hidden)[:, None])
        return torch.softmax(self.full_attention(units).squeeze(2), dim=1)

    def start(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mean = features.mean(1)
        return torch.tanh(self.initial_hidden(mean)), torch.tanh(self.initial_cell(mean))

    def step(
        self, features: Tensor, embedded: Tensor, hidden: Tensor, cell: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Logits (B, V), the next state, alpha (B, L) and, hard, log alpha(s) (B,): ``noise`` (B,) picks the sample."""
        alpha, log_prob = self.attend(features, hidden), None
        if noise is None:
            context = (features * alpha[..., None]).sum(1)
        else:
            glimpse = (alpha.detach().cumsum(1) <= noise[:, None]).sum(1).clamp(max=alpha.shape[1] - 1)
            context = features[torch.arange(len(features)), glimpse]
            log_prob = alpha[torch.arange(len(features)), glimpse].log()
        context = torch.sigmoid(self.gate(hidden)) * context
        hidden, cell = self.cell(torch.cat([embedded, context], dim=1), (hidden, cell))
        dropped = F.dropout(hidden, self.probability, self.training)
        deep = torch.tanh(embedded + self.from_hidden(dropped) + self.from_context(context))
        return self.logits(F.dropout(deep, self.probability, self.training)), hidden, cell, alpha, log_prob

    def loss(self, features: Tensor, captions: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
        """Mean cost of a word plus the doubly stochastic penalty (soft) or the score part of REINFORCE (hard).

        features (N, L, D) of N images, captions (N, C, T) with the end mark, lengths (N, C), noise (N, C, T).
        """
        each = captions.shape[1]
        lengths, order = lengths.flatten().sort(descending=True)
        features = features[:, None].expand(-1, each, -1, -1).flatten(0, 1)[order]
        captions = captions.flatten(0, 1)[order]
        noise = None if noise is None else noise.flatten(0, 1)[order]
        spoken = F.pad(captions[:, :-1], (1, 0), value=SPECIALS.index(START))
        embedded = self.embedding(spoken)
        hidden, cell = self.start(features)
        longest = int(lengths[0])
        logits = features.new_zeros(len(captions), longest, self.logits.out_features)
        alphas = features.new_zeros(len(captions), longest, features.shape[1])
        log_probs = features.new_zeros(len(captions), longest)
        for t in range(longest):
            live = int((lengths > t).sum())
            said, hidden, cell, alpha, log_prob = self.step(
                features[:live], embedded[:live, t], hidden[:live], cell[:live],
                None if noise is None else noise[:live, t],
            )  # fmt: skip
            logits[:live, t], alphas[:live, t] = said, alpha
            if log_prob is not None:
                log_probs[:live, t] = log_prob
        real = (torch.arange(longest) < lengths[:, None].cpu()).to(features.device)
        costs = features.new_zeros(real.shape)
        costs[real] = F.cross_entropy(logits[real], captions[:, :longest][real], reduction="none")
        words = real.sum()
        if noise is None:
            return costs.sum() / words + ((1 - alphas.sum(1)) ** 2).sum() / words
        to_go = costs.detach().flip(1).cumsum(1).flip(1)
        return costs.sum() / words + (to_go * log_probs).sum() / words

    @torch.no_grad()
    def beam_search(self, features: Tensor, beam: int, longest: int) -> list[list[int]]:
        """The words of the best hypothesis of each image by log p / length, images one after another."""
        return [self._search(image[None], beam, longest) for image in features]

    def _search(self, features: Tensor, beam: int, longest: int) -> list[int]:
        end, vocabulary = SPECIALS.index(END), self.logits.out_features
        hidden, cell = self.start(features)
        words, total = [[SPECIALS.index(START)]], features.new_zeros(1)
        best: tuple[float, list[int]] = (-torch.inf, [])
        for t in range(1, longest + 1):
            repeated = features.expand(len(words), -1, -1)
            embedded = self.embedding(torch.tensor([said[-1] for said in words], device=features.device))
            logits, hidden, cell, _, _ = self.step(repeated, embedded, hidden, cell)
            log_probs = torch.log_softmax(logits, dim=1)
            log_probs[:, NEVER] = -torch.inf
            scores = (total[:, None] + log_probs).flatten()
            top, index = scores.topk(min(beam, len(scores)))
            parents, following = index // vocabulary, index % vocabulary
            words = [[*words[p], w] for p, w in zip(parents.tolist(), following.tolist(), strict=True)]
            ended = following == end
            for said, score, over in zip(words, (top / t).tolist(), ended.tolist(), strict=True):
                if (over or t == longest) and score > best[0]:
                    best = (score, said[1:])
            going = ~ended
            if not going.any():
                break
            words = [said for said, goes in zip(words, going.tolist(), strict=True) if goes]
            beam -= int(ended.sum())
            total, hidden, cell = top[going], hidden[parents][going], cell[parents][going]
        return best[1]
