"""`attend study --show`: a study's best trials, what mattered in it, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.queue import Queue
from experiments.study import Study


def show(study: Study, queues: Mapping[str, Queue], out: Path) -> list[Path]:
    """Print the tables, write them and the pictures below ``out``, and return the files."""
    return []
