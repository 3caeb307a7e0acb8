"""Tables and intervals as text for readers."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from attend.analysis.statistics.intervals import Difference, Interval
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def markdown(rows: Iterable[Sequence[object]], *, left: Collection[int] = (0,)) -> str:
    """Rows as a Markdown table, the header first; the columns ``left`` are aligned left, all others right."""
    header, *lines = ([str(cell).replace("|", r"\|") for cell in row] for row in rows)
    rule = ["---" if place in left else "---:" for place in range(len(header))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def rows_of(records: Sequence[Mapping[str, object]]) -> list[list[object]]:
    """Records with the same fields as rows, the header first."""
    return [list(records[0]), *(list(record.values()) for record in records)]


def bracketed(found: Interval | None, decimals: int = 3, *, scale: float = 1.0, sign: str = "") -> str:
    """``0.213 [0.209, 0.217]``, times ``scale``; empty if there is no interval. With ``sign`` "+", also plus signs.

    Where the interval says nothing it is the range over seeds, ``0.213 (0.209 to 0.217)``.
    """
    if found is None:
        return ""
    value, low, high = (f"{scale * end:{sign}.{decimals}f}" for end in found.shown)
    return f"{value} ({low} to {high})" if found.says_nothing else f"{value} [{low}, {high}]"


def resolved(found: Interval) -> bool:
    """Whether the whole interval is on one side of 0; never of one seed, whose interval is over images alone."""
    return found.seeds > 1 and not found.says_nothing and (found.low > 0 or found.high < 0)


def p_value(found: Difference, digits: int = 4) -> str:
    """p, or nothing for one seed."""
    return f"{found.p:.{digits}g}" if found.seeds > 1 else ""


def templates(folder: Path, *, autoescape: bool = False, **filters: Callable[[str], str]) -> Environment:
    """Jinja's templates in a folder, with these filters; without ``autoescape`` only the filters escape."""
    blocks = {"trim_blocks": True, "lstrip_blocks": True}
    found = Environment(autoescape=autoescape, loader=FileSystemLoader(folder), undefined=StrictUndefined, **blocks)
    found.filters |= filters
    return found
