"""Several worker processes of one command: each has its share of the cores, and ends with the command."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any

from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner import plugins

from attend.bars import say
from attend.streams import lasting

PRELOADED = ["attend.training.loop", "attend.evaluation.saved"]
LOOK = 0.5
"""Seconds between two calls of ``look``."""


def together(workers: int, function: Callable[..., Any], *arguments: Any, look: Callable[[], object]) -> int:
    """Call a function in several processes, and ``look`` while they work; returns how many of them failed.

    A function that ends in an expected error says so and counts as failed; the others go on.
    """
    threads = max(1, cores() // workers)
    call = (dict(os.environ), threads, function, arguments)
    some = [_context().Process(target=_work, args=call) for _ in range(workers)]
    for one in some:
        one.start()
    try:
        while any(one.is_alive() for one in some):
            next(one for one in some if one.is_alive()).join(LOOK)
            look()
    except BaseException:
        for one in some:
            one.terminate()
        raise
    return sum(one.exitcode != 0 for one in some)


def warm() -> None:
    """Let the server of workers import what it needs while this process does something else."""
    if sys.platform == "linux":
        _context()
        forkserver.ensure_running()


def default_workers() -> int:
    """One run per core, since a model of this size gains little from a second one; one run if there is a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else cores()


def cores() -> int:
    """Cores that this process may use, or all cores if the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context() -> multiprocessing.context.BaseContext:
    """How workers start. On Linux a server imports torch once, before it knows of any device, and forks all of them."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def _work(environment: dict[str, str], threads: int, function: Callable[..., Any], arguments: tuple) -> None:
    """The body of a worker. It draws no progress bars, since several would overwrite each other."""
    import torch

    os.environ.update(environment)  # the server may be older than what was set since

    threading.Thread(target=_end_with_parent, daemon=True).start()
    plugins.load()
    torch.set_num_threads(threads)
    with lasting(drawn=False):
        try:
            function(*arguments)
        except KeyboardInterrupt:
            sys.exit(130)
        except BaseException as error:
            found = plugins.blame(error) or error
            if not isinstance(found, EXPECTED):
                raise
            say(f"attend: {sentence(found)}")
            sys.exit(2)


def _end_with_parent() -> None:
    """End this worker with its command; otherwise it would go on training and hold the lease of its run."""
    multiprocessing.parent_process().join()
    os._exit(1)
