"""`attend report`"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from attend.experiments.cli.common import Runs, at_least, named
from tyro.conf import arg


@dataclass(frozen=True, kw_only=True)
class Report:
    """One HTML page of runs that needs nothing else: what was run, scores, curves, and where each model looked."""

    runs: Runs
    """run folders, or folders of them"""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.html")
    """file to write"""
    images: int | None = None
    """images in the gallery at most; none is all that were scored"""
    pictures: bool = True
    """lay the maps over small copies of the photographs; without them the page holds none"""
    seed: int | None = None
    """whose gaze the gallery shows; none is the first of each variant"""
    data: Path | None = None
    """prepared dataset, where it has moved since"""


def report(command: Report) -> None:
    from attend.analysis.report.page import report as page

    from attend.runs.files import write_text

    at_least(1, images=command.images)
    at_least(0, seed=command.seed)
    named(command.runs)
    options = {name: getattr(command, name) for name in ("images", "pictures", "seed", "data")}
    html, notes = page(command.runs, **options)
    write_text(command.out, html)
    for note in notes:
        print(note, file=sys.stderr)
    print(command.out)
