"""Locks that processes wait for. A lock records its holder; who waits long reports him, and nobody waits for ever."""

import contextlib
import os
import socket
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileOpenLock

from attend.bars import say
from attend.runs.files import running

HERE = socket.gethostname()
REPORT = 10.0
"""Seconds of waiting after which the holder is reported."""
LIMIT = 120.0
"""Seconds of waiting after which it is an error."""
FOREIGN = 30.0
"""Seconds after which a lock that another machine holds, or that names no holder, is taken over, as Optuna does."""


def wait_for(attempt: Callable[[], bool], lock: Path) -> None:
    """Call ``attempt`` until it is true. TimeoutError after LIMIT seconds; the holder is reported after REPORT."""
    begun, pause, reported = time.monotonic(), 0.001, False
    while not attempt():
        waited = time.monotonic() - begun
        if waited >= LIMIT:
            raise TimeoutError(
                f"{_holder(lock)} has held {lock} for {LIMIT:g} seconds: continue it if it is stopped, or kill it, and "
                "run the same command again"
            )
        if waited >= REPORT and not reported:
            reported = True
            say(f"waiting for {lock}, which {_holder(lock)} holds")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock of this machine, which the system releases if its holder dies."""
    lock = FileLock(path)

    def attempt() -> bool:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    wait_for(attempt, path)
    try:
        _record(path).write_text(_ourselves(), encoding="utf-8")
        yield
    finally:
        lock.release()


class JournalLock(JournalFileOpenLock):
    """Optuna's lock of a journal, a file that exists while it is held, with its holder in it.

    ``taken`` is called whenever the lock was taken. The lock of a dead process of this machine is broken at once.
    """

    def __init__(self, journal: Path, taken: Callable[[], object]) -> None:
        super().__init__(str(journal))
        self.path, self.taken = Path(self._lock_file), taken
        self._seen: tuple[object, float] = (None, 0.0)

    def acquire(self) -> bool:
        wait_for(self._attempt, self.path)
        try:
            self.taken()
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        if _read(self.path) == (os.getpid(), HERE):
            self.path.unlink(missing_ok=True)

    def _attempt(self) -> bool:
        try:
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return self._break() and self._attempt()
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(_ourselves())
        return True

    def _break(self) -> bool:
        """Remove the lock if its holder is dead, or of another machine and unchanged for FOREIGN seconds."""
        try:
            now = (os.lstat(self.path).st_ino, os.lstat(self.path).st_mtime_ns)
        except FileNotFoundError:
            return True
        if now != self._seen[0]:
            self._seen = (now, time.monotonic())
        pid, host = _read(self.path)
        if running(pid) if host == HERE else time.monotonic() - self._seen[1] < FOREIGN:
            return False
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if _read(aside) != (pid, host):  # somebody was faster, and this is the lock of who came next
                os.link(aside, self.path)
            aside.unlink()
        return True


def _ourselves() -> str:
    return f"{os.getpid()}@{HERE}"


def _read(lock: Path) -> tuple[int, str]:
    """Process and machine that a lock names; of no machine if it names none."""
    try:
        regular = stat.S_ISREG(os.lstat(lock).st_mode)  # Optuna's own is a link to the journal
        pid, _, host = (lock.read_text("utf-8", "replace") if regular else "").partition("@")
    except FileNotFoundError:
        return 0, ""
    return (int(pid), host) if pid.isdecimal() and len(pid) < 10 else (0, "")


def _record(lock: Path) -> Path:
    """Where the holder of a lock of the system is recorded: some versions of filelock empty the lock's own file."""
    return lock.with_name(f"{lock.name}.holder")


def _holder(lock: Path) -> str:
    pid, host = _read(_record(lock) if _record(lock).exists() else lock)
    return f"process {pid} on {host}" if host else "another process"
