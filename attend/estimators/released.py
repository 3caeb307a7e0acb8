"""The learning rule of Xu et al.'s released code, which is not that of their paper."""

import torch

from attend import config
from attend.estimators.baselines import Average
from attend.estimators.paths import Charges, Paths
from attend.estimators.reinforce import equal_shares


def released_rule(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """The mean cost of a word at every word, less its moving average.

    A glimpse is charged with its caption's cost averaged over the padded length T, the same at every word: so a longer
    caption beside it changes its loss, here alone. The baseline is a moving average of the cost a word, padding
    counted, over the captions that took the expected context too; it starts at 0 and its old value is used. With
    ``scale`` = 1/10 and without division by the B captions of the minibatch (``Rule.divided``), this is REINFORCE
    with lambda_r = B / (10 T) and the baseline T b.

    Source: arctic-captions, the last revision (January 2016). Differs: padded words have no glimpse, where
    there they have gradients of the score part and the entropy; the temperature is 1, where there it multiplies.
    """
    cost = paths.costs.mean(-1, keepdim=True)
    captions = paths.real.any(-1, keepdim=True)
    observed = torch.stack([(cost * captions).sum(), captions.sum().to(cost.dtype)])[:, None]
    charge = (cost - average.level(1, cost)).expand_as(paths.costs) / paths.costs.shape[-2]
    return Charges(equal_shares(paths), charge, observed=observed)
