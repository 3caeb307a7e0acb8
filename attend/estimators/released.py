"""The learning rule of Xu et al.'s released code, which is not that of their paper."""

from __future__ import annotations

from torch import Tensor

from attend import config
from attend.estimators.baselines import MovingAverage
from attend.estimators.reinforce import reinforce


def released_rule(
    log_probs: Tensor, costs: Tensor, real: Tensor, sampled: Tensor, settings: config.Estimator, baseline: MovingAverage
) -> Tensor:
    """The surrogate of each caption, (...), for tensors (..., T) as in ``with_moving_average``.

    A glimpse is charged with its caption's cost averaged over the padded length T, the same at every word: so a longer
    caption beside it changes its loss, here alone. The baseline is a moving average of the cost a word, padding
    counted, over the captions that took the expected context too; it starts at 0 and its old value is used. With
    ``scale`` = 1/10 and without division by the B captions of the minibatch (``Entry.divided``), this is REINFORCE
    with lambda_r = B / (10 T) and the baseline T b.

    Source: arctic-captions, the last revision (January 2016). Differs: padded words have no glimpse, where
    there they have gradients of the score part and the entropy; the temperature is 1, where there it multiplies.
    """
    cost = costs.detach().mean(-1, keepdim=True)
    level = baseline.value or 0.0
    baseline.value = level
    baseline.update(float(cost[real.any(-1)].mean()))
    return reinforce(log_probs, cost, level)
