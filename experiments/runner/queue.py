"""The jobs of an experiment or a study as trials of an Optuna study, which processes and machines share.

A job can have several trials; the first complete one counts. If its worker dies, the job is requeued with the same
parameters. A failed job stays failed until the user repeats the command.
"""

import contextlib
import copy
import multiprocessing
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import optuna
import psutil
from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner.declared import blame
from attend.experiments.runner.locks import REPORT
from attend.experiments.runner.storages import BEAT, exists, open_storage, reached, turn
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from attend.bars import say
from attend.runs.files import running
from attend.runs.lease import LeaseLost

DEATHS = 10
"""If more workers than these die at one job, the job counts as failed."""
WAIT = 1.0
"""Seconds between two reads of the queue, while other workers have the remaining jobs."""
UNCLAIMED = 30.0
"""Seconds that a job may run without a worker: who took it was killed before it could note itself."""
HERE = socket.gethostname()
LIVE = {TrialState.WAITING: "waiting", TrialState.RUNNING: "running"}
OVER = (TrialState.COMPLETE, TrialState.PRUNED)
OF_A_TRY = ("error", "worker", "interrupted")
"""Attributes of one trial that a retry does not inherit."""


class Job(NamedTuple):
    """The state of a job, the trial that determines it, and the error of a failed job. ``lost``: its worker died."""

    state: Literal["waiting", "running", "done", "failed", "lost"]
    trial: FrozenTrial
    error: str = ""


class NotOurs(RuntimeError):
    """A trial without a job, or whose job belongs to another trial."""


def put_back(study: optuna.Study, trial: FrozenTrial) -> None:
    """Requeue a failed trial with its parameters and its reported values."""
    trial = copy.deepcopy(trial)
    trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name not in OF_A_TRY}
    RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


class Queue:
    """The jobs of the Optuna study ``name`` in the storage at ``url``, which is created if it does not exist."""

    def __init__(self, url: str, name: str, *, beat: int = BEAT, **study: Any) -> None:
        self.url, self.name, self.beat, self.made = url, name, beat, study
        self.unclaimed: dict[int, float] = {}

    @property
    def there(self) -> bool:
        """Whether the storage has this study."""
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
        """A user attribute of the study. If it is not set, it is set to ``value``."""
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
        """The trials of each job, in the order of their numbers."""
        tries: dict[str, list[FrozenTrial]] = {}
        with reached(self.url):
            trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if "job" in trial.user_attrs and "duplicate" not in trial.user_attrs:
                tries.setdefault(trial.user_attrs["job"], []).append(trial)
        for some in tries.values():  # the trials since the job was last added
            after = max(trial.user_attrs.get("after", -1) for trial in some)
            some[:] = [trial for trial in some if trial.number > after]
        return tries

    def fill(self, names: Iterable[str], again: Sequence[str] = ()) -> None:
        """Add the missing jobs; requeue the failed ones, and the done ones that are in ``again``."""
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
        """Requeue the jobs of dead workers: of this machine at once, of others after their heartbeat has stopped, of
        nobody after UNCLAIMED seconds."""
        with reached(self.url):
            optuna.storages.fail_stale_trials(self.study)
        for job in self.jobs().values():
            pid, _, host = job.trial.user_attrs.get("worker", "").partition("@")
            if job.state != "running":
                continue
            dead = host == HERE and not running(int(pid))
            if not host:
                seen = self.unclaimed.setdefault(job.trial.number, time.monotonic())
                dead = time.monotonic() - seen >= UNCLAIMED
            if dead:
                self.release(job.trial)
        for job in self.jobs().values():
            if job.state == "lost":
                put_back(self.study, job.trial)

    def release(self, trial: FrozenTrial) -> None:
        """Mark the trial of a dead worker as failed."""
        with reached(self.url), contextlib.suppress(ValueError, UpdateFinishedTrialError):  # somebody was faster
            self.study.tell(trial.number, state=TrialState.FAIL)

    def work(self, do: Callable[[Trial], Any], *, wait: bool = True, after: Callable[[], Any] = lambda: None) -> None:
        """Do jobs until none is left, and ``wait`` for those of other workers, which are requeued if these die.

        ``after`` is called after each. Raises LeaseLost where this worker was taken for dead meanwhile, and its job is
        another's now.
        """
        waited = 0.0
        while True:
            self.heal()
            jobs = self.jobs()
            states = Counter(job.state for job in jobs.values())
            if states["waiting"]:
                waited = 0.0
                self._one(do)
                after()
            elif states["running"] and wait:
                time.sleep(WAIT)
                waited += WAIT
                if waited - WAIT < REPORT <= waited:
                    _report(jobs)
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
            except BaseException as error:
                found = blame(error)
                if found is not None or not isinstance(error, optuna.TrialPruned):
                    trial.set_user_attr("error", sentence(found or error))
                if found is None:
                    raise
                raise found from error

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
        """Note the worker of a trial. NotOurs if the trial has no job, or the job belongs to another trial."""
        if beat := getattr(trial.storage, "record_heartbeat", None):
            beat(trial._trial_id)  # Optuna's thread beats later, and who is frozen before would never be missed
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


def _report(jobs: dict[str, Job]) -> None:
    running = {n: job.trial.user_attrs.get("worker", "") for n, job in jobs.items() if job.state == "running"}
    others = [f"{name} ({worker})" for name, worker in running.items() if not _sibling(worker)]
    if others:
        say(f"waiting for what others run: {', '.join(others)}")


def _sibling(worker: str) -> bool:
    """Whether both are worker processes of one command."""
    pid, _, host = worker.partition("@")
    try:
        together = multiprocessing.parent_process() is not None and host == HERE
        return together and psutil.Process(int(pid)).ppid() == os.getppid()
    except (psutil.Error, ValueError):
        return False


def _job(tries: Sequence[FrozenTrial]) -> Job:
    """The state of a job after some trials, in the order of their numbers."""
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
