"""How often should hard attention read the expected context instead of its sample, and is the coin an image's?

    attend run semi_sampling [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Both coins have the same mean; one thrown for a whole minibatch makes the steps noisier.

Source: Xu et al. (2015), section 4.1: half of the time, by image. Their released code throws one coin a minibatch.

Measured, 15 runs in 11 minutes on two cores and not on a GPU (experiments/results/ablations.md): CIDEr 1.11 and 1.14
where none or a quarter of the images reads the expected context, 2.16 and 2.25 where half or three quarters do, and
2.00 where a coin decides for the minibatch.
"""

from attend.experiments.ablations.base import ablation

ROWS = {f"image-{semi:g}": {"estimator.semi": semi, "estimator.coin": "image"} for semi in (0.0, 0.25, 0.5, 0.75)} | {
    "minibatch-0.5": {"estimator.semi": 0.5, "estimator.coin": "minibatch"}
}

experiment = ablation("semi_sampling", hard=ROWS)
