"""The captioner: attention and decoder unrolled over given captions, and one step of it for search."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from attend.attention.attention import Attention, Look, Memory
from attend.attention.select import Argmax, At, Expected, Policy, Sample, TopK
from attend.captioner.layout import Layout, OnDevice, Whole
from attend.captioner.replay import Replays
from attend.captioner.unrolled import Marginal, Readout, Unrolled
from attend.data.text import SPECIALS, START
from attend.decoder.protocol import AsksOnce, Decoder, Dropout, Inputs, each
from attend.kernels.maps import together

SOFT = Expected()
BUCKET = 4
"""Words that the length of a padded minibatch is a multiple of."""


@dataclass(frozen=True)
class Looking:
    """``look(query)`` of one step: attention over the memory under a policy."""

    attention: Attention
    memory: Memory
    policy: Policy
    at: At
    shown: Tensor | None = None

    @property
    def projected(self) -> bool:
        return self.memory.projected

    def __call__(self, query: Tensor, policy: Policy | None = None) -> Look:
        return self.attention(self.memory, query, policy or self.policy, self.at, self.at.cut(self.shown))


@dataclass(frozen=True)
class Once(Policy):
    """A policy that picks as for the first word at every word: its noise is the first word's."""

    policy: Policy

    def __call__(self, values, weights, at=None, query=None):
        return self.policy(values, weights, at.start, query)


class Captioner(nn.Module):
    """Features (N, L, D) and words -> the probability of each word, and where the model looked for it.

    ``feed`` says what the decoder reads of a policy that picks glimpses: the ``glimpse`` (Xu et al., 2015), or the
    ``expected`` context, so that the readout alone sees the glimpse (Deng et al., 2018). ``padded`` chooses the layout
    of a minibatch; None pads on a GPU and packs elsewhere. With ``replays``, beam search captures its words.

    If attention is frozen at its ``first`` glimpse, the query of the first word asks for all words, so all have its
    weights (to rounding). Hard attention then draws one glimpse per caption, with the first word's noise: the first
    word alone has a log-probability, and REINFORCE is the gradient of a bound over L paths.
    """

    def __init__(self, attention: Attention, decoder: Decoder, *, feed: str = "glimpse") -> None:
        super().__init__()
        self.attention, self.decoder, self.feed = attention, decoder, feed
        self.padded: bool | None = None
        self.replays: Replays | None = None

    def forward(
        self,
        features: Tensor,
        words: Tensor,
        lengths: Tensor | OnDevice,
        policy: Policy = SOFT,
        *,
        samples: int = 1,
        **more,
    ) -> Readout:
        """Unroll given captions under a policy, ``samples`` times each; ``more`` is for ``unroll``.

        The samples of a caption are adjacent rows. Fed the expected context, they are readouts of one row.
        """
        fed, read = self._split(policy)
        if read is None:
            u: Readout = self.unroll(features, words, lengths, fed, samples=samples, **more)
        else:
            u = read.read(self.unroll(features, words, lengths, fed, **more), samples)
        return u.ready()

    def unroll(
        self,
        features: Tensor,
        words: Tensor,
        lengths: Tensor | OnDevice,
        policy: Policy,
        *,
        samples: int = 1,
        drop: Dropout | None = None,
        shown: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Unrolled:
        """Unroll given captions; the decoder reads what ``policy`` selects.

        Args:
            features: (N, L, D).
            words: (N, C, T), the words to predict: each caption, the end mark, padding.
            lengths: (N, C) on the host, real words of each row with the end mark; 0 for a row that is all padding.
            policy: how glimpses are chosen (``attention.select``); what it is given has K rows for each caption.
            samples: K, rows for each caption.
            drop: dropout factors (N, C, T, ...), shared by the samples of a caption.
            shown: (N, C, T, L), the input of a control for each word, as the boxes of the oracle.
            mask: (N, L), the locations that exist.
        """
        padded = words.device.type == "cuda" if self.padded is None else self.padded
        once = Layout.of(lengths, words.shape[2], device=words.device, bucket=BUCKET if padded else 0)
        layout = once
        if samples > 1:
            layout = Layout.of(lengths, words.shape[2], samples, device=words.device, bucket=BUCKET if padded else 0)
        memory = self.decoder.memory(self.attention.memory(features, mask), layout.words)
        previous = torch.cat([torch.full_like(words[..., :1], SPECIALS.index(START)), words[..., :-1]], dim=-1)
        drop = None if drop is None else Dropout(*map(once.pack, drop))
        read = partial(self.decoder.inputs, once.pack(previous), once.place, drop)
        inputs = read()
        rows = Inputs(*(once.repeat(part, samples) for part in inputs))
        if isinstance(policy, self.decoder.at_once) and self.attention.look != "first" and layout.words:
            soft = Looking(self.attention, memory, SOFT, Whole(once), shown)
            seen = self._all_at_once(soft, inputs, once, policy, layout)
        else:
            shown = None if shown is None else shown.repeat_interleave(samples, 1)
            with together(self, features.device):
                seen = list(self._one_by_one(Looking(self.attention, memory, policy, layout, shown), rows, layout))
        return Unrolled(
            decoder=self.decoder, memory=memory, layout=layout, seen=tuple(seen), inputs=rows._replace(drive=None),
            drive=lambda: once.repeat(read().drive, samples), targets=once.repeat(once.pack(words), samples),
        )  # fmt: skip

    def _one_by_one(self, looks: Looking, inputs: Inputs, layout: Layout):
        """Each step, the state before it, and what the readout reads of it."""
        decoder, policy = self._asking(looks.policy)
        memory, state = looks.memory, decoder.start(looks.memory, layout.rows)
        for at, drive in zip(layout.steps, layout.spread(inputs.drive), strict=True):
            memory, before = memory.first(at.images), at.first(state)
            state, word = decoder.step(before, drive, Looking(looks.attention, memory, policy, at, looks.shown))
            yield at, before, word

    def _all_at_once(self, soft: Looking, inputs: Inputs, once: Layout, policy: Policy, layout: Layout):
        """The same without a loop over time, if the decoder can do so under the policy (``Decoder.at_once``)."""

        def of_samples(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.repeat_interleave(layout.samples, 1)

        states = self.decoder.states(soft.memory, inputs, once, soft)
        states = each(states, lambda part: of_samples(part).flatten(1, 2))  # (N, R T, ...)
        whole = Whole(layout)
        look = replace(soft, policy=policy, at=whole, shown=of_samples(soft.shown))
        return [(whole, None, self.decoder.word(states, look))]

    def _asking(self, policy: Policy) -> tuple[Decoder, Policy]:
        """The decoder and the policy; frozen at the first glimpse, both keep to the first word."""
        if self.attention.look == "first":
            return AsksOnce(self.decoder), Once(policy)
        return self.decoder, policy

    @property
    def apart(self) -> bool:
        """Whether a glimpse bears on its own word alone, since the decoder reads the expected context."""
        return self.feed == "expected"

    def _split(self, policy: Policy) -> tuple[Policy, Policy | None]:
        """The policy whose context the decoder reads, and one for the readout alone if that differs."""
        return (SOFT, policy) if self.apart and policy.picks else (policy, None)

    def start(self, features: Tensor, words: int = 0) -> tuple[Memory, tuple]:
        """What search begins with: the memory of the images, and the state before the first word of one row each.

        ``words`` is about how many words will be generated.
        """
        memory = self.decoder.memory(self.attention.memory(features), words)
        return memory, self._asking(SOFT)[0].start(memory, 1)

    def steady(self, policy: Policy, shown: Tensor | None) -> bool:
        """Whether ``step`` is one function of the state and the words, whichever word of a caption it is."""
        steady = policy.steady and getattr(self.decoder, "steady", False)
        return steady and shown is None and self.attention.look != "first"

    def step(
        self, memory: Memory, state: tuple, words: Tensor, policy: Policy, t: int = 0, shown: Tensor | None = None
    ) -> tuple[tuple, Readout]:
        """Word ``t`` for R rows of each image, after the words (N, R): the next state, and the readout of one word.

        What the policy and the control (``shown``) are given has the words of all steps, (N, R', T, ...), R' >= R.
        """
        layout = Layout.full(*words.shape, words.device, t)
        (at,), (fed, read) = layout.steps, self._split(policy)
        inputs = self.decoder.inputs(words.flatten(), layout.place)
        decoder, fed = self._asking(fed)
        state, word = decoder.step(
            state, layout.spread(inputs.drive)[0], Looking(self.attention, memory, fed, at, shown)
        )
        unrolled = Unrolled(
            decoder=self.decoder, memory=memory, layout=layout, seen=((at, None, word),), inputs=inputs,
            drive=lambda: inputs.drive, targets=words,
        )  # fmt: skip
        return state, unrolled if read is None else read.read(unrolled, 1)


DECODINGS = {
    "expected": lambda top, noise, soft: SOFT,
    "top-k": lambda top, noise, soft: TopK(top),
    "argmax": lambda top, noise, soft: Argmax(),
    "sample": lambda top, noise, soft: Sample(noise, soft),
    "marginal": lambda top, noise, soft: Marginal(),
}
"""The policies of decoding by name."""


def decoding(name: str, top: int = 4, noise: Tensor | None = None, soft: Tensor | None = None) -> Policy:
    """The policy of a way of decoding, by its name. ``sample`` needs noise (N, R, T)."""
    if name == "sample" and noise is None:
        raise ValueError("sampled attention needs noise in [0, 1): pass noise")
    return DECODINGS[name](top, noise, soft)
