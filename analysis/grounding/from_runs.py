"""Write the grounding of words as figures, Markdown and CSV."""

from collections.abc import Sequence
from pathlib import Path

from attend.analysis.figures.figures import FORMATS, finish, save, styled
from attend.analysis.grounding import tables
from attend.analysis.grounding.bars import grounding_bars
from attend.analysis.grounding.measure import measure
from attend.analysis.records import Record
from matplotlib.figure import Figure

from attend.metrics.grounding import MEASURES
from attend.runs.files import write_rows, write_text


@styled
def draw_grounding(
    records: Sequence[Record],
    folder: Path,
    data: Path | None = None,
    split: str | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write the grounding of words: a figure of bars, grounding.md, and all numbers as CSV."""
    found = measure(records, data=data, split=split)
    kinds = list(dict.fromkeys(row.captions for row in found.rows))
    figure = Figure(figsize=(10.0, 3.2 * len(kinds) + 0.5), layout="constrained")
    panels = figure.subplots(len(kinds), len(MEASURES), squeeze=False)
    for captions, axes in zip(kinds, panels, strict=True):
        for name, one in zip(MEASURES, axes, strict=True):
            grounding_bars(found.rows, captions=captions, measure=name, axes=one)
    finish(figure, panels.ravel(), f"whiskers: 95 % intervals, {tables.method(found)}")
    files = save(figure, folder / "grounding", formats=formats, numbers=tables.numbers(found))
    more = [folder / name for name in ("grounding-equal.csv", "grounding-quality.csv", "grounding.md")]
    write_rows(more[0], tables.equal_numbers(found))
    write_rows(more[1], tables.rank_numbers(found))
    write_text(more[2], tables.markdown(found))
    return files + more
