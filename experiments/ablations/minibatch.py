"""Does a minibatch of 128 images reach what one of 16 does?

    attend run minibatch [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

A GPU has room for 128 images, and a step then costs hardly more than one of 16. With the settings of 16 there are an
eighth as many steps. `128-schedule` has a higher learning rate, three times the epochs, and waits longer for a better
score before it lowers the rate (`experiments.flickr8k.of_128`), which is still three eighths of the steps.

Source: a learning rate that rises with the root of the minibatch is common for Adam, as in Malladi et al. (2022); the
number of epochs is ours.

Measured, 9 runs in 40 minutes on two cores, beside other work and not on a GPU (experiments/results/ablations.md):
CIDEr 2.28 with 16 images, 1.04 with 128, and 2.25 with 128 on this schedule, which three seeds do not resolve from 16.
"""

from pathlib import Path

from attend.experiments.ablations.base import TINY, learners, of_variants
from attend.experiments.flickr8k import of_128
from attend.experiments.runner.experiment import Experiment

from attend.config.text import replace


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft attention, and the schedule for 128 images applied to its own."""
    soft = learners(data, tiny)["soft"]
    rows = {"16": {}, "128": {"train.images": 128}, "128-schedule": of_128(soft.train)}
    variants = {f"soft-{row}": replace(soft, fields | (TINY if tiny else {})) for row, fields in rows.items()}
    return of_variants("minibatch", variants, data, tiny)
