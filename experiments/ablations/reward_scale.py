"""How strongly should hard attention learn from its samples: lambda_r, the factor on the score part?

    attend run reward_scale [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

At 1 it is the gradient of the bound; at 0 nothing but the coin of semi-sampling teaches attention where to look.

Source: Xu et al. (2015), section 4.1, where it is a hyperparameter without a value; 1/10 in their released code.

Not measured yet: 15 runs; the quickstart's five take 7 to 8 minutes on two cores; none was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

ROWS = {f"{scale:g}": {"estimator.scale": scale} for scale in (0.0, 0.01, 0.1, 0.3, 1.0)}

experiment = ablation("reward_scale", hard=ROWS)
