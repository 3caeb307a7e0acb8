"""What some estimators learn beside the model: a baseline, an inference network, a control variate.

They read what the model has computed, detached, and no gradient of theirs reaches it. All are in (N, R, T, ...) of N
images, R rows and T words.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attend import config

WIDTH = 128
"""Hidden units of each."""


class Critic(nn.Module):
    """C(h_{t-1}, image, t, whole caption): the cost that is to be expected, in nats a word that is charged.

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

    def forward(self, hidden: Tensor, features: Tensor, words: Tensor, real: Tensor) -> Tensor:
        """hidden (N, R, T, H) that attention asked with, features (N, L, D), words and real (N, R, T) -> (N, R, T)."""
        lengths = real.sum(-1, keepdim=True)
        bag = (self.caption(words) * real[..., None]).sum(2, keepdim=True) / lengths.clamp(min=1)[..., None]
        t = torch.arange(real.shape[-1], device=real.device).expand_as(real)
        place = torch.stack([t, lengths - t], -1).to(hidden.dtype) / 10
        image = self.image(features.detach().mean(1).to(hidden.dtype))[:, None, None]
        return self.out(torch.tanh(self.hidden(hidden.detach()) + image + bag + self.place(place))).squeeze(-1)


class Inference(nn.Module):
    """q(s_t | s_<t, caption, image): attention that has read the whole caption, for the variational estimator.

    q = softmax(k_i . (U b_t + V h_{t-1}) / sqrt(A)) with keys k = W a, a bidirectional GRU's b_t over the caption, and
    the state h_{t-1}, which knows s_<t where it reads the glimpses.

    Source: Deng et al. (2018), section 4.2.
    """

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.read = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
        self.key = nn.Linear(features, WIDTH, bias=False)
        self.caption = nn.Linear(2 * WIDTH, WIDTH)
        self.hidden = nn.Linear(settings.decoder.hidden, WIDTH, bias=False)

    def forward(self, features: Tensor, words: Tensor, lengths: Tensor, samples: int) -> Callable[..., Tensor]:
        """What gives q for captions (N, C, T), each in so many rows: states (n, r, H) of word t -> (n, r, L).

        States of all words (N, R, T, H) are answered at once where no t is given.
        """
        keys = self.key(features.detach())
        flat = lengths.flatten().cpu()
        some = flat > 0
        whole = keys.new_zeros(len(flat), words.shape[-1], 2 * WIDTH)
        if some.any():
            said = self.embedding(words.flatten(0, 1)[some])
            packed = pack_padded_sequence(said, flat[some], True, enforce_sorted=False)
            read, _ = pad_packed_sequence(self.read(packed)[0], batch_first=True, total_length=words.shape[-1])
            whole = whole.to(read.dtype)
            whole[some] = read
        asked = self.caption(whole).unflatten(0, words.shape[:2]).repeat_interleave(samples, 1)  # (N, R, T, A)

        def weights(hidden: Tensor, t: int | None = None) -> Tensor:
            n, r = hidden.shape[:2]
            of_caption = asked if t is None else asked[:n, :r, t]
            query = of_caption + self.hidden(hidden.detach())
            scores = query.flatten(1, -2) @ keys[:n].transpose(1, 2) / WIDTH**0.5
            return torch.softmax(scores.view(*query.shape[:-1], keys.shape[1]), -1)

        return weights


class Control(nn.Module):
    """The control variate c_t of REBAR: eta times the word's own cost under a relaxed glimpse; RELAX adds a network.

    Both learn to make the estimate's variance small.

    Source: Tucker et al. (2017); Grathwohl et al. (2018). Differs: c_t is a function of its word's noise and h_{t-1}
    alone, so that it is unbiased where later words depend on the glimpse, and tau_g is not learned.
    """

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.ones(()))
        self.network = None
        if settings.estimator.name == "relax":
            self.network = nn.ModuleDict({
                "context": nn.Linear(features, WIDTH),
                "hidden": nn.Linear(settings.decoder.hidden, WIDTH, bias=False),
                "out": nn.Linear(WIDTH, 1, bias=False),
            })  # fmt: skip
            nn.init.zeros_(self.network["out"].weight)  # it begins as REBAR

    def learned(self, relaxed: Tensor, features: Tensor, hidden: Tensor) -> Tensor:
        """The network's part of c_t, from relaxed glimpses (N, R, T, L): (N, R, T); 0 without one."""
        if self.network is None:
            return relaxed.new_zeros(relaxed.shape[:-1])
        context = (relaxed.flatten(1, 2) @ features.detach().to(relaxed.dtype)).unflatten(1, relaxed.shape[1:3])
        units = self.network["context"](context) + self.network["hidden"](hidden.detach())
        return self.network["out"](torch.tanh(units)).squeeze(-1)


class Helpers(nn.Module):
    """Those that a configuration asks for; the others are None."""

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        rule, sizes = settings.estimator, (settings, features, vocabulary)
        wanted = settings.attention.hard
        self.critic = Critic(*sizes) if wanted and rule.facts.charged and rule.baseline == "learned" else None
        self.inference = Inference(*sizes) if wanted and rule.name == "variational" else None
        self.control = Control(*sizes) if wanted and rule.name in ("rebar", "relax") else None


def kl_divergence(q: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
    """sum_i q_i (log q_i - log p_i) in nats, (..., L) -> (...).

    Of log-probabilities as ``select.log`` has them: where p is exactly 0 (a sparse map) and q is not, log p is -87 in
    fp32 and not -inf, a cost that drives q, and not p, back to where p has mass.
    """
    return (q * (log_q - log_p)).sum(-1)


def squared_error(level: Tensor, signal: Tensor, counted: Tensor) -> Tensor:
    """What the critic learns from: sum of (C - R)^2 over the words that were sampled."""
    return (F.mse_loss(level, signal.detach(), reduction="none") * counted).sum()
