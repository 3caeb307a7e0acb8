"""The results of ``grounding.measure`` as Markdown and as rows of CSV."""

from collections.abc import Sequence

from attend.analysis.grounding.measure import SIZES, Found, Row
from attend.analysis.statistics.intervals import Difference, Interval
from attend.analysis.tables import text
from attend.analysis.tables.text import bracketed, p_value, resolved

from attend.metrics.grounding import CONTROLS, LOOKS, MEASURES


def method(found: Found) -> str:
    """The method of the intervals, with the numbers of seeds and images."""
    intervals = [row.looks["learned"] for row in found.rows]
    seeds = " or ".join(map(str, sorted({one.seeds for one in intervals})))
    fewest, most = (end(one.images for one in intervals) for end in (min, max))
    images = f"{fewest:,} to {most:,}" if fewest < most else f"{most:,}"
    pooled = (
        ", the spread of seeds pooled over the models" if any(one.degrees > one.seeds - 1 for one in intervals) else ""
    )
    return (
        f"bootstrap over {seeds} {'seed' if seeds == '1' else 'seeds'} and the {images} images with such words{pooled}"
    )


def markdown(found: Found) -> str:
    """A table for each kind of captions and each measure, the rank correlations, and an explanation."""
    blocks = ["# Grounding", _about(found)]
    for captions in dict.fromkeys(row.captions for row in found.rows):
        for measure in MEASURES:
            rows = [row for row in found.rows if (row.captions, row.measure) == (captions, measure)]
            blocks += [f"## {measure.capitalize()}, {captions} captions", _table(HEADER, *map(_cells, rows))]
    if found.equal:
        blocks += [
            "## At equal sharpness",
            f"Mass of all words of given captions, each model's weights tempered to {found.equal[0].nats:.2f} nats, "
            f"the mean of the models' entropies; `matched` is the Gaussian of that entropy. The last column is the "
            f"difference to {found.equal[0].variant} ({found.equal[0].decode}) on the same words.",
            _table((*HEADER, "less the first"), *((*_cells(row), _less_first(row)) for row in found.equal)),
        ]
    if found.ranks:
        blocks += [
            "## Do better grounded captions score better?",
            "Spearman's rank correlation over images, mean over seeds [95 % interval].",
            _table(*_ranks(found)),
        ]
    if found.notes:
        blocks += ["Left out:", "\n".join(f"- {note}" for note in found.notes)]
    return "\n\n".join(blocks) + "\n"


HEADER = ("Model", "Words of", "n", "Looks", *CONTROLS, "best control", "less the best", "less matched")


def _about(found: Found) -> str:
    sizes = ", ".join(
        f"{name} {'up to' if not low else 'over'} {low if low else high:.1%}" for name, (low, high) in SIZES.items()
    )
    return (
        f"On {found.split}, in percent, means over the n words of a part. Boxes by share of the grid: {sizes}. "
        "Controls: `uniform` weights; `matched`, a Gaussian at the centre with the mean entropy of the model's weights "
        "over these words; `cell`, all weight on the cell that is best on the training split; `shuffled`, the model's "
        f"own weights at a word of another image. Brackets: 95 % intervals ({method(found)}). Differences are on the "
        "same words. Bold: the interval excludes 0, not corrected for multiple tests; a difference of one seed is "
        "never bold and has no p, because its interval is over images alone."
    )


def _cells(row: Row) -> list[str]:
    part = {"all": "all", "size": f"{row.group} boxes"}.get(row.by, row.group)
    controls = (row.looks.get(control) for control in CONTROLS)
    looks = [_percent(row.looks["learned"]), *(f"{100 * one.value:.1f}" if one else "–" for one in controls)]
    differences = [_percent(row.beyond[one], sign="+", bold=True) for one in (row.best, "matched")]
    return [f"{row.variant} ({row.decode})", part, f"{row.words:,.0f}", *looks, row.best, *differences]


def _less_first(row: Row) -> str:
    return _percent(row.less_first, sign="+", bold=True) if row.less_first else "–"


def _percent(one: Interval, *, sign: str = "", bold: bool = False) -> str:
    cell = bracketed(one, 1, scale=100, sign=sign)
    return f"**{cell}**" if bold and resolved(one) else cell


def _table(*rows: Sequence[str]) -> str:
    return text.markdown(rows, left=(0, 1)).rstrip()


def _ranks(found: Found) -> list[Sequence[str]]:
    scores = list(dict.fromkeys(rank.score for rank in found.ranks))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for rank in found.ranks:
        cell = bracketed(rank.rho, 2, sign="+")
        name = f"{rank.variant} ({rank.decode})", rank.captions, rank.looks
        rows.setdefault(name, {})[rank.score] = f"**{cell}**" if resolved(rank.rho) else cell
    lines = [[*name, *(cells.get(score, "–") for score in scores)] for name, cells in rows.items()]
    return [("Model", "Captions", "Grounding", *scores), *lines]


ENDS = ("", "_low", "_high")


def numbers(found: Found) -> list[tuple]:
    """A header and a line for each row, as fractions."""
    return _numbers(found.rows)


def equal_numbers(found: Found) -> list[tuple]:
    """The same of the rows at equal sharpness, with the entropy and the difference to the first model."""
    header, *lines = _numbers(found.equal)
    more = ("nats", *(f"less_first{end}" for end in (*ENDS, "_p")))
    firsts = (_tested(row.less_first) if row.less_first else ("",) * 4 for row in found.equal)
    return [(*header, *more)] + [
        (*line, f"{row.nats:.6g}", *first) for line, row, first in zip(lines, found.equal, firsts, strict=True)
    ]


def _numbers(rows: Sequence[Row]) -> list[tuple]:
    header = ["captions", "variant", "decode", "by", "group", "measure", "words", "seeds", "images"]
    header += [f"{look}{end}" for look in LOOKS for end in ENDS]
    header += [f"less_{look}{end}" for look in CONTROLS for end in (*ENDS, "_p")]
    lines: list[tuple] = [(*header, "best")]
    for row in rows:
        own = row.looks["learned"]
        name = (row.captions, row.variant, row.decode, row.by, row.group, row.measure)
        looks = (_ends(row.looks[look]) if look in row.looks else ("",) * 3 for look in LOOKS)
        beyond = (_tested(row.beyond[look]) if look in row.beyond else ("",) * 4 for look in CONTROLS)
        values = (value for some in (*looks, *beyond) for value in some)
        lines.append((*name, f"{row.words:g}", own.seeds, own.images, *values, row.best))
    return lines


def _ends(one: Interval) -> tuple[str, ...]:
    return tuple(f"{value:.6g}" for value in one.ends)


def _tested(one: Difference) -> tuple[str, ...]:
    return (*_ends(one), p_value(one, 6))


def rank_numbers(found: Found) -> list[tuple]:
    """A header and a line for each rank correlation."""
    header = ("variant", "decode", "captions", "grounding", "score", "rho", "low", "high", "seeds", "images")
    lines: list[tuple] = [header]
    for one in found.ranks:
        values = (f"{value:.6g}" for value in one.rho.ends)
        name = (one.variant, one.decode, one.captions, one.looks, one.score)
        lines.append((*name, *values, one.rho.seeds, one.rho.images))
    return lines
