"""The variational estimator: glimpses are drawn from a network q that has read the whole caption."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attend import config
from attend.attention.select import At, Sample
from attend.captioner.captioner import Captioner
from attend.captioner.layout import Layout
from attend.captioner.unrolled import Readout
from attend.estimators.critic import WIDTH
from attend.estimators.noise import Noise
from attend.estimators.paths import Charges, Paths
from attend.estimators.take import Given


class Inference(nn.Module):
    """q(s_t | s_<t, caption, image): attention that has read the whole caption.

    q = softmax(k_i . (U b_t + V h) / sqrt(A)) with keys k = W a, a bidirectional GRU's b_t over the caption, and the
    query h, which knows s_<t if the state reads the glimpses. No gradient reaches features or query.

    Source: Deng et al. (2018), section 4.2.
    """

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.read = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.key = nn.Linear(features, WIDTH, bias=False)
        self.caption = nn.Linear(2 * WIDTH, WIDTH)
        self.hidden = nn.Linear(settings.decoder.hidden, WIDTH, bias=False)

    def forward(self, given: Given, samples: int) -> Proposal:
        """q for given captions, each in so many rows."""
        layout = Layout.of(given.lengths, given.words.shape[2], device=given.words.device)
        keys = self.key(given.features.detach())
        read = keys.new_zeros(*given.words.shape, 2 * WIDTH)
        if layout.words:
            packed, ours = layout.sequences(self.embedding(layout.pack(given.words)))
            read = layout.unpack(self.read(packed)[0].data.index_select(0, ours))
        return Proposal(keys, self.caption(read).repeat_interleave(samples, 1), self.hidden)


class Proposal:
    """q for the queries (n, r, H) of a step: (n, r, L). ``asked`` (N, R, T, A) is what the caption adds to a query."""

    def __init__(self, keys: Tensor, asked: Tensor, hidden: nn.Module) -> None:
        self.keys, self.asked, self.hidden = keys, asked, hidden

    def __call__(self, query: Tensor, at: At) -> Tensor:
        query = at.cut(self.asked) + self.hidden(query.detach())
        return torch.softmax(query @ self.keys[: len(query)].transpose(1, 2) / WIDTH**0.5, -1)


def from_proposal(
    captioner: Captioner, given: Given, noise: Noise, settings: config.Config, learned: Inference
) -> Readout:
    """One sample per path, drawn from q."""
    policy = Sample(noise.glimpse, noise.mixed, learned(given, settings.samples))
    return given.unroll(captioner, policy, settings.samples, noise)


def divergence(paths: Paths, charges: Charges, settings: config.Estimator) -> dict[str, Tensor]:
    """KL(q || alpha) of the captions: the mean over their paths."""
    return {"kl": paths.kl.mean(-2).sum()}
