"""The jobs of an experiment or a study, shared through Optuna: each is a trial that names it.

A job counts once, however often it is tried: by the first trial that completed it. One whose worker died is put back,
as it was; one that failed stays failed until the command is given again.
"""

from __future__ import annotations

import contextlib
import copy
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import optuna
from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner.storages import BEAT, exists, open_storage, reached, turn
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from attend.runs.files import running
from attend.runs.lease import LeaseLost

DEATHS = 10
"""Workers that may die over one job: it may be the job that kills them."""
WAIT = 1.0
"""Seconds between two looks at the queue, where other workers have what is left."""
HERE = socket.gethostname()
LIVE = {TrialState.WAITING: "waiting", TrialState.RUNNING: "running"}
OVER = (TrialState.COMPLETE, TrialState.PRUNED)
OF_A_TRY = ("error", "worker", "interrupted")
"""What is noted of one try alone, and not handed on to the next."""


class Job(NamedTuple):
    """How a job stands, the trial that says so, and the error of one that failed. ``lost``: its worker died."""

    state: Literal["waiting", "running", "done", "failed", "lost"]
    trial: FrozenTrial
    error: str = ""


class NotOurs(RuntimeError):
    """A trial that stands for no job, or for one that another trial stands for."""


def put_back(study: optuna.Study, trial: FrozenTrial) -> None:
    """A trial that failed once more: waiting, with its parameters and what it reported so far."""
    trial = copy.deepcopy(trial)
    trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name not in OF_A_TRY}
    RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


class Queue:
    """The jobs of one of Optuna's studies, ``name`` in the storage at ``url``; made where it is not there."""

    def __init__(self, url: str, name: str, *, beat: int = BEAT, **study: Any) -> None:
        self.url, self.name, self.beat, self.made = url, name, beat, study

    @property
    def there(self) -> bool:
        """Whether the storage has it."""
        if not exists(self.url):
            return False
        with reached(self.url):
            return self.name in optuna.get_all_study_names(open_storage(self.url, self.beat))

    @cached_property
    def study(self) -> optuna.Study:
        with reached(self.url):
            storage = open_storage(self.url, self.beat)
            return optuna.create_study(storage=storage, study_name=self.name, load_if_exists=True, **self.made)

    def attribute(self, name: str, value: Any) -> Any:
        """What the study notes under a name; ``value`` where it noted nothing yet, which it does now."""
        with reached(self.url):
            if name not in self.study.user_attrs:
                self.study.set_user_attr(name, value)
            return self.study.user_attrs[name]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "study"}  # a worker connects anew

    def jobs(self) -> dict[str, Job]:
        """Every job by its name, in the order in which they were added."""
        return {name: _job(some) for name, some in self._tries().items()}

    def _tries(self) -> dict[str, list[FrozenTrial]]:
        """The trials that stand for each job, in the order of their numbers."""
        tries: dict[str, list[FrozenTrial]] = {}
        with reached(self.url):
            trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if "job" in trial.user_attrs and "duplicate" not in trial.user_attrs:
                tries.setdefault(trial.user_attrs["job"], []).append(trial)
        return {name: _latest(some) for name, some in tries.items()}

    def fill(self, names: Iterable[str], again: Sequence[str] = ()) -> None:
        """Add the jobs that are not there, and once more those that failed, or that are done but named in ``again``."""
        there = self.jobs()
        with reached(self.url):
            for name in names:
                job = there.get(name)
                if job is None:
                    self.study.enqueue_trial({}, user_attrs={"job": name})
                elif job.state == "failed":
                    put_back(self.study, job.trial)
                elif job.state == "done" and name in again:
                    self.study.enqueue_trial(job.trial.params, user_attrs={"job": name, "after": job.trial.number})

    def heal(self) -> None:
        """Put back the jobs of workers that died: of this machine at once, of others when their heartbeat stopped."""
        with reached(self.url):
            optuna.storages.fail_stale_trials(self.study)
        for job in self.jobs().values():
            if job.state == "running" and _dead(job.trial):
                self.release(job.trial)
        for job in self.jobs().values():
            if job.state == "lost":
                put_back(self.study, job.trial)

    def release(self, trial: FrozenTrial) -> None:
        """Take a trial from a worker that died."""
        with reached(self.url), contextlib.suppress(ValueError, UpdateFinishedTrialError):  # somebody was faster
            self.study.tell(trial.number, state=TrialState.FAIL)

    def work(self, do: Callable[[Trial], Any], *, wait: bool = True, after: Callable[[], Any] = lambda: None) -> None:
        """Do jobs until none is left, and ``wait`` for those of other workers, which come back if these die.

        ``after`` is called after each. Raises LeaseLost where this worker was taken for dead meanwhile, and its job is
        another's now.
        """
        while True:
            self.heal()
            states = Counter(job.state for job in self.jobs().values())
            if states["waiting"]:
                self._one(do)
                after()
            elif states["running"] and wait:
                time.sleep(WAIT)
                after()
            else:
                return

    def _one(self, do: Callable[[Trial], Any]) -> None:
        """Take one job and do it."""
        lost: list[BaseException] = []

        taking = contextlib.ExitStack()

        def objective(trial: Trial) -> Any:
            self._claim(trial)
            taking.close()
            try:
                return do(trial)
            except (LeaseLost, UpdateFinishedTrialError) as error:
                lost.append(error)
                raise
            except KeyboardInterrupt:
                trial.set_user_attr("interrupted", True)
                raise
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr("error", sentence(error))
                raise

        with reached(self.url), taking:
            taking.enter_context(turn(self.url))
            try:
                self.study.optimize(objective, n_trials=1, catch=EXPECTED)
            except (ValueError, AssertionError) as error:  # so it ends where another has ended the trial meanwhile
                if "Cannot tell a" not in f"{error}{error.__context__}":
                    raise
        if lost:
            raise LeaseLost("this worker was taken for dead, and another goes on with its job: this one stops")

    def _claim(self, trial: Trial) -> None:
        """Say who works on it. NotOurs where it is no job, or another trial stands for the job."""
        trial.set_user_attr("worker", f"{os.getpid()}@{HERE}")
        tries = self._tries().get(trial.user_attrs.get("job", ""))
        if tries is None:
            raise NotOurs("the queue is empty")
        begun = [one for one in tries if one.number < trial.number and one.params]
        again = any(RetryHeartbeatStaleTrialCallback.retry_history(one) for one in tries if one.number == trial.number)
        if begun and not again:  # the run that is there has other parameters
            trial.set_user_attr("duplicate", True)
            if begun[-1].state == TrialState.FAIL:
                put_back(self.study, begun[-1])
            raise NotOurs(f"trial {begun[-1].number} has begun this job")
        if (number := _job(tries).trial.number) != trial.number:
            trial.set_user_attr("duplicate", True)
            raise NotOurs(f"trial {number} stands for this job")


def _job(tries: Sequence[FrozenTrial]) -> Job:
    """How a job stands after some tries, in the order of their numbers."""
    for trial in tries:
        if trial.state in OVER:
            return Job("done", trial)
    for trial in tries:
        if trial.state in LIVE:
            return Job(LIVE[trial.state], trial)
    last = tries[-1]
    if "error" in last.user_attrs:
        return Job("failed", last, last.user_attrs["error"])
    deaths = 0
    for trial in reversed(tries):
        if "error" in trial.user_attrs:
            break
        deaths += "interrupted" not in trial.user_attrs
    if deaths > DEATHS:
        return Job("failed", last, f"{deaths} workers died over it: has the machine enough memory?")
    return Job("lost", last)


def _latest(tries: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Without the tries before the job was added once more."""
    after = max(trial.user_attrs.get("after", -1) for trial in tries)
    return [trial for trial in tries if trial.number > after]


def _dead(trial: FrozenTrial) -> bool:
    """Whether the worker was a process of this machine that no longer runs."""
    pid, _, host = trial.user_attrs.get("worker", "").partition("@")
    return host == HERE and not running(int(pid))
