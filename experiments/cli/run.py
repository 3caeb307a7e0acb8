"""`attend run`"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from attend.experiments.cli.common import Queued, agreed, settings_of
from tyro.conf import Positional, arg

from attend.config.section import Seeds, Trials

if TYPE_CHECKING:
    from attend.experiments.runner.experiment import Experiment


PICTURES = 2
"""Images whose gaze is drawn."""


@dataclass(frozen=True, kw_only=True)
class Run(Queued):
    """Run an experiment: all its variants and seeds, then a table, pictures and a report. Run it again to resume."""

    experiment: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """name of an experiment (`attend run list` prints them), or a file that declares one: path/to/mine.py"""
    from_study: str | None = None
    """run the best trials of this study on new seeds, instead of an experiment"""
    best: Trials = 1
    """with --from-study, number of the best trials of each kind"""
    seeds: Seeds | None = None
    """seeds of every variant; if not given, the experiment's own"""
    detect: str | None = None
    """with --dry-run, say how many seeds a difference of this size needs, as in cider=0.05, from the variances of
    finished runs of this experiment, or else of all runs in --out"""


def run(command: Run) -> None:
    from attend.experiments.runner.experiment import EXPERIMENTS, catalogue

    if command.experiment == "list":
        print(catalogue(EXPERIMENTS))
        return
    from attend.experiments.runner.storages import address

    if command.detect:
        from attend.analysis.statistics.planning import stated

        stated(command.detect)
        if not command.dry_run:
            raise ValueError("--detect has no effect without --dry-run: add it, or leave --detect out")
    settings = settings_of(command)
    address(command.storage, command.out)  # what cannot be is said before data are made
    experiment = _experiment(command).with_settings(settings)
    if not experiment.variants:
        _conclude(experiment, command)
        return
    from attend.experiments.runner import runner
    from attend.experiments.runner.workers import warm

    runs = runner.plan(experiment, command.out, command.seeds)
    if command.workers != 1 and not command.dry_run and len(runner.unfinished(runs)) > 1:
        warm()
    if experiment.prepare:
        experiment.prepare()
    if not agreed(runs, command):
        if command.detect:
            print(_seeds_for(command, experiment))
        return
    runner.run(runs, experiment.name, command.out, command.storage, command.workers)
    runner.present(experiment, command.out, pictures=1 if command.tiny else PICTURES)


def _seeds_for(command: Run, experiment: Experiment) -> str:
    """How many seeds a stated difference needs, by what is finished of this experiment or of others."""
    from attend.analysis.records import read_runs
    from attend.analysis.statistics.planning import seeds_for, stated

    known = []
    for folder in (command.out / experiment.name, command.out):
        with contextlib.suppress(ValueError):
            known = known or read_runs([folder], broken=[])
    return seeds_for(known, *stated(command.detect), len(experiment.variants))


def _conclude(experiment: Experiment, command: Run) -> None:
    """Run an experiment that trains nothing."""
    if experiment.conclude is None:
        raise ValueError(f"{experiment.name} has neither variants nor anything to conclude: declare one of them")
    for name in ("set", "seeds", "workers", "storage"):
        if getattr(command, name) != getattr(Run, name):
            raise ValueError(f"--{name} has no effect on {experiment.name}, which trains nothing: leave it out")
    if command.dry_run:
        print(f"{experiment.name}: nothing is to be trained")
        return
    if experiment.prepare:
        experiment.prepare()
    print(*experiment.conclude((), command.out / experiment.name), sep="\n")


def _experiment(command: Run) -> Experiment:
    """The experiment of a name, or the one that confirms a study."""
    from attend.experiments.runner.experiment import load

    if (command.experiment is None) == (command.from_study is None):
        raise ValueError("name an experiment, or a study with --from-study: `attend run list` shows the experiments")
    if command.experiment is not None:
        if command.best != Run.best:
            raise ValueError("--best has no effect without --from-study: leave it out, or name a study")
        experiment = load(command.experiment, command.data, command.tiny)
        return experiment.only(command.only.split(",")) if command.only else experiment
    from attend.experiments.runner.confirm import confirmation
    from attend.experiments.runner.storages import address
    from attend.experiments.runner.study import load_study

    study = load_study(command.from_study, command.data, command.tiny)
    url = address(command.storage, command.out)
    kinds = study.only(command.only.split(",")).kinds if command.only else study.kinds
    queues = {kind: study.queue(url, kind, begun=True) for kind in kinds}
    return confirmation(study, queues, command.best, command.out)
