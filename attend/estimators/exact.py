"""Without chance: all paths of a caption, each by its probability. Where words are apart these are L glimpses a word.

Paths that differ only after a caption's last word stand for the same one, so probabilities are divided by their sum.
"""

import torch

from attend import config
from attend.estimators.baselines import Average
from attend.estimators.paths import Charges, Paths


def enumeration(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """The gradient of the bound J = sum over paths of p(path) cost(path), exactly:

        share_k = p_k,    charge_t^k = p_k (cost_k - J) at every t;

    J may be subtracted, since sum_k grad p_k = 0.

    Source: Deng et al. (2018), section 4.1, "hard attention, enumerated".
    """
    share = torch.softmax(paths.log_prob, -2)
    bound = (share * paths.cost).sum(-2, keepdim=True)
    return Charges(share, share * (paths.cost - bound) * paths.sampled, weight=share)


def marginal(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """The gradient of -log p(y) = -log sum over paths of p(path) p(y | path), exactly: with the posterior

        share_k = p_k w_k / sum_j p_j w_j,    w_k = p(y | path k),    charge_t^k = -share_k at every t.

    Source: Deng et al. (2018), section 3.
    """
    joint = paths.log_prob - paths.cost
    share = torch.softmax(joint, -2)
    value = torch.logsumexp(paths.log_prob, -2) - torch.logsumexp(joint, -2)
    return Charges(share, -share * paths.sampled, value, weight=torch.softmax(paths.log_prob, -2))
