"""Does hard attention learn better from sharper or from flatter samples: tau in softmax(e / tau)?

    attend run temperature [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Source: the released code of Xu et al. (2015), which multiplies by its temperature where ours divides.

Not measured yet: 12 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

ROWS = {f"{tau:g}": {"attention.temperature": tau} for tau in (0.5, 1.0, 2.0, 4.0)}

experiment = ablation("temperature", hard=ROWS)
