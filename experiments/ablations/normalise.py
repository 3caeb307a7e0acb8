"""Should each location's features be normalised before attention reads them?

    attend run normalise [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

A location's features are far longer than the mean that soft attention reads, so a glimpse comes out of scale. With
`layer` each location's features have mean 0 and variance 1 (layer normalisation without parameters). Both on the
coarse and on the fine grid (an earlier block of EfficientNet-Lite0), for soft attention, for hard attention from
nothing, and for hard attention that begins from the soft run of the same seed.

Source: layer normalisation is of Ba, Kiros and Hinton (2016); that attention needs it is a question of ours.

Measured, 36 runs in 41 minutes on two cores, beside other work and not on a GPU (experiments/results/ablations.md):
normalised, soft attention points into the boxes in 63 percent of the words on 7 x 7 cells (raw 33), hard attention in
65 (34), and no difference of CIDEr is resolved; on 14 x 14 cells soft and hard begun from it have 69 to 73 either way.
"""

from pathlib import Path

from attend.experiments.ablations.base import TINY, learners, of_variants
from attend.experiments.ablations.warm_start import SOFTER
from attend.experiments.runner.experiment import Experiment

from attend.config.text import replace as with_fields

GRIDS = {"7x7": 32, "14x14": 16}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Raw and normalised features on two grids, for soft, hard, and hard attention after soft."""
    base = learners(data, tiny)
    variants, after = {}, {}
    for grid, stride in {"7x7": 32}.items() if tiny else GRIDS.items():
        for normalise in ("none", "layer"):
            fields = {"encoder.stride": stride, "encoder.normalise": normalise} | (TINY if tiny else {})
            soft, hard = (with_fields(base[kind], fields) for kind in ("soft", "hard"))
            more = {
                "train.epochs": (soft.train.epochs + 1) // 2,
                "train.learning_rate": soft.train.learning_rate / SOFTER,
            }
            of = f"{grid}-{normalise}"
            variants |= {f"soft-{of}": soft, f"hard-{of}": hard, f"hard-after-soft-{of}": with_fields(hard, more)}
            after[f"hard-after-soft-{of}"] = f"soft-{of}"
    return of_variants("normalise", variants, data, tiny, after=after)
