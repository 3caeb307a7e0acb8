"""Captions from a model: greedy, beam and ancestral sampling, all batched over images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attend.attention.select import Policy, draw
from attend.attention.simplex import at_least_fp32
from attend.captioner.captioner import Captioner
from attend.captioner.unrolled import Readout
from attend.data.text import END, PAD, SPECIALS, START, UNK
from attend.decoder.protocol import rows_of

NEVER = [SPECIALS.index(word) for word in (PAD, START, UNK)]
"""Words that are never generated."""
LAST = SPECIALS.index(END)


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
    a control (``shown``) are given has a row for each hypothesis, (N, K, T, ...).

    Differs: length-normalised from the first word on (Xu et al. give no normalisation; a power of 0 is without), and
    <unk> is never generated.
    """
    images = len(features)
    memory, state = captioner.start(features, images * beam * max_length // 2)
    words, total, lengths, ended = _empty(images, features.device)
    steps = []  # for each word: the parent of each hypothesis, its word, and what the parent's step attended to
    best = Best.none(images, features.device)
    for t in range(max_length):
        state, word = captioner.step(memory, state, words, policy, t, shown)
        extended = _forbid(log_probs(word)) + total[..., None]  # (N, R, V)
        vocabulary = extended.shape[-1]
        # what has ended goes on as itself: its one extension is the padding word, at no cost
        extended = torch.where(ended[..., None], -torch.inf, extended)
        extended[..., SPECIALS.index(PAD)] = torch.where(ended, total, -torch.inf)
        long = lengths + (~ended).long()
        ranked = extended / long[..., None].clamp(min=1) ** length_power
        kept = ranked.flatten(1).topk(min(beam, ranked[0].numel()), dim=1).indices  # (N, K)
        parent, words = kept // vocabulary, kept % vocabulary
        total = extended.flatten(1).gather(1, kept)
        ended = ended.gather(1, parent) | (words == LAST)
        lengths = long.gather(1, parent)
        state = rows_of(state, parent)
        steps.append((parent, words, word))
        final = ended | (t + 1 == max_length)
        best = best.or_better(torch.where(final, total / lengths**length_power, -torch.inf), lengths, t)
        if bool(ended.all()):
            break
    return _trace_back(steps, best)


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
        steps.append((torch.zeros_like(words), words, word))
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


def _trace_back(steps: list[tuple[Tensor, Tensor, Readout]], best: Best) -> Hypotheses:
    """Follow the best hypothesis of each image back to its first word, and collect what its own steps attended to."""
    row, path = best.row[:, None], []  # row (N, 1): where the hypothesis is at this step
    for t, (parent, words, seen) in reversed(list(enumerate(steps))):
        later = t > best.step[:, None]  # it was left at an earlier step
        here = torch.where(later, 0, row)
        word, above = words.gather(1, here), parent.gather(1, here)
        row = torch.where(later, row, above)
        attended = tuple(part.squeeze(2) for part in (seen.weights, seen.glimpses, seen.gates))
        path.append((word, *rows_of(attended, above)))
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
