"""The tables of ``attend score``: one row per metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attend.analysis.statistics.evidence import ALPHA
from attend.analysis.statistics.intervals import Interval
from attend.analysis.tables.columns import COLUMNS, Column
from attend.analysis.tables.render import DASH, FORMATS, SHEETS, Printed, Sheet
from attend.analysis.tables.text import rows_of

from attend.runs.files import comma_separated

if TYPE_CHECKING:
    from attend.analysis.scoring.results import Comparison, ScoreResult


def written(sheet: Sheet, rows: Sequence[Mapping[str, object]], format: str) -> str:
    """A sheet as text, or for csv its rows; ValueError for an unknown format."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; known are {', '.join(FORMATS)}")
    return comma_separated(rows_of(rows)) if format == "csv" else SHEETS[format](sheet)


def scores(result: ScoreResult) -> Sheet:
    """Each metric with its interval."""
    rows = [[Printed(COLUMNS[name].title), _number(one, COLUMNS[name])] for name, one in result.scores.items()]
    return Sheet(
        header=["Metric", result.name],
        rows=rows,
        caption=f"{_images(result)} {_units(result)}",
        notes=tuple(_notes([result])),
        left=1,
    )


def comparison(found: Comparison) -> Sheet:
    """Each metric of both, and the difference with its test."""
    rows = []
    for name, one in found.differences.items():
        column, p = COLUMNS[name], found.holm.get(name)
        mark = ""
        if p is not None:
            equal = column.margin is not None and column.scale * one.equal_within <= column.margin
            mark = "differs" if p < ALPHA else "equal" if equal else ""
        tested = [Printed(DASH), Printed(DASH)] if p is None else [Printed(f"{one.p:.2g}"), Printed(f"{p:.2g}")]
        both = [_number(side[name], column) for side in (found.a, found.b)]
        rows.append([Printed(column.title), *both, _number(one, column, sign="+", mark=mark), *tested])
    return Sheet(
        header=["Metric", found.a.name, f"{found.b.name} (base)", "Difference", "p", "Holm"],
        rows=rows,
        caption=f"{_images(found.a)} {_units(found.a)}",
        notes=(_test(found), *_notes([found.a, found.b])),
        left=1,
    )


def _number(found: Interval, column: Column, sign: str = "", mark: str = "") -> Printed:
    """``21.4 [20.9, 22.0]`` in the units of the column; without an interval if nothing is known of chance."""
    ends = (round(column.scale * end, column.decimals) + 0.0 for end in found.ends)  # 0.0 and not -0.0
    value, low, high = (f"{end:{sign}.{column.decimals}f}" for end in ends)
    beside = f"[{low}, {high}]" if math.isfinite(found.low) else ""
    return Printed(value, beside, mark, found.method)


def _images(result: ScoreResult) -> str:
    images, (least, most) = len(result.images), result.references
    references = f"{least}" if least == most else f"{least} to {most}"
    return (
        f"{images:,} {'image' if images == 1 else 'images'}, {references} {'reference' if most == 1 else 'references'} "
        "per image."
    )


def _units(result: ScoreResult) -> str:
    plain = [COLUMNS[name].title for name in result.scores if COLUMNS[name].scale == 1]
    units = "In percent" + (f", except {' and '.join(plain)}." if plain else ".")
    if len(result.images) == 1:
        return f"{units} One image says nothing of others, so there is no interval."
    return f"{units} [95 % interval] in brackets: bootstrap over images."


def _test(found: Comparison) -> str:
    margins = ", ".join(f"{COLUMNS[n].title} {COLUMNS[n].margin:g}" for n in found.holm)
    return (
        "Bold: differs from the base (permutation test that swaps the captions of images at random, p below 5 % after "
        f"Holm's correction for {len(found.holm)} metrics). ≈: equal within a margin ({margins}; two one-sided tests "
        "at 5 %, not corrected). Plain: not resolved. The test is of these captions on images like these. It says "
        "nothing of other training seeds: `attend table RUNS --base VARIANT` does."
    )


def _notes(results: Sequence[ScoreResult]) -> list[str]:
    """What the numbers depend on: tokens, document frequencies, and captions that are alike or empty."""
    first = results[0]
    notes = [
        f"Scores of pycocoevalcap on {_tokens(first.notes)}. CIDEr is CIDEr-D with the document frequencies of the "
        "references of these images."
    ]
    if len(first.images) == 1 and "cider" in first.scores:
        notes.append("On one image CIDEr is 0, because every word is in the references of all images.")
    if first.left_out:
        notes.append(f"Images left out, because they lack a caption or references: {first.left_out:,}.")
    notes += [f"{COLUMNS[name].title} is missing: {why.rstrip('.')}." for name, why in first.missing.items()]
    for one in results:
        images, empty = len(one.images), sum(not caption.strip() for caption in one.captions)
        alone = f" (empty: {empty:,})" if empty else ""
        different = round(one.diversity["distinct_captions"] * images)
        notes.append(
            f"{one.name}: different captions {different:,} of {images:,}{alone}, different words "
            f"{one.diversity['words_used']:,.0f}."
        )
    return notes


def _tokens(notes: Mapping[str, str]) -> str:
    if why := notes.get("tokeniser_fallback"):
        return f"simple tokens, because the tokeniser of the Penn Treebank failed ({why.rstrip('.')})"
    return {"ptb": "tokens of the Penn Treebank", "simple": "simple tokens"}[notes["tokeniser"]]
