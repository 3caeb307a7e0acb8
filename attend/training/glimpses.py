"""Which glimpses an estimator takes of a minibatch: one at a time in the pass itself, or whole paths found before it.

Where the state reads the glimpses (``attention.feed: glimpse``), a set of different paths is found without a gradient
by a beam search over locations, and then forced. Where only the readout sees them, a word's locations are the set.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attend import config
from attend.attention.select import CHOICES, draw, forced, gumbel, log
from attend.captioner.captioner import Captioner, Trace
from attend.captioner.noise import Noise
from attend.captioner.traces import negative_log_likelihood
from attend.config.catalogue import ENUMERATED
from attend.data.batches import Batch
from attend.data.text import SPECIALS, START
from attend.decoder.protocol import State
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.estimators.helpers import Helpers
from attend.training.objective import Loss, objective


def loss_of(
    captioner: Captioner,
    features: Tensor,
    batch: Batch,
    noise: Noise,
    average: MovingAverage,
    *,
    helpers: Helpers | None = None,
    words: int | None = None,
    captions: int | None = None,
    seen: Tensor | None = None,
) -> tuple[Trace, Loss]:
    """One minibatch, seen as the captioner's settings have it, and its loss; ``average`` takes it in.

    ``words`` and ``captions`` are those of the whole minibatch, where this is a part of it, and ``seen`` what a control
    is shown at each word.
    """
    config, given = captioner.settings, (features, batch.words, batch.lengths)
    more = {"noise": noise, "shares": seen}
    if config.attention.hard:
        trace = taken(captioner, *given, helpers=helpers, **more)
    else:
        trace = captioner(*given, select=config.attention.select, **more)
    rollout = rollout_costs(captioner, *given, trace, noise)
    more = {"rollout": rollout, "helpers": helpers, "shares": batch.shares}
    return trace, objective(trace, config, average, words, captions, **more)


def taken(
    captioner: Captioner,
    features: Tensor,
    words: Tensor,
    lengths: Tensor,
    *,
    noise: Noise,
    helpers: Helpers | None = None,
    **more: Any,
) -> Trace:
    """The trace of a training step: as many samples of each caption as its estimator takes, in the way it takes them.

    Hard attention alone. ``helpers`` are what its estimator learns beside the model; ``more`` is for the captioner.
    """
    settings = captioner.settings
    select, samples = settings.estimator.facts.select, settings.samples
    if helpers is not None:
        more["replay"] = helpers.critic is not None or helpers.control is not None
        if helpers.inference is not None:
            rows = 1 if settings.attention.feed == "expected" else samples
            more["proposal"] = helpers.inference(features, words, lengths, rows)
    if select not in CHOICES:
        return captioner(features, words, lengths, select=select, noise=noise, samples=samples, **more)
    if settings.attention.feed == "expected":
        return captioner(features, words, lengths, select=select, noise=noise, samples=samples, **more)
    if select == "all":
        path = every_path(features.shape[1], words)
        samples = path.shape[1] // words.shape[1]
    else:
        path = search_paths(captioner, features, words, lengths, select, samples, noise)
    return captioner(features, words, lengths, path=path, noise=noise, samples=samples, **more)


@torch.no_grad()
def rollout_costs(
    captioner: Captioner, features: Tensor, words: Tensor, lengths: Tensor, trace: Trace, noise: Noise
) -> Tensor | None:
    """Costs of the passes without samples that the baseline asks for, under the same dropout; None where it asks not.

    One pass from the first word, (N, C, 1, T), or one from the sampled prefix before each word, (N, C, K, T, T).
    """
    settings = captioner.settings
    select = BASELINES[settings.estimator.baseline].rollout if settings.estimator.facts.charged else None
    if select is None or not settings.attention.hard:
        return None
    if settings.estimator.rollout == "prefix" and settings.attention.feed == "glimpse":
        return prefix_costs(captioner, features, words, lengths, select, trace, noise)
    passed = captioner(features, words, lengths, select=select, noise=noise)
    return passed.spread(negative_log_likelihood(passed))[:, :, None]


@torch.no_grad()
def prefix_costs(
    captioner: Captioner,
    features: Tensor,
    words: Tensor,
    lengths: Tensor,
    select: str,
    trace: Trace,
    noise: Noise | None,
) -> Tensor:
    """(N, C, K, T, T): row t are the costs of a pass that takes the glimpses of the trace before word t, and selects
    from there on."""
    path, passes = trace.glimpses.clamp(min=0), []
    for t in range(words.shape[2]):
        passed = captioner(
            features, words, lengths, path=path, until=t, select=select, noise=noise, samples=trace.samples
        )  # fmt: skip
        passes.append(passed.spread(negative_log_likelihood(passed)).unflatten(1, (-1, trace.samples)))
    return torch.stack(passes, 3)


def every_path(locations: int, words: Tensor) -> Tensor:
    """All L^T paths, (N, C L^T, T), for words (N, C, T). Raises ValueError beyond ENUMERATED."""
    images, captions, length = words.shape
    check_enumerable(locations, length)
    paths = torch.cartesian_prod(*[torch.arange(locations, device=words.device)] * length).view(-1, length)
    return paths.expand(images, captions, -1, -1).flatten(1, 2)


def check_enumerable(locations: int, length: int) -> None:
    """Raise ValueError where there are more than ENUMERATED paths of so many words."""
    if locations**length > ENUMERATED:
        raise ValueError(
            f"a caption of {length} words over {locations} locations has {locations}^{length} paths, and no more than "
            f"{ENUMERATED} are enumerated: set attention.feed to expected, where {locations} glimpses a word are enough"
        )


def check_fits(settings: config.Config, locations: int, longest: int) -> None:
    """Raise ValueError where an estimator wants more locations, or fewer paths, than there are in a dataset."""
    rule = settings.estimator
    if not settings.attention.hard or rule.facts.select not in CHOICES:
        return
    if rule.facts.select == "all" and settings.attention.feed == "glimpse":
        check_enumerable(locations, longest)
    different = settings.samples - (rule.facts.select == "best-and-rest")
    if different > locations:
        raise ValueError(
            f"estimator.samples is {settings.samples}, but estimator.name {rule.name!r} takes different ones, and a "
            f"caption of one word has {locations}, the locations of the encoder's grid: give fewer"
        )


def search_paths(
    captioner: Captioner, features: Tensor, words: Tensor, lengths: Tensor, select: str, samples: int, noise: Noise
) -> Tensor:
    """K different paths of each caption, (N, C K, T): drawn without replacement, or K - 1 likely ones and another."""
    tree = Tree(captioner, features, words, lengths, noise)
    if select == "distinct":
        return tree.beam(samples, noise.places)[0].flatten(1, 2)
    best, log_p = tree.beam(samples - 1)
    rest = tree.another(best, log_p, noise.glimpse[:, ::samples])
    return torch.cat([best, rest[:, :, None]], 2).flatten(1, 2)


class Tree:
    """The paths of given captions as the leaves of a tree, a location at each word, walked without a gradient.

    A caption that has ended goes on with location 0, so that no path stands for another.
    """

    def __init__(self, captioner: Captioner, features: Tensor, words: Tensor, lengths: Tensor, noise: Noise) -> None:
        self.captioner, self.words = captioner, words
        self.memory = captioner.attention.memory(features)
        self.live = lengths[..., None] > torch.arange(words.shape[2], device=words.device)  # (N, C, T)
        start = torch.full_like(words[..., :1], SPECIALS.index(START))
        embedded = captioner.decoder.embedding(torch.cat([start, words[..., :-1]], -1))
        if noise.drop_words is not None:
            embedded = embedded * noise.drop_words
        self.word_gates = captioner.decoder.word_gates(embedded)  # (N, C, T, gates)

    @torch.no_grad()
    def beam(self, width: int, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The paths (N, C, K, T) of a beam search and their log-probabilities (N, C, K).

        With ``noise`` (N, C K, T, L) in [0, 1) a stochastic beam search: K draws without replacement, by the largest
        of log p + gumbel, where the gumbels of a prefix's extensions are conditioned on their maximum being its own.

        Source: Kool et al. (2019), Stochastic Beams and Where to Find Them, algorithm 1.
        """
        shape = self.words.shape[:2]
        state = self.captioner.decoder.start(self.memory, shape[1])
        log_p = self.word_gates.new_zeros(*shape, 1)
        reached, paths = torch.zeros_like(log_p), None  # the perturbed log-probability of each prefix
        for t in range(self.words.shape[2]):
            rows = log_p.shape[2]
            extended = log_p[..., None] + self._log_weights(state, t, rows)  # (N, C, K, L)
            perturbed = extended
            if noise is not None:
                drawn = gumbel(noise[:, :, t].unflatten(1, (shape[1], -1))[:, :, :rows])
                perturbed = _conditioned(extended + drawn, reached)
            locations = extended.shape[-1]
            kept = perturbed.flatten(2).topk(min(width, rows * locations)).indices  # (N, C, K')
            parent, place = kept // locations, kept % locations
            log_p, reached = (part.flatten(2).gather(2, kept) for part in (extended, perturbed))
            before = torch.arange(shape[1], device=kept.device)[:, None] * rows
            state = self._step(state.rows((before + parent).flatten(1)), t, place)
            place = place[..., None]
            earlier = [] if paths is None else [paths.gather(2, parent[..., None].expand(*parent.shape, t))]
            paths = torch.cat([*earlier, place], -1)
        return paths, log_p

    @torch.no_grad()
    def another(self, paths: Tensor, log_p: Tensor, noise: Tensor) -> Tensor:
        """A path (N, C, T) drawn from all but ``paths`` (N, C, K, T) of log-probability (N, C, K), with ``noise``
        (N, C, T): at each word a prefix's extensions lose the probability of the paths that go through them."""
        state = self.captioner.decoder.start(self.memory, self.words.shape[1])
        along, prefix, chosen = torch.ones_like(log_p, dtype=torch.bool), log_p.new_zeros(log_p.shape[:2]), []
        for t in range(self.words.shape[2]):
            log_weights = self._log_weights(state, t, 1)[:, :, 0]
            taken_away = torch.where(along, (log_p - prefix[..., None]).exp(), 0.0)
            left = log_weights.exp().scatter_add(-1, paths[..., t], -taken_away).clamp(min=0)
            place = draw(left, noise[:, :, t])
            place = torch.where(self.live[:, :, t], place, 0)
            prefix = prefix + log_weights.gather(-1, place[..., None]).squeeze(-1)
            along = along & (paths[..., t] == place[..., None])
            state = self._step(state, t, place[..., None])
            chosen.append(place)
        return torch.stack(chosen, -1)

    def _log_weights(self, state: State, t: int, rows: int) -> Tensor:
        """log alpha at word t for so many prefixes of each caption, (N, C, K, L)."""
        if not self.captioner.decoder.looks_first:
            state = self.captioner.decoder.step(state, self._gates(t, rows))
        weights = self.captioner.attention.weights(self.memory, state.hidden).unflatten(1, (-1, rows))
        stay = weights.new_full(weights.shape[-1:], -torch.inf)
        stay[0] = 0.0
        return torch.where(self.live[:, :, t, None, None], log(weights), stay)

    def _step(self, state: State, t: int, place: Tensor) -> State:
        """The state after word t, read with the glimpses (N, C, K)."""
        choose = partial(forced, glimpse=place.flatten(1))
        return self.captioner._advance(self.memory, state, self._gates(t, place.shape[2]), choose, None).state

    def _gates(self, t: int, rows: int) -> Tensor:
        return self.word_gates[:, :, t].repeat_interleave(rows, 1)


def _conditioned(perturbed: Tensor, largest: Tensor) -> Tensor:
    """Gumbels (..., L) shifted so that their maximum is ``largest`` (...), as if drawn under that condition.

    -log(exp(-largest) - exp(-maximum) + exp(-perturbed)), in the stable form of the source's appendix B.3.
    """
    gap = perturbed - perturbed.amax(-1, keepdim=True)
    v = largest[..., None] - perturbed + torch.log1p(-gap.exp().clamp(max=1 - torch.finfo(gap.dtype).eps))
    v = torch.where(gap == 0, -torch.inf, v)
    return largest[..., None] - v.clamp(min=0) - torch.log1p(torch.exp(-v.abs()))
