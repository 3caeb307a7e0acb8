"""Captions from a model: greedy, beam and ancestral sampling, all batched over images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from attend.attention.attention import Memory
from attend.attention.select import Policy, draw
from attend.attention.simplex import at_least_fp32
from attend.captioner.captioner import Captioner
from attend.captioner.replay import Going, Seen
from attend.captioner.unrolled import Readout
from attend.data.text import END, PAD, SPECIALS, START, UNK
from attend.decoder.protocol import rows_of

NEVER = [SPECIALS.index(word) for word in (PAD, START, UNK)]
"""Words that are never generated."""
LAST = SPECIALS.index(END)
WAIT = 4
"""Words between two times that a search which is replayed waits for the device."""


@dataclass(frozen=True, kw_only=True)
class Hypotheses:
    """One caption for each of N images, and where the model looked for each word.

    words (N, T) with the end mark, padded; lengths (N,) with the end mark; score (N,): log p / length^power in nats;
    weights (N, T, L); glimpses (N, T), -1 where none; gates (N, T). All are 0 at padding, glimpses -1.
    """

    words: Tensor
    lengths: Tensor
    score: Tensor
    weights: Tensor
    glimpses: Tensor
    gates: Tensor


@dataclass(frozen=True)
class Best:
    """The best finished hypothesis of each image so far, all (N,): score, length, and the step and row it was in."""

    score: Tensor
    length: Tensor
    step: Tensor
    row: Tensor

    @classmethod
    def none(cls, images: int, device: torch.device) -> Best:
        zero = torch.zeros(images, dtype=torch.long, device=device)
        return cls(torch.full((images,), -torch.inf, device=device), zero, zero, zero)

    def or_better(self, scores: Tensor, lengths: Tensor, step: int) -> Best:
        """This, or the best of a step's rows (N, K) where that is better."""
        score, row = scores.max(1)
        better = score > self.score
        length = lengths.gather(1, row[:, None]).squeeze(1)
        pairs = ((score, self.score), (length, self.length), (step, self.step), (row, self.row))
        return Best(*(torch.where(better, new, old) for new, old in pairs))


@torch.no_grad()
def beam_search(
    captioner: Captioner,
    features: Tensor,
    policy: Policy,
    *,
    beam: int,
    max_length: int,
    length_power: float = 1.0,
    shown: Tensor | None = None,
) -> Hypotheses:
    """The best of ``beam`` hypotheses by log p / length^power, for features (N, L, D). A beam of 1 is greedy.

    A hypothesis that has ended keeps its place in the beam while its score is among the best. If it loses its place,
    it is remembered, since others may get worse later. Those that have not ended after ``max_length`` words count as
    they are. State, words, weights and glimpses of a hypothesis are traced back along its own path. What ``policy`` and
    a control (``shown``) are given has a row for each hypothesis, (N, K, T, ...). A captioner with ``replays``
    captures and replays words that are steady, and reads whether all have ended at every fourth alone.

    Differs: length-normalised from the first word on (Xu et al. give no normalisation; a power of 0 is without), and
    <unk> is never generated.
    """
    images = len(features)
    memory, state = captioner.start(features, images * beam * max_length // 2)
    going, steps = Going(state, *_empty(images, features.device)), []
    best = Best.none(images, features.device)
    extending = _Extending(captioner, policy, beam, length_power, shown)
    replays = captioner.replays if captioner.replays and captioner.steady(policy, shown) else None
    for t in range(max_length):
        extend = partial(extending, t=t)
        if replays is None or t == 0:
            going, seen = extend(memory, going)
        else:
            going, seen = replays((policy, beam, length_power), extend, memory, going)
        steps.append(seen)
        final = going.ended | (t + 1 == max_length)
        scores = torch.where(final, going.total / going.lengths**length_power, -torch.inf)
        best = best.or_better(scores, going.lengths, t)
        if t % (WAIT if replays else 1) == 0 and bool(going.ended.all()):
            break
    return _trace_back(steps, best)


@dataclass(frozen=True)
class _Extending:
    """Every hypothesis one word further, and the best of all."""

    captioner: Captioner
    policy: Policy
    beam: int
    length_power: float
    shown: Tensor | None

    def __call__(self, memory: Memory, going: Going, t: int) -> tuple[Going, Seen]:
        state, words, total, lengths, ended = going
        state, word = self.captioner.step(memory, state, words, self.policy, t, self.shown)
        extended = _forbid(log_probs(word)) + total[..., None]  # (N, R, V)
        vocabulary = extended.shape[-1]
        # what has ended goes on as itself: its one extension is the padding word, at no cost
        extended = torch.where(ended[..., None], -torch.inf, extended)
        extended[..., SPECIALS.index(PAD)] = torch.where(ended, total, -torch.inf)
        long = lengths + (~ended).long()
        ranked = extended / long[..., None].clamp(min=1) ** self.length_power
        most = ranked.shape[1] * ranked.shape[2]
        kept = ranked.flatten(1).topk(min(self.beam, most), dim=1).indices  # (N, K)
        parent, words = kept // vocabulary, kept % vocabulary
        after = Going(
            state=rows_of(state, parent),
            words=words,
            total=extended.flatten(1).gather(1, kept),
            lengths=long.gather(1, parent),
            ended=ended.gather(1, parent) | (words == LAST),
        )
        return after, _seen(parent, words, word)


def _seen(parent: Tensor, words: Tensor, word: Readout) -> Seen:
    attended = (part.squeeze(2) for part in (word.weights, word.glimpses, word.gates))
    return Seen(parent, words, *attended)


@torch.no_grad()
def ancestral(
    captioner: Captioner,
    features: Tensor,
    policy: Policy,
    noise: Tensor,
    *,
    max_length: int,
    length_power: float = 1.0,
    shown: Tensor | None = None,
) -> Hypotheses:
    """One caption per image, each word drawn from p(y_t | ...) without the words that are never generated.

    ``noise`` (N, T) in [0, 1) draws at most T words. ``policy`` and ``shown`` are given one row, (N, 1, T, ...).
    """
    images = len(features)
    memory, state = captioner.start(features, images * max_length // 2)
    words, total, lengths, ended = _empty(images, features.device)
    steps = []
    for t in range(max_length):
        state, word = captioner.step(memory, state, words, policy, t, shown)
        log_p = torch.log_softmax(_forbid(log_probs(word)), dim=-1)
        words = draw(log_p.exp(), noise[:, t, None])
        gained = log_p.gather(2, words[..., None]).squeeze(-1)
        total = total + torch.where(ended, 0.0, gained)
        lengths = lengths + (~ended).long()
        ended = ended | (words == LAST)
        steps.append(_seen(torch.zeros_like(words), words, word))
        if bool(ended.all()):
            break
    best = Best.none(images, features.device).or_better(total / lengths**length_power, lengths, len(steps) - 1)
    return _trace_back(steps, best)


def _empty(images: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One hypothesis per image, (N, 1): the start mark, log p, its length, and whether it has ended."""
    words = torch.full((images, 1), SPECIALS.index(START), device=device)
    return words, torch.zeros(images, 1, device=device), torch.zeros_like(words), torch.zeros_like(words).bool()


def log_probs(word: Readout) -> Tensor:
    """log p(y_t | ...) of one step, (N, R, V)."""
    log_p = torch.log_softmax(at_least_fp32(word.logits), dim=-1)
    return log_p.unflatten(0, (word.layout.images, word.layout.rows))


def _forbid(log_p: Tensor) -> Tensor:
    """log p with the words that are never generated at -inf."""
    log_p = log_p.clone()
    log_p[..., NEVER] = -torch.inf
    return log_p


def _trace_back(steps: list[Seen], best: Best) -> Hypotheses:
    """Follow the best hypothesis of each image back to its first word, and collect what its own steps attended to."""
    row, path = best.row[:, None], []  # row (N, 1): where the hypothesis is at this step
    for t, (parent, words, *attended) in reversed(list(enumerate(steps))):
        later = t > best.step[:, None]  # it was left at an earlier step
        here = torch.where(later, 0, row)
        word, above = words.gather(1, here), parent.gather(1, here)
        row = torch.where(later, row, above)
        path.append((word, *rows_of(tuple(attended), above)))
    words, weights, glimpses, gates = (torch.cat(parts, 1) for parts in zip(*reversed(path), strict=True))
    real = torch.arange(len(steps), device=words.device) < best.length[:, None]
    return Hypotheses(
        words=torch.where(real, words, SPECIALS.index(PAD)),
        lengths=best.length,
        score=best.score,
        weights=torch.where(real[..., None], weights, 0),
        glimpses=torch.where(real, glimpses, -1),
        gates=torch.where(real, gates, 0),
    )
