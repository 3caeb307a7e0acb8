"""`attend study`"""

from dataclasses import dataclass
from typing import Annotated

from attend.experiments.cli.common import Queued, agreed, settings_of
from tyro.conf import Positional, arg

from attend.config.section import Positive, Trials


@dataclass(frozen=True, kw_only=True)
class Study(Queued):
    """Run a study: search settings with Optuna, equally long for each kind of attention. Run it again to resume."""

    study: Annotated[Positional[str], arg(metavar="NAME")]
    """name of a study (`attend study list` prints them), or a file that declares one: path/to/mine.py"""
    trials: Trials | None = None
    """trials of each kind; if not given, the study's own. A later command can add more"""
    objectives: str | None = None
    """objectives on validation, separated by commas: cider, bleu4, meteor, nll, mass, pointing, parameters, seconds;
    if not given, the study's own. Several objectives give a Pareto front and no pruning"""
    sampler: str | None = None
    """tpe, random or nsga2; if not given, the study's own"""
    pruner: str | None = None
    """median, halving, hyperband or none; if not given, the study's own"""
    heartbeat: Positive = 20
    """seconds between two signs of life of a worker. If a worker gives none for 120 seconds (or three heartbeats, if
    longer), another one resumes its trial"""
    requeue: bool = False
    """requeue the running trials whose run folder no process uses, and stop; needed for a journal"""
    show: bool = False
    """report the best trials, the importance of each setting, and pictures, without running anything"""


def study(command: Study) -> None:
    from attend.experiments.runner import trials
    from attend.experiments.runner.experiment import catalogue
    from attend.experiments.runner.storages import address
    from attend.experiments.runner.study import STUDIES, spent

    if command.study == "list":
        print(catalogue(STUDIES))
        return
    if command.show and command.requeue:
        raise ValueError("--show and --requeue are two things to do: leave one of them out")
    changes = {name: getattr(command, name) for name in ("trials", "sampler", "pruner")}
    changes = {name: value for name, value in changes.items() if value is not None} | {"settings": settings_of(command)}
    changes |= {"objectives": tuple(command.objectives.split(","))} if command.objectives else {}
    told = trials.Told(command.study, command.data, command.tiny, tuple(changes.items()))
    kinds = told.study.only(command.only.split(",") if command.only else told.study.kinds).kinds
    url = address(command.storage, command.out)
    if command.requeue:
        print(f"{told.study.name}: {trials.requeue(told, kinds, command.out, url)} trials put back")
        return
    from attend.experiments.runner.show import show

    if command.show:
        queues, failed = trials.queues_of(told, kinds, url), ""
    else:
        runs = trials.planned(told, kinds, command.out, url)
        if told.study.prepare:
            told.study.prepare()
        if not agreed(runs, command):
            return
        queues, failed = trials.search(told, kinds, command.out, url, command.workers, command.heartbeat)
    if any(spent(queue.jobs()) for queue in queues.values()) or not failed:
        for file in show(told.study, queues, command.out):
            print(file)
    if failed:
        raise ValueError(failed)
