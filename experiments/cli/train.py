"""`attend train`"""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from attend.experiments.cli.common import summary
from tyro.conf import arg

from attend.config import Config


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    """Train and evaluate one run, and keep everything in a run folder. Run it again to resume.

    More train.epochs than a finished run has go on with it.
    """

    start: Annotated[str | None, arg(name="from")] = None
    """run folder whose best weights the run begins with, as far as names and shapes agree (its optimiser is fresh);
    what was taken is reported and stands in environment.json"""
    out: Path | None = None
    """run folder; if not given, runs/train/<name>/seed<k>"""
    name: str | None = None
    """name of the run below runs/train; if not given, that of the preset"""
    again: bool = False
    """train anew if the run is finished or has other settings; the run that is there is renamed, not removed"""


def train(command: Train, preset: str) -> None:
    from attend.training.run import train_config

    config = Config(**{one.name: getattr(command, one.name) for one in fields(Config)})
    run = train_config(config, preset, out=command.out, name=command.name, again=command.again)
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes the main one speaks
        print(f"{run.path}: {summary(run.scores)}")
