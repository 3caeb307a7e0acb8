"""How much scores vary between seeds, pooled over the rows of a table.

Two or three seeds know the deviation of their scores badly: Student's t on one degree of freedom makes an interval ten
times as wide as it need be. The rows of a table are trained alike, so their deviations are taken for one, which then
has the degrees of freedom of all rows. Where variants in truth vary differently, intervals hold a little less often
than they say (docs/statistics.md has how often).
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Seeds = Mapping[Hashable, float]
"""The score of each seed."""


class Spread(NamedTuple):
    """The variance of a score, or of a difference of two, from one seed to the next; and its degrees of freedom."""

    variance: float
    degrees: int


def own(scores: np.ndarray) -> Spread | None:
    """The spread of one row's seeds (S,) alone; None of one seed."""
    return Spread(float(np.var(scores, ddof=1)), len(scores) - 1) if len(scores) > 1 else None


def pooled(spreads: Iterable[Spread | None]) -> Spread | None:
    """The mean of variances, each weighted by its degrees of freedom, which add up; None if nothing is known."""
    known = [one for one in spreads if one is not None]
    degrees = sum(one.degrees for one in known)
    if not degrees:
        return None
    return Spread(sum(one.variance * one.degrees for one in known) / degrees, degrees)


def varies(row: Seeds) -> bool:
    """Whether a row has two seeds that differ."""
    return len(set(row.values())) > 1


def of_scores(variants: Iterable[Sequence[Seeds]]) -> Spread | None:
    """The spread of a score. The rows of a variant (ways of decoding) have the same seeds, so they count as one row.

    A row whose seeds are all equal, as the mass of uniform attention, knows its spread and says nothing of others.
    """
    rows = ([own(np.array(list(row.values()))) for row in rows if varies(row)] for rows in variants)
    return pooled(Spread(float(np.mean([one.variance for one in some])), some[0].degrees) for some in rows if some)


def known_of(scores: np.ndarray, of_all: Spread | None) -> Spread | None:
    """What is known of the spread of a row (S,): that of all rows, or none of it where its seeds are all equal."""
    if of_all is not None and len(scores) > 1 and np.ptp(scores) == 0:
        return Spread(0.0, of_all.degrees)
    return of_all or own(scores)


def of_differences(rows: Sequence[Seeds]) -> Spread | None:
    """The spread of the difference of two rows on the same seeds, from all pairs of these rows.

    In a layout of rows x seeds, y_rs = row_r + seed_s + e_rs, it is twice the residual mean square: what a seed does to
    all rows alike (the order of the data, the first weights) is in no difference. With R rows of S seeds it has
    (R - 1)(S - 1) degrees of freedom; for two rows it is the variance of their differences.
    """
    rows = [row for row in rows if varies(row)]
    shared = {seed for row in rows for seed in row if sum(seed in other for other in rows) > 1}
    cells = [(r, seed, row[seed]) for r, row in enumerate(rows) for seed in row if seed in shared]
    if not cells:
        return None
    number = {seed: len(rows) + s for s, seed in enumerate(shared)}
    design = np.zeros((len(cells), len(rows) + len(shared)))
    for place, (r, seed, _) in enumerate(cells):
        design[place, [r, number[seed]]] = 1
    scores = np.array([score for *_, score in cells])
    fitted, _, rank, _ = np.linalg.lstsq(design, scores, rcond=None)
    if len(cells) == rank:
        return None
    residual = scores - design @ fitted
    return Spread(2 * float(residual @ residual) / (len(cells) - rank), len(cells) - int(rank))
