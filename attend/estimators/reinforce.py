"""The score-function estimator: every glimpse is charged with what followed it, less a baseline."""

from torch import Tensor

from attend import config
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.paths import Charges, Paths
from attend.estimators.signals import signal_with_kl


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
