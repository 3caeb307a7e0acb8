"""How many seeds a stated difference would need, from the variances of finished runs."""

from collections.abc import Sequence

from attend.analysis.records import Record
from attend.analysis.statistics.evidence import Evidence, Scored
from attend.analysis.statistics.per_image import RESAMPLED
from attend.analysis.statistics.power import seeds_needed
from attend.analysis.tables.columns import COLUMNS


def stated(text: str) -> tuple[str, float]:
    """The score and the difference of ``cider=0.05``, in the units of a table; ValueError explains what is wrong."""
    name, equals, value = text.partition("=")
    try:
        difference = float(value)
    except ValueError:
        difference = 0.0
    if not equals or not 0 < difference < float("inf"):
        raise ValueError(f"{text!r} is no difference of a score: write it as cider=0.05, with a number above 0")
    if name not in COLUMNS or COLUMNS[name].name not in RESAMPLED:
        known = ", ".join(name for name, column in COLUMNS.items() if column.name in RESAMPLED)
        raise ValueError(f"{text!r} names no score of single images: known are {known}")
    return name, difference


def seeds_for(records: Sequence[Record], name: str, difference: float, variants: int) -> str:
    """A sentence on the seeds that so many variants need to find this difference, in the units of a table."""
    column, rows = COLUMNS[name], _headlines(records)
    found = Evidence(rows).variances(column.name) if rows else None
    wanted = f"find a difference of {difference:g} in {column.title} with a chance of 80 %"
    if found is None:
        return (
            f"How many seeds it takes to {wanted} is not known: that needs finished runs of two variants, with two "
            "seeds in common and their images.csv"
        )
    spread, images = (column.scale**2 * one for one in found)
    needed = seeds_needed(difference, spread, images, max(2, variants))
    runs = f"from the variances of {sum(map(len, rows))} finished runs of {len(rows)} variants"
    if needed is None:
        least = 2.8 * images**0.5
        return f"To {wanted} no number of seeds is enough, {runs}: take more images (these find {least:.2g} at best)"
    return f"To {wanted} it takes {needed} seeds of each of {max(2, variants)} variants, {runs}"


def _headlines(records: Sequence[Record]) -> list[list[Scored]]:
    """The headline evaluations of finished runs, by variant."""
    rows: dict[tuple[str, str], list[Scored]] = {}
    for record in records:
        if record.finished and (one := record.headline()):
            rows.setdefault((record.experiment, record.variant), []).append(Scored(record, record.scores, one.folder))
    return list(rows.values())
