"""Does a gate on the context help, and is one number a word enough?

    attend run gate                 on the built-in world
    attend run gate --data DIR      DIR as for flickr8k

Source: Xu et al. (2015), section 4.2.1, whose gate is a scalar; popular tutorials have a number for each feature.

Not measured yet: 18 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from __future__ import annotations

from pathlib import Path

from experiments.ablations.base import ablation
from experiments.experiment import Experiment

ROWS = {gate: {"decoder.gate": gate} for gate in ("none", "scalar", "vector")}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard attention."""
    return ablation("gate", data, tiny, soft=ROWS, hard=ROWS)
