"""REBAR and RELAX: the score function of a glimpse, less a control variate of its relaxation that is added again.

Per word, with z = log alpha + gumbel, s = argmax z, and z~ drawn like z under the condition that s is its argmax:

    (R_t - c_t(z~)) grad log alpha(s) + grad c_t(z) - grad c_t(z~),

where the last two are gradients along the noise's maps, z and z~ as functions of alpha.

Source: Tucker et al. (2017), equation 8; Grathwohl et al. (2018), equation 9. Differs: s is drawn first, and z under
the condition that s is its argmax: the pair has the same distribution.
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

    c = eta plain(r) + learned(r), r = softmax(z / tau_g); log_alpha (..., L), signal R_t (...), noise (..., 2 L).
    """
    with torch.enable_grad():
        logits = log_alpha.detach().requires_grad_()
        log_p = torch.log_softmax(logits, -1)
        first, second = noise.chunk(2, -1)
        z = log_p + (conditional(log_p, glimpse, first) - log_p).detach()
        tilde = conditional(log_p, glimpse, second)
        relaxed = [torch.softmax(one / temperature, -1) for one in (z, tilde)]
        chosen = log_p.gather(-1, glimpse[..., None]).squeeze(-1)

        def gradient(value: Tensor, keep: bool = False) -> Tensor:
            return torch.autograd.grad(value.sum(), logits, create_graph=keep, retain_graph=True)[0]

        score = gradient(chosen)  # onehot - alpha
        found = signal.detach()[..., None] * score
        for cost, factor, keep in ((plain, eta, False), (learned, 1.0, True)):
            of_z, of_tilde = (cost(one) for one in relaxed)
            if not of_tilde.requires_grad:
                continue  # there is none
            along = gradient(of_z - of_tilde, keep)
            level = of_tilde if keep else of_tilde.detach()
            found = found + factor * (along - level[..., None] * score)
    return found
