"""The right to write into a run folder: one process has it at a time, even if a process is killed or frozen."""

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from attend.documents import Finite, Positive, parsed
from attend.paths import regular
from attend.runs.files import _partial, running, sweep, write_text

LEASE_SECONDS = 60.0
"""Seconds after which a lease that was not renewed is stale."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a run folder, as lease.json says."""

    owner: str
    pid: Positive
    host: str
    renewed: Finite


NOBODY = Holder(owner="", pid=-1, host="", renewed=0.0)
"""The holder that a damaged lease.json names: it holds nobody off."""


class LeaseLost(RuntimeError):
    """Another process took this run over while this one was not renewing its lease."""


class InUse(ValueError):
    """Another process works in this run folder."""


class Lease:
    """The right to write into a run folder: lease.json, renewed by a thread while it is held.

    A lease is taken over when it is stale: not renewed for LEASE_SECONDS, or held by a process of this machine
    that no longer runs. Clocks of two machines may differ, and a clock may be set back, so a lease that looks stale is
    watched first: a process that lives renews it meanwhile. Whoever lost a lease finds out in ``check``, which is
    called before every write.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lease.json"
        self.owner = uuid.uuid4().hex
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        holder = self._holder()
        if holder is not None and (not _stale(holder) or self._renewed_by(holder)):
            raise InUse(
                f"{self.path.parent} is in use by process {holder.pid} on {holder.host}: wait, stop it, or use another"
            )
        if holder is not None or not self._create():
            self._renew()
            time.sleep(0.2)  # of two that take over one stale lease, the later one stands
        self.check()
        self._keeper.start()
        sweep(self.path.parent, "**/*.partial")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._keeper.join()  # or it might renew what is removed below
        if (self._holder() or NOBODY).owner == self.owner:
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise LeaseLost unless the lease on disk is still ours."""
        if (self._holder() or NOBODY).owner != self.owner:
            raise LeaseLost(f"{self.path.parent} was taken over by another process: this one stops")

    def _renewed_by(self, holder: Holder) -> bool:
        """Whether a holder that may live renews its lease within a quarter of LEASE_SECONDS."""
        end = time.monotonic() + (0 if _gone(holder) else LEASE_SECONDS / 4)
        while time.monotonic() < end:
            time.sleep(LEASE_SECONDS / 300)
            if (now := self._holder()) is not None and now != holder:
                return not _gone(now)
        return False

    def _holder(self) -> Holder | None:
        try:
            return parsed(regular(self.path).read_bytes(), Holder)
        except FileNotFoundError:
            return None
        except ValueError:
            return NOBODY

    def _lease(self) -> str:
        ours = Holder(owner=self.owner, pid=os.getpid(), host=socket.gethostname(), renewed=time.time())
        return json.dumps(asdict(ours))

    def _create(self) -> bool:
        """Make the lease where there is none; False where the file system knows no hard links."""
        partial = _partial(self.path)
        try:
            partial.write_text(self._lease(), "utf-8")
            os.link(partial, self.path)  # fails if another was faster, unlike a rename
        except FileExistsError:
            raise InUse(f"{self.path.parent} was just taken by another process: wait for it") from None
        except OSError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _renew(self) -> None:
        write_text(self.path, self._lease())

    def _keep(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 6):
            try:
                self.check()
                self._renew()
            except LeaseLost:
                return
            except OSError:  # a full disk or a network that is away: the lease may be renewed in time yet
                continue


def held(folder: Path) -> bool:
    """Whether a process works in a run folder, according to its lease."""
    return not _stale(Lease(folder)._holder() or NOBODY)


def clear(folder: Path) -> None:
    """Remove what a process that was killed after its last write left in a run folder: its lease and partial files."""
    lease = Lease(folder)
    holder = lease._holder()
    if holder is not None and _stale(holder):
        sweep(folder, "**/*.partial")
        lease.path.unlink(missing_ok=True)


def _gone(holder: Holder) -> bool:
    """Whether nobody can renew the lease: it was damaged, or its process has ended on this machine."""
    return holder == NOBODY or (holder.host == socket.gethostname() and not running(holder.pid))


def _stale(holder: Holder) -> bool:
    return _gone(holder) or abs(time.time() - holder.renewed) > LEASE_SECONDS
