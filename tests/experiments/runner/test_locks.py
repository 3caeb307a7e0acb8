"""Locks of real processes that are stopped, killed and continued: the holder is named, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from attend.experiments.runner import locks
from optuna.storages.journal import JournalFileSymlinkLock

from tests.forks import kill


def hold(kind: str, path: Path) -> None:
    """Hold the lock until a file says that it is to be released."""
    with held(kind, path):
        (path.parent / "held").touch()
        while not (path.parent / "release").exists():
            time.sleep(0.01)


def held(kind: str, path: Path):
    from optuna.storages.journal._file import get_lock_file

    if kind == "journal":
        return get_lock_file(locks.JournalLock(path, lambda: None))
    return locks.locked(path.with_name(f"{path.name}.lock"))


@pytest.fixture(params=["sqlite", "journal"])
def kind(request):
    return request.param


@pytest.fixture()
def holder(kind, forks, tmp_path):
    process = forks.start(hold, kind, tmp_path / "queue", folder=tmp_path, log=tmp_path / "log")
    until((tmp_path / "held").exists)
    return process


def until(holds) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stopped_holder_is_named_and_given_up_after_the_stated_time(kind, holder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "REPORT", 0.2)
    monkeypatch.setattr(locks, "LIMIT", 1.0)
    os.kill(holder.pid, signal.SIGSTOP)
    begun, who = time.monotonic(), f"process {holder.pid} on {socket.gethostname()}"
    with (
        pytest.raises(TimeoutError, match=f"{who} has held .*queue.lock for 1 seconds") as caught,
        held(kind, tmp_path / "queue"),
    ):
        pytest.fail("it is not ours")
    assert 1 <= time.monotonic() - begun < 5 and "\n" not in str(caught.value)
    said = capsys.readouterr().err
    assert said == f"waiting for {tmp_path}/queue.lock, which {who} holds\n"


@pytest.mark.parametrize("how", ["killed", "killed while stopped", "continued", "killed before"])
def test_a_lock_goes_on_at_once_when_its_holder_is_dead_or_done(kind, holder, how, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "REPORT", 0.2)
    os.kill(holder.pid, signal.SIGSTOP)
    calls, attempts = [], locks.wait_for

    def later(attempt, lock):
        def tried() -> bool:
            if time.monotonic() - begun > 0.5 and not calls:
                calls.append(end())
            return attempt()

        attempts(tried, lock)

    def end() -> None:
        (tmp_path / "release").touch()
        if how in ("killed", "continued"):
            os.kill(holder.pid, signal.SIGCONT)
        if how != "continued":
            os.kill(holder.pid, signal.SIGKILL)  # and not reaped yet

    if how == "killed before":
        kill(holder)
    else:
        monkeypatch.setattr(locks, "wait_for", later)
    begun = time.monotonic()
    with held(kind, tmp_path / "queue"):
        assert time.monotonic() - begun < 20
        record = tmp_path / ("queue.lock.holder" if kind == "sqlite" else "queue.lock")
        assert record.read_text() == f"{os.getpid()}@{socket.gethostname()}"
    assert ("waiting for" in capsys.readouterr().err) == (how != "killed before")


@pytest.mark.parametrize("content", ["77@elsewhere", "", "nobody", "x@y@z", "9" * 400 + "@elsewhere", None])
def test_the_lock_of_another_machine_or_of_optuna_itself_is_taken_over_after_a_while(content, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "FOREIGN", 0.3)
    journal, lock = tmp_path / "queue", tmp_path / "queue.lock"
    journal.touch()
    if content is None:
        JournalFileSymlinkLock(str(journal)).acquire()
    else:
        lock.write_text(content)
    begun = time.monotonic()
    with held("journal", journal):
        assert time.monotonic() - begun >= 0.3 and journal.exists()
    assert not lock.exists() and not list(tmp_path.glob("queue.lock*"))


def test_the_lock_of_who_came_next_is_not_broken(tmp_path, monkeypatch):
    """Two processes find the same dead holder; the slower one must not take the faster one's lock."""
    dead, live = "4194309@" + locks.HERE, f"{os.getpid()}@{locks.HERE}"
    lock = tmp_path / "queue.lock"
    lock.write_text(dead)
    rename = os.rename

    def slow(old, new):
        lock.write_text(live)
        rename(old, new)

    monkeypatch.setattr(os, "rename", slow)
    locks.JournalLock(tmp_path / "queue", lambda: None)._break()
    assert lock.read_text() == live and list(tmp_path.iterdir()) == [lock]


def test_what_fails_when_a_lock_was_taken_releases_it(tmp_path):
    def fails() -> None:
        raise ValueError("no journal")

    with pytest.raises(ValueError, match="no journal"):
        locks.JournalLock(tmp_path / "queue", fails).acquire()
    assert not (tmp_path / "queue.lock").exists()
