"""Two well-known arrangements beside each other, soft and hard, on one encoder.

    attend run arrangements --data DIR       DIR as for flickr8k

Source: the presets `tutorial` and `gru-residual`, with a frozen EfficientNet-Lite0 at its own 7 x 7 in place of their
networks, and three epochs. Differs from the presets in nothing else but the sizes of flickr8k.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attend.config import Attention, Encoder, Estimator
from experiments.flickr8k import prepared
from experiments.presets import RESIDUAL, TUTORIAL
from experiments.runner import Experiment


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """One seed each."""
    folder = prepared("arrangements", data)
    variants = {}
    for name, preset in (("tutorial", TUTORIAL), ("gru-residual", RESIDUAL)):
        soft = replace(
            preset,
            data=str(folder),
            encoder=Encoder(weights="pypi", pixels=preset.encoder.pixels),
            train=replace(preset.train, epochs=3, patience=0),
        )
        attention: Attention = replace(soft.attention, select="sample")
        variants[f"{name}-soft"] = soft
        variants[f"{name}-hard"] = replace(soft, attention=attention, estimator=Estimator(scale=0.1, entropy=0.0))
    return Experiment(name="arrangements", variants=variants, seeds=dict.fromkeys(variants, 1))
