"""Soft or hard attention, each with the settings that suit it best: how far apart are they after equal tuning?

    attend study soft_or_hard                   on the built-in world, 20 trials of each
    attend study soft_or_hard --data DIR        on photographs, DIR as for flickr8k
    attend run --from-study soft_or_hard --best 1 --seeds 5

Source: Xu et al. (2015) compare the two by one setting of each.

Measured, 40 trials in 28 minutes on two cores and the winners' ten runs in 11, beside other work and not on a GPU
(experiments/results/soft_or_hard.md): CIDEr on validation 2.47 soft and 2.35 hard as the best of 20 trials each, 2.31
and 2.36 on five fresh seeds; on test hard is 0.012 better [-0.203, 0.225].
"""

from functools import partial
from pathlib import Path

from attend.experiments.ablations.base import learners
from attend.experiments.flickr8k import prepare
from attend.experiments.runner.study import Study
from optuna.trial import BaseTrial

from attend.config import Config
from attend.config.text import replace


def study(data: Path | None, tiny: bool) -> Study:
    """What both kinds have is sought for both, and what only one has for it alone."""
    base = learners(data, tiny)

    def space(trial: BaseTrial, kind: str) -> Config:
        settings = {
            "attention.width": trial.suggest_categorical("width", [64, 128, 256]),
            "decoder.dropout": trial.suggest_float("dropout", 0.1, 0.6),
            "train.learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
        }
        if kind == "soft":
            settings["objective.doubly_stochastic"] = trial.suggest_float("doubly_stochastic", 1e-3, 1.0, log=True)
        else:
            baselines = ["average", "average-per-word", "soft", "self-critical"]
            settings |= {
                "estimator.baseline": trial.suggest_categorical("baseline", baselines),
                "estimator.scale": trial.suggest_float("scale", 0.03, 1.0, log=True),
                "estimator.semi": trial.suggest_float("semi", 0.0, 0.5),
                "estimator.entropy": trial.suggest_float("entropy", 1e-4, 1e-1, log=True),
            }
        return replace(base[kind], settings)

    return Study(
        name="soft_or_hard-tiny" if tiny else "soft_or_hard",
        kinds=("soft", "hard"),
        space=space,
        trials=2 if tiny else 20,
        prepare=partial(prepare, data, tiny),
    )
