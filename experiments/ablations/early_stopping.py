"""Which validation score should choose the model: BLEU-4 and CIDEr of its captions, or the likelihood of given ones?

    attend run early_stopping [--data DIR]      on the built-in world, or on photographs (DIR as for flickr8k)

Training goes on until the score has not risen for four epochs, 30 at most; the same score lowers the learning rate.

Source: Xu et al. (2015), section 4.3, who stop on BLEU, since late in training likelihood no longer tells it; their
released code stops on NLL.

Not measured yet: 18 runs of up to 30 epochs; the quickstart's five of 7 epochs take 7 to 8 minutes on two cores; none
was timed on a GPU.
"""

from attend.experiments.ablations.base import ablation

ROWS = {
    monitor: {"train.monitor": monitor, "train.epochs": 30, "train.patience": 4}
    for monitor in ("bleu4", "cider", "nll")
}

experiment = ablation("early_stopping", soft=ROWS, hard=ROWS)
