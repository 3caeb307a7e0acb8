"""What an estimator reads, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from attend.captioner.unrolled import Readout
    from attend.estimators.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Paths:
    """K paths of every caption. All tensors are (..., K, T) and constants, if nothing else is said.

    costs: l_t in nats, 0 at padding.
    log_probs: log alpha_t(s_t), 0 where nothing was chosen.
    real: which words exist.
    sampled: which words have a glimpse (semi-sampling leaves some out).
    rollout: costs of a pass without samples (..., 1, T), or (..., K, T, T) of one from before each word, if the
        baseline asks for them.
    level: the critic's predicted cost per charged word, with its gradient.
    kl: KL(q || alpha) of each word with its gradient, if glimpses were drawn from q.
    apart: whether a glimpse bears on its own word alone (``attention.feed: expected``). Then every word is a caption of
        its own, with K paths of one glimpse.
    unrolled, noise, learned: the pass, its noise and the rule's own network, for rules that need more.
    """

    costs: Tensor
    log_probs: Tensor
    real: Tensor
    sampled: Tensor
    rollout: Tensor | None = None
    apart: bool = False
    level: Tensor | None = None
    kl: Tensor | None = None
    unrolled: Readout | None = None
    noise: Noise | None = None
    learned: nn.Module | None = None

    def whole(self, values: Tensor) -> Tensor:
        """The sum of a path, (..., K, 1); of each word, (..., K, T), if words are apart."""
        return values if self.apart else values.sum(-1, keepdim=True)

    @property
    def cost(self) -> Tensor:
        """-log p(y | path)."""
        return self.whole(self.costs)

    @property
    def log_prob(self) -> Tensor:
        """log p(path)."""
        return self.whole(self.log_probs)


@dataclass(frozen=True)
class Charges:
    """How an estimator weighs the samples: the gradient is the sum over k of

        sum_t share_t^k grad l_t^k + sum_t charge_t^k grad log alpha_t(s_t^k)

    share (..., K, 1), or (..., K, T) if words are apart, sums to one over the paths; charge (..., K, T) is in nats.
    value (..., 1 or T) in nats is the estimated value, if it is not the sum of shares times costs. weight (shape of
    share) is the probability of each path, given only if paths were not sampled from alpha: regularisers are averaged
    by it. observed (2, P) are the sum and the count that a moving average takes in, of this process. slopes (N, R, T,
    L), if given, take the place of charge: the gradient with respect to log alpha, of each sample. All but slopes are
    constants.
    """

    share: Tensor
    charge: Tensor
    value: Tensor | None = None
    weight: Tensor | None = None
    observed: Tensor | None = None
    slopes: Tensor | None = None


def by_path(u: Readout, values: Tensor) -> Tensor:
    """Rows (N, C K, T) as (N, C, K, T)."""
    return values.unflatten(1, (-1, u.samples))


def by_look(u: Readout, values: Tensor) -> Tensor:
    """Rows of the weights (N, C or C K, T, ...) as (N, C, K, T, ...)."""
    values = values.unflatten(1, (-1, u.looks))
    return values.expand(-1, -1, u.samples, *values.shape[3:])


def kl_divergence(q: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
    """sum_i q_i (log q_i - log p_i) in nats, (..., L) -> (...).

    Log-probabilities are those of ``select.log``: if p is exactly 0 (a sparse map) and q is not, log p is -87 in fp32
    and not -inf, a cost that drives q, and not p, back to where p has mass.
    """
    return (q * (log_q - log_p)).sum(-1)
