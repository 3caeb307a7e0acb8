"""Exact gradients of the targets of estimators, by a sum over all paths of a caption, if there are few enough.

Each target is a function of the costs -log p(y | path) and the log-probabilities of all P paths, (..., P) in nats. Its
gradient is autograd's and independent of every estimator. If words are independent (``attention.feed: expected``), the
paths are the L glimpses of each word.
"""

import math
from dataclasses import replace
from functools import partial

import torch
from attend.experiments.laboratory.subjects import Subject
from torch import Tensor, nn

from attend.captioner.captioner import Captioner
from attend.captioner.unrolled import Readout
from attend.config import Config, Estimator, Objective
from attend.estimators.noise import Noise
from attend.estimators.paths import by_path
from attend.estimators.take import Given, every_path

TUPLES = 2**22
"""The largest number of paths in all K-tuples of all captions."""


def bound(cost: Tensor, log_p: Tensor, samples: int) -> Tensor:
    """J = sum over paths of p(path) cost(path)."""
    return (log_p.exp() * cost).sum()


def marginal(cost: Tensor, log_p: Tensor, samples: int) -> Tensor:
    """-log p(y) = -log sum over paths of p(path) p(y | path)."""
    return -torch.logsumexp(log_p - cost, -1).sum()


def of_samples(cost: Tensor, log_p: Tensor, samples: int, held: bool = False) -> Tensor:
    """-E log (1/K) sum_k p(y | path k), over all K-tuples of paths.

    ``held``: the paths are sampled from an alpha that is held fixed, with weights p(y, path k) / p(path k).
    Raises ValueError if there are more than TUPLES.
    """
    paths = cost.shape[-1]
    if cost[..., 0].numel() * paths**samples * samples > TUPLES:
        raise ValueError(f"{samples}-tuples of {paths} paths are too many to sum over")
    tuples = torch.cartesian_prod(*[torch.arange(paths, device=cost.device)] * samples).view(-1, samples)
    log_w = (log_p - log_p.detach() if held else 0) - cost
    probability = log_p[..., tuples].sum(-1).exp()
    values = math.log(samples) - torch.logsumexp(log_w[..., tuples], -1)
    return ((probability.detach() if held else probability) * values).sum()


TARGETS = {
    "bound": bound,
    "marginal": marginal,
    "K-sample bound": of_samples,
    "K-sample bound, its proposal held fixed": partial(of_samples, held=True),
}
"""The targets by their names in ``FACTS``."""


class Exact:
    """The exact gradients of one subject, cached. ``why`` is the reason if there are none, else empty."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.known = subject, {}
        self.why, self.captioner = "", None
        try:
            self.settings = ruled(subject.settings, Estimator(name="enumeration", entropy=0.0))
            self.settings.check_fits(subject.features.shape[1], subject.longest)
            self.captioner = subject.under(self.settings)
        except ValueError as error:
            self.why = str(error)

    def gradient(self, target: str, samples: int = 1) -> Tensor:
        """The gradient of a target, flat as in ``gradient_of``; ValueError with the reason if there is none."""
        if self.why:
            raise ValueError(self.why)
        if target not in TARGETS:
            raise ValueError(f"its target, {target}, is no sum over paths")
        if (target, samples) not in self.known:
            loss = TARGETS[target](*self._paths(), samples) / int(self.subject.batch.lengths.sum())
            self.known[target, samples] = gradient_of(self.captioner, loss).double()
        return self.known[target, samples]

    def every(self) -> Readout:
        """The pass over all paths, or over all locations of every word if words are independent."""
        subject, batch = self.subject, self.subject.batch
        noise, given = noise_of(subject, self.settings, 0), Given(subject.features, batch.words, batch.lengths)
        return every_path(self.captioner, given, noise, self.settings, None)

    def _paths(self) -> tuple[Tensor, Tensor]:
        """Costs and log-probabilities of all paths, (N, C, P), or (N, C, T, L) if words are independent."""
        u = self.every()
        cost, log_p = by_path(u, u.costs), by_path(u, u.log_probs)
        by_word = self.subject.feed == "expected"
        cost, log_p = (part.transpose(-1, -2) if by_word else part.sum(-1) for part in (cost, log_p))
        return cost, torch.log_softmax(log_p, -1)  # paths that differ only in padding share one's probability


def ruled(settings: Config, rule: Estimator) -> Config:
    """The settings with another estimator, without dropout and with the likelihood as the only objective."""
    decoder = replace(settings.decoder, dropout=0.0, dropout_words=0.0)
    return replace(settings, estimator=rule, decoder=decoder, objective=Objective())


def noise_of(subject: Subject, settings: Config, draw: int) -> Noise:
    """The noise of one draw, keyed by the subject's seed and the draw."""
    shape, locations = tuple(subject.batch.words.shape), subject.features.shape[1]
    return Noise.draw(settings, shape, subject.seed, draw, locations).to(subject.features.device)


def parameters(captioner: Captioner) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters of attention, and those of the decoder."""
    return tuple([p for p in part.parameters() if p.requires_grad] for part in (captioner.attention, captioner.decoder))


def gradient_of(captioner: Captioner, loss: Tensor) -> Tensor:
    """The gradient as one vector (P,), attention first; 0 where the loss does not depend on a parameter."""
    attention, rest = parameters(captioner)
    found = torch.autograd.grad(loss, [*attention, *rest], materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def parts(captioner: Captioner) -> dict[str, slice]:
    """The slice of each group of parameters in the vector of ``gradient_of``."""
    attention, rest = (sum(p.numel() for p in some) for some in parameters(captioner))
    return {"attention": slice(0, attention), "rest": slice(attention, attention + rest), "all": slice(None)}
