"""Does the additive score need its tanh, or does ReLU do?

    attend run activation [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Source: tanh in the released code of Xu et al. (2015), ReLU in popular tutorials.

Not measured yet: 12 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

ROWS = {name: {"attention.activation": name} for name in ("tanh", "relu")}

experiment = ablation("activation", soft=ROWS, hard=ROWS)
