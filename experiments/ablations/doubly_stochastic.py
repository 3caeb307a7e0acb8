"""Does it help to ask that every place is looked at, and in which form?

    attend run doubly_stochastic [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

The penalty is lambda sum_i (target - sum_t alpha_ti)^2 with lambda 1. Its mean over places and words is that of popular
tutorials, and at the same lambda far weaker than the paper's sum. Weights sum to the number of words, so that every
place can have 1 only where there are as many words as places; words / places can always be met.

Source: Xu et al. (2015), section 4.2.1.

Measured, 15 runs in 12 minutes on two cores and not on a GPU (experiments/results/ablations.md): CIDEr 2.25 to 2.31 and
no difference that three seeds could show; the sum takes attention from the boxes (mass 27 percent, 33 without).
"""

from attend.experiments.ablations.base import ablation

ROWS = {"off": {"objective.doubly_stochastic": 0.0, "objective.reduce": "sum", "objective.target": "one"}} | {
    f"{reduce}-{target}": {"objective.doubly_stochastic": 1.0, "objective.reduce": reduce, "objective.target": target}
    for reduce in ("sum", "mean")
    for target in ("one", "length")
}

experiment = ablation("doubly_stochastic", soft=ROWS)  # the paper has no such penalty for hard attention
