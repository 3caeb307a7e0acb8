"""The captioner: attention and decoder unrolled over given captions, and one step of it for search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.attention import select as selections
from attend.attention.attention import Attention, Memory, Select, rows_of_heads
from attend.attention.select import Selection
from attend.captioner.noise import Noise
from attend.captioner.readings import Readings, at_least_fp32
from attend.captioner.replay import Replay
from attend.data.text import SPECIALS, START
from attend.decoder import DECODERS
from attend.decoder.protocol import State

Propose = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a teacher-forced pass saw and said, for N images x C captions x T words, in R = C K rows of K samples.

    logits (M, V) and targets (M,) hold the M real words of all rows, ``real`` (N, R, T) marks them, in time-major
    order. glimpses (N, R, T; -1 where none) and log_probs log alpha(s) (N, R, T; 0 where none) are 0 at padding, and
    so are weights (N, R, T, L) and gates (N, R, T; the mean over features of a vector gate, 1 without gate). Where the
    state is fed the expected context, the samples of a caption share them: (N, C, T, L) and (N, C, T).

    Where every location was read (K = L) there are no logits, but costs -log p(y) (M,) in nats. Where glimpses were
    drawn from a ``proposal`` q, log_probs are log q(s), and it has the shape of the weights.
    """

    logits: Tensor | None
    targets: Tensor
    real: Tensor
    weights: Tensor
    glimpses: Tensor
    log_probs: Tensor
    gates: Tensor
    samples: int = 1
    costs: Tensor | None = None
    proposal: Tensor | None = None
    replay: Replay | None = None

    @property
    def captions(self) -> Tensor:
        """(N, C, T), the real words of each caption, once."""
        return self.real[:, :: self.samples]

    @property
    def looks(self) -> int:
        """Rows of the weights for each caption: K, or 1 where its samples share them."""
        return self.samples * self.weights.shape[1] // self.real.shape[1]

    @property
    def looked(self) -> Tensor:
        """The real words of the rows of the weights."""
        return self.real[:, :: self.samples // self.looks]

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


class Advance(NamedTuple):
    """One word further: the next state, weights, selection, gate (N, R, 1 or D, or None), context for the readout."""

    state: State
    weights: Tensor
    chosen: Selection
    gate: Tensor | None
    context: Tensor

    @property
    def shown(self) -> Tensor:
        """The gate as one number a row, 1 without."""
        return torch.ones_like(self.chosen.log_prob) if self.gate is None else self.gate.mean(-1)


class Captioner(nn.Module):
    """Features (N, L, D) and words -> the probability of each word, and where the model looked for it.

    Where attention is frozen at its ``first`` glimpse, the state of the first word asks for all of them, so all have
    its weights (to rounding). Hard attention then draws one glimpse a caption, with the first word's noise, and keeps
    it: the first word alone has a log-probability, and REINFORCE is the gradient of a bound over L paths. The gate on
    the context still changes.
    """

    def __init__(
        self, settings: config.Config, features: int, vocabulary: int, grid: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.attention = Attention(settings.attention, features, settings.decoder.hidden, grid)
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
        proposal: Propose | None = None,
        replay: bool = False,
        until: int | None = None,
    ) -> Trace:
        """Unroll over given captions.

        Args:
            features: (N, L, D).
            words: (N, C, T), what is to be said: each caption, the end mark, padding.
            lengths: (N, C), real words of each row, the end mark counted; 0 for a row that is all padding.
            select: a name of SELECTIONS or RELAXATIONS; where the state is fed the expected context also "marginal"
                (logits are log sum_i alpha_i p(y | i)) or one of CHOICES ("all": every location is a sample).
                ``path`` (N, C, T; with K heads (N, C, T, K)) forces the glimpses instead.
            noise: needed to sample; without it there is no dropout.
            shares: (N, C, T, L), what a control is shown at each word: for the oracle, the share of each cell inside
                the word's boxes.
            mask: (N, L), the locations that exist.
            samples: K, how many rows go through each caption; the trace has them side by side, (N, C K, ...), and so
                have ``noise`` and ``path``. Where the state is fed the expected context they are readings of one row.
            proposal: gives the weights that samples are drawn from instead of alpha, for the states (n, r, H) of word
                t, or of all words (N, C, T, H).
            until: the first word that ``path`` does not force any more, but is selected; None forces all.
            replay: keep in the trace what each word was said from.

        A row costs nothing once its caption has ended where captions come longest first, in the minibatch and in
        the image: every step runs on the smallest rectangle of rows that holds all unfinished captions.
        """
        images, captions, length = words.shape
        expected = self.settings.attention.feed == "expected" and (path is not None or select != "expected")
        rows = 1 if expected else samples  # of the state, for each caption
        once = (lengths[..., None].cpu() > torch.arange(length)).permute(2, 0, 1)  # (T, N, C)
        first = once.repeat_interleave(rows, 2)
        real = first.permute(1, 2, 0)  # (N, C K, T)
        memory = self._project(self.attention.memory(features, mask), int(real.sum()))
        state = self.decoder.start(memory, captions * rows)
        once, real_first = once.to(words.device), first.to(words.device)
        spoken = torch.cat([torch.full_like(words[..., :1], SPECIALS.index(START)), words[..., :-1]], dim=-1)
        embedded = self.decoder.embedding(spoken.permute(2, 0, 1)[once])  # (M, E), time-major
        drops = (None,) * 3 if noise is None else (noise.drop_words, noise.drop_hidden, noise.drop_deep)
        drop_words, *drop = (None if d is None else d.permute(2, 0, 1, 3)[once] for d in drops)
        if drop_words is not None:
            embedded = embedded * drop_words
        word_gates, targets = self.decoder.word_gates(embedded), words.permute(2, 0, 1)[once]
        if rows > 1:  # what no glimpse changes is computed once for all samples of a caption
            embedded, word_gates, targets = (_repeated(v, rows) for v in (embedded, word_gates, targets))
            drop = [None if d is None else _repeated(d, rows) for d in drop]
        of_step = word_gates.split(real.sum((0, 1)).tolist())
        seen = []
        for t, (n, c) in enumerate(_rectangles(real)):
            state, near = state.first(n, c), memory.first(n)
            live = real_first[t, :n, :c]
            gates = of_step[t].new_zeros(n, c, of_step[t].shape[-1]).index_put((live,), of_step[t])
            asked, q = state, None if expected or proposal is None else proposal(state.hidden, t)
            looked = 0 if self.attention.look == "first" else t
            forced = path if until is None or t < until else None
            part = (slice(n), slice(c), looked)
            choose = selections.expected if expected else self._select(select, part, noise, forced, q)
            step = self._advance(near, state, gates, choose, None if shares is None else shares[:n, :c, t])
            state, chosen = step.state, step.chosen
            drawn = chosen.log_prob if looked == t else torch.zeros_like(chosen.log_prob)
            gate = step.gate[live] if expected and step.gate is not None else None
            seen.append((
                state.hidden[live], step.context[live], gate, live,
                step.weights, chosen.glimpse, drawn, step.shown, q, *(asked[:2] if replay or proposal else ()),
            ))  # fmt: skip
        hidden, context, gate, lives, *kept = zip(*seen, strict=True)
        hidden, drop = torch.cat(hidden), None if drop[0] is None else tuple(drop)

        def stack(steps: tuple[Tensor | None, ...]) -> Tensor | None:
            """Steps of (n, c, ...) -> (N, C, T, ...) with 0 where a caption has ended; None where there are none."""
            if steps[0] is None:
                return None
            padded = []
            for step, live in zip(steps, lives, strict=True):
                step = torch.where(live.view(live.shape + (1,) * (step.ndim - 2)), step, 0)
                n, c = live.shape
                padded.append(F.pad(step, (0, 0) * (step.ndim - 2) + (0, captions * rows - c, 0, images - n)))
            padded += [torch.zeros_like(padded[0])] * (length - len(padded))
            return torch.stack(padded, dim=2)

        weights, glimpses, log_probs, gates, q, *states = (stack(steps) for steps in kept)
        trace = Trace(
            logits=None, targets=targets, real=real_first.permute(1, 2, 0), weights=weights, glimpses=glimpses,
            log_probs=log_probs, gates=gates, samples=rows, proposal=q,
        )  # fmt: skip
        if states:
            trace = replace(trace, replay=Replay(
                decoder=self.decoder, memory=memory, asked=states[0], cells=states[1], live=real_first,
                word_gates=word_gates, words=embedded, drop=drop, targets=targets,
                places=None if noise is None else noise.places,
            ))  # fmt: skip
        if not expected:
            context = torch.cat(context)
            return replace(trace, logits=self.decoder.readout(embedded, hidden, context, drop, memory.projected))
        values, projected = self.decoder.shown(memory)
        readings = Readings(
            decoder=self.decoder, values=values, projected=projected, image=once.nonzero()[:, 1], words=embedded,
            hidden=hidden, gate=None if gate[0] is None else torch.cat(gate), drop=drop, targets=targets,
        )  # fmt: skip
        if states:
            trace = replace(trace, replay=replace(trace.replay, readings=readings))
        if proposal is not None:
            trace = replace(trace, proposal=proposal(states[0]))
        return self._read(trace, readings, select, noise, path, samples)

    def _read(
        self, trace: Trace, readings: Readings, select: str, noise: Noise | None, path: Tensor | None, samples: int
    ) -> Trace:
        """The trace with what each glimpse says that is taken of its weights."""
        live = trace.real.permute(2, 0, 1)
        if select == "marginal" and path is None:
            return replace(trace, logits=readings.mixture(trace.weights.permute(2, 0, 1, 3)[live]))
        if select == "all" and path is None:
            samples = trace.weights.shape[-1]
            places = torch.arange(samples, device=live.device)[:, None].expand(*trace.real.shape[:2], -1, live.shape[0])
            real = trace.real.repeat_interleave(samples, 1)
            return replace(
                trace, targets=trace.targets.repeat_interleave(samples), real=real, samples=samples,
                glimpses=torch.where(real, places.flatten(1, 2), 0), costs=readings.costs().flatten(),
                log_probs=torch.where(real, selections.log(trace.weights).transpose(2, 3).flatten(1, 2), 0),
            )  # fmt: skip
        if select in selections.CHOICES and path is None:
            path = self._several(trace.weights.detach(), select, samples, noise)
        real = trace.real.repeat_interleave(samples, 1)
        flat = trace.weights.repeat_interleave(samples, 1).flatten(1, 2)  # (N, C K T, L)
        q = trace.proposal if trace.proposal is None else trace.proposal.repeat_interleave(samples, 1).flatten(1, 2)
        choose = self._select(select, (slice(None),) * 3, noise, path, q)
        chosen = choose(readings.values, flat)
        context = chosen.context.unflatten(1, real.shape[1:]).permute(2, 0, 1, 3)[real.permute(2, 0, 1)]
        glimpses, log_probs = (
            torch.where(real, part.unflatten(1, real.shape[1:]), 0) for part in (chosen.glimpse, chosen.log_prob)
        )
        return replace(
            trace, logits=readings.logits(context, samples), targets=trace.targets.repeat_interleave(samples),
            real=real, glimpses=glimpses, log_probs=log_probs, samples=samples,
        )  # fmt: skip

    def _several(self, weights: Tensor, select: str, samples: int, noise: Noise) -> Tensor:
        """K glimpses of each word (N, C K, T), taken together, for its weights (N, C, T, L)."""
        if select == "distinct":
            chosen = selections.distinct(weights, samples, noise.places[:, ::samples])
        else:
            chosen = selections.best_and_rest(weights, samples, noise.glimpse[:, ::samples])
        return chosen.transpose(2, 3).flatten(1, 2)

    def step(
        self, memory: Memory, state: State, words: Tensor, select: Select, shares: Tensor | None = None
    ) -> tuple[State, Glance]:
        """One word further for R rows of each image, from the words said last (N, R)."""
        embedded = self.decoder.embedding(words)
        word_gates = self.decoder.word_gates(embedded)
        if self.settings.attention.feed == "expected":
            return self._step_expected(memory, state, embedded, word_gates, select, shares)
        state, weights, chosen, *_ = step = self._advance(memory, state, word_gates, select, shares)
        logits = self.decoder.readout(embedded, state.hidden, step.context, projected=memory.projected)
        log_probs = torch.log_softmax(at_least_fp32(logits), dim=-1)
        return state, Glance(log_probs=log_probs, weights=weights, glimpse=chosen.glimpse, gate=step.shown)

    def _step_expected(
        self,
        memory: Memory,
        state: State,
        embedded: Tensor,
        word_gates: Tensor,
        select: Select | None,
        shares: Tensor | None,
    ) -> tuple[State, Glance]:
        """The same where the state is fed the expected context; without ``select`` p(y) is the sum over locations."""
        step = self._advance(memory, state, word_gates, selections.expected, shares)
        values, projected = self.decoder.shown(memory)
        rows, hidden, none = embedded.shape[:2], step.state.hidden, step.chosen.glimpse
        image = torch.arange(rows[0], device=embedded.device).repeat_interleave(rows[1])
        gate = None if step.gate is None else step.gate.flatten(0, 1)
        readings = Readings(
            decoder=self.decoder, values=values, projected=projected, image=image, words=embedded.flatten(0, 1),
            hidden=hidden.flatten(0, 1), gate=gate, drop=None, targets=none.flatten(),
        )  # fmt: skip
        if select is None:
            log_probs, glimpse = readings.mixture(step.weights.flatten(0, 1)), none
        else:
            chosen = select(values, step.weights)
            log_probs = torch.log_softmax(at_least_fp32(readings.logits(chosen.context.flatten(0, 1), 1)), -1)
            glimpse = chosen.glimpse
        return step.state, Glance(
            log_probs=log_probs.unflatten(0, rows), weights=step.weights, glimpse=glimpse, gate=step.shown
        )

    def _advance(
        self, memory: Memory, state: State, word_gates: Tensor, select: Select, shares: Tensor | None
    ) -> Advance:
        """The next state, what was selected on the way, and the context as the readout wants it."""
        asks = state.asked
        if not self.decoder.looks_first:
            state = self.decoder.step(state, word_gates)
        asks = state.hidden if asks is None else asks
        weights, chosen = self.attention(memory, asks, select, shares)
        gate = self.decoder.gate(state.hidden)
        context = chosen.context if gate is None else gate * chosen.context
        context_gates, context = self.decoder.read(context, memory.projected)
        if self.decoder.looks_first:
            state = self.decoder.step(state, word_gates, context_gates)
        if self.attention.look == "first":
            state = state._replace(asked=asks)
        return Advance(state, weights, chosen, gate, context)

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

    def _select(
        self, name: str, part: tuple, noise: Noise | None, path: Tensor | None, q: Tensor | None = None
    ) -> Select:
        """The selection of some images, rows and steps, (n, r) or (n, r, t), the steps of a row after one another."""
        heads = self.settings.attention.heads

        def flat(given: Tensor) -> Tensor:
            return given[part].flatten(1, 2) if isinstance(part[2], slice) else given[part]

        if path is not None:
            return partial(selections.forced, glimpse=rows_of_heads(flat(path), heads), proposal=q)
        if name == "top-k":
            return partial(selections.top_k, top=self.settings.attention.top)
        if name in selections.SELECTIONS and name != "sample":
            return selections.SELECTIONS[name]
        if noise is None:
            raise ValueError("sampled attention needs noise: pass Noise.draw(...)")
        if name == "sample":
            soft = noise.soft[..., None].expand(noise.glimpse.shape[:3])
            glimpse, soft = (rows_of_heads(flat(given), heads) for given in (noise.glimpse, soft))
            return partial(selections.sample, noise=glimpse, soft=soft, proposal=q)
        if name == "straight-through":
            return partial(selections.straight_through, noise=flat(noise.glimpse))
        temperature = self.settings.estimator.relaxation
        return partial(selections.RELAXATIONS[name], noise=flat(noise.places), temperature=temperature)


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
