"""optuna-dashboard opens the storage of a study."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder in which a tiny study was run, as docs/other-tools.md says."""
    folder = tmp_path_factory.mktemp("dashboard")
    command = [sys.executable, "-m", "attend", "study", "soft_or_hard", "--tiny", "--yes", "--trials", "3"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture()
def page(place):
    """The address at which the dashboard serves, as the command of the page starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [sys.executable, "-W", "ignore", "-c", "from optuna_dashboard._cli import main; main()"]
    command = [*run, "sqlite:///runs/queue.db", "--port", str(port)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=place, env=os.environ, **silent) as server:
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def answer(address: str) -> bytes:
    """What a page says, as soon as its server has started."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=60) as page:
                return page.read()
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(address)


def test_the_dashboard_shows_the_trials_that_optuna_holds(place, page):
    listed = json.loads(answer(f"{page}/api/studies"))
    studies = {one["study_name"]: one["study_id"] for one in listed["study_summaries"]}
    storage = f"sqlite:///{place}/runs/queue.db"
    assert studies.keys() == {*optuna.get_all_study_names(storage)} and len(studies) >= 2
    for name, number in studies.items():
        ours = optuna.load_study(study_name=name, storage=storage).trials
        theirs = json.loads(answer(f"{page}/api/studies/{number}"))["trials"]
        values = [trial.values for trial in ours]
        jobs = [trial for trial in ours if "job" in trial.user_attrs]  # a worker that came too late has another
        assert len(jobs) == 3 and [one.get("values") for one in theirs] == values
    assert b"<html" in answer(f"{page}/dashboard").lower()
