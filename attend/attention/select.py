"""Select: the context that the weights pick, z = phi(a, alpha). Soft and hard attention differ here only.

    Expected()       soft attention: z = sum_i alpha_i a_i
    Sample(noise)    hard attention: s ~ Categorical(alpha), z = a_s

A policy is called with values (N, L, D), weights (N, R, L), the step ``at`` and the query that asked, and returns a
``Selection``. What is given for every word of a caption, as the noise (N, R, T), is cut to the words of ``at``. Without
``at``, as in a model of your own, it is given for exactly the words of the weights, as noise (N, R).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from attend import kernels


class Selection(NamedTuple):
    """context z (N, R, D); glimpse s (N, R), -1 where a row has none; log alpha(s) (N, R), 0 where a row has none.

    Glimpse and log-probability are None if no row has any. ``proposal`` q (N, R, L) is given if s was drawn from it:
    then the log-probability is log q(s).
    """

    context: Tensor
    glimpse: Tensor | None = None
    log_prob: Tensor | None = None
    proposal: Tensor | None = None


class At(Protocol):
    """The words that are asked for: their place ``t`` in the captions, and their part of a given tensor."""

    t: int | Tensor

    def cut(self, given: Tensor | None) -> Tensor | None: ...


class Policy:
    """How the weights of a word pick what is read.

    ``picks`` says whether a policy may read something else than the mean under the weights: then a decoder that is fed
    the expected context (``feed: expected``) shows the selection to its readout alone, by ``read``. ``steady`` says
    whether all words are picked for in the same way: nothing is given for each word.
    """

    picks = True
    steady = False

    def __call__(self, values: Tensor, weights: Tensor, at: At | None = None, query: Tensor | None = None) -> Selection:
        raise ValueError(f"{type(self).__name__} needs a decoder that is fed the expected context (feed 'expected')")

    def along(self, path: Tensor) -> "Policy":
        """The policy that picks what this one has picked, glimpses (N, R, T); itself if it picks no glimpses."""
        return self

    def read(self, unrolled: Any, samples: int = 1) -> Any:
        """The readout of an unrolled caption under this policy, ``samples`` times for each word."""
        return unrolled.glimpsed(self, samples)


def cut(given: Tensor | None, at: At | None) -> Tensor | None:
    """The part of what is given that belongs to the words of ``at``."""
    return given if at is None else at.cut(given)


def _by_row(given: Tensor, at: At | None, weights: Tensor, name: str) -> Tensor:
    """The part (N, R) of what is given that belongs to the words of ``at``. ValueError if there is no ``at`` and it has
    another shape."""
    part = cut(given, at)
    if at is None and part.shape != weights.shape[:2]:
        raise ValueError(
            f"{name} is {tuple(part.shape)}, but must have one number for each row of the weights (N, R), "
            f"{tuple(weights.shape[:2])}"
        )
    return part


@dataclass(frozen=True)
class Expected(Policy):
    """Soft attention: z = sum_i alpha_i a_i. Source: Xu et al. (2015), equation 8."""

    picks = False
    steady = True

    def __call__(self, values, weights, at=None, query=None):
        return Selection(mean(values, weights))


@dataclass(frozen=True)
class TopK(Policy):
    """The expected context under the ``top`` largest weights, z = sum_kept alpha_i a_i / sum_kept alpha_i.

    It is deterministic, and the kept weights have a gradient (a single one has none). Among equal weights torch chooses
    which are kept. With ``top`` of L or more it is ``Expected``. The recorded weights are alpha before the cut.
    """

    steady = True
    top: int = 4

    def __call__(self, values, weights, at=None, query=None):
        if self.top >= weights.shape[-1]:
            return Selection(mean(values, weights))
        kept, places = weights.topk(self.top, dim=-1)
        kept = torch.zeros_like(weights).scatter(-1, places, kept / kept.sum(-1, keepdim=True).clamp(min=1e-12))
        return Selection(mean(values, kept))


@dataclass(frozen=True)
class Argmax(Policy):
    """Hard attention without sampling: the location with the largest weight. For decoding; alpha gets no gradient."""

    steady = True

    def __call__(self, values, weights, at=None, query=None):
        return glimpsed(values, weights, weights.argmax(-1))


@dataclass(frozen=True)
class Sample(Policy):
    """Hard attention: s ~ Categorical(alpha), drawn with ``noise`` (N, R, T), uniform in [0, 1).

    The context z has no gradient in s. The log-probability of the selection, log alpha(s), has one: an estimator as
    ``attend.estimators.reinforce_loss`` learns from it.

    Rows marked in ``soft`` (N, R, T) take the expected context instead (semi-sampling). With a ``proposal``, a function
    of the query and ``at``, s is drawn from its weights q.

    Source: Xu et al. (2015), equations 5 and 6, and section 4.1 for semi-sampling.
    """

    noise: Tensor
    soft: Tensor | None = None
    proposal: Callable[[Tensor, At], Tensor] | None = None

    def along(self, path):
        return Forced(path, proposal=self.proposal)

    def __call__(self, values, weights, at=None, query=None):
        q = None if self.proposal is None else self.proposal(query, at)
        hard, soft = drawn(values, weights, _by_row(self.noise, at, weights, "noise"), q), cut(self.soft, at)
        if soft is None:
            return hard
        return Selection(
            torch.where(soft[..., None], mean(values, weights), hard.context),
            torch.where(soft, -1, hard.glimpse),
            torch.where(soft, 0.0, hard.log_prob),
            q,
        )


@dataclass(frozen=True)
class Forced(Policy):
    """Hard attention along a given ``path`` (N, R, T); from word ``until`` on the policy ``then`` selects.

    log alpha(s) has a gradient. z has none in s.
    """

    path: Tensor
    until: int | None = None
    then: Policy | None = None
    proposal: Callable[[Tensor, At], Tensor] | None = None

    def __call__(self, values, weights, at=None, query=None):
        if self.until is None:
            return self._along(values, weights, at, query)
        if isinstance(at.t, int):
            chosen = (self._along if at.t < self.until else self.then)(values, weights, at, query)
            if chosen.glimpse is not None:
                return chosen
            none = weights.new_zeros(weights.shape[:2])
            return chosen._replace(glimpse=none.long() - 1, log_prob=none)
        forced = at.t < self.until  # words of several places at once
        pairs = zip(self._along(values, weights, at, query), self.then(values, weights, at, query), strict=True)
        return Selection(*(_either(forced, one, other) for one, other in pairs))

    def _along(self, values, weights, at, query):
        q = None if self.proposal is None else self.proposal(query, at)
        return glimpsed(values, weights, _by_row(self.path, at, weights, "path"), q)


@dataclass(frozen=True)
class Relaxed(Policy):
    """Gumbel-softmax: z = sum_i r_i a_i, r = softmax((log alpha + gumbel) / tau_g), with ``noise`` (N, R, T, L).

    The largest r_i is at i with probability alpha_i at every temperature. It is the glimpse.

    Source: Jang et al. (2017); Maddison et al. (2017).
    """

    noise: Tensor
    temperature: float = 1.0

    def __call__(self, values, weights, at=None, query=None):
        relaxed = relaxation(weights, cut(self.noise, at), self.temperature)
        largest = relaxed.argmax(-1)
        return Selection(mean(values, relaxed), largest, log_at(weights, largest))


@dataclass(frozen=True)
class StraightThrough(Policy):
    """Forward the glimpse of ``Sample``, with ``noise`` (N, R, T); backward z = sum_i alpha_i a_i. Biased.

    Source: Bengio et al. (2013).
    """

    noise: Tensor

    def __call__(self, values, weights, at=None, query=None):
        drawn = draw(weights.detach(), _by_row(self.noise, at, weights, "noise"))
        return _through(values, weights, weights, drawn)


@dataclass(frozen=True)
class GumbelStraightThrough(Policy):
    """Forward the glimpse of ``Relaxed``, backward as ``Relaxed``. Biased. Source: Jang et al. (2017)."""

    noise: Tensor
    temperature: float = 1.0

    def __call__(self, values, weights, at=None, query=None):
        relaxed = relaxation(weights, cut(self.noise, at), self.temperature)
        return _through(values, weights, relaxed, relaxed.argmax(-1))


def mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum_i alpha_i a_i: values (N, L, D), weights (N, R, L) -> (N, R, D)."""
    return weights.to(values.dtype) @ values


def glimpsed(values: Tensor, weights: Tensor, glimpse: Tensor, proposal: Tensor | None = None) -> Selection:
    """z = a_s for glimpses s (N, R), with log alpha(s), or log q(s) if s was drawn from a proposal q (N, R, L)."""
    source = weights if proposal is None else proposal
    return Selection(_at(values, glimpse), glimpse, log_at(source, glimpse), proposal)


def drawn(values: Tensor, weights: Tensor, noise: Tensor, proposal: Tensor | None = None) -> Selection:
    """The same for a glimpse that ``noise`` (N, R) draws from alpha, or from a proposal. On CUDA glimpse and
    log-probability are one kernel (``attend.kernels.draw``)."""
    source = weights if proposal is None else proposal
    if not kernels.run_on(weights):
        return glimpsed(values, weights, draw(source.detach(), noise), proposal)
    from attend.kernels.draw import draw_glimpse  # it needs Triton

    glimpse, log_prob = draw_glimpse(source, noise)
    return Selection(_at(values, glimpse), glimpse, log_prob, proposal)


def log(weights: Tensor) -> Tensor:
    """log alpha. At an exact zero: the logarithm of the smallest normal number, without a gradient, so 0 log 0 is 0."""
    return weights.clamp(min=torch.finfo(weights.dtype).tiny).log()


def log_at(weights: Tensor, glimpse: Tensor) -> Tensor:
    """log alpha(s): weights (..., L), glimpses (...) -> (...)."""
    return log(weights.gather(-1, glimpse[..., None]).squeeze(-1))


def draw(weights: Tensor, noise: Tensor) -> Tensor:
    """Categorical(weights) (..., K) by inverting its distribution function at ``noise`` (...) in [0, 1)."""
    reached = weights.cumsum(-1)
    return (reached <= noise[..., None] * reached[..., -1:]).sum(-1).clamp(max=weights.shape[-1] - 1)


def relaxation(weights: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """softmax((log alpha + gumbel) / tau_g), gumbel = -log(-log noise): (..., L)."""
    return torch.softmax((log(weights) + gumbel(noise).to(weights.dtype)) / temperature, -1)


def gumbel(noise: Tensor) -> Tensor:
    """-log(-log u): Gumbel variables from uniform ones in [0, 1)."""
    return -torch.log(-torch.log(noise.clamp(min=torch.finfo(noise.dtype).tiny)))


def _at(values: Tensor, glimpse: Tensor) -> Tensor:
    """a_s: values (N, L, D), glimpses (N, R) -> (N, R, D)."""
    return values.gather(1, glimpse[..., None].expand(-1, -1, values.shape[-1]))


def _through(values: Tensor, weights: Tensor, relaxed: Tensor, glimpse: Tensor) -> Selection:
    """Forward exactly a_s, backward the gradient of sum_i relaxed_i a_i."""
    forward = torch.zeros_like(relaxed).scatter(-1, glimpse[..., None], 1.0) + (relaxed - relaxed.detach())
    return Selection(mean(values, forward), glimpse, log_at(weights, glimpse))


def _either(first: Tensor, one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """``one`` where ``first`` (R,) says so, else ``other``: (N, R, ...). A policy without glimpses has -1 and 0."""
    if one is None:
        return None
    if other is None:
        other = torch.full_like(one, 0 if one.is_floating_point() else -1)
    return torch.where(first.view(-1, *[1] * (one.ndim - 2)), one, other)
