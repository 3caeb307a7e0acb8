"""Does a gate on the context help, and is one number a word enough?

    attend run gate [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Source: Xu et al. (2015), section 4.2.1, whose gate is a scalar; popular tutorials have a number for each feature.

Measured, 18 runs in 12 minutes on two cores and not on a GPU (experiments/results/ablations.md): CIDEr 2.31 soft and
2.16 hard with the scalar gate, 2.31 and 2.03 with the vector, 1.76 and 1.19 without, where attention learns late or
never.
"""

from attend.experiments.ablations.base import ablation

ROWS = {gate: {"decoder.gate": gate} for gate in ("none", "scalar", "vector")}

experiment = ablation("gate", soft=ROWS, hard=ROWS)
