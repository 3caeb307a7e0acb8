"""Files on disk: written whole or not at all, and JSON documents read as types."""

import contextlib
import csv
import glob
import hashlib
import io
import json
import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from attend.documents import parsed, typed
from attend.paths import regular

T = TypeVar("T")
LONGEST = 160
"""Bytes of a name that is made longer: file systems take 255, and the name of a machine has up to 64."""


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    A name that is no UTF-8 is written as JSON writes it (\\udcff), so it is read from JSON as it was.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes, check: Callable[[], object] | None = None) -> None:
    """Write a file whole or not at all. ``check`` is called before it is put in place, and may raise."""
    with whole(path) as partial:
        partial.write_bytes(content)
        if check is not None:
            check()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write into: it is renamed into place at the end, and removed if writing fails.

    What processes that were killed while they wrote the same file have left is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, f"{glob.escape(shortened(path.name))}.*.partial")
    partial = _partial(path)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say which file it was
        raise
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """The name of a file until it is whole: it contains the process and the machine that write it."""
    return path.with_name(f"{shortened(path.name)}.{uuid.uuid4().hex[:8]}.{os.getpid()}@{socket.gethostname()}.partial")


def shortened(name: str) -> str:
    """A name of at most LONGEST bytes, to which something is to be added: a longer one ends in its digest."""
    content = os.fsencode(name)
    if len(content) <= LONGEST:
        return name
    return f"{content[: LONGEST - 17].decode('utf-8', 'ignore')}-{hashlib.sha256(content).hexdigest()[:16]}"


def sweep(folder: Path, pattern: str = "*.partial") -> None:
    """Remove the files that processes of this machine left unfinished when they were killed."""
    for partial in folder.glob(pattern):
        process, _, host = partial.stem.rpartition("@")
        pid = process.rpartition(".")[2]
        if host == socket.gethostname() and pid.isdecimal() and not running(int(pid)):
            partial.unlink(missing_ok=True)


def temporary() -> str:
    """The folder of temporary files. ValueError if none can be written: it says which were tried, and what to set."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ValueError(no_temporary(error)) from None


def no_temporary(error: FileNotFoundError) -> str:
    """What Python says if no folder of temporary files can be written, with the way out."""
    tried = str(error.strerror).partition(" in ")[2].strip("[]").replace("'", "")
    return (
        f"no temporary file can be written in {tried}: free some space there, or set TMPDIR to a folder that has some"
    )


def running(pid: int) -> bool:
    """Whether this machine runs the process; one that is dead and not yet reaped counts as dead."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:  # it is there, and another user's
        return True
    except (psutil.NoSuchProcess, ValueError, OverflowError):  # a ValueError or more is of a number that none has
        return False


def comma_separated(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, the header first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, whole or not at all."""
    write_text(path, comma_separated(rows))


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(
    path: Path,
    kind: type[T] = Any,
    fault: str = "is damaged or of another version",
    remedy: str = "restore it or remove it",
) -> T:
    """Read JSON as a value of a type; ValueError names the file, the field, what was expected, and the way out."""
    content = regular(path).read_bytes()
    try:
        value = parsed(content)
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}): {remedy}") from None
    try:
        return typed(value, kind)
    except ValueError as error:
        raise ValueError(f"{path} {fault}: {remedy} ({error})") from None


def read_line(line: bytes, number: int, path: Path, kind: type[T], remedy: str = "restore it or run again") -> T:
    """Read one line of a file of JSON lines; ValueError names the line as well."""
    try:
        return parsed(line, kind)
    except ValueError as error:
        raise ValueError(f"line {number} of {path} is damaged: {remedy} ({error})") from None
