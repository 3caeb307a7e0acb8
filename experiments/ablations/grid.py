"""Does a finer grid help, and where should it come from?

    attend run grid [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

7 x 7 cells of EfficientNet-Lite0's last block; 14 x 14 of the same pooled up, which adds places and no information; of
an image twice as large; and of an earlier block, with 112 features where the last has 320.

Source: Xu et al. (2015) look at 14 x 14 places of VGG; popular tutorials pool theirs to 14 x 14.

Measured, 24 runs in 25 minutes on two cores and not on a GPU (experiments/results/ablations.md): soft points into the
boxes in 70 percent of the words on the early block, 52 on the large image and 32 on 7 x 7, at CIDEr 2.27 to 2.31; hard
learns on 7 x 7 and pooled (2.18, 2.22) and not on the other two (0.66, 1.22).
"""

from attend.experiments.ablations.base import ablation

ROWS = {
    "7x7": {"encoder.stride": 32},
    "14x14-pooled": {"encoder.stride": 32, "encoder.grid": "14 14"},
    "14x14-large": {"encoder.stride": 32, "encoder.size": 448},
    "14x14-early": {"encoder.stride": 16},
}

experiment = ablation("grid", soft=ROWS, hard=ROWS, small={"encoder.size": 96})
