"""Which features, and which way to learn where to look, are worth more epochs on photographs?

    attend run screen --data DIR                            DIR as for photographs
    attend run screen --data DIR --only soft-densenet-7x7,hard-densenet-7x7 --set encoder.weights=FILE    from a file

Two epochs of everything that `attend run photographs` might have trained for twelve, one seed each. *Features*: raw or
layer-normalised, EfficientNet-Lite0 on three grids and DenseNet-169 on two, each read by soft attention and by hard
attention that begins from it. *How hard attention learns*: from soft, by a coin that falls less and less often for
soft, from nothing with one coin an image or a minibatch, with the soft baseline at scale 1, by the exact marginal, and
by the rules of the paper and of its released code beside their soft twins. What begins from soft has two epochs more,
and so has its control, `soft-longer`.

Source: Xu et al. (2015) for soft and hard attention and both rules; Deng et al. (2018) for the marginal; hard attention
that begins from soft is ours.

Measured, all 23 runs on two cores, 17 of them in 80 minutes beside other work, and not on a GPU
(experiments/results/screen.md): after two epochs soft attention has CIDEr 0.373 on normalised features and 0.331 on raw
ones; hard attention that begins from it has 0.391 after two more, where soft has 0.433; from nothing and from samples
hard attention has 0.258 to 0.303, by the exact marginal 0.363, and uniform 0.323. On images of 448 pixels soft
attention has 0.359 and points into the word's box in 57 percent of the cases, where it has 45 at 224 pixels; on
DenseNet-169 it has 0.288 and 0.214, and hard attention 0.339 and 0.231.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from attend.analysis.tables.comparison import DEFAULT
from attend.experiments.flickr8k import prepare
from attend.experiments.photographs import answer, small
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config import Attention, Config, Estimator, Objective, Search
from attend.config.presets import CODE_HARD, LEARNS_HARD, PAPER_HARD, PAPER_SOFT, code_penalty
from attend.config.text import replace as with_fields

EPOCHS = 2
"""Of everything; what begins from another run has as many more."""
DENSENET = {"encoder.name": "densenet169", "encoder.weights": "pretrained"}
FEATURES = {
    "raw": {"encoder.normalise": "none"},
    "14x14-early": {"encoder.stride": 16},
    "14x14-large": {"encoder.size": 448},
    "densenet-7x7": DENSENET,
    "densenet-14x14": DENSENET | {"encoder.stride": 16},
}
"""Beside the 7 x 7 x 1280 of the last map, normalised: raw, an earlier map, a larger image, another network."""
CODE = Objective(doubly_stochastic=code_penalty(7 * 7))
WAYS = {
    "schedule": {"estimator": replace(LEARNS_HARD, semi=0.0, semi_start=1.0, semi_epochs=EPOCHS)},
    "coin-image": {"estimator": LEARNS_HARD},
    "coin-minibatch": {"estimator": replace(LEARNS_HARD, coin="minibatch")},
    "soft-baseline": {"estimator": Estimator(baseline="soft")},
    "marginal": {
        "estimator": Estimator(name="marginal", semi=0.0, entropy=0.0),
        "attention": Attention(width=128, select="sample", feed="expected"),
    },
    "xu2015-paper": {"estimator": PAPER_HARD.estimator},
    "xu2015-code": {"estimator": CODE_HARD.estimator, "objective": CODE},
}
"""How hard attention learns from nothing: its estimator, and what else goes with it."""
TWINS = {"xu2015-paper": PAPER_SOFT.objective, "xu2015-code": CODE}
"""What soft attention adds to the likelihood by the paper and by its released code."""


def short(config: Config) -> Config:
    """With two epochs, and a greedy search, which is enough to choose by."""
    return replace(config, train=replace(config.train, epochs=EPOCHS), search=Search(beam=1))


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Two epochs of everything. ``tiny`` is on the built-in world, without what reads other features."""
    shared = small("screen", data, tiny)
    base = {name: config if tiny else short(config) for name, config in answer(shared, tiny).items()}
    nothing = replace(base["hard"], train=base["soft"].train)
    variants, features = dict(base), {} if tiny else FEATURES
    for name, fields in features.items():
        variants |= {f"{kind}-{name}": with_fields(base[kind], fields) for kind in ("soft", "hard")}
    variants |= {f"hard-{way}": replace(nothing, **changes) for way, changes in WAYS.items()}
    variants |= {f"soft-{rule}": replace(base["soft"], objective=one) for rule, one in TWINS.items()}
    return Experiment(
        name="screen-tiny" if tiny else "screen",
        variants=variants,
        seeds=dict.fromkeys(variants, 1),
        also={name: [Setting("expected")] for name, one in variants.items() if one.decode == "argmax"},
        after={"hard": "soft", "soft-longer": "soft"} | {f"hard-{name}": f"soft-{name}" for name in features},
        columns=(*DEFAULT, "nll", "entropy"),
        prepare=partial(prepare, data, tiny),
    )
