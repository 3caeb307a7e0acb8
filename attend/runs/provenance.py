"""The provenance of a run (versions, machine, command and commit) for environment.json."""

import contextlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from attend.documents import Finite
from attend.runs.secrets import redacted


class Start(TypedDict):
    """How a run began from another one: the epochs of that run and of those before it, and their seconds."""

    epochs_before: Finite
    seconds_before: NotRequired[Finite]


class Environment(TypedDict):
    """The entries of environment.json that are read. An entry is missing if the run could not determine it."""

    started: NotRequired[str]
    command: NotRequired[list[str]]
    python: NotRequired[str]
    system: NotRequired[str]
    cores: NotRequired[int | None]
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str]
    dirty: NotRequired[bool]
    device: NotRequired[str]
    processes: NotRequired[int]
    precision: NotRequired[str]
    threads: NotRequired[int]
    data_fingerprint: NotRequired[str]
    start: NotRequired[Start]


def environment() -> dict[str, Any]:
    """Versions, machine and command, for environment.json; in a git checkout also its commit and whether it changed."""
    versions = {}
    for name in ("attend-captioning", "torch", "torchvision", "timm", "h5py", "numpy", "pycocoevalcap"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    facts = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [*map(redacted, sys.argv)],
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "versions": versions,
    }
    options = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "timeout": 10}
    git = ["git", "-C", str(Path(__file__).parent)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        commit = subprocess.run([*git, "rev-parse", "HEAD"], **options)
        status = subprocess.run([*git, "status", "--porcelain"], **options)
        if not commit.returncode:
            facts |= {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
    return facts
