"""Files and the processes that write them."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from attend.runs.files import running


def test_a_process_that_is_dead_does_not_run_though_nobody_has_reaped_it():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert running(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not running(child.pid)
    child.wait()
    assert not any(running(number) for number in (child.pid, 2**22 + 1, -1, 2**63, 10**30))
    assert running(os.getpid()) and running(1)


def test_a_process_that_others_may_not_see_runs(monkeypatch):
    """As another user's, where /proc is mounted with hidepid."""

    class Hidden:
        def __init__(self, pid: int) -> None: ...

        def status(self) -> str:
            raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", Hidden)
    assert running(2)
