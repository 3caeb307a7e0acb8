"""Do soft and hard attention look where the words point, and does it help? The main job, on built-in data.

    attend run quickstart        (as `make quickstart` does)

Source: Xu et al. (2015), on the generated world `scenes` with a frozen EfficientNet-Lite0.

Measured, 11 to 13 minutes on two cores, not on a GPU (experiments/results/quickstart.csv): CIDEr 2.28 soft, 2.25 hard
begun from it, 2.36 soft for as many epochs more and 1.27 uniform; soft and hard hold 56 and 62 percent of their
attention in the box of the word, and the best control 24.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from attend.experiments.runner.experiment import Experiment

from attend.config import Attention, Config, Decoder, Encoder, Train
from attend.config.presets import LEARNS_HARD
from attend.data.prepare import prepare_scenes

QUICK = Config(
    encoder=Encoder(weights="pypi", stride=32),
    decoder=Decoder(embedding=128, hidden=128, dropout=0.3, embedding_range=1.0),
    train=Train(epochs=7, learning_rate=3e-3, patience=0, log_every=20),
)
"""Small and quick: the last blocks' 320 features, before they are widened to 1280.

Embeddings start large, or the first epochs pass before the state tells one word from another.
"""
FINE = replace(QUICK.encoder, stride=16, normalise="layer")
"""An earlier block: 14 x 14 cells of 112 features, each normalised, or a single one is far longer than their mean."""
MORE, SOFTER = 4, 3.0
"""Epochs after soft attention, and by how much their learning rate is lower."""
TINY = replace(QUICK, decoder=Decoder(embedding=16, hidden=32), train=Train(epochs=1, log_every=1))


def scenes(data: Path | None, tiny: bool) -> Config:
    """What all models of the built-in world share."""
    return replace(TINY if tiny else QUICK, data=str(data or ("data/scenes-tiny" if tiny else "data/scenes")))


def paint(data: Path | None, tiny: bool) -> None:
    """Prepare the built-in world if it is not there yet, but never in ``data``."""
    folder = Path(scenes(data, tiny).data)
    if data is None and not (folder / "dataset.json").exists():
        world = {"train": 24, "val": 6, "test": 6} if tiny else {}
        prepare_scenes(folder, minimum_count=1 if tiny else 5, **world)


def learners(data: Path | None, tiny: bool) -> dict[str, Config]:
    """Soft, hard and uniform attention on 7 x 7 cells, each from nothing: what the ablations start from."""
    shared = scenes(data, tiny)
    return {
        "soft": replace(shared, attention=Attention(width=128)),
        "hard": replace(shared, attention=Attention(width=128, select="sample"), estimator=LEARNS_HARD),
        "uniform": replace(shared, attention=Attention(weights="uniform")),
    }


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft attention; hard attention that begins from it; soft attention for as many epochs more; and uniform.

    On 14 x 14 cells, whose features are normalised. ``tiny`` takes seconds and learns nothing.
    """
    fine = {name: one if tiny else replace(one, encoder=FINE) for name, one in learners(data, tiny).items()}
    train = fine["soft"].train
    more = replace(train, epochs=1 if tiny else MORE, learning_rate=train.learning_rate / SOFTER)
    variants = {
        "soft": fine["soft"],
        "hard": replace(fine["hard"], train=more),
        "soft-longer": replace(fine["soft"], train=more),
        "uniform": fine["uniform"],
    }
    return Experiment(
        name="quickstart-tiny" if tiny else "quickstart",
        variants=variants,
        seeds=dict.fromkeys(variants, 1) if tiny else {"soft": 3, "hard": 3, "soft-longer": 3, "uniform": 2},
        after={"hard": "soft", "soft-longer": "soft"},
        columns=("bleu4", "meteor", "cider", "mass", "pointing", "mass_beyond", "pointing_beyond", "nll"),
        prepare=partial(paint, data, tiny),
    )
