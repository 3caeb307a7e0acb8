"""The learned baseline: a network that predicts the cost of the words to come."""

import torch
from torch import Tensor, nn

from attend import config
from attend.captioner.unrolled import Readout

WIDTH = 128
"""Hidden units of each network that is learned beside the model."""


class Critic(nn.Module):
    """C(query, image, t, whole caption): the expected cost in nats per charged word.

    It reads what the model has computed, detached, and no gradient of its own reaches the model. The query is what
    attention was asked with: h_{t-1} of the LSTM.

    Source: Mnih and Gregor (2014), "input-dependent baseline". Differs: its size follows the words to come, and it is
    not divided by a running deviation, which would only rescale the score part.
    """

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(settings.decoder.hidden, WIDTH)
        self.image = nn.Linear(features, WIDTH, bias=False)
        self.caption = nn.Embedding(vocabulary, WIDTH)
        self.place = nn.Linear(2, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, u: Readout) -> Tensor:
        """The level of each word, (N, R, T), with one row for each map of attention."""
        maps = u.maps
        words = maps.spread(maps.targets)
        return self.level(maps.spread(maps.query), maps.memory.features, words, maps.real)

    def level(self, query: Tensor, features: Tensor, words: Tensor, real: Tensor) -> Tensor:
        """query (N, R, T, H), features (N, L, D), words and real (N, R, T) -> (N, R, T)."""
        lengths = real.sum(-1, keepdim=True)
        bag = (self.caption(words) * real[..., None]).sum(2, keepdim=True) / lengths.clamp(min=1)[..., None]
        t = torch.arange(real.shape[-1], device=real.device).expand_as(real)
        place = torch.stack([t, lengths - t], -1).to(query.dtype) / 10
        image = self.image(features.detach().mean(1).to(query.dtype))[:, None, None]
        return self.out(torch.tanh(self.hidden(query.detach()) + image + bag + self.place(place))).squeeze(-1)
