"""Signals: what a glimpse is charged with, from the costs of a caption's words (..., T); padded words cost 0."""

from torch import Tensor

from attend import config
from attend.estimators.paths import Paths


def reward_to_go(costs: Tensor) -> Tensor:
    """R_t = sum_{k >= t} l_k, (..., T) in nats: the cost of a word and of all that follow it.

    The word's own cost belongs to it: s_t is seen by p(y_t). Without it the estimator is biased.
    """
    return costs.flip(-1).cumsum(-1).flip(-1)


def sentence_cost(costs: Tensor) -> Tensor:
    """The whole caption's cost at every word, (..., T)."""
    return costs.sum(-1, keepdim=True).expand_as(costs)


def own_cost(costs: Tensor) -> Tensor:
    """l_t alone: biased where later words depend on s_t, since the state has read the glimpse."""
    return costs


SIGNALS = {"to-go": reward_to_go, "sentence": sentence_cost, "own": own_cost}
"""What a glimpse is charged with, from costs (..., T)."""


def charged(paths: Paths, settings: config.Estimator) -> str:
    """The signal's name: what is asked for, else the cost of all that depends on the glimpse."""
    return settings.cost or ("own" if paths.apart else "to-go")


def signal_of(costs: Tensor, paths: Paths, settings: config.Estimator) -> Tensor:
    """What each glimpse is charged with of these costs (..., T)."""
    return SIGNALS[charged(paths, settings)](costs)


def signal_with_kl(paths: Paths, settings: config.Estimator) -> Tensor:
    """What each glimpse is charged with: costs, and where it was drawn from q the KL of the words after it."""
    if paths.kl is None:
        return signal_of(paths.costs, paths, settings)
    kl = paths.kl.detach()
    return signal_of(paths.costs + kl, paths, settings) - kl


def words_charged(paths: Paths, settings: config.Estimator) -> Tensor:
    """How many real words the signal at each word sums, (..., K, T): what a baseline per word is multiplied with."""
    return signal_of(paths.real, paths, settings).to(paths.costs.dtype)
