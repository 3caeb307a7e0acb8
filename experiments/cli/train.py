"""`attend train`"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

from attend.experiments.cli.common import summary
from attend.experiments.cli.help import entries, extended, first_sentence, page
from tyro.conf import arg

from attend.config import Config
from attend.config.presets import PRESETS
from attend.runs.launch import launched
from attend.runs.settings import with_file


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train and evaluate one run, and keep everything in a run folder. Run it again to resume.

    More train.epochs than a finished run has go on with it.
    """

    FIRST: ClassVar[tuple[str, ...]] = (
        "out", "name", "again", "data", "from", "seed", "encoder.name", "encoder.stride", "attention.weights",
        "attention.select", "estimator.name", "estimator.baseline", "estimator.samples", "estimator.scale",
        "decoder.cell", "decoder.hidden", "decoder.dropout", "objective.doubly_stochastic", "search.beam",
        "search.decode", "train.epochs", "train.images", "train.learning_rate", "train.patience",
    )  # fmt: skip
    """Four options of the verb, and the twenty settings that people change first."""
    start: Annotated[str | None, arg(name="from", metavar="RUN")] = None
    """run folder whose best weights the run begins with, as far as names and shapes agree. Its optimiser is fresh; what
    was taken is reported and stands in environment.json"""
    config: Path | None = None
    """YAML or JSON file of settings, as config.json of a run; options beside it have precedence"""
    out: Path | None = None
    """run folder; if not given, runs/train/<name>/seed<k>"""
    name: str | None = None
    """name of the run below runs/train; if not given, that of the preset"""
    again: bool = False
    """train anew if the run is finished or has other settings; the run that is there is renamed, not removed"""


def presets(everything: bool) -> str:
    """The help of the verb without a preset: what the presets are, and the settings as `soft` has them."""
    if everything:
        changes = {name: f" Differs from soft: {one.differences}." for name, one in PRESETS.items() if one.differences}
        texts = {name: one.about + changes.get(name, "") for name, one in PRESETS.items()}
    else:
        texts = {name: first_sentence(one.about) for name, one in PRESETS.items()}
    settings = page(Train, "attend train PRESET", extended(Train, PRESETS["soft"].config), everything)
    usage, _, rest = settings.partition("\n")
    return f"{usage}\n\nPRESET is one of\n{entries(texts)}\n{rest}"


def defaults(preset: Config, options: Sequence[str]) -> Config:
    """The settings of a preset and, in their place, those of the file that the options name with --config."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.error = lambda message: None  # tyro says what is wrong with options
    known, _ = parser.parse_known_args(options)
    return with_file(preset, known.config) if known.config else preset


def train(command: Train, preset: str) -> None:
    from attend.training.run import train_config

    config = Config(**{one.name: getattr(command, one.name) for one in fields(Config)})
    run = train_config(config, preset, out=command.out, name=command.name, again=command.again)
    if launched().rank == 0:  # of several processes the main one speaks
        print(f"{run.path}: {summary(run.scores)}")
