"""The captioner: attention and decoder unrolled over given captions, and one step of it for search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.attention import select as selections
from attend.attention.attention import Attention, Memory, Select, rows_of_heads
from attend.attention.select import Selection
from attend.data.text import SPECIALS, START
from attend.decoder import DECODERS, State


@dataclass(frozen=True, kw_only=True)
class Noise:
    """All chance in one pass, drawn before it: for N images x C captions x T words.

    glimpse (N, R, T; with K heads (N, R, T, K)) in [0, 1) picks the samples, soft (N, R) marks rows that take the
    expected context, and drop_hidden (N, C, T, H), drop_deep and drop_words (N, C, T, E) are dropout factors (0 or
    1/(1-p)), None without dropout. R = C, or as many rows as there are samples of all captions: they share dropout.
    """

    glimpse: Tensor
    soft: Tensor
    drop_hidden: Tensor | None = None
    drop_deep: Tensor | None = None
    drop_words: Tensor | None = None

    @classmethod
    def draw(cls, settings: config.Config, shape: tuple[int, int, int], seed: int, step: int) -> Noise:
        """The noise of a training step, keyed by seed and step alone, on the CPU for every device."""
        key = np.random.SeedSequence([seed, step]).generate_state(1)[0]  # torch's generator reads 32 bits
        generator = torch.Generator().manual_seed(int(key))
        images, captions, length = shape
        coins = torch.rand(1 if settings.estimator.coin == "minibatch" else images, generator=generator)
        rows = captions * settings.samples
        soft = (coins < settings.estimator.semi)[:, None].expand(images, rows)
        glimpse = torch.rand((images, rows, length, *settings.attention.looks), generator=generator)

        def drop(probability: float, width: int) -> Tensor | None:
            keep = 1 - probability
            return None if keep == 1 else torch.empty(*shape, width).bernoulli_(keep, generator=generator).div_(keep)

        decoder = settings.decoder
        return cls(
            glimpse=glimpse,
            soft=soft,
            drop_hidden=drop(decoder.dropout, decoder.hidden),
            drop_deep=drop(decoder.dropout, decoder.embedding),
            drop_words=drop(decoder.dropout_words, decoder.embedding),
        )

    def part(self, images: slice) -> Noise:
        """That of some of the images."""
        return self._each(lambda drawn: drawn[images])

    def to(self, device: torch.device) -> Noise:
        return self._each(lambda drawn: drawn.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Noise:
        drawn = {f.name: getattr(self, f.name) for f in fields(self)}
        return Noise(**{name: None if t is None else change(t) for name, t in drawn.items()})


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a teacher-forced pass saw and said, for N images x C captions x T words.

    logits (M, V) and targets (M,) hold the M real words, ``real`` (N, C, T) marks them, in time-major order.
    weights (N, C, T, L), glimpses (N, C, T; -1 where none), log_probs log alpha(s) (N, C, T; 0 where none) and gates
    (N, C, T; the mean over features of a vector gate, 1 without gate) are 0 at padding.
    """

    logits: Tensor
    targets: Tensor
    real: Tensor
    weights: Tensor
    glimpses: Tensor
    log_probs: Tensor
    gates: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Values of the real words (M,) at their places: (N, C, T), 0 at padding."""
        real = self.real.permute(2, 0, 1)
        return values.new_zeros(real.shape).masked_scatter(real, values).permute(1, 2, 0)


@dataclass(frozen=True, kw_only=True)
class Glance:
    """One step of search: log p(y | ...) (N, R, V), and where it looked: weights (N, R, L), glimpse and gate (N, R)."""

    log_probs: Tensor
    weights: Tensor
    glimpse: Tensor
    gate: Tensor


class Captioner(nn.Module):
    """Features (N, L, D) and words -> the probability of each word, and where the model looked for it."""

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        self.attention = Attention(settings.attention, features, settings.decoder.hidden)
        self.decoder = DECODERS[settings.decoder.cell](settings.decoder, features, vocabulary)

    def forward(
        self,
        features: Tensor,
        words: Tensor,
        lengths: Tensor,
        *,
        select: str = "expected",
        noise: Noise | None = None,
        path: Tensor | None = None,
        shares: Tensor | None = None,
        mask: Tensor | None = None,
        samples: int = 1,
    ) -> Trace:
        """Unroll over given captions.

        Args:
            features: (N, L, D).
            words: (N, C, T), what is to be said: each caption, the end mark, padding.
            lengths: (N, C), real words of each row, the end mark counted; 0 for a row that is all padding.
            select: a name of SELECTIONS; ``path`` (N, C, T; with K heads (N, C, T, K)) forces the glimpses instead.
            noise: needed to sample; without it there is no dropout.
            shares: (N, C, T, L), share of each cell inside the boxes of each word, for the oracle.
            mask: (N, L), the locations that exist.
            samples: K, how many rows go through each caption; the trace has them side by side, (N, C K, ...), and so
                have ``noise.glimpse`` and ``path``.

        A row costs nothing once its caption has ended where captions come longest first, in the minibatch and in
        the image: every step runs on the smallest rectangle of rows that holds all unfinished captions.
        """
        images, captions, length = words.shape
        once = (lengths[..., None].cpu() > torch.arange(length)).permute(2, 0, 1)  # (T, N, C)
        first = once.repeat_interleave(samples, 2)
        real = first.permute(1, 2, 0)  # (N, C K, T)
        memory = self._project(self.attention.memory(features, mask), int(real.sum()))
        state = self.decoder.start(memory, captions * samples)
        once, real_first = once.to(words.device), first.to(words.device)
        spoken = torch.cat([torch.full_like(words[..., :1], SPECIALS.index(START)), words[..., :-1]], dim=-1)
        embedded = self.decoder.embedding(spoken.permute(2, 0, 1)[once])  # (M, E), time-major
        drops = (None,) * 3 if noise is None else (noise.drop_words, noise.drop_hidden, noise.drop_deep)
        drop_words, *drop = (None if d is None else d.permute(2, 0, 1, 3)[once] for d in drops)
        if drop_words is not None:
            embedded = embedded * drop_words
        word_gates, targets = self.decoder.word_gates(embedded), words.permute(2, 0, 1)[once]
        if samples > 1:  # what no glimpse changes is computed once for all samples of a caption
            embedded, word_gates, targets = (_repeated(v, samples) for v in (embedded, word_gates, targets))
            drop = [None if d is None else _repeated(d, samples) for d in drop]
        word_gates = word_gates.split(real.sum((0, 1)).tolist())
        seen = []
        for t, (n, c) in enumerate(_rectangles(real)):
            state, near = state.first(n, c), memory.first(n)
            live = real_first[t, :n, :c]
            gates = word_gates[t].new_zeros(n, c, word_gates[t].shape[-1]).index_put((live,), word_gates[t])
            choose = self._select(select, t, (n, c), noise, path)
            state, weights, chosen, gate, context = self._advance(
                near, state, gates, choose, None if shares is None else shares[:n, :c, t]
            )
            seen.append((state.hidden[live], context[live], weights, chosen.glimpse, chosen.log_prob, gate, live))
        hidden, context, weights, glimpses, log_probs, gates, lives = zip(*seen, strict=True)
        drop = None if drop[0] is None else tuple(drop)
        logits = self.decoder.readout(embedded, torch.cat(hidden), torch.cat(context), drop, memory.projected)

        def stack(steps: tuple[Tensor, ...]) -> Tensor:
            """Steps of (n, c, ...) -> (N, C, T, ...) with 0 where a caption has ended."""
            padded = []
            for step, live in zip(steps, lives, strict=True):
                step = torch.where(live.view(live.shape + (1,) * (step.ndim - 2)), step, 0)
                n, c = live.shape
                padded.append(F.pad(step, (0, 0) * (step.ndim - 2) + (0, captions * samples - c, 0, images - n)))
            padded += [torch.zeros_like(padded[0])] * (length - len(padded))
            return torch.stack(padded, dim=2)

        return Trace(
            logits=logits,
            targets=targets,
            real=real_first.permute(1, 2, 0),
            weights=stack(weights),
            glimpses=stack(glimpses),
            log_probs=stack(log_probs),
            gates=stack(gates),
        )

    def step(
        self, memory: Memory, state: State, words: Tensor, select: Select, shares: Tensor | None = None
    ) -> tuple[State, Glance]:
        """One word further for R rows of each image, from the words said last (N, R)."""
        embedded = self.decoder.embedding(words)
        word_gates = self.decoder.word_gates(embedded)
        state, weights, chosen, gate, context = self._advance(memory, state, word_gates, select, shares)
        logits = self.decoder.readout(embedded, state.hidden, context, projected=memory.projected)
        log_probs = torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=-1)
        return state, Glance(log_probs=log_probs, weights=weights, glimpse=chosen.glimpse, gate=gate)

    def _advance(
        self, memory: Memory, state: State, word_gates: Tensor, select: Select, shares: Tensor | None
    ) -> tuple[State, Tensor, Selection, Tensor, Tensor]:
        """The next state, weights, selection, gate as one number a row, and the context as the readout wants it."""
        if not self.decoder.looks_first:
            state = self.decoder.step(state, word_gates)
        weights, chosen = self.attention(memory, state.hidden, select, shares)
        gate = self.decoder.gate(state.hidden)
        context = chosen.context if gate is None else gate * chosen.context
        shown = torch.ones_like(chosen.log_prob) if gate is None else gate.mean(-1)
        context_gates, context = self.decoder.read(context, memory.projected)
        if self.decoder.looks_first:
            state = self.decoder.step(state, word_gates, context_gates)
        return state, weights, chosen, shown, context

    def _project(self, memory: Memory, words: int) -> Memory:
        """The same with the decoder's maps of a context taken of the features instead, where that is less work.

        A map costs three products a word (forward, and the gradients of both sides), or as many a location: two where
        the features are frozen. Several heads have projected values already.
        """
        locations = memory.features.shape[:2].numel() * (3 if memory.features.requires_grad else 2)
        if self.settings.attention.heads > 1 or locations >= 3 * words:
            return memory
        values = self.decoder.project(memory.features)
        return memory if values is None else replace(memory, values=values, projected=True)

    def _select(self, name: str, t: int, rows: tuple[int, int], noise: Noise | None, path: Tensor | None) -> Select:
        """The selection of step t for the first n images and their first c captions."""
        n, c = rows
        heads = self.settings.attention.heads
        if path is not None:
            return partial(selections.forced, glimpse=rows_of_heads(path[:n, :c, t], heads))
        if name == "sample":
            if noise is None:
                raise ValueError("sampled attention needs noise: pass Noise.draw(...)")
            glimpse, soft = (rows_of_heads(given, heads) for given in (noise.glimpse[:n, :c, t], noise.soft[:n, :c]))
            return partial(selections.sample, noise=glimpse, soft=soft)
        return selections.SELECTIONS[name]


def _repeated(values: Tensor, times: int) -> Tensor:
    """Each of (M, ...) so many times, one after the other: (M times, ...)."""
    return values[:, None].expand(-1, times, *values.shape[1:]).flatten(0, 1)


def _rectangles(real: Tensor) -> Iterator[tuple[int, int]]:
    """For each step, how many first images and first captions hold every row that still has words to say.

    Where there is no word at all, one step over no rows: all parameters then have a gradient, which is zero.
    """
    if not real.any():
        yield 0, 0
        return

    def last(live: Tensor) -> list[int]:
        """(K, T): one more than the last of K that is live at step t or later."""
        ends = (live * torch.arange(1, len(live) + 1)[:, None]).amax(0)
        return ends.flip(0).cummax(0).values.flip(0).tolist()

    for images, captions in zip(last(real.any(1)), last(real.any(0)), strict=True):
        if images:
            yield images, captions
