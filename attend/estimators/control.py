"""REBAR and RELAX: the score function of a glimpse, less a control variate of its relaxation that is added again.

Per word, with z = log alpha + gumbel, s = argmax z, and z~ drawn like z under the condition that s is its argmax:

    (R_t - c_t(z~)) grad log alpha(s) + grad c_t(z) - grad c_t(z~),

where the last two are gradients along the noise's maps, z and z~ as functions of alpha.

Source: Tucker et al. (2017), equation 8; Grathwohl et al. (2018), equation 9. Differs: s is drawn first and z~ after
it, and z takes the value of z~: each of the pairs (s, z) and (s, z~) has its distribution, the noise of the two is
coupled as in the source, and c_t is computed once for both. R_t may be less a baseline.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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
