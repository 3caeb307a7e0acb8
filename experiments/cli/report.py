"""`attend report`"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from attend.experiments.cli.common import Runs, at_least, named
from tyro.conf import arg


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a self-contained HTML page about runs: settings, scores, curves, and the attention of each model."""

    runs: Runs
    """run folders, or folders of them"""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.html")
    """file to write"""
    columns: str | None = None
    """scores of the table, separated by commas, named as in `attend table`"""
    images: int | None = None
    """maximum number of images in the gallery; if not given, all that were scored"""
    pictures: bool = True
    """lay the attention maps over small copies of the photographs; otherwise the page has no photographs"""
    seed: int | None = None
    """seed of the runs in the gallery; if not given, the first of each variant"""
    data: Path | None = None
    """prepared dataset, if it has moved since training"""


def report(command: Report) -> None:
    from attend.analysis.report.page import report as page
    from attend.analysis.tables.columns import DEFAULT

    from attend.runs.files import write_text

    at_least(1, images=command.images)
    at_least(0, seed=command.seed)
    named(command.runs)
    columns = command.columns.split(",") if command.columns else DEFAULT
    options = {name: getattr(command, name) for name in ("images", "pictures", "seed", "data")}
    html, notes = page(command.runs, columns=columns, **options)
    write_text(command.out, html)
    for note in notes:
        print(note, file=sys.stderr)
    print(command.out)
