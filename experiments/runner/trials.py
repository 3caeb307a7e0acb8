"""Run a study: the trials of each kind of attention, each an ordinary run folder that is scored on validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna
from attend.analysis.records import read_run
from attend.experiments.runner.queue import Queue
from attend.experiments.runner.runner import Run, patiently, perform
from attend.experiments.runner.study import OBJECTIVES, NotBegun, Study, load_study, spent
from optuna.trial import Trial

from attend.config import Config
from attend.config.text import from_dict
from attend.data.prepared import Prepared
from attend.runs.files import write_json
from attend.runs.folder import RunFolder
from attend.runs.lease import held


@dataclass(frozen=True)
class Told:
    """A study as the command line names it. Every worker loads it again."""

    name: str
    data: Path | None
    tiny: bool
    changes: tuple[tuple[str, Any], ...] = ()

    def __reduce__(self) -> tuple:
        return Told, (self.name, self.data, self.tiny, self.changes)  # a study's functions may be of a file

    @cached_property
    def study(self) -> Study:
        return replace(load_study(self.name, self.data, self.tiny), **dict(self.changes))


def search(
    told: Told, kinds: Sequence[str], out: Path, url: str, workers: int | None, beat: int
) -> tuple[dict[str, Queue], str]:
    """Do the remaining trials of these kinds; returns their queues, and a sentence about the failed trials."""
    from attend.encoder.features import store_features

    study, names = told.study, list(map(str, range(told.study.trials)))
    queues = {kind: study.queue(url, kind, beat=beat) for kind in kinds}
    for kind, queue in queues.items():
        first = from_dict(study.described(kind)["first"])
        store_features(Prepared(first.data), first.encoder)  # once, before the workers ask for them
        queue.fill(names)
    for wait in (False, True):  # who has nothing more to do for one kind goes on with the next
        for kind, queue in queues.items():
            try:
                perform(queue, partial(_do, told, kind, out), names, workers, f"{study.name}-{kind}", wait=wait)
            finally:
                note(study, kind, queue, out)
    failed = [
        f"{study.run_folder(out, kind, name)}: {job.error}"
        for kind, queue in queues.items()
        for name, job in queue.jobs().items()
        if job.state == "failed"
    ]
    return queues, f"{len(failed)} trials failed: {'; '.join(failed)}" if failed else ""


def planned(told: Told, kinds: Sequence[str], out: Path, url: str) -> list[Run]:
    """The runs of the trials that are not done.

    What the sampler will ask for is not known yet: of a trial that has not begun, some configuration of the space
    stands for it.
    """
    study, runs = told.study, []
    for kind in kinds:
        try:
            jobs = study.queue(url, kind, begun=True).jobs()
        except NotBegun:
            jobs = {}
        first = from_dict(study.described(kind)["first"])
        for name in map(str, range(study.trials)):
            if name not in jobs or jobs[name].state != "done":
                run = RunFolder(study.run_folder(out, kind, name))
                begun = (run.path / "config.json").exists()
                runs.append(Run(folder=run.path, variant=kind, config=run.config() if begun else first))
    return runs


def queues_of(told: Told, kinds: Sequence[str], url: str) -> dict[str, Queue]:
    """The queues of a study; ValueError if it is not begun."""
    return {kind: told.study.queue(url, kind, begun=True) for kind in kinds}


def requeue(told: Told, kinds: Sequence[str], out: Path, url: str) -> int:
    """Requeue the running trials whose run folder no process uses; returns how many. Storages without heartbeats need
    this, since they do not notice that a worker is dead."""
    count = 0
    for kind, queue in queues_of(told, kinds, url).items():
        for name, job in queue.jobs().items():
            if job.state == "running" and not held(told.study.run_folder(out, kind, name)):
                queue.release(job.trial)
                count += 1
        queue.heal()
    return count


def note(study: Study, kind: str, queue: Queue, out: Path) -> None:
    """Beside the trials, how many there were: every table of them says so."""
    about = {"study": study.name, "kind": kind, "trials": spent(queue.jobs()), "sampler": study.sampler}
    write_json(study.folder(out, kind) / "study.json", about)


def _do(told: Told, kind: str, out: Path, trial: Trial) -> list[float]:
    """Train the run of a trial, and return its objectives on validation images."""
    study = told.study
    config = study.config(trial, kind)
    folder = study.run_folder(out, kind, trial.user_attrs["job"])
    trial.set_user_attr("folder", str(folder))
    scores = patiently(partial(_train, study, config, folder, trial))
    return [OBJECTIVES[name].read(scores) for name in study.objectives]


def _train(study: Study, config: Config, folder: Path, trial: Trial) -> dict[str, Any]:
    from attend.training.loop import train

    return train(config, folder, split="val", after_epoch=partial(judge, study, folder, trial))


def judge(study: Study, folder: Path, trial: Trial) -> None:
    """Report the epochs of metrics.jsonl, and prune the trial if it is hopeless."""
    epochs = [one for one in read_run(folder).metrics if one.get("split") == "val"]
    known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    (first, *others) = study.objectives
    if not others:
        for one in epochs:
            if first in one and int(one["epoch"]) not in known:
                trial.report(one[first], int(one["epoch"]))
    lately = [one["collapsed"] for one in epochs[-study.collapse :]] if study.collapse else []
    if len(lately) == study.collapse and study.collapse and all(lately):
        _prune(trial, f"attention had collapsed for {study.collapse} epochs")
    if not others and trial.should_prune():
        _prune(trial, f"its {first} was behind that of others after epoch {int(epochs[-1]['epoch'])}")


def _prune(trial: Trial, why: str) -> None:
    trial.set_user_attr("pruned", why)
    raise optuna.TrialPruned(why)
