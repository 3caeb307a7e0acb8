"""How often should hard attention read the expected context instead of its sample, and is the coin an image's?

    attend run semi_sampling                 on the built-in world
    attend run semi_sampling --data DIR      DIR as for flickr8k

Both coins have the same mean; one thrown for a whole minibatch makes the steps noisier.

Source: Xu et al. (2015), section 4.1: half of the time, by image. Their released code throws one coin a minibatch.

Not measured yet: 15 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from __future__ import annotations

from pathlib import Path

from experiments.ablations.base import ablation
from experiments.experiment import Experiment

ROWS = {f"image-{semi:g}": {"estimator.semi": semi, "estimator.coin": "image"} for semi in (0.0, 0.25, 0.5, 0.75)} | {
    "minibatch-0.5": {"estimator.semi": 0.5, "estimator.coin": "minibatch"}
}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Hard attention."""
    return ablation("semi_sampling", data, tiny, hard=ROWS)
