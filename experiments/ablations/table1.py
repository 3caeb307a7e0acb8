"""Are the scores of Xu et al. (2015) reached, by the paper's settings and by those of its released code?

    attend run table1 --data DIR      DIR as for flickr8k, or Flickr30k or COCO as `attend prepare` leaves it

Soft and hard attention on VGG-19 at 14 x 14, whose weights timm downloads. Which published scores stand below is
decided by the dataset's name. Theirs are single runs and so are these: two seeds of one model can differ by as much as
hard and soft do there, so that only `--seeds 5` or so says more. Their BLEU has no brevity penalty.

Source: Xu et al. (2015), table 1: BLEU-4 19.5 soft and 21.3 hard on Flickr8k, 19.1 and 19.9 on Flickr30k, 24.3 and 25.0
on COCO.

Not measured yet: a model of flickr8k, smaller and with a quarter of the places, takes 129 minutes on one of two cores;
not measured on a GPU.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from attend.analysis.tables.published import PUBLISHED
from attend.experiments import flickr8k
from attend.experiments.ablations.base import TINY
from attend.experiments.quickstart import scenes
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config.presets import CODE_HARD, CODE_SOFT, PAPER_HARD, PAPER_SOFT
from attend.config.text import replace as with_fields
from attend.data.prepared import Prepared

MODELS = {"paper-soft": PAPER_SOFT, "paper-hard": PAPER_HARD, "code-soft": CODE_SOFT, "code-hard": CODE_HARD}
BLEU = (1, 2, 3, 4)
COLUMNS = (*(f"bleu{n}_free" for n in BLEU), "meteor", *(f"bleu{n}" for n in BLEU), "length_ratio", "cider", "mass")


def named(folder: Path) -> str | None:
    """Which of the published datasets a prepared one is, by its name."""
    name = Prepared(folder).about["name"].lower()
    return next((known for known in PUBLISHED if name.startswith(known)), None)


def dataset(data: Path) -> str:
    """Which of the published datasets this is; as distributed, Flickr8k."""
    if not (data / "dataset.json").exists():
        return "flickr8k"
    if known := named(data):
        return known
    raise ValueError(
        f"{data} is no dataset that table1 has published scores of ({', '.join(PUBLISHED)}): name its folder or "
        "caption file so, and prepare it again"
    )


def prepare(data: Path | None, tiny: bool) -> None:
    """The data, which must be those that the published scores are of."""
    flickr8k.prepare(data, tiny)
    if not tiny and (found := named(flickr8k.photographs("table1", data))) not in (None, dataset(data)):
        raise ValueError(f"{data} holds {found}: make it a folder of its own with `attend prepare`, and give that one")


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """One seed of each. ``tiny`` has two of them on the built-in world, with small sizes."""
    if tiny:
        world = scenes(None, tiny)
        sizes = {"data": world.data, "encoder": world.encoder, "decoder": world.decoder}
        small = TINY | {"train.log_every": 1}
        variants = {
            name: with_fields(replace(one, **sizes, attention=replace(one.attention, width=16)), small)
            for name, one in MODELS.items()
            if name in ("paper-soft", "code-hard")
        }
    else:
        folder = str(flickr8k.photographs("table1", data))
        variants = {name: replace(one, data=folder) for name, one in MODELS.items()}
    published = None if tiny else dataset(data)
    also = {"paper-hard": [Setting("expected")], "code-hard": [Setting("argmax")]}
    return Experiment(
        name="table1-tiny" if tiny else f"table1-{published}",
        variants=variants,
        seeds=dict.fromkeys(variants, 1),
        also={name: settings for name, settings in also.items() if name in variants},
        columns=COLUMNS,
        published=published,
        prepare=partial(prepare, data, tiny),
    )
