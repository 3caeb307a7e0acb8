"""`attend train`"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from attend.experiments.cli.common import summary
from tyro.conf import arg

from attend.config import Config
from attend.runs.settings import with_file


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train and evaluate one run, and keep everything in a run folder. Run it again to resume."""

    start: Annotated[str | None, arg(name="from")] = None
    """run folder whose best weights the run begins with, as far as names and shapes agree (its optimiser is fresh);
    what was taken is reported and stands in environment.json"""
    config: Path | None = None
    """YAML or JSON file of settings, as config.json of a run; options beside it have precedence"""
    out: Path | None = None
    """run folder; if not given, runs/train/<preset>/seed<k>"""


def defaults(preset: Config, options: Sequence[str]) -> Config:
    """The settings of a preset and, in their place, those of the file that the options name with --config."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.error = lambda message: None  # tyro says what is wrong with options
    known, _ = parser.parse_known_args(options)
    return with_file(preset, known.config) if known.config else preset


def train(command: Train, preset: str) -> None:
    from attend.training import loop as training

    config = Config(**{one.name: getattr(command, one.name) for one in fields(Config)})
    folder = command.out or Path("runs") / "train" / preset / f"seed{config.seed}"
    scores = training.train(config, folder)
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes the main one speaks
        print(f"{folder}: {summary(scores)}")
