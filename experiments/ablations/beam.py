"""How wide should the beam be?

    attend run beam [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

One training a model, searched with widths 1 to 10.

Source: none; captions are usually searched with a beam, and its width is often left out.

Measured, 6 runs of ten evaluations each in 8 minutes on two cores and not on a GPU (experiments/results/ablations.md):
from width 1 to 4 BLEU-4 grows from 62.5 to 66.9 soft and from 61.5 to 65.7 hard, and at 10 it is 66.4 and 62.5.
"""

from pathlib import Path

from attend.experiments.ablations.base import ablation
from attend.experiments.runner.experiment import Experiment, Setting

WIDTHS = range(1, 11)


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard attention. The tiny twin has widths 1 and 2 beside its own."""
    widths = [Setting(beam=beam) for beam in (WIDTHS[:2] if tiny else WIDTHS)]
    return ablation("beam", soft={"searched": {}}, hard={"searched": {}}, also=widths)(data, tiny)
