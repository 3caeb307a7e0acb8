"""Does a bonus on the entropy of attention keep hard attention from settling too early?

    attend run entropy [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Source: Xu et al. (2015), section 4.1, where its weight is a hyperparameter without a value; 0.002 in their released
code, where it is not divided by the size of the minibatch.

Measured, 12 runs in 10 minutes on two cores and not on a GPU (experiments/results/ablations.md): CIDEr 2.16, 2.23, 2.19
and 2.09 from weight 0 to 0.1, which is not resolved, and ever less of attention in the boxes (35 to 21 percent).
"""

from attend.experiments.ablations.base import ablation

ROWS = {f"{weight:g}": {"estimator.entropy": weight} for weight in (0.0, 0.001, 0.01, 0.1)}

experiment = ablation("entropy", hard=ROWS)
