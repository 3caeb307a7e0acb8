"""A table as dots: a panel per score, and a dot with an interval per row, for scores or differences from a base."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from attend.analysis.figures import figures
from attend.analysis.figures.figures import LEAST, LEVEL, MARKERS, colours, finish, mean_interval, panels, styled
from attend.analysis.tables.columns import CONTROLS, Cell, Column, Row, Table
from matplotlib.axes import Axes

ACROSS = 5
"""Panels in a row."""
SHORT = {CONTROLS["uniform"]: "uniform", CONTROLS["cell"]: "one cell"}
"""The labels of the controls' lines."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A cell of a table as a dot. Without an interval, ``low`` and ``high`` are NaN and ``method`` says why.

    ``seeds`` has the score of each seed. ``p`` is the corrected p-value of the table's test, of a difference from the
    base or from the best of the column. ``differs``: the difference from the base is significant at 5 %.
    """

    row: Row
    column: Column
    value: float
    low: float
    high: float
    method: str
    seeds: tuple[float, ...]
    p: float | None = None
    differs: bool = False


def dots(table: Table) -> list[Dot]:
    """All cells of the rows with runs or published scores, in the units of the table, without the base of differences.

    The interval is the table's, over seeds and images. Without scores of images, it is Student's t over seeds, if there
    are at least LEAST.
    """
    rows = [row for row in table.rows if (row.runs or row.published) and not row.base]
    return [
        _dot(row, column, cell)
        for row in rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell is not None
    ]


def _dot(row: Row, column: Column, cell: Cell) -> Dot:
    count, low, high = len(cell.values), np.nan, np.nan
    method = f"{count} {'seed' if count == 1 else 'seeds'} and no scores of images"
    if cell.interval is not None:
        (_, low, high), method = cell.interval.ends, cell.interval.method
    elif row.published:
        method = "published: one run"
    elif count >= LEAST:
        (_, low, high), method = mean_interval(np.array(cell.values)), f"Student's t over {count} seeds"
    own = {"row": row, "column": column, "value": cell.mean, "seeds": cell.values, "p": cell.p}
    return Dot(**own, low=float(low), high=float(high), method=method, differs=cell.mark == "differs")


@styled
def dot_panels(table: Table, *, axes: Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """A panel for each score that some row has, all with the same order of rows; controls are dotted lines.

    Raises:
        ValueError: no row has any of the scores, or the numbers of axes and panels differ.
    """
    every = dots(table)
    columns = [one for one in table.columns if any(dot.column is one for dot in every)]
    if not columns:
        raise ValueError("no variant has any of these scores, so there is nothing to draw: name others with --scores")
    names = list(dict.fromkeys(_name(dot.row, every) for dot in every))
    shown = panels(len(columns), axes, columns=ACROSS, size=(1.65, 0.6 + 0.3 * len(names)), level=True)
    if axes is None:
        figure = shown[0].figure
        figure.set_figwidth(figure.get_figwidth() + 0.07 * max(map(len, names)))
    for one, column in zip(shown, columns, strict=True):
        _panel(one, [dot for dot in every if dot.column is column], every, names, difference=table.base is not None)
        for height, row in enumerate(row for row in table.rows if not row.runs and not row.published):
            if (cell := row.cells[table.columns.index(column)]) is not None:
                _line(one, cell.mean, SHORT.get(row.name, row.name), height)
    return tuple(finish(shown[0].figure, shown, _note(every, table), own=axes is None))


def _line(axes: Axes, at: float, label: str, height: int) -> None:
    """The score of a control as a line. Its label is on the side with room, at a ``height`` of its own."""
    axes.axvline(at, color="#555555", linestyle=":", linewidth=1)
    low, high = axes.get_xlim()
    left = at > low + 0.7 * (high - low)
    side = {"xytext": (-2 if left else 2, 2 + 8 * height), "ha": "right" if left else "left"}
    where = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    axes.annotate(label, (at, 0), fontsize=7, color="#555555", **where, **side)


def _panel(axes: Axes, own: Sequence[Dot], every: Sequence[Dot], names: Sequence[str], *, difference: bool) -> None:
    styles = colours(dot.row.name for dot in every)
    for dot in own:
        name, (colour, _) = _name(dot.row, every), styles[dot.row.name]
        y = names.index(name)
        if len(dot.seeds) > 1:
            seeds = {"linestyle": "", "marker": "|", "markersize": 5, "gid": f"{name}/seeds"}
            axes.plot(dot.seeds, [y - 0.27] * len(dot.seeds), color=colour, **seeds)
        hollow = dot.row.published or (difference and not dot.differs)
        figures.dot(axes, y, (dot.value, dot.low, dot.high), colour, marker=MARKERS[colour], hollow=hollow, gid=name)
    if difference:
        axes.axvline(0, color="#555555", linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.15, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.12)
    axes.set_title(own[0].column.title + (" (%)" if own[0].column.scale == 100 else ""), loc="left")


def _name(row: Row, every: Sequence[Dot]) -> str:
    """The label of a row: its variant and decoding, and the beam if the variant has several."""
    ways = {(dot.row.decode, dot.row.beam, dot.row.look) for dot in every if dot.row.name == row.name}
    parts = [row.name, row.decode]
    if len({beam for _, beam, _ in ways}) > 1:
        parts.append(f"beam {row.beam}")
    if row.look:
        parts.append(f"looks {row.look}")
    return ", ".join(filter(None, parts)) + (" †" if row.collapsed else "")


def _note(every: Sequence[Dot], table: Table) -> str:
    """Explain the marks: n, interval and method."""
    parts = [] if table.base is None else [f"minus {table.base}, paired by seed and image"]
    methods = dict.fromkeys(dot.method for dot in every if np.isfinite(dot.low))
    if methods:
        parts.append(f"bar: {100 * LEVEL:.0f} % interval, {' or '.join(methods)}")
    parts += [f"no bar: {why}" for why in dict.fromkeys(dot.method for dot in every if not np.isfinite(dot.low))]
    if any(len(dot.seeds) > 1 for dot in every):
        parts.append("tick: one seed")
    if table.base is not None and not all(dot.differs for dot in every):
        parts.append("hollow: no significant difference (permutation test at 5 % with Holm's correction)")
    if any(dot.row.collapsed for dot in every):
        parts.append("†: collapsed in training")
    beams = sorted({dot.row.beam for dot in every if dot.row.beam is not None})
    parts.append(f"{table.split}, beam {' or '.join(map(str, beams))}")
    return "; ".join(parts)


def numbers(table: Table) -> list[tuple]:
    """The numbers in the panels: a header and rows."""
    way = ("variant", "decode", "beam", "look")
    score = ("score", "value", "low", "high", "n", "method", f"p_against_{table.base or 'best'}", "seeds")
    rows = []
    for dot in dots(table):
        own = (dot.row.name, dot.row.decode, dot.row.beam, dot.row.look, dot.column.title)
        ends = [f"{value:.6g}" for value in (dot.value, dot.low, dot.high)]
        p = "" if dot.p is None else f"{dot.p:.6g}"
        rows.append((*own, *ends, len(dot.seeds), dot.method, p, " ".join(f"{value:.6g}" for value in dot.seeds)))
    return [(*way, *score), *rows]
