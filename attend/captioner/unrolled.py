"""Given captions after a pass: what the readout says, and what more can be read out at the same states.

    u.logits                        from the contexts that the state read too             (feed: glimpse)
    u.glimpsed(policy, samples)     K glimpses per word that the readout alone sees       (feed: expected)
    EveryLocation().read(u)         one readout per location: enumeration
    Marginal().read(u)              log sum_i alpha_i p(y | i): the marginal
    u.again(weights)                each word once more under other weights: control variates

Source: Deng et al. (2018), section 3, for the readouts of a state that is fed the expected context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attend.attention.attention import Look, Memory
from attend.attention.select import Policy, Selection, log, mean
from attend.attention.simplex import at_least_fp32
from attend.captioner.costs import word_costs
from attend.captioner.layout import Layout, Step, Whole
from attend.decoder.protocol import Decoder, Inputs, Word, each, stacked

LOGITS = 2**24
"""Logits that are computed at once: 64 MiB of fp32, and a few times that in the softmax and its gradient."""
KEPT = 2**27
"""Logits of a minibatch that are kept for the gradient: 512 MiB of fp32. If there are more, none is."""


class Readout:
    """What the readout says of M words in N images x R rows x T words.

    The attributes of the maps (weights, gates, queries, proposal) are those of the pass that attended, ``maps``: it has
    one row per caption if the samples of a caption are readouts of one row.

    Attributes:
        layout: where the M words stand.
        maps: the pass whose attention maps these are.
        targets: (M,), the words to predict.
        logits: (M, V); None if only costs were computed.
        glimpse, log_prob: (M,), s and log alpha(s), or log q(s) if s was drawn from a ``proposal`` q (M, L).
    """

    glimpse = log_prob = proposal = None

    @cached_property
    def cost(self) -> Tensor:
        """-log p(y) of each word, (M,) in nats; 0 at padding."""
        costs = word_costs(self.logits, self.targets)
        return costs if self.layout.mask is None else costs * self.layout.mask

    def ready(self) -> Readout:
        """The same readout. Its logits and costs are computed now, in the precision and gradient mode of the caller."""
        self.cost  # noqa: B018
        return self

    @property
    def ranks(self) -> Tensor:
        """How many words are more likely than each real word, (M,). 0 is a correct guess; -1 at padding."""
        logits = self.logits.detach()
        ranks = (logits > logits.gather(1, self.targets[:, None])).sum(1)
        return ranks if self.layout.mask is None else torch.where(self.layout.mask, ranks, -1)

    def under(self, weights: Tensor) -> Tensor:
        """Logits (M, V) of each word alone under other weights (N, R, T, L), all before it as it was."""
        raise ValueError(f"{type(self).__name__} has no context that other weights could give: use another decoding")

    def again(self, weights: Tensor) -> Tensor:
        """-log p(y) of each word alone under other weights (N, R, T, L): (N, R, T)."""
        return self.spread(word_costs(self.under(weights), self.targets))

    @property
    def samples(self) -> int:
        """K, the rows of each caption."""
        return self.layout.samples

    @property
    def real(self) -> Tensor:
        """(N, R, T) whether a word is real."""
        return self.layout.real

    def spread(self, values: Tensor) -> Tensor:
        """Values of the words (M, ...) at their places: (N, R, T, ...), 0 at padding."""
        return self.layout.unpack(values)

    @cached_property
    def costs(self) -> Tensor:
        """-log p(y) in nats, (N, R, T), 0 at padding."""
        return self.spread(self.cost)

    @cached_property
    def glimpses(self) -> Tensor:
        """s (N, R, T), -1 for a word without glimpse, 0 at padding."""
        if self.glimpse is None:
            return -self.real.long()
        return self.spread(self.glimpse)

    @cached_property
    def log_probs(self) -> Tensor:
        """log alpha(s), or log q(s) if s was drawn from a proposal, (N, R, T); 0 where there is no glimpse."""
        if self.log_prob is None:
            return torch.zeros(self.real.shape, dtype=self.maps.alpha.dtype, device=self.real.device)
        return self.spread(self.log_prob)

    @property
    def weights(self) -> Tensor:
        """alpha (N, R or C, T, L), 0 at padding."""
        return self.maps.spread_alpha

    @property
    def gates(self) -> Tensor:
        """beta (N, R or C, T): the mean over features of a vector gate, 1 without a gate."""
        gate = self.maps.gate
        shown = torch.ones_like(self.maps.alpha[:, 0]) if gate is None else gate.mean(-1)
        return self.maps.spread(shown)

    @property
    def looks(self) -> int:
        """Maps of each caption: K, or 1 if its samples share them."""
        return self.maps.layout.samples


@dataclass(frozen=True, kw_only=True)
class Unrolled(Readout):
    """A pass: ``seen`` has each step, the state before it and its ``Word``; ``inputs`` are those of the M words, but
    for what drives the state: ``drive`` computes it again, since it is large and few ask for it.

    Values of the words are packed (M, ...) when they are first asked for.
    """

    decoder: Decoder
    memory: Memory
    layout: Layout
    inputs: Inputs
    targets: Tensor
    seen: tuple
    drive: Callable[[], Tensor]

    def _packed(self, part: Callable[[Word], Tensor | None]) -> Tensor | None:
        parts = [part(word) for _, _, word in self.seen]
        if parts[0] is None:
            return None
        at = self.seen[0][0]
        return at.pack(parts[0]) if isinstance(at, Whole) else self.layout.join(parts)

    @property
    def maps(self) -> Unrolled:
        return self

    @cached_property
    def hidden(self) -> Tensor:
        """The states that the words are read out from, (M, H)."""
        return self._packed(lambda word: word.hidden)

    @cached_property
    def gate(self) -> Tensor | None:
        return self._packed(lambda word: word.gate)

    @cached_property
    def alpha(self) -> Tensor:
        """(M, L)."""
        return self._packed(lambda word: word.look.weights)

    @cached_property
    def spread_alpha(self) -> Tensor:
        """(N, R, T, L)."""
        return self.spread(self.alpha)

    @cached_property
    def query(self) -> Tensor:
        """What attention was asked with, (M, H)."""
        return self._packed(lambda word: word.look.query)

    @cached_property
    def glimpse(self) -> Tensor | None:
        return self._packed(lambda word: word.look.glimpse)

    @cached_property
    def log_prob(self) -> Tensor | None:
        return self._packed(lambda word: word.look.log_prob)

    @cached_property
    def proposal(self) -> Tensor | None:
        """q (M, L), if glimpses were drawn from it."""
        return self._packed(lambda word: word.look.proposal)

    @cached_property
    def logits(self) -> Tensor:
        context = self._packed(lambda word: word.context)
        return self.decoder.readout(self.inputs, self.hidden, context, self.memory.projected)

    def under(self, weights: Tensor) -> Tensor:
        """As of every readout. If states depend on glimpses, the pass must have gone word by word."""
        context = self.layout.pack(_mean_of(self.memory.values, weights))
        if Policy in self.decoder.at_once:
            hidden, context = self.hidden, context * (1 if self.gate is None else self.gate)
        else:
            hidden, context = self._stepped(context)
        return self.decoder.readout(self.inputs, hidden, context, self.memory.projected)

    def _stepped(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """A step of each word alone under a context (M, ...): the state, and the gated context. Steps whose states have
        one shape are one call of the decoder."""
        drives, contexts = (self.layout.spread(part) for part in (self.drive(), context))

        def row(part: Tensor) -> tuple[int, ...]:
            return tuple(part.shape[2:])

        words = []
        for _, some in groupby(zip(self.seen, drives, contexts, strict=True), lambda step: each(step[0][1], row)):
            seen, *parts = zip(*some, strict=True)
            drive, fixed = (stacked(part) for part in parts)
            before = stacked([before for _, before, _ in seen])
            words.append(self.decoder.step(before, drive, _Fixed(fixed, self.memory.projected))[1])
        return self.layout.join([word.hidden for word in words]), self.layout.join([word.context for word in words])

    def glimpsed(self, policy: Policy, samples: int = 1) -> Glimpsed:
        """K glimpses per word that the readout alone sees, from the weights as they are."""
        memory, layout = self.decoder.memory(self.memory, readout=True), self.layout.sampled(samples)
        weights, query = (_rows(part, samples).flatten(1, 2) for part in (self.weights, self.spread(self.query)))
        step = self.seen[0][0]
        single = layout.length == 1 and isinstance(step, Step)  # search: ``policy`` has the words of all steps
        at = Step(step.t, layout.images, layout.rows) if single else Whole(layout)
        chosen = policy(memory.values, weights, at, query)
        shape = (layout.rows, layout.length)
        chosen = Selection(*(None if part is None else layout.pack(part.unflatten(1, shape)) for part in chosen))
        return Glimpsed(maps=self, layout=layout, memory=memory, chosen=chosen)

    def at_every_location(self, function: Callable[[Tensor, Tensor], Tensor], given: Tensor) -> Tensor:
        """function(logits (m, L, V), given (m, ...)) -> (m, ...) for some words at a time: (M, ...).

        Memory is bounded by KEPT and LOGITS, whatever the minibatch: if there are too many logits to keep, they are
        computed again for the gradient.
        """
        memory = self.decoder.memory(self.memory, readout=True)
        hidden, gate = self.hidden, self.gate  # packed here, since a checkpoint repeats all that is computed in it
        per_word = memory.values.shape[1] * self.decoder.logits.out_features
        again = per_word * len(self.targets) > KEPT

        def read(words: Tensor, values: Tensor) -> Tensor:
            context = values if gate is None else gate[words, None] * values
            inputs = Inputs(*(None if part is None else part[words, None] for part in self.inputs))
            logits = self.decoder.readout(inputs, hidden[words, None], context, memory.projected)
            return function(logits, given[words])

        pieces, order = self.layout.by_image(max(1, LOGITS // per_word))
        found = []
        for image, words in pieces:
            values = memory.values[image : image + 1]
            if again:
                found.append(checkpoint(read, words, values, use_reentrant=False, preserve_rng_state=False))
            else:
                found.append(read(words, values))
        return torch.cat(found).index_select(0, order)


@dataclass(frozen=True, kw_only=True)
class Glimpsed(Readout):
    """Readouts of K glimpses per word at the states of ``maps``, which has read none of them."""

    maps: Unrolled
    layout: Layout
    memory: Memory
    chosen: Selection

    @cached_property
    def targets(self) -> Tensor:
        return self.layout.repeat(self.maps.targets, self._several)

    @property
    def glimpse(self) -> Tensor | None:
        return self.chosen.glimpse

    @property
    def log_prob(self) -> Tensor | None:
        return self.chosen.log_prob

    @property
    def proposal(self) -> Tensor | None:
        return self.chosen.proposal

    @cached_property
    def logits(self) -> Tensor:
        return self._logits(self.chosen.context)

    def under(self, weights: Tensor) -> Tensor:
        """As of every readout."""
        return self._logits(self.layout.pack(_mean_of(self.memory.values, weights)))

    @property
    def _several(self) -> int:
        return self.layout.samples // self.maps.layout.samples

    def _logits(self, context: Tensor) -> Tensor:
        """Contexts (M K, ...) -> (M K, V). What no glimpse changes is computed once per word."""
        maps = self.maps
        context = context.unflatten(0, (-1, self._several))
        context = context if maps.gate is None else maps.gate[:, None] * context
        inputs = Inputs(*(None if part is None else part[:, None] for part in maps.inputs))
        return maps.decoder.readout(inputs, maps.hidden[:, None], context, self.memory.projected).flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Mixture(Readout):
    """The marginal: logits are log sum_i alpha_i p(. | glimpse at i), (M, V). A word has no glimpse."""

    maps: Unrolled

    @property
    def layout(self) -> Layout:
        return self.maps.layout

    @property
    def targets(self) -> Tensor:
        return self.maps.targets

    @cached_property
    def logits(self) -> Tensor:
        def mixed(logits: Tensor, weights: Tensor) -> Tensor:
            log_p = torch.log_softmax(at_least_fp32(logits), -1)
            return torch.logsumexp(log_p + log(weights)[..., None], 1)

        return self.maps.at_every_location(mixed, self.maps.alpha)


@dataclass(frozen=True, kw_only=True)
class Everywhere(Readout):
    """Every location is a sample, K = L: costs of the word under each glimpse, and no logits."""

    maps: Unrolled
    logits = None

    @cached_property
    def layout(self) -> Layout:
        return self.maps.layout.sampled(self.maps.alpha.shape[-1])

    @cached_property
    def targets(self) -> Tensor:
        return self.layout.repeat(self.maps.targets, self.maps.alpha.shape[-1])

    @cached_property
    def cost(self) -> Tensor:
        def costs(logits: Tensor, targets: Tensor) -> Tensor:
            targets = targets[:, None].expand(logits.shape[:2])
            return word_costs(logits.flatten(0, 1), targets.flatten()).view(targets.shape)

        found = self.maps.at_every_location(costs, self.maps.targets).flatten()
        return found if self.layout.mask is None else found * self.layout.mask

    @cached_property
    def glimpse(self) -> Tensor:
        words, locations = self.maps.alpha.shape
        return torch.arange(locations, device=self.maps.alpha.device).repeat(words)

    @cached_property
    def log_prob(self) -> Tensor:
        return log(self.maps.alpha).flatten()


class Marginal(Policy):
    """p(y) = sum_i alpha_i p(y | glimpse at i), for a decoder that is fed the expected context."""

    steady = True

    def read(self, unrolled: Unrolled, samples: int = 1) -> Mixture:
        return Mixture(maps=unrolled)


class EveryLocation(Policy):
    """All L glimpses of a word, for a decoder that is fed the expected context."""

    def read(self, unrolled: Unrolled, samples: int = 1) -> Everywhere:
        return Everywhere(maps=unrolled)


class _Fixed:
    """A look whose context is given."""

    def __init__(self, context: Tensor, projected: bool) -> None:
        self.found, self.projected = Look(None, context, None, None, None, None, None), projected

    def __call__(self, query: Tensor, policy: Policy | None = None) -> Look:
        return self.found


def _mean_of(values: Tensor, weights: Tensor) -> Tensor:
    """sum_i alpha_i a_i: values (N, L, D), weights (N, R, T, L) -> (N, R, T, D)."""
    return mean(values, weights.flatten(1, 2)).unflatten(1, weights.shape[1:3])


def _rows(values: Tensor, samples: int) -> Tensor:
    """Each row of (N, R, ...) ``samples`` times, adjacent."""
    return values if samples == 1 else values.repeat_interleave(samples, 1)
