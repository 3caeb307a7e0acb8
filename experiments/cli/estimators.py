"""`attend estimators`"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from attend.experiments.cli.common import at_least


@dataclass(frozen=True, kw_only=True)
class Estimators:
    """Estimators of hard attention's gradient side by side: bias, variance, time and memory of a step."""

    run: Path | None = None
    """a run folder of hard attention; none is --tiny"""
    tiny: bool = False
    """a made-up minibatch of four locations and three words, where all paths can be summed, for both attention.feed"""
    checkpoints: str = "best"
    """of the run, separated by commas, of fresh, epoch<k> (train.keep_every), best and last; or all"""
    split: Literal["train", "val", "test"] = "val"
    """of the run's data, where the minibatch comes from"""
    images: int = 4
    """in that minibatch"""
    data: Path | None = None
    """prepared dataset, where it has moved since"""
    draws: int = 200
    """of each gradient"""
    samples: int | None = None
    """K of the estimators that take several samples; none is 3 on the tiny minibatch, and as in training on a run"""
    rounds: int = 5
    """of steps in turn, for their time; 0 measures neither time nor memory"""
    only: str | None = None
    """names of estimators, separated by commas; none is all"""
    seed: int = 0
    """of the minibatch and the draws; equal seeds give equal tables, but for time and memory"""
    out: Path = Path("runs/estimators")
    """folder for estimators.csv, estimators.md and the figures"""


def estimators(command: Estimators) -> None:
    from attend.experiments.laboratory.run import laboratory

    from attend.config.catalogue import FACTS

    if command.run is not None and command.tiny:
        raise ValueError("--tiny has a minibatch of its own and --run that of a run: leave one of them out")
    if command.run is None:
        for name in ("checkpoints", "split", "images", "data"):
            if getattr(command, name) != getattr(Estimators, name):
                raise ValueError(f"--{name} has no effect without --run: leave it out, or name a run")
    only = tuple(FACTS) if command.only is None else tuple(command.only.split(","))
    for name in only:
        if name not in FACTS:
            raise ValueError(f"unknown estimator {name!r}: known are {', '.join(FACTS)}")
    at_least(2, draws=command.draws)
    at_least(1, images=command.images, samples=command.samples)
    at_least(0, rounds=command.rounds, seed=command.seed)
    options = {one.name: getattr(command, one.name) for one in fields(command) if one.name not in ("tiny", "out")}
    said, files = laboratory(command.out, **options | {"only": only})
    print(said, *files, sep="\n")
