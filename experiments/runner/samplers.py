"""Optuna's samplers and pruners by name, with samples that do not depend on the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True),  # trials under way count as bad, so workers differ
    "random": lambda seed: RandomSampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
}
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=2),
    "halving": lambda: SuccessiveHalvingPruner(),
    "hyperband": lambda: HyperbandPruner(),
    "none": NopPruner,
}


class Keyed(BaseSampler):
    """A sampler whose random numbers are keyed by the seed and the job of a trial, or its number if it has none.

    Optuna's own samplers use one stream, so workers with equal seeds would all sample the same parameters.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self.number, self.inner = -1, SAMPLERS[name](seed)

    def __reduce__(self) -> tuple:
        return Keyed, (self.name, self.seed)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self.number:
            key = int(trial.user_attrs.get("job", trial.number))
            self.number, self.inner = trial.number, SAMPLERS[self.name]((self.seed * 1_000_003 + key) % 2**32)
        return self.inner

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self._of(trial).after_trial(study, trial, state, values)
