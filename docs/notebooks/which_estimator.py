# %% [markdown]
# # Which estimator should I use?
#
# Hard attention samples a location for each word. A sample has no gradient, so the gradient has to be estimated. This
# package has many estimators, and REINFORCE has several baselines. This notebook compares them by measurement and ends
# with rules of thumb. It runs in less than two minutes on two processor cores.
#
# Four questions separate them:
#
# 1. **Target.** The gradient of which number? The *bound* J is the mean cost over glimpses. The *marginal* is -log
#    p(caption), with the glimpses summed out. It is lower.
# 2. **Bias.** Is the mean of many estimates the gradient of the target?
# 3. **Variance.** How far is one estimate from their mean?
# 4. **Time.** How long does one estimate take? Twice the time must halve the variance, or averaging two cheaper
#    estimates is as good.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bars in this notebook

from pathlib import Path

import torch
from attend.analysis.figures.estimators import estimator_panels
from attend.analysis.figures.figures import save
from attend.analysis.tables.text import markdown
from attend.experiments.laboratory.exact import Exact
from attend.experiments.laboratory.measure import GRADIENT, Way, drawn, measure
from attend.experiments.laboratory.subjects import tiny
from IPython.display import Image, Markdown, display

from attend.config.catalogue import FACTS

torch.set_num_threads(1)  # the model is tiny: one thread is fastest
facts = [(name, one.target, "yes" if one.unbiased else "no", one.samples) for name, one in FACTS.items()]
display(Markdown(markdown([("estimator", "target", "unbiased", "samples"), *facts], left=(0, 1, 2))))

# %% [markdown]
# ## A model whose gradient is known
#
# The laboratory holds a model and a minibatch fixed and draws many gradients of each estimator. Here the model is tiny:
# four locations and captions of three words, so a caption has 4 x 4 x 4 = 64 paths. All of them can be summed, and the
# exact gradient of every target is known. `tiny` makes the model twice: the decoder reads the glimpse (`feed glimpse`,
# as in Xu et al., 2015), or it reads the expected context and the word prediction alone sees the glimpse (`feed
# expected`). We take the first, which is harder.
#
# In a terminal, `attend estimators --tiny` measures all estimators on both models, with more draws.

# %%
NAMES = (
    "reinforce",
    "enumeration",
    "vimco",
    "sum-and-sample",
    "unordered-set",
    "relax",
    "gumbel-softmax",
    "straight-through",
)
subject = next(tiny(seed=0))
rows = measure([subject], draws=100, rounds=3, samples=3, only=NAMES)
figure = estimator_panels(rows)[0].figure
save(figure, Path("estimators"), formats=("png",))
display(Image("estimators.png"))

# %% [markdown]
# Left: the bias. A grey bar is the bias that chance alone gives after 100 draws, so a pale mark inside or near it is no
# evidence of bias. Middle: the variance of one draw, on a logarithmic axis. Right: variance times time, relative to
# REINFORCE with its default baseline. Filled marks are the parameters of attention, hollow ones all others.
#
# ## Who is biased?

# %%
attention = [row for row in rows if row.group == "attention"]
for row in attention:
    if row.biased:
        print(f"{row.estimator}: bias {row.bias:.2f} of the gradient, {row.chance:.2f} expected by chance")

# %% [markdown]
# Four of these are biased: `gumbel-softmax`; `straight-through`; REINFORCE if a glimpse is charged with the cost of its
# own word alone (`own cost`), since later words depend on the glimpse too; and the baseline `group`, which divides by
# the deviation of the samples' costs. A small bias needs many draws to stand out from chance. With a thousand draws all
# four are found, and no others.
#
# ## Who is fastest to a usable direction?
#
# An estimate is usable if its signal is as large as its noise. If one draw has signal / noise r, then 1 / r draws are
# needed. Their time is the price of one usable gradient of attention. Bias is a price of its own, and more draws do not
# lower it.

# %%
prices = []
for row in attention:
    if row.variance and not row.signal_to_noise:
        print(f"{row.estimator}: 100 draws do not show a signal")
    elif row.variance:
        seconds = row.seconds / row.signal_to_noise
        prices.append((seconds, row.estimator, row.samples, 1 / row.signal_to_noise, "yes" if row.biased else ""))
table = [
    (name, samples, f"{n:.1f}", f"{1000 * price:.0f}", biased) for price, name, samples, n, biased in sorted(prices)
]
display(Markdown(markdown([("estimator", "K", "draws", "ms", "biased here"), *table])))

# %% [markdown]
# REINFORCE without a baseline needs many draws. Each glimpse is charged with the whole cost that follows, and most of
# it does not depend on the glimpse. A baseline subtracts that part. The other samples of the same caption are a good
# baseline, and they need no network and no tuning (`leave-one-out`). `enumeration` is not in the table: it has no
# variance, but it needs all 64 paths, and with 49 locations and ten words there would be 49^10.
#
# ## How many samples?
#
# More samples are more rows of one minibatch. The table has the signal / noise of leave-one-out for K samples, and
# divided by K, which says what one sample is worth.

# %%
exact, table = Exact(subject), []
for samples in (2, 3, 5, 8):
    rule = {"name": "reinforce", "baseline": "leave-one-out", "samples": samples} | GRADIENT
    row = drawn(f"K = {samples}", Way.of(subject, rule), exact, draws=100)[0]  # of attention's parameters
    table.append((samples, f"{row.signal_to_noise:.2f}", f"{row.signal_to_noise / samples:.2f}"))
display(Markdown(markdown([("K", "signal / noise", "per sample"), *table])))

# %% [markdown]
# ## Rules of thumb
#
# - **Begin with `reinforce` and the baseline `leave-one-out`, K = 3 or more.** It is unbiased, has no parameters and is
#   hard to beat at equal time. In the last table more samples make even a single one worth more. It is also what
#   `attend.estimators.reinforce_loss` does in [a model of your own](attention_in_your_own_model.py).
# - **If the decoder reads the expected context (`--attention.feed expected`), use `enumeration` or `marginal`.** Then
#   the sum over L locations per word is exact, and nothing has to be sampled.
# - **If memory allows one sample alone, use the baseline `soft` or `self-critical`** (one more pass without sampling)
#   or `learned` (a small network). A moving average (`average-per-word`) costs nothing and is the paper's choice, and
#   its variance is larger.
# - **If a bias is acceptable, `straight-through` and `gumbel-softmax` have a small variance.** Compare the trained
#   models, and not only their losses: a relaxed model is trained on mixtures that hard attention never reads.
# - **To reproduce the released code of 2015, use `xu2015-code`.** Its gradient is biased.
#
# A tiny model with random weights is not yours. Measure your own run, at its best or at every kept checkpoint:
#
#     attend estimators --run runs/quickstart/hard/seed0 --checkpoints all
#
# [Estimators](../estimators.md) has all settings and sources, and [these
# measurements](../../experiments/results/estimators-tiny.md) with a thousand draws.
