"""The run folder: what a run leaves on disk, and who may write there. No torch: analysis reads it anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from attend.config import Config
from attend.settings import difference, from_dict, to_dict

LEASE_SECONDS = 60.0
"""A lease that was not renewed for so long is stale."""


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, check: Callable[[], object] | None = None) -> None:
    """Write a file whole or not at all; not where ``check``, which is called when all is written, raises."""
    with whole(path) as partial:
        partial.write_bytes(content)
        if check is not None:
            check()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write into: renamed into place at the end, removed where writing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
    """Where a file is written until it is whole: a name that says by which process of which machine."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.{os.getpid()}@{socket.gethostname()}.partial")


def sweep(folder: Path, pattern: str = "*.partial") -> None:
    """Remove what processes of this machine were writing when they were killed."""
    for partial in folder.glob(pattern):
        process, _, host = partial.stem.rpartition("@")
        pid = process.rpartition(".")[2]
        if host == socket.gethostname() and pid.isdecimal() and not running(int(pid)):
            partial.unlink(missing_ok=True)


def running(pid: int) -> bool:
    """Whether this machine runs a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; ValueError names a file that is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError also for a number of 5000 digits
        raise ValueError(f"{path} is not readable as JSON ({error}): restore it or remove it") from None


def number(value: object) -> bool:
    """Whether it is a number that fits a float."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1000)


SCORES = {"split": str, "decode": str, "beam": int, "images": int, "captions": dict, "given": dict}
"""What every scores.json holds; beside these health and grounding, which may be null, draws, look, missing metrics."""


def read_scores(path: Path) -> dict[str, Any]:
    """The scores of an evaluation; ValueError where the file holds something else."""
    scores = read_json(path)
    try:
        draws = scores.get("draws", {"n": 1, "mean": {}})
        parts = [scores["captions"], scores["given"], *(scores.get(one) or {} for one in ("health", "grounding"))]
        sound = all(value is None or number(value) for part in (*parts, draws["mean"]) for value in part.values())
        sound &= all(type(scores[name]) is kind for name, kind in SCORES.items()) and type(draws["n"]) is int
        sound &= isinstance(scores.get("missing", {}), dict) and isinstance(scores.get("look", ""), str)
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} holds no scores of an evaluation: restore it, or remove it and evaluate again")
    return scores


def read_bounds(path: Path) -> dict[str, Any]:
    """The scores of bounds; ValueError where the file holds something else."""
    scores = read_json(path)
    try:
        sound = all(number(bound["nats"]) for bound in (scores["bounds"]["bound"], *scores["bounds"].values()))
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} holds no bounds: restore it, or remove it and evaluate again")
    return scores


class LeaseLost(RuntimeError):
    """Another process took this run over while this one was not renewing its lease."""


class InUse(ValueError):
    """Another process works in this run folder."""


class Lease:
    """The right to write into a run folder: lease.json, renewed by a thread while it is held.

    A lease is taken over when it is stale: not renewed for LEASE_SECONDS, or held by a process of this machine
    that no longer runs. Whoever lost it finds out in ``check``, which is called before every write.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lease.json"
        self.owner = uuid.uuid4().hex
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Lease:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        holder = self._holder()
        if holder is not None and not _stale(holder):
            raise InUse(
                f"{self.path.parent} is in use by process {holder['pid']} on {holder['host']}: wait for it, stop it, "
                "or choose another folder"
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
        holder = self._holder()
        if holder is not None and holder["owner"] == self.owner:
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise LeaseLost unless the lease on disk is still ours."""
        holder = self._holder()
        if holder is None or holder["owner"] != self.owner:
            raise LeaseLost(f"{self.path.parent} was taken over by another process: this one stops")

    def _holder(self) -> dict[str, Any] | None:
        nobody = {"owner": "", "pid": -1, "host": "", "renewed": 0.0}
        try:
            found = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return nobody
        return found if isinstance(found, dict) and found.keys() >= nobody.keys() else nobody

    def _lease(self) -> str:
        return json.dumps(
            {"owner": self.owner, "pid": os.getpid(), "host": socket.gethostname(), "renewed": time.time()}
        )

    def _create(self) -> bool:
        """Make the lease where there is none; False where the file system knows no hard links."""
        partial = _partial(self.path)
        try:
            partial.write_text(self._lease())
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
    """Whether somebody works in a run folder, as far as its lease says."""
    holder = Lease(folder)._holder()
    return holder is not None and not _stale(holder)


def _stale(holder: dict[str, Any]) -> bool:
    if holder["host"] == socket.gethostname() and not running(holder["pid"]):
        return True
    return time.time() - holder["renewed"] > LEASE_SECONDS


class RunFolder:
    """One run on disk: ``runs/<experiment>/<variant>/seed<k>/``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def finished(self) -> bool:
        """Whether the headline scores are there, which are written last."""
        return (self.path / "scores.json").exists()

    @property
    def last(self) -> Path:
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "checkpoint" / "best.safetensors"

    def kept(self, epoch: int) -> Path:
        """The weights after so many epochs, where train.keep_every asks for them."""
        return self.path / "checkpoint" / f"epoch{epoch}.safetensors"

    @contextlib.contextmanager
    def open(self, config: Config) -> Iterator[Lease]:
        """Hold the folder for a run with this configuration, which is written, or must be what is there.

        A start that fails before its first checkpoint leaves nothing that would hold the next one to its settings.
        """
        with Lease(self.path) as lease:
            new = not (self.path / "config.json").exists()
            if not new:
                self.same(config)
            try:
                if new:
                    write_json(self.path / "config.json", to_dict(config))
                write_json(self.path / "environment.json", environment())
                yield lease
            except BaseException as error:
                if new and not self.last.exists() and not isinstance(error, LeaseLost):
                    for name in ("config.json", "environment.json", "vocabulary.json", "metrics.jsonl"):
                        (self.path / name).unlink(missing_ok=True)
                raise

    def note(self, lease: Lease, **facts: Any) -> None:
        """Add facts to environment.json."""
        lease.check()
        path = self.path / "environment.json"
        write_json(path, read_json(path) | facts)

    def config(self) -> Config:
        """The configuration the run was started with."""
        path = self.path / "config.json"
        if not path.exists():
            raise ValueError(f"{self.path} is no run folder (it has no config.json): name one below runs/")
        return from_dict(read_json(path), str(path))

    def same(self, config: Config) -> None:
        """Raise ValueError with the difference if the folder belongs to another configuration."""
        if changed := difference(config, self.config()):
            raise ValueError(
                f"{self.path} belongs to another configuration: {changed}; choose another folder or remove it"
            )

    def log(self, lease: Lease, **record: Any) -> None:
        """Append one record to metrics.jsonl; values that are not finite are left out."""
        lease.check()
        kept = {k: v for k, v in record.items() if not isinstance(v, float) or abs(v) < float("inf")}
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(kept | {"time": round(time.time(), 3)}) + "\n")

    def logged(self) -> int:
        """Length of metrics.jsonl in bytes."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def cut_log(self, length: int) -> None:
        """Cut metrics.jsonl back to the length that a checkpoint remembers."""
        if self.logged() > length:
            os.truncate(self.path / "metrics.jsonl", length)

    def evaluation(self, split: str, decode: str, beam: int, look: str | None = None) -> Path:
        """The folder of one evaluation, under the run's own weights or those of a control."""
        return self.path / "evaluations" / (f"{split}-{decode}-beam{beam}" + (f"-look-{look}" if look else ""))

    def bound(self, split: str, draws: int) -> Path:
        """The folder of the bounds from so many paths of each caption."""
        return self.path / "evaluations" / f"{split}-bound{draws}"

    def scores(self) -> dict[str, Any]:
        """The headline scores; ValueError where the file holds something else."""
        return read_scores(self.path / "scores.json")

    def finish(self, lease: Lease, scores: dict[str, Any]) -> None:
        """Write the headline scores: from here on the run is finished."""
        lease.check()
        write_json(self.path / "scores.json", scores)


def environment() -> dict[str, Any]:
    """Versions, machine and command, for environment.json."""
    versions = {}
    for name in ("attend-captioning", "torch", "torchvision", "timm", "h5py", "numpy", "pycocoevalcap"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "versions": versions,
        **_commit(),
    }


def _commit() -> dict[str, Any]:
    """Commit of the code and whether it was changed since, where the code lies in a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if commit.returncode:
        return {}
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
