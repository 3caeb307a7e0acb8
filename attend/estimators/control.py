"""REBAR and RELAX: the score function of a glimpse, less a control variate of its relaxation that is added again.

Per word, with z = log alpha + gumbel, s = argmax z, and z~ drawn like z under the condition that s is its argmax:

    (R_t - c_t(z~)) grad log alpha(s) + grad c_t(z) - grad c_t(z~),

where the last two are gradients along the noise's maps, z and z~ as functions of alpha.

Source: Tucker et al. (2017), equation 8; Grathwohl et al. (2018), equation 9. Differs: s is drawn first and z~ after
it, and z takes the value of z~. This is valid because (s, z) and (s, z~) have the same joint distribution. The noise of
the two is coupled as in the source, and c_t is computed once for both. R_t may be less a baseline.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from attend import config
from attend.attention.select import log
from attend.estimators.baselines import Average
from attend.estimators.critic import WIDTH
from attend.estimators.paths import Charges, Paths, by_look
from attend.estimators.reinforce import reinforce

Cost = Callable[[Tensor], Tensor]
"""Relaxed glimpses (..., L) -> c_t (...)."""


def conditional(log_alpha: Tensor, glimpse: Tensor, noise: Tensor) -> Tensor:
    """Gumbel variables z (..., L) about log alpha, given that ``glimpse`` (...) has the largest, from uniform noise.

    z_s = -log(-log v_s), and -log(-log v_i / alpha_i - log v_s) elsewhere. Source: Tucker et al. (2017), appendix C.
    """
    tiny = torch.finfo(noise.dtype).tiny
    exponential = -torch.log(noise.clamp(min=tiny, max=1 - torch.finfo(noise.dtype).eps)).to(log_alpha.dtype)
    of_glimpse = exponential.gather(-1, glimpse[..., None])
    others = -torch.log(exponential * torch.exp(-log_alpha.clamp(min=-80)) + of_glimpse)
    return others.scatter(-1, glimpse[..., None], -torch.log(of_glimpse))


def slopes(
    log_alpha: Tensor, glimpse: Tensor, signal: Tensor, noise: Tensor, temperature: float, plain: Cost, learned: Cost,
    eta: Tensor,
) -> Tensor:  # fmt: skip
    """The estimate of the gradient with respect to the logits, (..., L): constant but for ``eta`` and ``learned``.

    c = eta plain(r) + learned(r), r = softmax(z / tau_g); log_alpha and noise (..., L), signal R_t (...).
    """
    with torch.enable_grad():
        logits = log_alpha.detach().requires_grad_()
        log_p = torch.log_softmax(logits, -1)
        tilde = conditional(log_p, glimpse, noise)
        z = tilde.detach().requires_grad_()
        relaxed = torch.softmax(z / temperature, -1)
        chosen = log_p.gather(-1, glimpse[..., None]).sum()
        (score,) = torch.autograd.grad(chosen, logits, retain_graph=True)  # onehot - alpha
        found = signal.detach()[..., None] * score
        for cost, factor, keep in ((plain, eta, False), (learned, 1.0, True)):
            level = cost(relaxed)
            if not level.requires_grad:
                continue  # there is none
            (of_z,) = torch.autograd.grad(level.sum(), z, create_graph=keep, retain_graph=True)
            paths = ((log_p - tilde) * of_z).sum()  # dz = d log alpha, less that of z~
            (along,) = torch.autograd.grad(paths, logits, create_graph=keep, retain_graph=True)
            found = found + factor * (along - (level if keep else level.detach())[..., None] * score)
    return found


class Control(nn.Module):
    """The control variate c_t of REBAR: eta times the word's own cost under a relaxed glimpse. RELAX adds a network.

    Both learn to make the variance of the estimate small.

    Source: Tucker et al. (2017); Grathwohl et al. (2018). Differs: c_t is a function of its word's noise and the query
    alone, so that it is unbiased where later words depend on the glimpse, and tau_g is not learned.
    """

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.ones(()))

    def learned(self, relaxed: Tensor, features: Tensor, query: Tensor) -> Tensor:
        """The network's part of c_t, from relaxed glimpses (N, R, T, L): (N, R, T). It is 0 without a network."""
        return relaxed.new_zeros(relaxed.shape[:-1])


class ControlNetwork(Control):
    """The control variate of RELAX. It begins as that of REBAR."""

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__(settings, features, vocabulary)
        self.context = nn.Linear(features, WIDTH)
        self.hidden = nn.Linear(settings.decoder.hidden, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def learned(self, relaxed: Tensor, features: Tensor, query: Tensor) -> Tensor:
        context = (relaxed.flatten(1, 2) @ features.detach().to(relaxed.dtype)).unflatten(1, relaxed.shape[1:3])
        return self.out(torch.tanh(self.context(context) + self.hidden(query.detach()))).squeeze(-1)


def controlled(paths: Paths, settings: config.Estimator, average: Average) -> Charges:
    """REINFORCE whose charges become slopes: the estimate of the gradient with respect to log alpha, (N, R, T, L)."""
    charges, u, control = reinforce(paths, settings, average), paths.unrolled, paths.learned
    maps, several = u.maps, u.samples
    log_alpha = by_look(u, log(u.weights)).flatten(1, 2)
    query = by_look(u, maps.spread(maps.query)).flatten(1, 2)
    found = slopes(
        log_alpha, u.glimpses.clamp(min=0), (several * charges.charge).flatten(1, 2), paths.noise.places,
        settings.relaxation, u.again, lambda relaxed: control.learned(relaxed, maps.memory.features, query),
        control.eta,
    )  # fmt: skip
    return replace(charges, slopes=found * (u.real & (u.glimpses >= 0))[..., None])


def variance(paths: Paths, charges: Charges, settings: config.Estimator) -> dict[str, Tensor]:
    """The second moment of the slopes, which the control variate learns to make small."""
    return {"control": charges.slopes.square().sum() / paths.costs.shape[-2]}
