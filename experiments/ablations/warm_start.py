"""Should hard attention begin from soft attention?

    attend run warm_start [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

On a fine grid (14 x 14 cells of an early block of EfficientNet-Lite0) hard attention has many places to explore. It
begins from nothing; from the run of soft attention with the same seed; or by a schedule, where all images take the
expected context at first. All of them have eleven epochs on the built-in world, those of the soft run counted, and soft
attention has eleven for comparison.

Source: semi-sampling is of Xu et al. (2015), section 4.1, where the share of soft images is constant.

Measured, 15 runs in 19 minutes on two cores and not on a GPU (experiments/results/ablations.md): hard attention from
nothing has CIDEr 1.02 and points into the boxes in 22 percent of the words; begun from soft attention 2.20 and 73, by
the schedule 2.22 and 81; soft attention with as many epochs 2.31 and 70.
"""

from pathlib import Path

from attend.experiments.ablations.base import TINY, learners, of_variants
from attend.experiments.runner.experiment import Experiment

from attend.config.text import replace as with_fields

FINE = {"encoder.stride": 16}
SOFTER = 3.0
"""By how much the learning rate of hard attention after soft attention is lower."""


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard attention with half as many epochs more, and hard attention that begins soft in two ways."""
    base = {kind: with_fields(one, {} if tiny else FINE) for kind, one in learners(data, tiny).items()}
    train = base["soft"].train
    more = (train.epochs + 1) // 2
    longer = {"train.epochs": train.epochs + more}
    rows = {
        "soft": ("soft", {}),
        "soft-longer": ("soft", longer),
        "hard": ("hard", longer),
        "hard-after-soft": ("hard", {"train.epochs": more, "train.learning_rate": train.learning_rate / SOFTER}),
        "hard-schedule": ("hard", longer | {"estimator.semi_start": 1.0, "estimator.semi_epochs": float(train.epochs)}),
    }
    variants = {name: with_fields(base[kind], fields | (TINY if tiny else {})) for name, (kind, fields) in rows.items()}
    return of_variants("warm_start", variants, data, tiny, after={"hard-after-soft": "soft"})
