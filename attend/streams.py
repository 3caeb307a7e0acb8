"""Output that never ends work: a full disk, or a reader that is gone, costs what was printed and nothing else.

The program runs inside ``lasting``, and so does each of its workers. The library prints with ``attend.bars.say``.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any

STANDARD = {"stdin": "r", "stdout": "w", "stderr": "w"}
"""The standard streams in the order of their numbers, and how each is opened."""


class Lasting:
    """A text stream whose writes never fail. Characters that it cannot encode become question marks.

    ``fault`` is its first error, and ``drawn`` says whether bars may be drawn on it.
    """

    def __init__(self, stream: IO[str], drawn: bool = True) -> None:
        self.stream, self.drawn = stream, drawn
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        return self.drawn and not getattr(self.stream, "closed", False) and self.stream.isatty()

    def write(self, text: str) -> int:
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding
                self.stream.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError) as error:  # a ValueError says that it is closed
            self.fault = self.fault or error
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.fault = self.fault or error

    def check(self) -> None:
        """ValueError if something was not written; the end of the program if its reader, as `head`, has read enough."""
        self.flush()
        if isinstance(self.fault, BrokenPipeError):
            sys.exit(141)
        if self.fault:
            why = getattr(self.fault, "strerror", None) or self.fault
            raise ValueError(
                f"stdout could not be written ({why}): the files are complete, but what was printed is not; send it "
                "elsewhere and run the same command again"
            )

    def release(self) -> None:
        """Let go what could not be written: at its end, Python would try it once more and change the exit status."""
        self.flush()
        if self.fault:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())


@contextlib.contextmanager
def lasting(drawn: bool = True) -> Iterator[Lasting]:
    """Make stdout and stderr last until the end of the block; it is given stdout, to be checked at the end."""
    _open_closed()
    out, err = Lasting(sys.stdout, drawn), Lasting(sys.stderr, drawn)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield out
        finally:
            out.release()
            err.release()


@functools.lru_cache(maxsize=1)
def steady(stream: IO[str]) -> Lasting:
    """A stream that lasts: the stream itself if it does. It stays one, so that tqdm finds the bars on it."""
    return stream if isinstance(stream, Lasting) else Lasting(stream)


def _open_closed() -> None:
    """Open those standard streams that were closed (`>&-`), on nothing.

    Otherwise the next file that is opened has the number of one, and what a library or Java prints lands in that file.
    """
    for number in range(len(STANDARD)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    for name, mode in STANDARD.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
