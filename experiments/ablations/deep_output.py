"""Which terms does the readout need: the previous word, the state, the context?

    attend run deep_output                 on the built-in world
    attend run deep_output --data DIR      DIR as for flickr8k

Deep output with all three terms, with one of them left out, and a linear readout of the state alone.

Source: Xu et al. (2015), equation 7; the linear readout is that of popular tutorials.

Not measured yet: 30 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from __future__ import annotations

from pathlib import Path

from attend.experiments.ablations.base import ablation
from attend.experiments.runner.experiment import Experiment

ROWS = {
    "deep": {},
    "no-word": {"decoder.readout_word": False},
    "no-hidden": {"decoder.readout_hidden": False},
    "no-context": {"decoder.readout_context": False},
    "linear": {"decoder.readout": "linear"},
}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard attention."""
    return ablation("deep_output", data, tiny, soft=ROWS, hard=ROWS)
