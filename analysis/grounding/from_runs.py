"""How words are grounded, as pictures, a page to read, and numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from attend.analysis.figures.figures import FORMATS, finish, save, styled
from attend.analysis.grounding import measure as grounding
from attend.analysis.grounding import tables as grounding_table
from attend.analysis.grounding.words import MEASURES
from attend.analysis.records import Record
from matplotlib.figure import Figure

from attend.runs.files import write_text


@styled
def draw_grounding(
    records: Sequence[Record],
    folder: Path,
    data: Path | None = None,
    split: str | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """How words are grounded: bars, grounding.md to read, and all numbers as CSV."""
    found = grounding.measure(records, data=data, split=split)
    kinds = list(dict.fromkeys(row.captions for row in found.rows))
    figure = Figure(figsize=(10.0, 3.2 * len(kinds) + 0.5), layout="constrained")
    panels = figure.subplots(len(kinds), len(MEASURES), squeeze=False)
    for captions, axes in zip(kinds, panels, strict=True):
        for measure, one in zip(MEASURES, axes, strict=True):
            grounding.grounding_bars(found.rows, captions=captions, measure=measure, axes=one)
    finish(figure, panels.ravel(), f"whiskers: 95 % intervals, {grounding_table.method(found)}")
    files = save(figure, folder / "grounding", formats=formats, numbers=grounding_table.numbers(found))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(grounding_table.rank_numbers(found))
    for name, content in (("quality.csv", text.getvalue()), (".md", grounding_table.markdown(found))):
        files.append(folder / f"grounding{'-' if name[0] != '.' else ''}{name}")
        write_text(files[-1], content)
    return files
