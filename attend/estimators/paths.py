"""What an estimator is told, and what it answers: pure functions from the one to the other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Paths:
    """K sampled paths of every caption, all (..., K, T) and constants.

    costs l_t in nats, 0 at padding; log_probs log alpha_t(s_t), 0 where nothing was sampled; real marks words, sampled
    those whose glimpse was (semi-sampling leaves some out); rollout (..., 1, T), costs of a pass without samples, where
    the baseline asks for one.
    """

    costs: Tensor
    log_probs: Tensor
    real: Tensor
    sampled: Tensor
    rollout: Tensor | None = None


@dataclass(frozen=True)
class Charges:
    """How an estimator weighs what was sampled: the gradient is the sum over k of

        share_k sum_t grad l_t^k + sum_t charge_t^k grad log alpha_t(s_t^k)

    share (..., K) sums to one over the paths of a caption; charge (..., K, T) in nats. Both are constants.
    """

    share: Tensor
    charge: Tensor
