"""`attend table`"""

from dataclasses import dataclass
from typing import Literal

from attend.experiments.cli.common import Runs, named


@dataclass(frozen=True, kw_only=True)
class Table:
    """Compare finished runs, with intervals over seeds and images."""

    runs: Runs
    """run folders, or folders of them"""
    format: Literal["text", "markdown", "latex", "html", "csv"] = "markdown"
    """format of the table; text is aligned for a terminal"""
    base: str | None = None
    """report the differences of all variants to this one"""
    columns: str | None = None
    """scores to report, separated by commas"""
    split: str | None = None
    """split of the scores; if not given, that of the headline scores"""
    margins: str | None = None
    """differences that are as good as none, as in cider=0.1,mass=5; if not given, those stated below the table"""
    published: Literal["flickr8k", "flickr30k", "coco"] | None = None
    """add published scores on this dataset: single runs, BLEU without brevity penalty"""


def table(command: Table) -> None:
    from attend.analysis.records import read_runs
    from attend.analysis.statistics.planning import stated
    from attend.analysis.tables.comparison import DEFAULT, comparison, render

    theirs = [f"bleu{n}_free" for n in (1, 2, 3, 4)] if command.published else []
    columns = command.columns.split(",") if command.columns else (*DEFAULT, *theirs)
    if command.published and command.base:
        raise ValueError("--published has no effect with --base, which shows differences: leave one of them out")
    named(command.runs)
    broken: list[str] = []
    records = read_runs(command.runs, broken=broken)
    margins = dict(map(stated, command.margins.split(","))) if command.margins else {}
    options = {name: getattr(command, name) for name in ("split", "base", "published")}
    compared = comparison(records, columns=columns, broken=broken, margins=margins, **options)
    print(render(compared, command.format))
