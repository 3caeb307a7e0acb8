"""The queue: every job is done once, whoever dies, freezes, fails or comes too late; on every kind of storage."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from attend.experiments.runner import queue as queues
from attend.experiments.runner import storages
from attend.experiments.runner.queue import Queue
from optuna.trial import TrialState

from attend.runs.lease import LeaseLost
from tests.forks import kill, wait_for


def work(url: str, folder: Path, beat: int, grace: int) -> None:
    """A worker: it marks when jobs begin and end, and is slow as long as a file says so."""
    storages.GRACE = grace

    def do(trial):
        name = trial.user_attrs["job"]
        with open(folder / f"{name}.begun", "a") as file:
            file.write("x")
        while (folder / f"{name}.slow").exists():
            time.sleep(0.05)
        with open(folder / f"{name}.done", "a") as file:
            file.write("x")
        return 1.0

    Queue(url, "jobs", beat=beat).work(do)


JOBS = ["a", "b", "c"]


@pytest.fixture(params=["sqlite", "journal"])
def url(request, tmp_path):
    return f"{request.param}:///{tmp_path / 'queue'}"


@pytest.fixture
def worker(forks, tmp_path):
    """Starts a worker, a process of its own, on a queue."""

    def start(url: str, beat: int = 20, grace: int = 120) -> BaseProcess:
        return forks.start(work, url, tmp_path, beat, grace, folder=tmp_path, log=tmp_path / "log")

    return start


def ended(process: BaseProcess) -> bool:
    process.join(120)
    return process.exitcode == 0


def states(queue: Queue) -> dict[str, str]:
    return {name: job.state for name, job in queue.jobs().items()}


def test_two_workers_do_each_job_once(url, worker, tmp_path):
    queue = Queue(url, "jobs")
    queue.fill(map(str, range(6)))
    workers = [worker(url), worker(url)]
    assert all(map(ended, workers))
    assert set(states(queue).values()) == {"done"} and len(queue.jobs()) == 6
    assert all((tmp_path / f"{n}.done").read_text() == "x" for n in range(6))


def test_the_job_of_a_worker_that_was_killed_is_done_by_another_and_counts_once(url, worker, tmp_path):
    queue = Queue(url, "jobs")
    queue.fill(JOBS)
    (tmp_path / "a.slow").touch()
    victim = worker(url)
    wait_for((tmp_path / "a.begun").exists)
    number = queue.jobs()["a"].trial.number
    kill(victim)
    (tmp_path / "a.slow").unlink()
    assert ended(worker(url))
    assert set(states(queue).values()) == {"done"} and list(queue.jobs()) == JOBS
    again = queue.jobs()["a"].trial
    assert optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(again) == number
    assert (tmp_path / "a.begun").read_text() == "xx" and (tmp_path / "a.done").read_text() == "x"


def freeze(process: BaseProcess, database: Path) -> None:
    """Stop a process while it does not hold the lock of the database, which no other could ever take from it."""
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        other = sqlite3.connect(database, timeout=0)
        with contextlib.closing(other), contextlib.suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
            return
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_frozen_worker_loses_its_job_after_its_heartbeat_and_counts_nothing_when_it_comes_back(
    worker, tmp_path, monkeypatch
):
    monkeypatch.setattr(queues, "HERE", "elsewhere")  # so that its process is not looked up, as on another machine
    monkeypatch.setattr(storages, "GRACE", 3)
    url = f"sqlite:///{tmp_path / 'queue'}"
    queue = Queue(url, "jobs", beat=1)
    queue.fill(["a"])
    (tmp_path / "a.slow").touch()
    frozen = worker(url, 1, 3)
    wait_for((tmp_path / "a.begun").exists)
    freeze(frozen, tmp_path / "queue")
    (tmp_path / "a.slow").unlink()
    begun = time.monotonic()
    queue.work(lambda trial: 2.0)
    assert time.monotonic() - begun > 1
    os.kill(frozen.pid, signal.SIGCONT)
    assert ended(frozen)
    assert states(queue) == {"a": "done"} and queue.jobs()["a"].trial.value == 2.0
    assert sum(trial.state == TrialState.COMPLETE for trial in queue.study.trials) == 1


def test_who_lost_the_lease_of_its_run_stops(url):
    queue = Queue(url, "jobs")
    queue.fill(JOBS)

    def do(trial):
        raise LeaseLost("taken over")

    with pytest.raises(LeaseLost, match="this one stops"):
        queue.work(do)
    assert states(queue) == {"a": "lost", "b": "waiting", "c": "waiting"}
    queue.work(lambda trial: 0.0)
    assert set(states(queue).values()) == {"done"}


def test_a_job_that_fails_is_told_and_tried_again_only_when_asked(url):
    queue, tried = Queue(url, "jobs"), []

    def do(trial):
        tried.append(trial.user_attrs["job"])
        if trial.user_attrs["job"] == "b" and len(tried) < 4:
            raise ValueError("b cannot be done")
        return 0.0

    queue.fill(JOBS)
    queue.work(do)
    assert tried == JOBS and states(queue) == {"a": "done", "b": "failed", "c": "done"}
    assert queue.jobs()["b"].error == "b cannot be done"
    queue.work(do)
    assert tried == JOBS
    queue.fill(JOBS)
    queue.work(do)
    assert tried == [*JOBS, "b"] and set(states(queue).values()) == {"done"}


def test_a_mistake_in_the_program_is_no_error_of_the_job_alone(url):
    queue = Queue(url, "jobs")
    queue.fill(["a"])
    with pytest.raises(ZeroDivisionError):
        queue.work(lambda trial: 1 / 0)
    assert states(queue) == {"a": "failed"}


def test_ctrl_c_leaves_the_job_to_be_done(url):
    queue = Queue(url, "jobs")
    queue.fill(["a"])

    def do(trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.work(do)
    assert states(queue) == {"a": "lost"}
    queue.work(lambda trial: 0.0)
    assert states(queue) == {"a": "done"}


def test_a_job_that_kills_its_workers_is_given_up(url, monkeypatch):
    monkeypatch.setattr(queues, "DEATHS", 2)
    queue, begun = Queue(url, "jobs"), []
    queue.fill(["a"])
    for _ in range(3):
        trial = queue.study.ask()
        trial.set_user_attr("worker", f"{2**22 + 1}@{queues.HERE}")  # no process has that number
        begun.append(trial.number)
        queue.heal()
    assert states(queue) == {"a": "failed"} and "3 workers died" in queue.jobs()["a"].error
    queue.work(lambda trial: pytest.fail("it was given up"))


def test_jobs_that_two_machines_add_at_once_are_done_once(url):
    one, other, done = Queue(url, "jobs"), Queue(url, "jobs"), []
    for queue in (one, other):
        queue.study  # noqa: B018
    for name in JOBS:
        for queue in (one, other):
            queue.study.enqueue_trial({}, user_attrs={"job": name})
    one.fill(JOBS)
    with ThreadPoolExecutor(2) as pool:
        for running in [
            pool.submit(q.work, lambda trial: done.append(trial.user_attrs["job"]) or 0.0) for q in (one, other)
        ]:
            running.result()
    assert sorted(done) == JOBS
    assert sum(trial.state == TrialState.COMPLETE for trial in one.study.trials) == 3


def test_of_a_job_that_was_added_twice_the_try_that_began_goes_on(url):
    """The other one would be asked for other parameters, which the run folder does not have."""
    queue, seen = Queue(url, "jobs", sampler=optuna.samplers.RandomSampler(seed=1)), []
    for _ in range(2):
        queue.study.enqueue_trial({}, user_attrs={"job": "a"})
    begun = queue.study.ask()
    value = begun.suggest_float("x", 0, 1)
    begun.set_user_attr("worker", f"{2**22 + 1}@{queues.HERE}")
    queue.work(lambda trial: seen.append(trial.suggest_float("x", 0, 1)) or 0.0)
    assert seen == [value] and states(queue) == {"a": "done"}


def test_a_job_that_is_done_is_done_again_where_its_run_is_gone(url):
    queue, done = Queue(url, "jobs"), []
    for again in ([], ["b"]):
        queue.fill(JOBS, again=again)
        queue.work(lambda trial: done.append(trial.user_attrs["job"]) or float(len(done)))
    assert done == [*JOBS, "b"] and queue.jobs()["b"].trial.value == 4.0 and len(queue.jobs()) == 3


def test_a_retried_trial_keeps_its_parameters_and_what_it_reported(url):
    queue = Queue(url, "jobs", sampler=optuna.samplers.RandomSampler(seed=1))
    queue.fill(["a"])
    trial = queue.study.ask()
    value = trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    trial.set_user_attr("worker", f"{2**22 + 1}@{queues.HERE}")

    def do(trial):
        assert trial.suggest_float("x", 0, 1) == value
        assert trial.study.trials[trial.number].intermediate_values == {1: 0.5}
        return 0.0

    queue.work(do)
    assert states(queue) == {"a": "done"}


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("mysql://host/name", "of an unknown kind: give sqlite:///queue.db"),
        ("queue.txt", "is no storage: give sqlite:///queue.db"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "cannot be reached"),
    ],
)
def test_a_storage_that_is_none_gets_one_sentence(storage, says, tmp_path):
    with pytest.raises((ValueError, ConnectionError), match=says) as caught:
        Queue(storages.address(storage, tmp_path), "jobs").jobs()
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_sqlite_on_a_disk_of_the_network_is_refused_with_advice(tmp_path, monkeypatch):
    disk = type("Disk", (), {"mountpoint": str(tmp_path), "fstype": "nfs4"})
    monkeypatch.setattr(storages.psutil, "disk_partitions", lambda all: [disk])
    with pytest.raises(ValueError, match=r"disk of the network \(nfs4\).*journal:///"):
        Queue(storages.address(None, tmp_path / "runs"), "jobs").jobs()
    Queue(f"journal:///{tmp_path}/queue.journal", "jobs").jobs()


def test_a_file_of_sqlite_that_is_none(tmp_path):
    (tmp_path / "queue.db").write_text("no database " * 1000)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        Queue(storages.address(None, tmp_path), "jobs").jobs()
