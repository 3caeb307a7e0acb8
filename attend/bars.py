"""Progress of long work: a bar on a terminal, else a line a minute."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from tqdm import tqdm

from attend.streams import steady

Item = TypeVar("Item")
EVERY = 60.0
"""Seconds between two lines, if stderr is no terminal."""
SIZE = (80, 24)
"""Columns and rows of a terminal that does not tell them, as in some containers: tqdm would draw nothing there."""


def bar(
    total: int,
    what: str,
    unit: str,
    *,
    done: int = 0,
    where: str = "",
    beyond: int = 0,
    note: Callable[[], str] | None = None,
) -> "tqdm | Lines":
    """A bar over ``total`` units, of which ``done`` are done; ``update`` counts on. It is a context manager.

    If stderr is no terminal, there is a line every EVERY seconds instead. Only a line begins with ``where``, calls
    ``note`` for a remark, and estimates the time of ``beyond`` more units that follow this bar.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        size = {} if _sized() else dict(zip(("ncols", "nrows"), SIZE, strict=True))
        return tqdm(total=total, initial=done, desc=what, unit=unit, leave=False, file=steady(sys.stderr), **size)
    return Lines(total, f"{where}: {what}" if where else what, unit, done=done, beyond=beyond, note=note)


def _sized() -> bool:
    """False if the terminal of stderr does not tell its size."""
    try:
        return all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):
        return False


def say(*lines: object) -> None:
    """Print lines to stderr, above the bars. Work goes on whether they can be written or not."""
    if sys.stderr is not None:
        stream = steady(sys.stderr)
        tqdm.write("\n".join(map(str, lines)), file=stream)
        stream.flush()


def through(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """The items, with a bar over how many of them are done."""
    with bar(total, what, unit) as progress:
        for item in items:
            yield item
            progress.update()


class Lines:
    """The progress of ``bar`` as lines on stderr: ``epoch 2/15: step 300/400, nll 2.713, 01:20 left``."""

    def __init__(
        self,
        total: int,
        what: str,
        unit: str,
        *,
        done: int = 0,
        beyond: int = 0,
        note: Callable[[], str] | None = None,
    ) -> None:
        self.total, self.what, self.unit, self.beyond, self.note = total, what, unit, beyond, note
        self.n = self.first = done
        self.began = self.last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_postfix(self, **_: object) -> None:
        """Nothing: a line has its ``note`` instead."""

    def update(self, n: int = 1) -> None:
        """Count ``n`` units more, and write a line if one is due."""
        self.n += n
        now = time.monotonic()
        if now - self.last >= EVERY and self.n > self.first:
            self.last = now
            say(self.line(now - self.began))

    def line(self, seconds: float) -> str:
        """The line after so many seconds of work."""
        each = seconds / (self.n - self.first)
        parts = [f"{self.unit} {self.n}/{self.total}", *filter(None, [self.note() if self.note else ""])]
        parts.append(f"{tqdm.format_interval(each * (self.total - self.n))} left")
        if self.beyond:
            parts[-1] += f" ({tqdm.format_interval(each * (self.total - self.n + self.beyond))} in all)"
        return f"{self.what}: {', '.join(parts)}"
