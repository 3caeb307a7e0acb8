"""With which context should a trained model write: its likeliest glimpse, a sample, or the expected one?

    attend run decoding [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

One training a model, written with in every way: argmax, expected and sample (the mean over three draws); where the
state reads the expected context (hard-expected) also marginal, the sum over glimpses, which is its own way.

Source: Xu et al. (2015), who write hard attention's captions with one glimpse where their released code takes the
expected context; Deng et al. (2018) for the marginal.

Measured, 9 runs in 13 minutes on two cores and not on a GPU (experiments/results/ablations.md): where the state reads
the glimpse CIDEr 2.16 by argmax, 2.18 expected, 2.03 by samples; where it reads the expected context 2.26 to 2.28 in
all four ways. On photographs three seeds of hard had 0.435 by argmax, 0.452 expected and 0.440 by samples
(experiments/results/flickr8k-seeds.md).
"""

from attend.experiments.ablations.base import ablation
from attend.experiments.runner.experiment import Setting

HARD = {"glimpse": {"attention.feed": "glimpse"}, "expected": {"attention.feed": "expected"}}
WAYS = (Setting("argmax"), Setting("expected"), Setting("sample", draws=3))

experiment = ablation("decoding", soft={"context": {}}, hard=HARD, also=WAYS)
