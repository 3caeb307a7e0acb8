"""The run folder: files whole or not at all, one process at a time, one configuration for ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from attend.config import Config
from attend.config.text import replace
from attend.runs import lease as runs
from attend.runs.files import read_json, write_json, write_text
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease, LeaseLost, clear
from tests.forks import wait_for

HOLD = """
import sys, time
from pathlib import Path
from attend.runs import lease as runs
runs.LEASE_SECONDS = float(sys.argv[2])
with runs.Lease(Path(sys.argv[1])) as lease:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            lease.check()
            print("mine", flush=True)
        except runs.LeaseLost as error:
            print(f"lost: {error}", flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lease of ``tmp_path`` and says for every line it reads whether it still does."""
    started = []

    def start(seconds: float = 60.0) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(tmp_path), str(seconds)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, **pipes))
        assert started[-1].stdout.readline() == "held\n", started[-1].stderr.read()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen) -> str:
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def leave(folder, *, host: str = "elsewhere", age: float = 0.0, pid: int = 1) -> None:
    """A lease of another process, renewed ``age`` seconds ago."""
    write_json(folder / "lease.json", {"owner": "other", "pid": pid, "host": host, "renewed": time.time() - age})


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, broken):
    write_json(tmp_path / "a.json", {"old": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space"):
            write_json(tmp_path / "a.json", {"new": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == {"old": 1}


def test_a_process_killed_while_it_writes_leaves_the_old_file_whole(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from attend.runs.files import write_text
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write_text(Path(sys.argv[1]), "new")"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")])
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, object()])
def test_what_is_no_json_is_not_written(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not readable as JSON"):
        read_json(tmp_path / "a.json")


def test_a_folder_in_use_is_refused_in_one_sentence(tmp_path, holder):
    process = holder()
    with pytest.raises(ValueError) as refused, Lease(tmp_path):
        pass
    assert f"{tmp_path} is in use by process {process.pid} on {socket.gethostname()}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert ask(process) == "mine\n"


def test_a_lease_is_gone_after_its_process_ended_in_peace(tmp_path, holder):
    process = holder()
    process.communicate("")
    assert process.returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_lease_of_a_dead_process_is_taken_over_at_once(tmp_path, holder):
    process = holder()
    process.kill()
    process.wait()
    began = time.monotonic()
    with Lease(tmp_path) as lease:
        lease.check()
        assert read_json(lease.path)["pid"] == os.getpid()
    assert time.monotonic() - began < 2


def test_the_lease_of_another_machine_is_taken_over_when_it_is_stale(tmp_path, monkeypatch):
    leave(tmp_path, age=runs.LEASE_SECONDS - 5)
    with pytest.raises(ValueError, match="is in use by process 1 on elsewhere"), Lease(tmp_path):
        pass
    monkeypatch.setattr(runs, "LEASE_SECONDS", 1.0)
    with Lease(tmp_path) as lease:
        lease.check()


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_lease_of_a_machine_whose_clock_differs_is_taken_over_if_it_is_not_renewed_alone(
    tmp_path, monkeypatch, hours
):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 1.0)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.1):
            leave(tmp_path, age=-3600 * hours)

    other = threading.Thread(target=renew)
    other.start()
    try:
        wait_for((tmp_path / "lease.json").exists, 60)
        with pytest.raises(ValueError, match="is in use by process 1 on elsewhere"), Lease(tmp_path):
            pass
    finally:
        stop.set()
        other.join()
    with Lease(tmp_path) as lease:
        lease.check()


def test_a_clock_that_is_set_back_an_hour_loses_no_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 1.0)
    with Lease(tmp_path) as lease:
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        for _ in range(3):  # before the lease is renewed by the new clock, and after
            with pytest.raises(ValueError, match="is in use"), Lease(tmp_path):
                pass
            time.sleep(0.2)
        lease.check()


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff", b"null", b"[]", b'{"owner": "x"}'])
def test_a_damaged_lease_holds_nobody_off(tmp_path, damaged):
    (tmp_path / "lease.json").write_bytes(damaged)
    with Lease(tmp_path) as lease:
        lease.check()
    assert not list(tmp_path.iterdir())


def test_a_frozen_process_finds_its_lease_lost_when_it_wakes(tmp_path, holder, monkeypatch):
    frozen = holder(seconds=1.2)
    frozen.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.5)
    time.sleep(0.6)
    with Lease(tmp_path) as lease:
        frozen.send_signal(signal.SIGCONT)
        assert ask(frozen).startswith(f"lost: {tmp_path} was taken over by another process")
        time.sleep(0.5)  # its thread wakes in the meantime, and must not take the lease back
        lease.check()
        frozen.communicate("")
        lease.check()


def test_a_lease_that_is_held_is_renewed(tmp_path, holder, monkeypatch):
    holder(seconds=0.6)
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.6)
    time.sleep(1.2)
    with pytest.raises(ValueError, match="in use"), Lease(tmp_path):
        pass


def test_a_lease_outlives_a_disk_that_was_full_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 0.3)
    renew, failures = Lease._renew, []

    def fail_twice(self):
        if len(failures) < 2:
            failures.append(1)
            raise OSError(28, "No space left on device")
        renew(self)

    with Lease(tmp_path) as lease:
        began = read_json(lease.path)["renewed"]
        monkeypatch.setattr(Lease, "_renew", fail_twice)
        time.sleep(0.5)
        assert len(failures) == 2 and read_json(lease.path)["renewed"] > began


def together(count: int, work) -> None:
    """Run ``work`` in so many threads that start at one moment."""
    start = threading.Barrier(count, timeout=10)
    threads = [threading.Thread(target=lambda: (start.wait(), work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("stale", [True, False])
def test_of_many_takers_one_stands(tmp_path, monkeypatch, stale):
    monkeypatch.setattr(runs, "LEASE_SECONDS", 4.0)
    if stale:
        leave(tmp_path, age=1e6)
    entered, refused = [], []

    def take():
        lease = Lease(tmp_path)
        try:
            entered.append(lease.__enter__())
        except (LeaseLost, ValueError):
            refused.append(lease)

    def stands(lease: Lease) -> bool:
        try:
            lease.check()
        except LeaseLost:
            return False
        return True

    together(6, take)
    assert len(entered) + len(refused) == 6
    assert stale or len(entered) == 1  # a free folder is never given twice, not even for a moment
    assert sum(map(stands, entered)) == 1 and not any(map(stands, refused))
    for lease in entered:
        lease.__exit__()
    assert not list(tmp_path.iterdir())


def test_a_lease_needs_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Lease(tmp_path) as lease:
        lease.check()
        with pytest.raises(ValueError, match="in use"), Lease(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_run_folder_keeps_its_configuration(tmp_path):
    run, config = RunFolder(tmp_path / "soft" / "seed0"), replace(Config(), {"encoder.grid": "2 2"})
    with run.open(config):
        pass
    assert run.config() == config
    with run.open(config):
        pass
    with (
        pytest.raises(ValueError, match=r"another configuration: seed 1 \(was 0\);"),
        run.open(replace(config, {"seed": 1})),
    ):
        pass
    assert run.config() == config and not (run.path / "lease.json").exists()


def test_a_start_that_fails_leaves_the_folder_to_others(tmp_path):
    """Until the first checkpoint; after it, what was trained keeps its settings."""
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="no such encoder"), run.open(Config()):
        write_text(tmp_path / "vocabulary.json", "[]")
        raise ValueError("no such encoder")
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), run.open(replace(Config(), {"seed": 1})):
        write_text(run.last, "weights")
        raise KeyboardInterrupt
    assert run.config().seed == 1
    with pytest.raises(LeaseLost), run.open(replace(Config(), {"seed": 1})):
        run.last.unlink()
        raise LeaseLost("another process works here now")
    assert run.config().seed == 1


def test_the_environment_says_what_ran(tmp_path):
    with RunFolder(tmp_path).open(Config()):
        found = read_json(tmp_path / "environment.json")
    assert found["versions"].keys() >= {"torch", "timm", "h5py", "numpy"} and found["command"] == sys.argv


def test_a_folder_without_configuration_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        RunFolder(tmp_path).config()


def test_whoever_takes_a_run_removes_what_was_half_written_there(tmp_path):
    """Killed while it writes a checkpoint, for real; the next holder of the lease finds the old one, alone."""
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from attend.runs.files import write_text
        path = Path(sys.argv[1])
        write_text(path, "old")
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        write_text(path, "new")"""
    path = tmp_path / "checkpoint" / "last"
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert len(list(path.parent.iterdir())) == 2
    with Lease(tmp_path):
        assert list(path.parent.iterdir()) == [path] and path.read_text() == "old"


def test_metrics_are_appended_and_cut_back_to_a_record(tmp_path):
    run = RunFolder(tmp_path)
    with Lease(tmp_path) as lease:
        run.log(lease, step=1, split="train", nll=2.5, bad=float("nan"), worse=float("-inf"))
        length = run.logged()
        run.log(lease, step=2, nll=2.0)
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write('{"step": 3, "nl')
        run.cut_log(length)
        run.cut_log(10**6)
        run.log(lease, step=2, nll=1.5)
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first.pop("time") <= second.pop("time") <= time.time() + 0.001  # as rounded
    assert (first, second) == ({"step": 1, "split": "train", "nll": 2.5}, {"step": 2, "nll": 1.5})


def test_whoever_lost_the_lease_writes_nothing(tmp_path):
    run = RunFolder(tmp_path)
    with Lease(tmp_path) as lease:
        leave(tmp_path)
        for write in (lambda: run.log(lease, step=1), lambda: run.finish(lease, {"captions": {}})):
            with pytest.raises(LeaseLost, match="taken over"):
                write()
    assert [path.name for path in tmp_path.iterdir()] == ["lease.json"]  # it is another's
    assert not run.finished


def test_a_run_is_finished_by_its_headline_scores(tmp_path):
    run = RunFolder(tmp_path)
    with run.open(Config()) as lease:
        assert not run.finished
        run.finish(lease, {"captions": {"bleu4": 0.2}})
    assert run.finished and read_json(tmp_path / "scores.json") == {"captions": {"bleu4": 0.2}}


@pytest.mark.parametrize("lives", [False, True])
def test_a_process_killed_after_its_last_write_leaves_nothing(tmp_path, lives):
    """But the lease of a process that lives stays."""
    pid = os.getpid() if lives else 2**22 + 5
    leave(tmp_path, host=socket.gethostname(), pid=pid)
    partial = tmp_path / f"scores.json.0.{pid}@{socket.gethostname()}.partial"
    partial.touch()
    clear(tmp_path)
    assert partial.exists() == (tmp_path / "lease.json").exists() == lives
    clear(tmp_path / "none")


def test_a_file_written_again_removes_what_a_kill_left_of_it(tmp_path):
    """Of this file alone, also if its name reads as a pattern."""
    path, other = tmp_path / "a[1].md", tmp_path / "b.md"
    dead = f"0.{2**22 + 5}@{socket.gethostname()}.partial"
    partials = [one.with_name(f"{one.name}.{dead}") for one in (path, other)]
    for one in partials:
        one.touch()
    write_text(path, "new")
    assert [one.exists() for one in partials] == [False, True] and path.read_text() == "new"
