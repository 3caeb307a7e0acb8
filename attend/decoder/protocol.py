"""What the captioner needs of a decoder. A new one is a file, a row in ``DECODERS`` and a name in ``config.Decoder``.

The decoder asks: ``step`` calls ``look(query)`` whenever it wants to see the image, an LSTM before its update, a GRU
after. A state is a nest of tuples of tensors (N, R, ...).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from attend.attention.attention import Look, Memory, projected
from attend.attention.select import Policy


class Dropout(NamedTuple):
    """Factors (0 or 1 / (1 - p)) on the embeddings, the state and the deep output of each word; None is no dropout."""

    words: Tensor | None = None
    hidden: Tensor | None = None
    deep: Tensor | None = None


class Inputs(NamedTuple):
    """What the words alone decide, computed once for all M words: what the readout sees (M, E), what drives the state
    (M, I), and the dropout factors of the readout on state (M, H) and deep output (M, E)."""

    words: Tensor
    drive: Tensor | None
    drop_hidden: Tensor | None = None
    drop_deep: Tensor | None = None


class Word(NamedTuple):
    """What the readout reads: the state (N, R, H), the gated context, the gate (N, R, 1 or D) or None, and the look."""

    hidden: Tensor
    context: Tensor
    gate: Tensor | None
    look: Look


class Ask(Protocol):
    """``look(query)`` returns what attention selects for the queries (N, R, H), or what another ``policy`` selects.

    ``projected`` says whether contexts were selected from the decoder's maps of the features (``Decoder.memory``).
    """

    projected: bool

    def __call__(self, query: Tensor, policy: Policy | None = None) -> Look: ...


class Places(Protocol):
    """Where the M words of captions stand (``captioner.layout``)."""

    def unpack(self, packed: Tensor) -> Tensor:
        """(M, ...) -> (N, C, T, ...), 0 at padding."""

    def sequences(self, words: Tensor) -> tuple[Tensor | PackedSequence, Tensor | None]:
        """Words (M, E) as torch's recurrent layers read them, and the index that restores the order."""


class Decoder(Protocol):
    """Five methods; ``states`` and ``word`` as well if given captions need no loop over time under some policies.

    ``at_once`` has these policies: Policy, which is all of them, if no state depends on a glimpse; Expected, if states
    read the context and do not ask with it; or none. ``steady`` says whether a step is the same function at every
    place of a caption, of states of one shape. ``embedding`` and ``logits`` have a row per word.
    """

    at_once: tuple[type[Policy], ...]
    steady: bool
    embedding: nn.Embedding
    logits: nn.Linear

    def memory(self, memory: Memory, words: int = 0, *, readout: bool = False) -> Memory:
        """The memory, with values that cost less to read: the decoder's maps of a context, applied to the features.

        ``words`` is how many words will read it. With ``readout``, the values are what the readout alone reads.
        """

    def inputs(self, words: Tensor, place: Tensor, drop: Dropout | None = None) -> Inputs:
        """The inputs of M words that were said last, at their places in the captions (M,)."""

    def start(self, memory: Memory, rows: int) -> tuple:
        """The state before the first word, for R rows of each image."""

    def step(self, state: tuple, drive: Tensor, look: Ask) -> tuple[tuple, Word]:
        """The state one word further, and what the readout reads of it."""

    def states(self, memory: Memory, inputs: Inputs, places: Places, look: Ask) -> tuple | Tensor:
        """What ``word`` needs of all words of given captions: tensors (N, C, T, ...). ``look`` attends softly."""

    def word(self, state: tuple | Tensor, look: Ask) -> Word:
        """Ask for a glimpse per word; what the readout reads of it."""

    def readout(self, inputs: Inputs, hidden: Tensor, context: Tensor, projected: bool = False) -> Tensor:
        """Logits (..., V) of the next word."""


def start_embedding(embedding: nn.Embedding, largest: float) -> None:
    """Draw embeddings from U(-r, r)."""
    nn.init.uniform_(embedding.weight, -largest, largest)


def dropped(values: Tensor, factors: Tensor | None) -> Tensor:
    """The values after dropout."""
    return values if factors is None else values * factors


def cheaper_per_location(memory: Memory, words: int) -> bool:
    """Whether a map of every location is less work than of every word's context: three products per word (forward, and
    the gradients of both sides), or as many per location, two if the features are frozen."""
    return memory.features.shape[:2].numel() * (3 if memory.features.requires_grad else 2) < 3 * words


def mapped(memory: Memory, weight: Tensor, words: int, *, readout: bool) -> Memory:
    """The memory with W a_i as values, if that is less work than W z for each of the ``words``."""
    if memory.projected or memory.values is not memory.features:
        return memory
    if not readout and not cheaper_per_location(memory, words):
        return memory
    return projected(memory, F.linear(memory.features, weight))


def mean_feature(memory: Memory) -> Tensor:
    """The mean of the features over the locations that exist, (N, D)."""
    if memory.mask is None:
        return memory.features.mean(1)
    return (memory.features * memory.mask[..., None]).sum(1) / memory.mask.sum(1, keepdim=True)


class AsksOnce:
    """A decoder whose queries of the first word ask for all words, so that all have the weights of the first (weights
    "first").

    These queries, one for each time that a step looks, are a part of the state. The gate on the context still changes.
    """

    at_once = ()

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.memory, self.inputs, self.readout = decoder.memory, decoder.inputs, decoder.readout

    def start(self, memory: Memory, rows: int) -> tuple:
        return self.decoder.start(memory, rows), ()

    def step(self, state: tuple, drive: Tensor, look: Ask) -> tuple[tuple, Word]:
        before, asked = state
        again = _Again(look, asked)
        after, word = self.decoder.step(before, drive, again)
        return (after, again.queries), word


class _Again:
    """A look that keeps the queries of the first word. A repeated glimpse is not drawn again: its log-probability is
    0."""

    def __init__(self, look: Ask, asked: tuple[Tensor, ...]) -> None:
        self.look, self.asked, self.queries, self.projected = look, asked, (), look.projected

    def __call__(self, query: Tensor, policy: Policy | None = None) -> Look:
        if not self.asked:
            self.queries = (*self.queries, query)
            return self.look(query, policy)
        query = self.asked[len(self.queries)]
        self.queries = (*self.queries, query)
        found = self.look(query, policy)
        return found if found.log_prob is None else found._replace(log_prob=torch.zeros_like(found.log_prob))


def each(state: tuple | Tensor, do: Callable[[Tensor], Any]) -> Any:
    """The state, or any nest of tuples, with every tensor changed; a named tuple stays one."""
    if isinstance(state, Tensor):
        return do(state)
    parts = [each(part, do) for part in state]
    return state._make(parts) if hasattr(state, "_make") else tuple(parts)


def first_of(state: tuple | Tensor, images: int, rows: int) -> tuple | Tensor:
    """The state of the first images and rows, by view; the state itself if that is all of it."""
    return each(state, lambda part: part if part.shape[:2] == (images, rows) else part[:images, :rows])


def rows_of(state: tuple | Tensor, rows: Tensor, images: Tensor | None = None) -> tuple | Tensor:
    """The state of rows (N, K) of each image."""
    images = torch.arange(len(rows), device=rows.device)[:, None] if images is None else images
    return each(state, lambda part: part[images, rows])


def stacked(states: Sequence) -> tuple | Tensor:
    """The rows (n, r, ...) of several states as one column: (sum n r, 1, ...)."""
    if isinstance(states[0], Tensor):
        return torch.cat([part.flatten(0, 1) for part in states])[:, None]
    return tuple(stacked(parts) for parts in zip(*states, strict=True))
