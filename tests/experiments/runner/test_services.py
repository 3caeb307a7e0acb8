"""`make test-services`: a study on a real PostgreSQL server, whose workers are really killed and frozen.

The server is that of Debian's package `postgresql`, started here in a folder of its own and stopped at the end.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import optuna
import psycopg
import pytest
from attend.experiments.runner.queue import Queue
from attend.experiments.runner.study import load_study
from optuna.trial import TrialState

from attend.runs.folder import RunFolder
from tests.experiments.test_kills import MANY, STUDY, repeated, same
from tests.experiments.test_kills import stages as stages
from tests.forks import wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[3]
TRIALS = 6
PASSWORD = "pass/word@%:?#ä"
"""Of the server's role `locked`."""
SERVED = """
from dataclasses import replace
from attend.experiments import quickstart
from attend.experiments.runner.study import Study


def space(trial, kind):
    base = quickstart.experiment(None, tiny=True).variants[kind]
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return replace(base, train=replace(base.train, learning_rate=rate, epochs=40, patience=0))


def study(data, tiny):
    way = {"trials": TRIALS, "sampler": "random", "pruner": "none", "collapse": 0}
    return Study(name="served", kinds=("hard",), space=space, **way)
""".replace("TRIALS", str(TRIALS))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of a server that any user of this machine may write to."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    assert programs, "there is no PostgreSQL: apt-get install postgresql"
    bin, folder = Path(programs[-1]).parent, Path("/tmp") / f"attend-postgresql-{os.getpid()}"
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*command: str) -> None:
        subprocess.run([*user, *command], check=True, capture_output=True, cwd="/tmp")

    call(str(bin / "initdb"), "-D", str(folder), "-A", "trust", "-U", "attend")
    rules = folder / "pg_hba.conf"
    rules.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    call(str(bin / "pg_ctl"), "-D", str(folder), "-l", str(folder / "log"), "-w", "-o", options, "start")
    role = f"create role locked superuser login password '{PASSWORD}'"
    call(str(bin / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "attend", "-c", role, "postgres")
    yield f"postgresql://attend@127.0.0.1:{port}/postgres"
    call(str(bin / "pg_ctl"), "-D", str(folder), "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The study's file and its data."""
    from attend.experiments import quickstart

    folder = tmp_path_factory.mktemp("served")
    (folder / "served.py").write_text(SERVED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quickstart.paint(None, tiny=True)
    return folder


def command(place: Path, out: str, *more: str, study: str = "served.py", **variables: str) -> subprocess.Popen:
    asked = [sys.executable, "-m", "attend", "study", study, "--workers", "1", "--out", out, *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(asked, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)


def test_workers_that_start_at_once_make_one_set_of_tables(server):
    """Optuna's own tables are made by whoever comes first, and several can be first."""
    said = (
        "from attend.experiments.runner.queue import Queue; queue = Queue(URL, 'at-once'); "
        "queue.fill('ab'); print(len(queue.jobs()))"
    )
    command = [sys.executable, "-W", "ignore", "-c", said.replace("URL", repr(server))]
    some = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    assert [one.communicate(timeout=300)[0] for one in some] == ["2\n"] * 5


def test_the_database_of_another_program_is_left_as_it_is(server):
    with psycopg.connect(server, autocommit=True) as other:
        other.execute("create database another")
    url = f"{server.rpartition('/')[0]}/another"
    with psycopg.connect(url) as other:
        other.execute("create table runs (x integer)")
    for use in (lambda: Queue(url, "jobs").jobs(), lambda: Queue(url, "jobs").fill("a")):
        with pytest.raises(ValueError, match=r"/another belongs to another program \(it has the table 'runs'\): name"):
            use()
    with psycopg.connect(url) as other:
        tables = other.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    assert tables == [("runs",)]


def leave(study: optuna.Study) -> None:
    """Close the connections to the server, which Optuna keeps."""
    storage = getattr(study._storage, "_backend", study._storage)
    storage.remove_session()
    storage.engine.dispose()


def under_way(place: Path, pid: int, epochs: int = 3) -> Path | None:
    """The run folder that a process works in, some epochs after it began."""
    for lease in place.glob("shared/served-hard/*/lease.json"):
        try:
            holder = json.loads(lease.read_text())["pid"]
        except (OSError, ValueError):
            continue
        log = lease.with_name("metrics.jsonl")
        if holder == pid and log.exists() and log.read_text().count('"split": "val"') >= epochs:
            return lease.parent
    return None


def test_of_three_workers_one_is_killed_and_one_frozen_and_no_trial_is_lost_or_counted_twice(server, place):
    killed, frozen, last = (command(place, "shared", "--storage", server, "--heartbeat", "5") for _ in range(3))
    first = wait_for(lambda: under_way(place, killed.pid), 600)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    second = wait_for(lambda: under_way(place, frozen.pid), 600)
    frozen.send_signal(signal.SIGSTOP)
    assert first != second
    began = time.monotonic()
    wait_for(lambda: RunFolder(second).finished, 1000)  # the third takes it up, after its heartbeat has stopped
    assert time.monotonic() - began > 60
    frozen.send_signal(signal.SIGCONT)
    said = frozen.communicate(timeout=300)[1]
    assert frozen.returncode == 2 and "another goes on with its job: this one stops" in said.splitlines()[-1]
    assert last.communicate(timeout=600)[1] is not None and last.returncode == 0
    study = load_study(str(place / "served.py"), None, False)
    queue = study.queue(server, "hard")
    jobs = queue.jobs()
    assert sorted(jobs, key=int) == [str(n) for n in range(TRIALS)] and {job.state for job in jobs.values()} == {"done"}
    tried = [trial for trial in queue.study.trials if "job" in trial.user_attrs and "duplicate" not in trial.user_attrs]
    states = [trial.state for trial in tried]
    leave(queue.study)
    assert states.count(TrialState.COMPLETE) == TRIALS and states.count(TrialState.FAIL) == 2
    assert not list(place.glob("shared/**/*.partial")) and not list(place.glob("shared/**/lease.json"))
    alone = command(place, "alone")
    assert alone.communicate(timeout=900)[1] is not None and alone.returncode == 0
    for number in range(TRIALS):  # every trial is what it is without any of this, but for its name and its times
        one, other = (place / out / f"served-hard/trial{number:03}" for out in ("shared", "alone"))
        for run in (one, other):
            (run / "environment.json").unlink()
        same(one, other)


def test_a_study_that_is_killed_at_any_moment_ends_as_an_undisturbed_one(server, forks, stages, tmp_path):
    def empty(name: str) -> None:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")
            connection.execute(f"create database {name}")

    for name in ("whole", *(f"broken{n}" for n in range(MANY))):
        empty(name)
    arguments = [*STUDY, f"{server.rpartition('/')[0]}/FOLDER"]
    whole, broken = repeated(forks, tmp_path, stages["study"], arguments, MANY, empty)
    for one in broken:
        same(one, whole)


def test_three_commands_of_an_experiment_share_its_runs(server, place):
    asked = [sys.executable, "-m", "attend", "run", "quickstart", "--tiny", "--workers", "1", "--out", "together"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    some = [
        subprocess.Popen([*asked, "--storage", server], cwd=place, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    tables = {process.communicate(timeout=900)[0].split("\n\n")[0] for process in some}
    assert [process.returncode for process in some] == [0, 0, 0] and len(tables) == 1
    assert len(list(place.glob("together/quickstart-tiny/*/seed*/scores.json"))) == 4


def test_a_server_that_cannot_be_reached_is_said_in_one_sentence(place, tmp_path):
    away = command(place, str(tmp_path), "--storage", "postgresql://attend@127.0.0.1:1/postgres")
    said = away.communicate(timeout=120)[1]
    assert away.returncode == 2 and said.count("\n") == 1 and "cannot be reached" in said


def test_a_password_stands_nowhere(server, place, tmp_path):
    """Neither in a file of a study, nor in the database, nor in what is printed; and each way to give it connects."""
    (place / "locked.py").write_text(SERVED.replace("served", "locked").replace("epochs=40", "epochs=1"))
    written = quote(PASSWORD, safe="")
    locked = server.replace("attend@", "locked@")
    secrets = [form.encode(code) for form in (PASSWORD, written, "pass/word") for code in ("utf-8", "latin-1")]

    def run(url: str, *more: str, **variables: str) -> tuple[int, str]:
        process = command(place, "locked", "--storage", url, *more, study="locked.py", **variables)
        said = process.communicate(timeout=900)[1]
        assert not any(secret in said.encode() for secret in secrets), "it is printed"
        return process.returncode, said

    addresses = [locked.replace("locked@", f"locked:{written}@"), f"{locked}?password={written}"]
    assert run(addresses[0], "--trials", "1")[0] == 0
    assert "***" in (place / "locked/locked-hard/trial000/environment.json").read_text()
    for file in (place / "locked").rglob("*"):
        if file.is_file():
            assert not any(secret in file.read_bytes() for secret in secrets), file
    home = tmp_path / "home"
    home.mkdir()
    escaped = PASSWORD.replace("\\", r"\\").replace(":", r"\:")
    (home / ".pgpass").write_text(f"127.0.0.1:*:*:locked:{escaped}\n", encoding="utf-8")
    (home / ".pgpass").chmod(0o600)
    for url, variables in (
        (addresses[1], {}), (locked, {"PGPASSWORD": PASSWORD}), (locked, {"PGPASSFILE": str(home / ".pgpass")}),
        (locked, {"HOME": str(home)}), (addresses[0], {"PGPASSWORD": "wrong"}),
    ):  # fmt: skip
        assert run(url, "--requeue", **variables)[0] == 0, variables
    for url, variables in (
        (addresses[0].replace(written, f"{written}x"), {}), (locked, {"PGPASSWORD": f"{PASSWORD}x"}),
        (f"{addresses[1]}x", {}),
    ):  # fmt: skip
        status, said = run(url, "--requeue", **variables)
        assert status == 2 and "cannot be reached" in said and "authentication failed" in said
        assert run(url, "--requeue", "--debug", **variables)[0] == 1
