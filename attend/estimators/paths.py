"""What an estimator is told, and what it answers: pure functions from the one to the other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Paths:
    """K paths of every caption, all (..., K, T) and constants.

    costs l_t in nats, 0 at padding; log_probs log alpha_t(s_t), 0 where nothing was chosen; real marks words, sampled
    those whose glimpse was (semi-sampling leaves some out). rollout (..., 1, T) are costs of a pass without samples, or
    (..., K, T, T) of one from before each word, where the baseline asks for them; level is what a critic expects, a
    word that is charged; kl is KL(q || alpha) of each word, where glimpses were drawn from q. ``apart`` says that a
    glimpse bears on its own word alone (``attention.feed: expected``): then every word is a caption of its own, with K
    paths of one glimpse.
    """

    costs: Tensor
    log_probs: Tensor
    real: Tensor
    sampled: Tensor
    rollout: Tensor | None = None
    apart: bool = False
    level: Tensor | None = None
    kl: Tensor | None = None

    def whole(self, values: Tensor) -> Tensor:
        """What a path sums up to, (..., K, 1); of each word, (..., K, T), where words are apart."""
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
    """How an estimator weighs what was sampled: the gradient is the sum over k of

        sum_t share_t^k grad l_t^k + sum_t charge_t^k grad log alpha_t(s_t^k)

    share (..., K, 1), or (..., K, T) where words are apart, sums to one over the paths; charge (..., K, T) in nats.
    value (..., 1 or T), in nats, is what is estimated, where it is not the sum of shares times costs. weight, of the
    shape of share, is how likely each path is, where they were not drawn from alpha: what is added to the likelihood is
    averaged by it. All are constants.
    """

    share: Tensor
    charge: Tensor
    value: Tensor | None = None
    weight: Tensor | None = None
