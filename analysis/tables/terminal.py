"""A short table for a terminal: five aligned columns of the comparison. The files have all of them."""

import shutil
from collections.abc import Sequence

from attend.analysis.tables.columns import Table
from attend.analysis.tables.render import COLLAPSED, Printed, grid

WORTH = ("bleu4", "cider", "mass", "meteor", "nll", "entropy")
"""Scores by name in scores.json: a terminal has room for the first three that the table has."""
SCORES = 3
WIDE = 100
"""The width of a terminal that does not say it, in characters."""


def brief(table: Table) -> str:
    """Variant, decoding and three scores of each row with runs, aligned, with intervals if the terminal has room."""
    names = [column.name for column in table.columns]
    scored = [name for name in WORTH if name in names and any(row.cells[names.index(name)] for row in table.rows)]
    scored = [*scored, *(name for name in names if name not in WORTH)][:SCORES]
    header, rows = grid(table)
    first = len(header) - len(names)
    places = [0, 1, *(first + names.index(name) for name in scored)]
    shown = [[row[place] for place in places] for row, of in zip(rows, table.rows, strict=True) if of.runs]
    titles = [header[place] for place in places]
    text = aligned(titles, [[f"{cell.text} {cell.beside}".strip() for cell in row] for row in shown])
    if len(text.splitlines()[0]) > shutil.get_terminal_size((WIDE, 24)).columns:
        return aligned(titles, [[cell.text for cell in row] for row in shown])
    return f"{text}\n{_brackets(shown)}".rstrip()


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of text with aligned columns: the first two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for line in (header, ["-" * width for width in widths], *rows):
        cells = [
            f"{cell:<{w}}" if n < 2 else f"{cell:>{w}}" for n, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _brackets(rows: Sequence[Sequence[Printed]]) -> str:
    """What the brackets beside the numbers and the marks are."""
    beside = [cell for row in rows for cell in row if cell.beside]
    parts = ["95 % interval in [brackets]"] if any(cell.about for cell in beside) else []
    parts += ["range over seeds in (parentheses)"] if any("(" in cell.beside for cell in beside) else []
    if beside and not parts:
        parts = ["lowest and highest seed in [brackets]"]
    about = f"Mean over seeds; {', '.join(parts)}." if parts else ""
    collapsed = any(COLLAPSED in row[0].text for row in rows)
    return about + f"\n{COLLAPSED} attention collapsed in training." * collapsed
