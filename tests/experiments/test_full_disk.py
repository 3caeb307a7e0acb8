"""A disk that fills up at any moment: one sentence, nothing broken, and with room the same command ends as ever.

The disk is real, a tmpfs of a few hundred kilobytes that a process mounts for itself alone, which needs root on Linux.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from tests.experiments.test_kills import COMMANDS, command, repeated, same
from tests.experiments.test_kills import stages as stages
from tests.forks import finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
POINTS = 10
OWN_MOUNTS, RECURSIVE, PRIVATE, REMOUNT = 0x20000, 0x4000, 0x40000, 0x20
"""CLONE_NEWNS, MS_REC, MS_PRIVATE and MS_REMOUNT of Linux."""


def mount(folder: Path, flags: int, options: str = "") -> None:
    kind = None if flags & PRIVATE else b"tmpfs"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"none", os.fsencode(folder), kind, flags, options.encode()):
        raise OSError(ctypes.get_errno(), "no right to mount")


def alone() -> None:
    """Mounts of this process are from now on its own."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(OWN_MOUNTS):
        raise OSError(ctypes.get_errno(), "no right to mounts of one's own")
    mount(Path("/"), RECURSIVE | PRIVATE)


def tried() -> None:
    alone()
    Path("tried").mkdir()
    mount(Path("tried"), 0, "size=64k")


def on_a_small_disk(start: str, kilobytes: int, *arguments: str) -> None:
    """The command on a disk of this size, and once more when there is room; the folder is copied to ``copied``."""
    disk = Path("disk").absolute()
    disk.mkdir()
    alone()
    mount(disk, 0, f"size={kilobytes}k")
    shutil.copytree(start, disk / "place")
    os.chdir(disk / "place")
    try:
        command(*arguments)
    except SystemExit as stop:
        assert stop.code, "the disk was full and the command ended well"
        Path("../../refused").touch()
    sys.stderr.flush()
    assert not [path for path in Path(".").rglob("*.partial")]
    mount(disk, REMOUNT, "size=64m")
    command(*arguments)
    os.chdir(disk.parent)
    shutil.copytree(disk / "place", "copied")


def size(folder: Path) -> int:
    """Kilobytes of a folder on a tmpfs, whose pages have four."""
    pages = (-(-path.stat().st_size // 4096) if path.is_file() else 0 for path in folder.rglob("*"))
    return 4 * sum(pages)


@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate", "run"])
def test_a_disk_that_is_full_at_any_moment_loses_nothing(forks, stages, tmp_path, verb):
    able = forks.start(tried, folder=tmp_path, log=tmp_path / "log")
    able.join()
    if able.exitcode:
        pytest.skip("only root may mount a disk")
    whole, _ = repeated(forks, tmp_path, stages[verb], COMMANDS[verb], 0)
    least, most, chance = size(stages[verb]) + 8, size(whole), random.Random(0)
    for point in range(POINTS):
        folder, full = tmp_path / f"point{point}", False
        while not full:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            log, kilobytes = folder / "log", chance.randint(least, most)
            small = (on_a_small_disk, str(stages[verb]), kilobytes, *COMMANDS[verb])
            finish(forks.start(*small, folder=folder, log=log), log)
            full = (folder / "refused").exists()
            most = most if full else max(least, kilobytes - 4)  # it had room enough: a smaller one
        said = [line for line in log.read_text().splitlines() if line.startswith("attend: ")]
        assert len(said) == 1 and "disk is full" in said[0], log.read_text()
        assert "Traceback" not in log.read_text()
        same(folder / "copied", whole)
