"""Baselines: what the cost of a path is compared with, b_t. None depends on the glimpse s_t or on what follows it.

Each is a pure function of the signal R_t (..., K, T), the paths, the settings and the moving average. It returns the
level (..., K, T) that is subtracted, or what broadcasts to it, and what the average observes, or None. One of them,
``group``, also divides the difference, and is biased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attend import config
from attend.attention.select import Argmax, Expected, Policy
from attend.estimators.critic import Critic
from attend.estimators.paths import Paths
from attend.estimators.signals import charged, signal_of, signal_with_kl, words_charged


@dataclass(frozen=True)
class Average:
    """A moving average for each of P places, or P = 1: b <- decay b + (1 - decay) x. The first x starts it.

    ``value`` (P,); ``known`` (P,) says which have started. x is a mean over the whole minibatch: its sum and its count
    are added over processes before ``after``.

    The *old* value is the baseline of a minibatch; ``after`` comes later. Updating first would let the baseline depend
    on the sample that it is subtracted from, and shrink the score part.

    Source: Xu et al. (2015), section 4.1.
    """

    value: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    known: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    @classmethod
    def of(cls, values: list[float | None], device: torch.device | str = "cpu") -> Average:
        """The average with these values; None has not started."""
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        known = torch.tensor([one is not None for one in values], dtype=torch.bool)
        return cls(torch.tensor([one or 0.0 for one in values], dtype=dtype).to(device), known.to(device))

    def values(self) -> list[float | None]:
        """The inverse of ``of``. It waits for the device."""
        return [value if known else None for value, known in zip(self.value.tolist(), self.known.tolist(), strict=True)]

    def take(self, other: Average) -> None:
        """Become another average of as many places, in place."""
        self.value.copy_(other.value)
        self.known.copy_(other.known)

    def level(self, places: int, like: Tensor) -> Tensor:
        """The value of the first places (P,), 0 where it has not started."""
        wide = self.wide(places)
        return torch.where(wide.known, wide.value, 0.0)[:places].to(like.device, like.dtype)

    def after(self, observed: Tensor | None, decay: float) -> Average:
        """The average after one more observation (2, P): sums and counts. A count of 0 is no observation."""
        if observed is None:
            return self
        old = self.wide(observed.shape[1])._to(observed.device)
        total, count = F.pad(observed, (0, len(old.value) - observed.shape[1])).to(old.value.dtype)
        x, seen = total / count.clamp(min=1e-300 if total.dtype == torch.float64 else 1e-30), count > 0
        moved = torch.where(old.known, decay * old.value + (1 - decay) * x, x)
        return Average(torch.where(seen, moved, old.value), old.known | seen)

    def wide(self, places: int) -> Average:
        """The same with at least so many places."""
        missing = max(0, places - len(self.value))
        return Average(F.pad(self.value, (0, missing)), F.pad(self.known, (0, missing)))

    def _to(self, device: torch.device) -> Average:
        return Average(self.value.to(device), self.known.to(device))


Found = tuple[Tensor, Tensor | None]
EPSILON = 1e-4
"""Nats added to the deviation of a group. Equal sentences differ by about 1e-6 nats in fp32, and that is noise."""


def none(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """b_t = 0."""
    return torch.zeros_like(signal), None


def moving(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """One number: the average of what a glimpse (or a sentence) was charged with."""
    return _moving(signal, torch.ones_like(signal), paths, settings, average)


def moving_per_word(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """The average cost per word, times the words that a glimpse is charged with."""
    return _moving(signal, words_charged(paths, settings), paths, settings, average)


def _moving(signal: Tensor, per: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    counted = paths.sampled.to(signal.dtype)
    if charged(paths, settings) == "sentence":
        counted = counted / counted.sum(-1, keepdim=True).clamp(min=1)  # a sentence counts once, not once per word
    observed = torch.stack([(signal * counted).sum(), (per * counted).sum()])[:, None]
    return average.level(1, signal) * per, observed


def moving_per_place(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """b_t, an average for each place t of a caption: the first word has more to come than the last."""
    sampled = paths.sampled.to(signal.dtype).flatten(0, -2)
    observed = torch.stack([(signal.flatten(0, -2) * sampled).sum(0), sampled.sum(0)])
    return average.level(signal.shape[-1], signal), observed


def leave_one_out(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """b_t^k = mean over j != k of R_t^j: the other paths of the same caption, each in its own state (RLOO).

    Source: Kool et al. (2019). With the own path in the mean the score part would shrink to (K - 1)/K.
    """
    return mean_of_others(signal), None


def mean_of_others(signal: Tensor) -> Tensor:
    """The mean over the other K - 1 paths, (..., K, T) -> (..., K, T)."""
    return (signal.sum(-2, keepdim=True) - signal) / (signal.shape[-2] - 1)


def group_mean(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """b_t = mean over j of R_t^j, and the difference is divided by the deviation d_t of the same K samples (GRPO):

        A_t^k = (R_t^k - b_t) / (d_t + EPSILON),  d_t^2 = sum over k of (R_t^k - b_t)^2 / (K - 1)

    A has no unit: neither a shift nor a scale of the costs changes it. If the samples of a caption cost the same, A is
    0. With two samples A is 1/sqrt(2) and -1/sqrt(2), however much they differ.

    Estimates: the gradient of the bound, whose score part has another factor for every word of every caption.
    Unbiased: no, because d_t depends on s_t^k. Needs: K >= 2 samples. Cost: no other pass.

    Source: Shao et al. (2024). Differs: R_t^k is a cost in nats, so the best sample has the lowest A; it is the cost
    from t on unless ``estimator.cost`` is sentence, which is the source's choice; there is no clipped ratio, because
    every sample is used once.
    """
    return signal.mean(-2, keepdim=True), None


def group_deviation(signal: Tensor) -> Tensor:
    """d_t + EPSILON of R_t (..., K, T), in nats: (..., 1, T)."""
    return signal.std(-2, keepdim=True) + EPSILON


def learned(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """C(query, image, t, caption), the critic's predicted cost per word, times the words that are charged.

    It has read the query that attention was asked with, never a state that has consumed s_t. Source: Mnih and Gregor
    (2014), NVIL.
    """
    return paths.level.detach() * words_charged(paths, settings), None


def rolled_out(signal: Tensor, paths: Paths, settings: config.Estimator, average: Average) -> Found:
    """b_t, the charge from t on of a pass without samples: with expected contexts, or with the likeliest glimpses.

    It starts at the first word, or follows the sample up to h_{t-1} (``estimator.rollout``), so it does not depend on
    s_t. Source: Deng et al. (2018), section 4.2; Rennie et al. (2017) for the likeliest (ReMax).
    """
    charge = signal_of(paths.rollout, paths, settings)
    return (charge.diagonal(dim1=-2, dim2=-1) if charge.ndim > signal.ndim else charge), None


def critic_loss(paths: Paths, settings: config.Estimator) -> Tensor:
    """The sum of (C - R)^2 over the words that were sampled: the critic learns from it."""
    level = paths.level * words_charged(paths, settings)
    return ((level - signal_with_kl(paths, settings).detach()).square() * paths.sampled).sum()


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A baseline: its function, what the difference to it is divided by (None: nothing), whether it leaves the gradient
    without bias, the fewest paths it needs, the policy of the extra pass it needs, the network that predicts a level
    for it, and its source."""

    function: Callable[[Tensor, Paths, config.Estimator, Average], Found]
    divisor: Callable[[Tensor], Tensor] | None = None
    unbiased: bool = True
    paths: int = 1
    rollout: Policy | None = None
    learns: type[nn.Module] | None = None
    source: str = "Xu et al. (2015)"


BASELINES = {
    "none": Baseline(function=none, source="Williams (1992)"),
    "average": Baseline(function=moving),
    "average-per-word": Baseline(function=moving_per_word),
    "average-per-place": Baseline(function=moving_per_place),
    "leave-one-out": Baseline(function=leave_one_out, paths=2, source="Kool et al. (2019)"),
    "group": Baseline(
        function=group_mean, divisor=group_deviation, unbiased=False, paths=2, source="Shao et al. (2024)"
    ),
    "learned": Baseline(function=learned, learns=Critic, source="Mnih and Gregor (2014)"),
    "soft": Baseline(function=rolled_out, rollout=Expected(), source="Deng et al. (2018)"),
    "self-critical": Baseline(function=rolled_out, rollout=Argmax(), source="Rennie et al. (2017)"),
}
