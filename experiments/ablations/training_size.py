"""How much do more training images help?

    attend run training_size [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

An eighth, a quarter and half of the training images, and all of them. Whatever counts epochs is multiplied by as much,
so that all take as many steps; the vocabulary is that of all images.

Source: none.

Not measured yet: 24 runs; the quickstart's five take 7 to 8 minutes on two cores, and validation after each of the
shorter epochs comes on top; none was timed on a GPU.
"""

from pathlib import Path

from attend.experiments.ablations.base import Settings, ablation, learners
from attend.experiments.runner.experiment import Experiment

from attend.config import Config
from attend.data.prepared import Prepared

PARTS = {"eighth": 8, "quarter": 4, "half": 2}


def count(data: Path | None, tiny: bool) -> int:
    """Training images of a prepared dataset; else those of the world, or of Flickr8k as it is distributed."""
    if tiny:
        return 24
    if data is None:
        return 1300
    return Prepared(data).about["splits"]["train"] if (data / "dataset.json").exists() else 6000


def rows(images: int, config: Config) -> dict[str, Settings]:
    """The parts of so many images, for a model that would learn from all of them as configured."""
    counted = ("epochs", "patience", "lower_after")
    return {
        name: {"train.training_images": images // part}
        | {f"train.{field}": part * getattr(config.train, field) for field in counted}
        for name, part in PARTS.items()
    } | {"all": {}}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard attention."""
    images = count(data, tiny)
    parts = {kind: rows(images, config) for kind, config in learners(data, tiny).items()}
    return ablation("training_size", **parts)(data, tiny)
