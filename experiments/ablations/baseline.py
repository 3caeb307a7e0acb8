"""Which baseline lets hard attention learn most from its samples?

    attend run baseline [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

All learn by REINFORCE with the same scale and differ in what is subtracted from a glimpse's cost. Leave-one-out draws
five samples a caption where the others draw one, and soft and self-critical make another pass: equal epochs are not
equal work. The biased baseline, group, is not among them.

Source: Xu et al. (2015), section 4.1 (moving average); Mnih and Gregor (2014, learned); Deng et al. (2018, soft);
Rennie et al. (2017, self-critical); Kool et al. (2019, leave-one-out).

Measured, 24 runs in 23 minutes on two cores and not on a GPU (experiments/results/ablations.md): CIDEr 2.31
leave-one-out, 2.27 soft, 2.19 learned and self-critical, 2.16 average-per-word, 1.96 average-per-place, 1.47 average,
1.26 none.
"""

from attend.experiments.ablations.base import ablation

BASELINES = (
    "none", "average", "average-per-word", "average-per-place", "learned", "soft", "self-critical", "leave-one-out",
)  # fmt: skip
ROWS = {name: {"estimator.baseline": name} for name in BASELINES}

experiment = ablation("baseline", hard=ROWS)
