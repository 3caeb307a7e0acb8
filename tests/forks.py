"""Processes that tests start and kill: a server imports torch and the program once, and forks each of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

from attend.experiments.runner.workers import PRELOADED

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*PRELOADED, "attend.experiments.runner.runner"])


class Forks:
    """Starts processes; ``end`` kills those that are left."""

    def __init__(self) -> None:
        self.started: list[BaseProcess] = []

    def start(self, function: Callable, *arguments: object, folder: Path, log: Path) -> BaseProcess:
        """Call a function in ``folder``, by a process without Java that leads its own group; ``log`` is its output."""
        process = SERVER.Process(target=_call, args=(function, arguments, str(folder), str(log)))
        process.start()
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            if process.is_alive():
                kill(process)
            process.join()


def wait_for(holds: Callable[[], object], seconds: float = 120) -> object:
    """Call ``holds`` until it is true, and return what it returned."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def finish(process: BaseProcess, log: Path) -> None:
    """Wait for the end; anything but success is an error."""
    process.join(300)
    assert process.exitcode == 0, f"{process.exitcode}: {log.read_text()[-3000:]}"


def kill(process: BaseProcess) -> None:
    """SIGKILL to its group, or to itself as long as it leads none."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    process.join()


def no_java() -> None:
    from attend.metrics.java import JavaError

    raise JavaError("no Java in this test")


def _call(function: Callable, arguments: tuple, folder: str, log: str) -> None:
    import torch

    from attend.metrics import captions

    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    torch.set_num_threads(1)
    captions.find_java = no_java
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
