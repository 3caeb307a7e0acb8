"""Baselines: what the cost of a path is compared with, b_t. None depends on the glimpse s_t or on what follows it.

Each is a function of the signal R_t (..., K, T), the paths, the settings and the moving average; it returns the level
(..., K, T) that is subtracted, or what broadcasts to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attend import config
from attend.estimators.paths import Paths
from attend.estimators.signals import charged, signal_of, words_charged


@dataclass
class MovingAverage:
    """b <- decay b + (1 - decay) x. The first x starts it; ``places`` holds an average for each word's place.

    x is a mean over the minibatch: ``reduce`` adds what other processes have to its sum and its count.

    The *old* value is the baseline of a minibatch; ``update`` comes after. Updating first would let the baseline
    depend on the sample it is subtracted from and shrink the score part.

    Source: Xu et al. (2015), section 4.1.
    """

    decay: float = 0.9
    value: float | None = None
    places: list[float] = field(default_factory=list)
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums

    def observe(self, total: Tensor, count: Tensor) -> None:
        """Take in one more mean, of a sum and a count; nothing where there was nothing to count."""
        total, count = self.reduce(torch.stack([total, count]))
        if count > 0:
            self.update(float(total / count))

    def update(self, observed: float) -> None:
        """Take in one more observation."""
        self.value = self._moved(self.value, observed)

    def update_places(self, observed: list[float]) -> None:
        """Take in one more observation of each place; a place that is new starts with it."""
        known = [*self.places, *[None] * (len(observed) - len(self.places))]
        self.places = [self._moved(old, new) for old, new in zip(known, observed, strict=False)] + known[
            len(observed) :
        ]

    def _moved(self, old: float | None, new: float) -> float:
        return new if old is None else self.decay * old + (1 - self.decay) * new


def none(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """b_t = 0."""
    return torch.zeros_like(signal)


def moving(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """One number, the average of what a glimpse (or a sentence) was charged."""
    return _moving(signal, torch.ones_like(signal), paths, settings, average)


def moving_per_word(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """The average cost a word, times the words that a glimpse is charged with."""
    return _moving(signal, words_charged(paths, settings), paths, settings, average)


def _moving(signal: Tensor, per: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    level = (average.value or 0.0) * per
    counted = paths.sampled.to(signal.dtype)
    if charged(paths, settings) == "sentence":
        counted = counted / counted.sum(-1, keepdim=True).clamp(min=1)  # a sentence is seen once, not a word
    average.observe((signal * counted).sum(), (per * counted).sum())
    return level


def moving_per_place(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """b_t, an average for each place t of a caption: the first word has more to come than the last."""
    level = signal.new_zeros(signal.shape[-1])
    known = min(len(average.places), len(level))
    level[:known] = torch.tensor(average.places[:known], dtype=signal.dtype)
    sampled = paths.sampled.to(signal.dtype).flatten(0, -2)
    totals, counts = average.reduce(torch.stack([(signal.flatten(0, -2) * sampled).sum(0), sampled.sum(0)]))
    seen = int((counts > 0).sum())  # no caption has a word after a place where none has
    average.update_places((totals / counts)[:seen].tolist())
    return level


def leave_one_out(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """b_t^k = mean over j != k of R_t^j: the other paths of the same caption, each in its own state.

    Source: Kool et al. (2019). With the own path in the mean the score part would shrink to (K - 1)/K.
    """
    several = signal.shape[-2]
    return (signal.sum(-2, keepdim=True) - signal) / (several - 1)


def learned(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """C(h_{t-1}, image, t, caption), what the critic expects a word to cost, times the words that are charged.

    It has read h_{t-1}, never h_t, which has consumed s_t. Source: Mnih and Gregor (2014).
    """
    return paths.level.detach() * words_charged(paths, settings)


def rolled_out(signal: Tensor, paths: Paths, settings: config.Estimator, average: MovingAverage) -> Tensor:
    """b_t, what a pass without samples is charged from t on: with expected contexts, or with the likeliest glimpses.

    It starts at the first word, or follows the sample up to h_{t-1} (``estimator.rollout``): so it knows nothing of
    s_t. Source: Deng et al. (2018), section 4.2; Rennie et al. (2017) for the likeliest.
    """
    charged = signal_of(paths.rollout, paths, settings)
    return charged.diagonal(dim1=-2, dim2=-1) if charged.ndim > signal.ndim else charged


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A baseline: its function, the fewest paths it needs, the selection of the extra pass it needs, and its source."""

    function: Callable[[Tensor, Paths, config.Estimator, MovingAverage], Tensor]
    paths: int = 1
    rollout: str | None = None
    source: str = "Xu et al. (2015)"


BASELINES = {
    "none": Baseline(function=none, source="Williams (1992)"),
    "average": Baseline(function=moving),
    "average-per-word": Baseline(function=moving_per_word),
    "average-per-place": Baseline(function=moving_per_place),
    "leave-one-out": Baseline(function=leave_one_out, paths=2, source="Kool et al. (2019)"),
    "learned": Baseline(function=learned, source="Mnih and Gregor (2014)"),
    "soft": Baseline(function=rolled_out, rollout="expected", source="Deng et al. (2018)"),
    "self-critical": Baseline(function=rolled_out, rollout="argmax", source="Rennie et al. (2017)"),
}
