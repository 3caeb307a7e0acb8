"""`attend estimators`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attend.experiments.cli.common import check_run

from attend.config.section import Paths, Positive, Rounds, Seed, Several

TINY_SAMPLES = 3
"""K on the tiny minibatch: a sum over all K-tuples of paths is possible."""


@dataclass(frozen=True, kw_only=True)
class Estimators:
    """Compare the gradient estimators of hard attention: bias, variance, time and memory of a step."""

    run: Path | None = None
    """run folder of hard attention; if not given, --tiny"""
    tiny: bool = False
    """random minibatch of four locations and three words, for both attention.feed; all its paths can be enumerated"""
    checkpoints: str = "best"
    """checkpoints of the run, separated by commas: fresh, epoch<k> (see train.keep_every), best, last; or all"""
    split: Literal["train", "val", "test"] = "val"
    """split of the run's data that the minibatch comes from"""
    images: Positive = 4
    """images of the minibatch"""
    data: Path | None = None
    """prepared dataset, if it has moved since training"""
    draws: Several = 200
    """samples of each gradient"""
    samples: Paths | None = None
    """K of the estimators that take several samples; if not given, 3 with --tiny, as in training with --run"""
    rounds: Rounds = 5
    """rounds of steps to time; 0 measures neither time nor memory"""
    only: str | None = None
    """names of estimators, separated by commas; if not given, all"""
    seed: Seed = 0
    """seed of the minibatch and the samples; equal seeds give equal tables, apart from time and memory"""
    out: Path = Path("runs/estimators")
    """folder for estimators.csv, estimators.md and the figures"""


def estimators(command: Estimators) -> None:
    from attend.config.catalogue import FACTS, ours

    if command.run is not None and command.tiny:
        raise ValueError("--tiny has a minibatch of its own and --run that of a run: leave one of them out")
    if command.run is None:
        for name in ("checkpoints", "split", "images", "data"):
            if getattr(command, name) != getattr(Estimators, name):
                raise ValueError(f"--{name} has no effect without --run: leave it out, or name a run")
    only = tuple(FACTS) if command.only is None else tuple(command.only.split(","))
    for name in only:
        if (baseline := ours("estimator.baseline", name)) != name:
            raise ValueError(
                f"{name} is estimator.baseline {baseline!r} of reinforce: give reinforce, which has them all"
            )
        if name not in FACTS:
            raise ValueError(f"unknown estimator {name!r}: known are {', '.join(FACTS)}")
    if command.run is not None:
        check_run(command.run, command.data)
    from attend.experiments.laboratory.measure import measure, summary, write
    from attend.experiments.laboratory.subjects import tiny, trained

    if command.run is None:
        subjects, samples = tiny(command.seed), command.samples or TINY_SAMPLES
    else:
        where = {name: getattr(command, name) for name in ("images", "split", "seed", "data")}
        subjects, samples = trained(command.run, command.checkpoints, **where), command.samples
    rows = measure(subjects, draws=command.draws, rounds=command.rounds, samples=samples, only=only)
    print(f"{command.out}: {summary(rows)}", *write(command.out, rows), sep="\n")
