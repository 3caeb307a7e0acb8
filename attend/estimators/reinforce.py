"""The score-function estimator: every glimpse is charged with what followed it, less a baseline.

``reinforce`` is a rule of the captioner. ``reinforce_loss`` is the same estimator for a model of one's own.
"""

from typing import Literal

from torch import Tensor

from attend import config
from attend.estimators.baselines import BASELINES, Average, mean_of_others
from attend.estimators.paths import Charges, Paths
from attend.estimators.signals import reward_to_go, signal_with_kl


def reinforce(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """charge_t^k = (R_t^k - b_t^k) / K, share_k = 1/K: the mean over K paths. With K = 1 it is REINFORCE.

    Unbiased for any b_t that depends on neither s_t nor what follows it. The baseline ``group`` also divides the
    difference by the deviation of the K costs, and is biased. Words that were not sampled (semi-sampling)
    take no part, neither here nor in the averages.

    Where s was drawn from q (variational), grad log q takes the place of grad log alpha, and R_t holds the KL of the
    words to come: the gradient of E_q cost + KL(q || alpha) together with that of the KL itself.

    Source: Williams (1992); Xu et al. (2015), equation 12. Differs: the paper charges every glimpse with the whole
    sentence; ``reward_to_go`` drops what is past, which has the same mean.
    """
    signal = signal_with_kl(paths, settings)
    baseline = BASELINES[settings.baseline]
    level, observed = baseline.function(signal, paths, settings, average)
    advantage = signal - level if baseline.divisor is None else (signal - level) / baseline.divisor(signal)
    charge = advantage * paths.sampled / signal.shape[-2]
    return Charges(equal_shares(paths), charge, observed=observed)


def equal_shares(paths: Paths) -> Tensor:
    """1/K for each path, (..., K, 1)."""
    costs = paths.costs[..., :1]
    return costs.new_full(costs.shape, 1 / costs.shape[-2])


def reinforce_loss(
    costs: Tensor, log_probs: Tensor, *, baseline: Tensor | float | Literal["leave-one-out"] | None = "leave-one-out"
) -> Tensor:
    """The loss of every example (N,): its value is the mean cost over K samples, its gradient is that of REINFORCE,

        (1/K) sum_k [ grad cost^k + sum_t (R_t^k - b_t^k) grad log alpha_t(s_t^k) ].

    Costs are minimised: a reward is a negative cost. The first part is the pathwise gradient, through ``costs``. In the
    second part R and b are constants, and log alpha alone has a gradient.

    Estimates: the gradient of E_s[cost], the expected cost over glimpses s ~ alpha.
    Unbiased: for every b_t that depends on neither s_t nor what follows it.
    Needs: two samples or more for the baseline "leave-one-out", else one.
    Cost: one forward and one backward pass for K rows of an example.

    Args:
        costs: the cost of every sample (N, K), which all its glimpses are charged with: R_t = cost. Or the cost of
            every step (N, K, T): R_t = sum_{u >= t} cost_u, the cost of a step and of those after it. The unit is
            free, as nats.
        log_probs: log alpha(s) in nats, of one glimpse (N, K), or of a glimpse for every step (N, K, T). At padding,
            costs and log_probs are 0.
        baseline: "leave-one-out", the mean R_t of the other samples of the example (also known as RLOO); a number, or a
            tensor (N, K) or (N, K, T) in the unit of costs, in which a size of 1 stands for all; None for b = 0. It is
            detached.

    Raises:
        ValueError: the shapes do not fit, or there is no other sample to leave in.

    Source: Williams (1992); Xu et al. (2015), equation 12; Kool et al. (2019) for leave-one-out.
    Differs: the paper charges every glimpse of a caption with the cost of the whole caption.
    """
    costs, log_probs = _in_time(costs, "costs"), _in_time(log_probs, "log_probs")
    if costs.shape[:2] != log_probs.shape[:2] or costs.shape[2] not in (1, log_probs.shape[2]):
        raise ValueError(
            f"costs are {tuple(costs.shape)} and log_probs {tuple(log_probs.shape)}, each with time as the third axis: "
            "the numbers of examples and samples must agree, and there must be one cost or as many as glimpses"
        )
    signal = reward_to_go(costs.detach())
    charge = (signal - _level(signal, log_probs, baseline)) / signal.shape[1]
    score = (charge * log_probs).sum((1, 2))
    return costs.sum(2).mean(1) + score - score.detach()


def _in_time(values: Tensor, name: str) -> Tensor:
    """(N, K) as (N, K, 1), and (N, K, T) as it is."""
    if values.ndim not in (2, 3):
        raise ValueError(
            f"{name} must be (N, K) or (N, K, T): examples, samples of each, and steps; its shape is "
            f"{tuple(values.shape)}. With one sample of each example it is {name}[:, None]"
        )
    return values if values.ndim == 3 else values[..., None]


def _level(signal: Tensor, log_probs: Tensor, baseline: Tensor | float | str | None) -> Tensor | float:
    """b_t, without a gradient: a number, or a tensor that broadcasts to (N, K, T)."""
    if baseline is None:
        return 0.0
    if isinstance(baseline, str):
        if baseline != "leave-one-out":
            raise ValueError(f"baseline is {baseline!r}, but must be 'leave-one-out', a tensor, a number or None")
        if signal.shape[1] < 2:
            raise ValueError(
                "the baseline 'leave-one-out' compares the samples of an example, and there is one: draw two or more, "
                "or pass another baseline, as baseline=None"
            )
        return mean_of_others(signal)
    if not isinstance(baseline, Tensor):
        return float(baseline)
    if baseline.ndim == 0:
        return baseline.detach()
    level = _in_time(baseline.detach(), "baseline")
    if any(own not in (1, size) for own, size in zip(level.shape, log_probs.shape, strict=True)):
        raise ValueError(
            f"baseline is {tuple(baseline.shape)}, which does not fit log_probs of {tuple(log_probs.shape)} as "
            "examples, samples and steps: a size must be the same, or 1"
        )
    return level
