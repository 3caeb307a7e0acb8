"""`attend report`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from attend.experiments.cli.common import Runs, beside, named
from tyro.conf import arg

from attend.bars import say
from attend.config.section import Positive, Seed


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a self-contained HTML page about runs: settings, scores, curves, and the attention of each model."""

    runs: Runs
    """run folders, or folders of them"""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """file to write; if not given, report.html in the folder that holds the runs"""
    columns: str | None = None
    """scores of the table, separated by commas, named as in `attend table`"""
    images: Positive | None = None
    """maximum number of images in the gallery; if not given, all that were scored"""
    pictures: bool = True
    """lay the attention maps over small copies of the photographs; otherwise the page has no photographs"""
    seed: Seed | None = None
    """seed of the runs in the gallery; if not given, the first of each variant"""
    data: Path | None = None
    """prepared dataset, if it has moved since training"""


def report(command: Report) -> None:
    named(command.runs)
    from attend.analysis.report.page import COLUMNS
    from attend.analysis.report.page import report as page

    from attend.runs.files import write_text

    out = command.out or beside(command.runs) / "report.html"
    columns = command.columns.split(",") if command.columns else COLUMNS
    options = {name: getattr(command, name) for name in ("images", "pictures", "seed", "data")}
    html, notes = page(command.runs, columns=columns, **options)
    write_text(out, html)
    for note in notes:
        say(note)
    print(out)
