"""Should the encoder learn with the rest: frozen, its last blocks tuned, or all of it from nothing?

    attend run tuning [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

A frozen encoder's features are computed once; one that is tuned reads pixels at every step, which takes many times as
long. From nothing a small network is trained, that of the preset `scratch`: EfficientNet's fixed statistics would not
fit random weights.

Source: Xu et al. (2015), whose VGG network is not tuned.

Not measured yet: 12 runs, nine of them far longer than those of the quickstart, whose five take 7 to 8 minutes on two
cores; none was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

ROWS = {
    "frozen": {},
    "last-1": {"encoder.tune_blocks": 1},
    "last-3": {"encoder.tune_blocks": 3},
    "scratch": {
        "encoder.name": "small_cnn",
        "encoder.weights": "random",
        "encoder.stride": None,
        "encoder.tune_blocks": 5,
        "train.encoder_learning_rate": 1e-3,
    },
}

experiment = ablation("tuning", soft=ROWS, small={"encoder.size": 64})
