"""What does training on the score of sampled captions do to captions, and to where attention looks?

    attend run reward [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Soft and hard attention trained on the likelihood; then on CIDEr, words and glimpses sampled together, from the finished
run with the same seed; or on CIDEr plus the attention mass in the boxes of the words that a caption names (only on the
built-in world, which has boxes).

Source: Rennie et al. (2017) for the reward, without glimpses.

Measured, 18 runs in 18 minutes on two cores and not on a GPU (experiments/results/ablations.md): on CIDEr soft goes
from CIDEr 2.33 to 2.49 and hard from 2.08 to 2.23, and 2 and 3 points more of their attention are in the boxes; with
attention mass in the reward soft points into the boxes in 75 percent of the words where it did in 33, and hard in 61
where it did in 34.
"""

from pathlib import Path

from attend.experiments.ablations.base import TINY, learners, of_variants
from attend.experiments.runner.experiment import Experiment

from attend.config.text import replace

SLOWER = 10.0
"""By how much the learning rate of the second training is lower."""
REWARDS = {"cider": "cider", "cider-mass": "cider+mass"}


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """Soft and hard attention, and each of them trained further on two rewards."""
    variants, after = {}, {}
    for kind, config in learners(data, tiny).items():
        small = TINY if tiny else {}
        variants[kind] = replace(config, small)
        train = config.train
        more = {"train.epochs": (train.epochs + 1) // 2, "train.learning_rate": train.learning_rate / SLOWER}
        for name, reward in REWARDS.items():
            if data is None or "mass" not in reward:  # photographs have no boxes
                variants[f"{kind}-{name}"] = replace(config, more | {"train.reward": reward} | small)
                after[f"{kind}-{name}"] = kind
    return of_variants("reward", variants, data, tiny, after=after)
