"""Captions from a model: greedy, beam and ancestral sampling, all batched over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attend.attention.attention import Memory, Select
from attend.attention.select import draw
from attend.captioner.captioner import Captioner, Glance
from attend.data.text import END, PAD, SPECIALS, START, UNK

NEVER = [SPECIALS.index(word) for word in (PAD, START, UNK)]
"""Words that are never generated."""
LAST = SPECIALS.index(END)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One caption of each of N images, and where the model looked for each word.

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


Choose = Callable[[int, int], Select]
"""The selection for a step, given the step and how many rows each image has."""


@torch.no_grad()
def beam_search(
    model: Captioner,
    memory: Memory,
    choose: Choose,
    beam: int,
    max_length: int,
    length_power: float = 1.0,
    seen: Tensor | None = None,
) -> Found:
    """The best of ``beam`` hypotheses by log p / length^power; a beam of 1 is greedy.

    A hypothesis that has ended keeps its place in the beam while its score is among the best, and is remembered when
    it loses it to some that get worse later; those that have not ended after ``max_length`` words stand as they are.
    Everything known of a hypothesis (state, words, weights, glimpses) is traced back along its own path. ``seen``
    (N, T, K, L) is what a control is shown at each word of each hypothesis.

    Differs: length-normalised from the first word on (Xu et al. give no normalisation; a power of 0 is without), and
    <unk> is never said.
    """
    images, device = len(memory.features), memory.features.device
    state = model.decoder.start(memory, 1)
    words = torch.full((images, 1), SPECIALS.index(START), device=device)
    total = torch.zeros(images, 1, device=device)  # log p of each hypothesis
    lengths = torch.zeros(images, 1, device=device, dtype=torch.long)
    ended = torch.zeros(images, 1, device=device, dtype=torch.bool)
    steps = []  # for each word: the parent of each hypothesis, its word, and what the parent's step saw
    best = Best.none(images, device)
    for t in range(max_length):
        state, glance = model.step(memory, state, words, choose(t, words.shape[1]), *_at(seen, t, words.shape[1]))
        extended = _forbid(glance.log_probs) + total[..., None]  # (N, R, V)
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
        state = state.rows(parent)
        steps.append((parent, words, glance))
        final = ended | (t + 1 == max_length)
        best = best.or_better(torch.where(final, total / lengths**length_power, -torch.inf), lengths, t)
        if bool(ended.all()):
            break
    return _trace_back(steps, best)


@torch.no_grad()
def ancestral(
    model: Captioner,
    memory: Memory,
    choose: Choose,
    noise: Tensor,
    max_length: int,
    length_power: float = 1.0,
    seen: Tensor | None = None,
) -> Found:
    """One caption an image, each word drawn from p(y_t | ...) without the words that are never said.

    ``noise`` (N, T) in [0, 1) for T words at most picks them, and ``seen`` (N, T, 1, L) is what a control is shown.
    """
    images, device = len(memory.features), memory.features.device
    state = model.decoder.start(memory, 1)
    words = torch.full((images, 1), SPECIALS.index(START), device=device)
    total = torch.zeros(images, 1, device=device)
    lengths = torch.zeros(images, 1, device=device, dtype=torch.long)
    ended = torch.zeros(images, 1, device=device, dtype=torch.bool)
    steps = []
    for t in range(max_length):
        state, glance = model.step(memory, state, words, choose(t, 1), *_at(seen, t, 1))
        log_probs = torch.log_softmax(_forbid(glance.log_probs), dim=-1)
        words = draw(log_probs.exp(), noise[:, t, None])
        gained = log_probs.gather(2, words[..., None]).squeeze(-1)
        total = total + torch.where(ended, 0.0, gained)
        lengths = lengths + (~ended).long()
        ended = ended | (words == LAST)
        steps.append((torch.zeros_like(words), words, glance))
        if bool(ended.all()):
            break
    best = Best.none(images, device).or_better(total / lengths**length_power, lengths, len(steps) - 1)
    return _trace_back(steps, best)


def _at(seen: Tensor | None, step: int, rows: int) -> tuple[Tensor, ...]:
    """What a step's rows are shown (N, R, L), if anything."""
    return () if seen is None else (seen[:, step, :rows],)


def _forbid(log_probs: Tensor) -> Tensor:
    """log p with the words that are never said at -inf."""
    log_probs = log_probs.clone()
    log_probs[..., NEVER] = -torch.inf
    return log_probs


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (N, K) of values (N, R, ...): (N, K, ...)."""
    return values[torch.arange(len(values), device=values.device)[:, None], rows]


def _trace_back(steps: list[tuple[Tensor, Tensor, Glance]], best: Best) -> Found:
    """Follow the best hypothesis of each image back to its first word, collecting what its own steps saw."""
    row, path = best.row[:, None], []  # row (N, 1): where the hypothesis is at this step
    for t, (parent, words, glance) in reversed(list(enumerate(steps))):
        later = t > best.step[:, None]  # it was left at an earlier step
        here = torch.where(later, 0, row)
        word, above = words.gather(1, here), parent.gather(1, here)
        row = torch.where(later, row, above)
        path.append((word, _rows(glance.weights, above), _rows(glance.glimpse, above), _rows(glance.gate, above)))
    words, weights, glimpses, gates = (torch.cat(parts, 1) for parts in zip(*reversed(path), strict=True))
    said = torch.arange(len(steps), device=words.device) < best.length[:, None]
    return Found(
        words=torch.where(said, words, SPECIALS.index(PAD)),
        lengths=best.length,
        score=best.score,
        weights=torch.where(said[..., None], weights, 0),
        glimpses=torch.where(said, glimpses, -1),
        gates=torch.where(said, gates, 0),
    )
