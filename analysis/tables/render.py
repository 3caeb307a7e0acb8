"""A table as text: aligned for a terminal, Markdown, LaTeX with booktabs, HTML and CSV. All but CSV print the same
cells, which are a ``Sheet``."""

import html
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attend.analysis.statistics.intervals import Difference
from attend.analysis.tables.columns import Cell, Column, Row, Table
from attend.analysis.tables.text import markdown, templates

from attend.runs.files import comma_separated

DASH = "–"
COLLAPSED = "†"


def render(table: Table, format: str = "markdown") -> str:
    """The table as text in one of FORMATS.

    Raises:
        ValueError: an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; known are {', '.join(FORMATS)}")
    return _csv(table) if format == "csv" else SHEETS[format](sheet_of(table))


@dataclass(frozen=True)
class Printed:
    """A cell as text: a number, the text ``beside`` it, its mark, and ``about`` it the method of its interval."""

    text: str
    beside: str = ""
    mark: str = ""
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table as it is printed. The first ``left`` columns are aligned left. ``caption`` explains the numbers, and each
    of the ``notes`` is a paragraph below."""

    header: list[str]
    rows: list[list[Printed]]
    caption: str
    notes: tuple[str, ...] = ()
    left: int = 2


def grid(table: Table) -> tuple[list[str], list[list[Printed]]]:
    """The header, and a list of cells for each row: name, decoding, number of runs, and numbers."""
    shows = (
        ("Parameters", "parameters", _count),
        ("Epochs", "epochs", "{:.3g}".format),
        ("Training", "seconds", _time),
    )
    known = [one for one in shows if any(getattr(row, one[1]) for row in table.rows)]
    header = ["Variant", "Decoding", "n", *(title for title, _, _ in known), *(c.title for c in table.columns)]
    ranges = not any(cell and cell.interval for row in table.rows for cell in row.cells)
    lines = []
    for row in table.rows:
        name = f"{row.name}{f' {COLLAPSED}' * bool(row.collapsed)}{' (base)' * row.base}"
        facts = [Printed(_average(getattr(row, what), show) or DASH * bool(row.runs)) for _, what, show in known]
        signed = table.base is not None and not row.base
        lines.append([Printed(" ".join(name.split())), Printed(_decoding(row)), Printed(str(row.runs or "")), *facts])
        for cell, column in zip(row.cells, table.columns, strict=True):
            lines[-1].append(_printed(cell, column, row, brackets=ranges, signed=signed))
    return header, lines


def _decoding(row: Row) -> str:
    if row.published:
        return "published, one run"
    search = "words sampled" if row.beam == 0 else f"beam {row.beam}"
    look = f", looks {row.look}" if row.look else ""
    return f"{row.decode}, {search}{look}" if row.runs else ""


def _printed(cell: Cell | None, column: Column, row: Row, *, brackets: bool, signed: bool) -> Printed:
    """``21.4 [20.9, 22.0]``. In a table with intervals, a range is ``21.4 (20.9 to 22.0)``. ``(n = 2)`` if seeds lack
    the score."""
    if cell is None:
        return Printed(DASH if row.runs else "")
    ends = (cell.low, cell.high) if cell.interval is None else cell.interval.ends[1:]
    style = f"{'+' if signed else ''}.{column.decimals}f"
    mean, low, high = (f"{value:{style}}" for value in (cell.mean, *ends))
    seeds = len(cell.values)
    alone = cell.interval is None and (seeds == 1 or (not row.runs and low == high))
    beside = "" if alone else f"[{low}, {high}]" if cell.interval or brackets else f"({low} to {high})"
    if row.runs and seeds < row.runs:
        beside = f"{beside} (n = {seeds})".strip()
    about = "" if cell.interval is None else cell.interval.method
    if cell.p is not None:
        about += f"; p = {cell.p:.2g}, corrected"
    return Printed(mean, beside, cell.mark, about)


def _count(number: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def sheet_of(table: Table) -> Sheet:
    """The comparison table as it is printed."""
    header, rows = grid(table)
    return Sheet(header=header, rows=rows, caption=table.caption, notes=table.notes)


WIDTH = 100
"""Characters of a line of explanation in a terminal."""


def _text(sheet: Sheet) -> str:
    """Columns aligned by spaces. Explanations are wrapped."""
    marks = {"best": "*", "differs": "*", "tied": "~", "equal": "≈"}
    lines = [[f"{marks.get(c.mark, '')}{c.text} {c.beside}".strip() for c in row] for row in sheet.rows]
    widths = [max(map(len, column)) for column in zip(sheet.header, *lines, strict=True)]

    def line(cells: list[str]) -> str:
        sides = [one.ljust if place < sheet.left else one.rjust for place, one in enumerate(cells)]
        return "  ".join(side(width) for side, width in zip(sides, widths, strict=True)).rstrip()

    body = [line(sheet.header), "  ".join("-" * width for width in widths), *map(line, lines)]
    notes = [note.replace("Bold:", "*:").replace("Italic:", "~:") for note in (sheet.caption, *sheet.notes)]
    explained = [textwrap.fill(note, WIDTH) for note in notes]
    return "\n".join([*body, "", *explained]) + "\n"


def _markdown(sheet: Sheet) -> str:
    marks = {"best": "**{}**", "differs": "**{}**", "tied": "*{}*", "equal": "≈{}", "": "{}"}
    lines = [[f"{marks[c.mark].format(c.text)} {c.beside}".strip() for c in row] for row in sheet.rows]
    body = markdown([sheet.header, *lines], left=range(sheet.left))
    return "\n".join([body, sheet.caption, *("\n" + note for note in sheet.notes)]) + "\n"


LATEX = {
    **{one: f"\\{one}" for one in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "†": r"\dag{}",
    "≈": r"$\approx$",
    "²": r"\textsuperscript{2}",
}


def _latex(sheet: Sheet) -> str:
    """A table no wider than a line, with intervals below their numbers; needs booktabs and graphicx."""
    return TEMPLATES.get_template("table.tex").render(sheet=sheet) + "\n"


def _number(text: str) -> str:
    """Escaped, with minus signs."""
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", _tex(text))


def _tex(text: str) -> str:
    printable = "".join(one if one.isprintable() else " " for one in text)
    escaped = "".join(LATEX.get(one, one) for one in printable)
    return re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)


def _html(sheet: Sheet) -> str:
    """An HTML fragment with its own style, for a page of any colours."""
    return TEMPLATES.get_template("table.html").render(sheet=sheet) + "\n"


def _web(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


TEMPLATES = templates(Path(__file__).parent / "templates", web=_web, tex=_tex, number=_number)


def _csv(table: Table) -> str:
    """For programs: mean, lowest and highest seed and number of seeds of every score, each in its own column.

    If the table has intervals, more columns have their ends, the mark and the corrected p-value. If it has a base,
    further columns have the other statistics of each difference.
    """
    more = [] if not any(c and c.interval for row in table.rows for c in row.cells) else list(INTERVAL)
    more += list(DIFFERENCE) if more and table.base is not None else []
    scores = [f"{c.title}{part}" for c in table.columns for part in ("", " low", " high", " n", *more)]
    titles = [title for title, show in FACTS.items() if title not in OPTIONAL or any(map(show, table.rows))]
    lines = [["Variant", "Split", *titles, *scores]]
    for row in table.rows:
        split = "" if row.published else table.split
        cells = [_numbers(cell, more) if cell else [""] * (4 + len(more)) for cell in row.cells]
        facts = [FACTS[title](row) for title in titles]
        lines.append([row.name, split, *facts, *(value for some in cells for value in some)])
    return comma_separated(lines)


FACTS: dict[str, Callable[[Row], object]] = {
    "Decode": lambda row: "published" if row.published else row.decode,
    "Beam": lambda row: "" if row.beam is None else row.beam,
    "Look": lambda row: row.look,
    "n": lambda row: row.runs,
    "Collapsed": lambda row: row.collapsed,
    "Trials": lambda row: row.trials or "",
    "Base": lambda row: "base" if row.base else "",
    "Parameters": lambda row: _average(row.parameters, "{:.0f}".format),
    "Epochs": lambda row: _average(row.epochs, "{:.6g}".format),
    "Training seconds": lambda row: _average(row.seconds, "{:.6g}".format),
}
OPTIONAL = ("Look", "Trials", "Base", "Parameters", "Epochs", "Training seconds")
"""Columns of the CSV that are left out if they are empty in every row."""
INTERVAL = (" interval low", " interval high", " mark", " p")
DIFFERENCE = {
    " p images": "p_images",
    " effect": "effect",
    " improvement": "improvement",
    " equal within": "equal_within",
    " detectable": "detectable",
}


def _average(values: tuple, show: Callable[[float], str]) -> str:
    return show(sum(values) / len(values)) if values else ""


def _numbers(cell: Cell, more: list[str]) -> list:
    found = [f"{cell.mean:.6g}", f"{cell.low:.6g}", f"{cell.high:.6g}", len(cell.values)]
    if not more:
        return found
    interval = cell.interval
    ends = ["", ""] if interval is None else [f"{end:.6g}" for end in interval.ends[1:]]
    found += [*ends, cell.mark, "" if cell.p is None else f"{cell.p:.4g}"]
    if len(more) > len(INTERVAL):
        known = isinstance(interval, Difference)
        found += [f"{getattr(interval, name):.4g}" if known else "" for name in DIFFERENCE.values()]
    return found


SHEETS: dict[str, Callable[[Sheet], str]] = {"text": _text, "markdown": _markdown, "latex": _latex, "html": _html}
FORMATS = (*SHEETS, "csv")
