"""Optuna's samplers and pruners by name, with samples that do not depend on the worker."""

from collections.abc import Callable
from typing import Any

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


def _of_inner(name: str) -> Callable[..., Any]:
    """A method of ``Keyed`` that calls the method of this name of the trial's own sampler."""
    return lambda self, study, trial, *more: getattr(self._of(trial), name)(study, trial, *more)


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

    infer_relative_search_space = _of_inner("infer_relative_search_space")
    sample_relative = _of_inner("sample_relative")
    sample_independent = _of_inner("sample_independent")
    before_trial = _of_inner("before_trial")
    after_trial = _of_inner("after_trial")
