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
    """Train and evaluate one run, and keep everything in a run folder. Run it again to resume."""

    start: Annotated[str | None, arg(name="from")] = None
    """run folder whose best weights the run begins with, as far as names and shapes agree (its optimiser is fresh);
    what was taken is reported and stands in environment.json"""
    out: Path | None = None
    """run folder; if not given, runs/train/<preset>/seed<k>"""


def train(command: Train, preset: str) -> None:
    from attend.training import loop as training

    config = Config(**{one.name: getattr(command, one.name) for one in fields(Config)})
    folder = command.out or Path("runs") / "train" / preset / f"seed{config.seed}"
    scores = training.train(config, folder)
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes the main one speaks
        print(f"{folder}: {summary(scores)}")
