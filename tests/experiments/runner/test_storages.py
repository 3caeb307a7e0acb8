"""What a storage may be: a file that others can share, with any name, and no database of another program."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from attend.experiments.runner import locks, queue, storages
from attend.experiments.runner.queue import Queue
from attend.experiments.runner.storages import address


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file::memory:?cache=shared", "sqlite://queue.db",
     "journal://", "journal:///", "journal://queue.journal"],
)  # fmt: skip
def test_what_no_other_process_could_share_is_refused(url, tmp_path, fails):
    said = fails("run", "quickstart", "--tiny", "--storage", url, "--out", tmp_path)
    assert "names no file, so no other process could share it: give sqlite:///queue.db" in said
    assert not list(tmp_path.iterdir())


ODD = ["a b", "100%", "50%25", "%(here)s", "a#b", "a&b=c", "{x}", "}", "[a]", "ä", "a;b", "'", '"', "~", "$HOME", "*"]


@pytest.mark.thin
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_path_of_any_name_works(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path(name) / f"{name}.{'db' if kind == 'sqlite' else 'journal'}"
    queue = Queue(address(str(file), Path()), "jobs")
    assert not queue.there
    queue.fill(["a"])
    queue.work(lambda trial: 1.0)
    assert file.exists() and Queue(address(f"{kind}:///{file}", Path()), "jobs").jobs()["a"].state == "done"
    ours = {f"{file.name}{end}" for end in ("", ".lock", ".lock.holder")}
    assert {path.name for path in file.parent.iterdir()} <= ours


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\ud800"])
def test_a_path_that_no_url_can_hold_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"choose another --out or --storage, such as a .journal") as caught:
        address(None, tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_question_mark_works_or_is_refused_as_sqlalchemy_can(tmp_path):
    Queue(address("journal:///" + str(tmp_path / "a?b"), tmp_path), "jobs").fill(["a"])
    try:
        Queue(address(None, tmp_path / "c?d"), "jobs").fill(["a"])
    except ValueError as error:
        assert "choose another --out" in str(error)
    assert {path.name for path in tmp_path.iterdir()} <= {"a?b", "c?d"}


@pytest.mark.parametrize("tables", [["mine"], ["mine", "alembic_version"], ["mine", "studies"], ["runs", "trials"]])
def test_the_database_of_another_program_is_left_as_it_is(tables, tmp_path):
    file = tmp_path / "mine.db"
    with sqlite3.connect(file) as other:
        for table in tables:
            other.execute(f"CREATE TABLE {table} (x)")
    before = file.read_bytes()
    for use in (lambda: Queue(f"sqlite:///{file}", "jobs").jobs(), lambda: Queue(f"sqlite:///{file}", "jobs").there):
        with pytest.raises(
            ValueError, match=r"belongs to another program \(it has the table '(mine|runs)'\): name ano"
        ):
            use()
    assert file.read_bytes() == before


def test_a_database_that_optuna_shares_already_is_used(tmp_path):
    url = f"sqlite:///{tmp_path}/queue.db"
    Queue(url, "jobs").fill(["a"])
    with sqlite3.connect(tmp_path / "queue.db") as other:
        other.execute("CREATE TABLE mine (x)")
    assert list(Queue(url, "jobs").jobs()) == ["a"]


def test_a_database_that_stays_locked_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(storages, "PATIENCE", 0.2)
    url = f"sqlite:///{tmp_path}/queue.db"
    Queue(url, "jobs").fill(["a"])
    holder = sqlite3.connect(tmp_path / "queue.db")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConnectionError, match=re.escape(f"another process has locked {tmp_path}/queue.db for 0.2 sec")):
        Queue(url, "jobs").fill(["b"])
    holder.close()


def test_a_missing_key_of_a_job_is_no_failure_of_the_storage(tmp_path):
    jobs = Queue(f"sqlite:///{tmp_path}/queue.db", "jobs")
    jobs.fill(["a"])
    with pytest.raises(KeyError, match="bleu4"):
        jobs.work(lambda trial: {}["bleu4"])


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_job_that_nobody_runs_is_done_after_a_while(kind, tmp_path, monkeypatch):
    """Its worker was killed after it took the job and before it noted itself."""
    monkeypatch.setattr(queue, "UNCLAIMED", 0.5)
    monkeypatch.setattr(queue, "WAIT", 0.1)
    jobs = Queue(f"{kind}:///{tmp_path}/queue", "jobs")
    jobs.fill(["a"])
    jobs.study.ask()
    jobs.heal()
    assert jobs.jobs()["a"].state == "running"
    jobs.work(lambda trial: 1.0)
    assert jobs.jobs()["a"].state == "done"


def test_who_is_waited_for_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(queue, "REPORT", 0.3)
    monkeypatch.setattr(queue, "WAIT", 0.1)
    jobs = Queue(f"journal:///{tmp_path}/queue", "jobs")
    jobs.fill(["a"])
    trial = jobs.study.ask()
    trial.set_user_attr("worker", "7@elsewhere")
    calls = []

    def after() -> None:
        calls.append(1)
        if len(calls) == 6:
            jobs.study.tell(trial, 1.0)

    jobs.work(lambda trial: 1.0, after=after)
    assert capsys.readouterr().err == "waiting for what others run: a (7@elsewhere)\n"


def test_a_stopped_holder_of_the_queue_is_given_up(tmp_path, monkeypatch):
    """The lock of a worker that takes a job, held by this process: the program gives up, and says by whom."""
    monkeypatch.setattr(locks, "LIMIT", 0.3)
    jobs = Queue(f"sqlite:///{tmp_path}/queue.db", "jobs")
    jobs.fill(["a"])
    with storages.turn(jobs.url), pytest.raises(TimeoutError, match=r"has held .*queue.db.lock for 0.3 seconds"):
        jobs.work(lambda trial: 1.0)
    jobs.work(lambda trial: 1.0)
    assert jobs.jobs()["a"].state == "done"
