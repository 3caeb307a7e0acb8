"""Intervals of the cells of a table, and tests of the differences between its rows."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from attend.analysis.records import Record
from attend.analysis.statistics.intervals import Difference, Interval, holm, of_pair, of_sums
from attend.analysis.statistics.per_image import RESAMPLED, TOLERANCE, Family, statistics_of
from attend.analysis.statistics.pooling import of_differences, of_scores, pooled
from attend.analysis.statistics.resampling import Sums, sums
from attend.analysis.tables.columns import Cell, Column

from attend.runs.evaluations import ImageTable, read_images

ALPHA = 0.05
"""A difference is significant if its p-value, corrected for all tests of the table, is below this."""
LEAST = 2
"""The number of seeds that a test needs: the images of one run say nothing of another run."""

PARTS = ("captions", "grounding", "diversity", "hallucination")
"""The parts of scores.json that have scores of single images. No name is in two of them."""


@dataclass(frozen=True)
class Scored:
    """The scores of one run in a row of a table. ``folder`` is that of the evaluation, None if there is none."""

    record: Record
    scores: dict
    folder: Path | None

    @property
    def name(self) -> str:
        return f"{self.record.variant}/seed{self.record.seed}"

    def value(self, name: str) -> float | None:
        """A corpus score as recorded: for several draws, their mean."""
        for part in PARTS:
            if name in (self.scores.get(part) or {}):
                value = self.scores[part][name]
                return value if value is not None and math.isfinite(value) else None
        return None


class Evidence:
    """Intervals and tests from the scores of single images. Each row is the runs of one variant with one decoding.

    ``notes`` has a sentence for each run whose image scores could not be used: its row then has no interval. If no run
    has an images.csv, there are no notes.
    """

    def __init__(self, rows: Sequence[Sequence[Scored]]) -> None:
        self.rows = rows
        self.notes: list[str] = []
        runs = {id(run): run for row in rows for run in row}
        self._tables: dict[int, ImageTable] = {}
        if any(run.folder and (run.folder / "images.csv").exists() for run in runs.values()):
            self._read(runs)
        self._family: Family | None = None
        self._drawn: list[tuple[dict, Sums] | None] = []

    def _read(self, runs: dict[int, Scored]) -> None:
        found: dict[int, ImageTable] = {}
        for key, run in runs.items():
            try:
                if run.folder is None:
                    raise ValueError(f"{run.record.folder} has no folder of this evaluation")
                found[key] = read_images(run.folder, run.scores.get("images"))
            except (ValueError, OSError) as error:
                self._note(run, error)
        sets = Counter(frozenset(table.images) for table in found.values())
        if not sets:
            return
        common, _ = sets.most_common(1)[0]
        for key, table in found.items():
            if frozenset(table.images) == common:
                self._tables[key] = table
            else:
                images = f"{len(table.images):,} images that differ from the {len(common):,} of most runs here"
                self._note(runs[key], f"{table.path} has {images}, so it is not compared")

    def _note(self, run: Scored, why: object) -> None:
        note = f"No interval of {run.name} ({run.scores['decode']}): {why}."
        if note not in self.notes:
            self.notes.append(note)

    def interval(self, row: int, name: str) -> Interval | None:
        """The interval of a corpus score over the seeds of a row that have it; None without scores of images.

        The spread of seeds is pooled over all rows.
        """
        drawn = self._sums(row, name)
        if drawn is None:
            return None
        score, spread = RESAMPLED[name].scores[name], of_scores(self._variants(name).values())
        return of_sums(drawn[1], score, spread=spread)

    def difference(self, row: int, other: int, name: str) -> Difference | None:
        """``row`` minus ``other`` on the seeds that both have; None without common seeds or scores of images.

        The spread is pooled over all differences of this kind: between two ways of decoding the same runs, or between
        two variants.
        """
        ours, theirs = self._sums(row, name), self._sums(other, name)
        if ours is None or theirs is None:
            return None
        keys = [key for key in ours[0] if key in theirs[0]]
        if not keys:
            return None
        a, b = (one.of([list(seeds).index(key) for key in keys]) for seeds, one in (ours, theirs))
        variants = self._variants(name)
        if self._variant(row) == self._variant(other):
            spread = pooled(map(of_differences, variants.values()))
        else:
            spread = of_differences([rows[0] for rows in variants.values()])
        return of_pair(a, b, RESAMPLED[name].scores[name], spread=spread)

    def variances(self, name: str) -> tuple[float, float] | None:
        """Of the difference of two variants: from one seed to the next, and what the images do to all seeds alike.

        Means over all pairs of variants; None if no two of them share two seeds.
        """
        variants = self._variants(name)
        spread = of_differences([rows[0] for rows in variants.values()])
        first = {self._variant(row): row for row in reversed(range(len(self.rows))) if self._sums(row, name)}
        pairs = [self.difference(one, other, name) for one, other in itertools.combinations(first.values(), 2)]
        images = [one.over_images for one in pairs if one and one.seeds > 1]
        return (spread.variance, float(np.mean(images))) if spread and images else None

    def _variant(self, row: int) -> tuple[str, str]:
        record = self.rows[row][0].record
        return record.experiment, record.variant

    def _variants(self, name: str) -> dict[tuple[str, str], list[dict]]:
        """The score of each seed, for each row of each variant."""
        found: dict[tuple[str, str], list[dict]] = {}
        for row in range(len(self.rows)):
            if drawn := self._sums(row, name):
                seeds, summed = drawn
                scores = RESAMPLED[name].scores[name](summed.whole).tolist()
                found.setdefault(self._variant(row), []).append(dict(zip(seeds, scores, strict=True)))
        return found

    def _sums(self, row: int, name: str) -> tuple[dict, Sums] | None:
        """The seeds of a row that have a score, and the sums that the score is a function of."""
        if name not in RESAMPLED or not self._tables:
            return None
        if self._family is not RESAMPLED[name]:  # one at a time: the sums of all families need too much memory
            self._family, self._drawn = RESAMPLED[name], self._draw(RESAMPLED[name])
        return self._drawn[row]

    def _draw(self, family: Family) -> list[tuple[dict, Sums] | None]:
        """The sums of all rows at once, so that the rows share their resamples."""
        found: list[tuple[dict, list[np.ndarray]] | None] = []
        for row in self.rows:
            seeds = _by_seed([run for run in row if any(run.value(name) is not None for name in family.scores)])
            statistics = [self._statistics(run, family) for run in seeds.values()]
            found.append((seeds, statistics) if statistics and all(s is not None for s in statistics) else None)
        everything = [one for some in found if some for one in some[1]]
        if not everything:
            return [None] * len(found)
        drawn, start, parts = sums(np.stack(everything)), 0, []
        for some in found:
            parts.append((some[0], drawn.of(slice(start, start + len(some[1])))) if some else None)
            start += len(some[1]) if some else 0
        return parts

    def _statistics(self, run: Scored, family: Family) -> np.ndarray | None:
        table = self._tables.get(id(run))
        if table is None:
            return None
        reference = next(iter(self._tables.values())).images
        try:
            statistics = statistics_of(table, next(iter(family.scores)))
            for name, score in family.scores.items():
                again, recorded = float(score(statistics.sum(axis=0))), run.value(name)
                if recorded is not None and "draws" not in run.scores and not abs(again - recorded) <= TOLERANCE:
                    raise ValueError(
                        f"{table.path} gives {name} {again:.4f}, but scores.json has {recorded:.4f}: copy it again"
                    )
        except ValueError as error:
            self._note(run, error)
            return None
        places = {image: place for place, image in enumerate(table.images)}
        return statistics[[places[image] for image in reference]]


def _by_seed(runs: Sequence[Scored]) -> dict[tuple[int, int], Scored]:
    """Runs by (seed, k), for the k-th run of a seed."""
    seen: Counter[int] = Counter()
    found = {}
    for run in sorted(runs, key=lambda run: run.record.seed):
        found[run.record.seed, seen[run.record.seed]] = run
        seen[run.record.seed] += 1
    return found


Cells = list[list[Cell | None]]


def compared(evidence: Evidence, cells: Cells, columns: Sequence[Column]) -> tuple[Cells, list[Difference], set[int]]:
    """The cells with intervals and marks (best of the column, or not distinguishable from it).

    Every row is tested against the best of a column, on the seeds and images of both. A single run is evidence about
    itself, not about its variant, so a row of one seed is not tested and cannot be the best.
    Also returns the tests, in units of the columns, and the rows without a test in a column that has tests.
    """
    cells, tests, untested, best = [list(row) for row in cells], {}, set(), {}
    for c, column in enumerate(columns):
        for r, row in enumerate(cells):
            row[c] = _with_interval(row[c], evidence, r, column)
        shown = [r for r, row in enumerate(cells) if row[c] is not None]
        rated = [r for r in shown if len(cells[r][c].values) >= LEAST]
        if column.better and len(rated) > 1:
            top = max(rated, key=lambda r: column.better * cells[r][c].mean)
            found = {r: evidence.difference(r, top, column.name) for r in rated if r != top and not column.power}
            found = {r: _scaled(one, column) for r, one in found.items() if one and one.seeds >= LEAST}
            if found:
                best[c] = top
                untested |= {*shown} - {*found, top}
            tests |= {(r, c): one for r, one in found.items()}
    for c, top in best.items():
        cells[top][c] = replace(cells[top][c], mark="best")
    _correct(cells, tests, columns, below="", above="tied")
    return cells, list(tests.values()), untested


def against(
    evidence: Evidence, bases: Sequence[int], columns: Sequence[Column]
) -> tuple[Cells, list[tuple[Column, Difference]]]:
    """Every row minus its base, ``bases[row]``, on the seeds that both have. A row that is its own base is not changed.

    Without scores of images, only the differences of the seeds are known. A single seed is not tested. Also returns the
    tests, each with its column.
    """
    cells, tests = [[None] * len(columns) for _ in bases], {}
    for c, column in enumerate(columns):
        for r, base in enumerate(bases):
            ours, theirs = (_values(evidence.rows[one], column) for one in (r, base))
            if r == base:
                cells[r][c] = _with_interval(Cell(tuple(ours.values())) if ours else None, evidence, r, column)
                continue
            both = tuple(value - theirs[seed] for seed, value in ours.items() if seed in theirs)
            cells[r][c] = Cell(both) if both else None
            found = evidence.difference(r, base, column.name) if both and not column.power else None
            if found:
                found = _around(_scaled(found, column), cells[r][c].mean, column)
                cells[r][c] = replace(cells[r][c], interval=None if found.says_nothing else found)
                if found.seeds >= LEAST:
                    tests[r, c] = found
    _correct(cells, tests, columns, below="differs", above="")
    return cells, [(columns[c], one) for (_, c), one in tests.items()]


def _correct(
    cells: Cells, tests: dict[tuple[int, int], Difference], columns: Sequence[Column], *, below: str, above: str
) -> None:
    """Give each tested cell its corrected p-value and a mark.

    It is ``below`` if p is below ALPHA, ``equal`` if it is not and the difference is affirmed to be within the margin
    of the column, and else ``above``: not resolved.
    """
    for (r, c), p in zip(tests, holm([one.p for one in tests.values()]), strict=True):
        margin = columns[c].margin
        alike = "equal" if margin is not None and tests[r, c].equal_within <= margin else above
        cells[r][c] = replace(cells[r][c], p=p, mark=below if p < ALPHA else alike)


def shared_seeds(row: Sequence[Scored], base: Sequence[Scored]) -> int:
    """The number of seeds that two rows have in common."""
    return len(_by_seed(row).keys() & _by_seed(base).keys())


def _values(row: Sequence[Scored], column: Column) -> dict[tuple[int, int], float]:
    values = {seed: column.read(run.scores) for seed, run in _by_seed(row).items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _with_interval(cell: Cell | None, evidence: Evidence, row: int, column: Column) -> Cell | None:
    found = evidence.interval(row, column.name) if cell and not column.power else None
    if not found or found.says_nothing:
        return cell
    found = _around(_scaled(found, column), cell.mean, column)
    everything = column.scale == 100 and (found.low, found.high) == (0, 100)
    return cell if everything else replace(cell, interval=found)


SCALED = ("value", "low", "high", "lowest", "highest", "equal_within", "detectable")


def _scaled(found: Interval, column: Column) -> Interval:
    """The interval in the units of a column."""
    return replace(found, **{name: column.scale * getattr(found, name) for name in SCALED if hasattr(found, name)})


def _around(found: Interval, value: float, column: Column) -> Interval:
    """The interval moved to a mean, and cut to the range of possible scores.

    If several captions per image were sampled, the mean is over all of them and the width is that of the first.
    """
    shift, most = value - found.value, 100.0 if column.scale == 100 else math.inf
    least = -most if isinstance(found, Difference) or column.signed else 0.0
    return replace(found, value=value, low=max(found.low + shift, least), high=min(found.high + shift, most))
