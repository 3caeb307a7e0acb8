"""docs/columns.md lists every column, and says which have an interval."""

from __future__ import annotations

import re
from pathlib import Path

from attend.analysis.statistics.per_image import RESAMPLED
from attend.analysis.tables.columns import COLUMNS

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[3] / "docs/columns.md").read_text().splitlines()
    if line.startswith("| `")
]


def columns(cell: str) -> list[str]:
    """The columns that a cell names: `bleu1` to `bleu4` are four."""
    found = []
    for first, last in re.findall(r"`(\w+)`(?: to `(\w+)`)?", cell):
        numbers = range(int(re.search(r"\d", first)[0]), int(re.search(r"\d", last)[0]) + 1) if last else ()
        found += [re.sub(r"\d", str(n), first) for n in numbers] or [first]
    return found


def test_every_column_is_on_the_page():
    listed = [name for cell, *_ in ROWS for name in columns(cell)]
    assert sorted(listed) == sorted(COLUMNS)


def test_the_page_says_which_have_intervals():
    for cell, _, interval in ROWS:
        for name in columns(cell):
            assert (interval == "*i*") == (COLUMNS[name].name in RESAMPLED and not COLUMNS[name].power), name
