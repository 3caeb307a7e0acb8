"""How often intervals and tests over a few seeds hold what they say, in made data sets of known truth.

python -m tests.analysis.statistics.coverage        # the tables of docs/statistics.md, about four minutes on one core
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
from attend.analysis.statistics.intervals import of_pair, of_sums, ratio
from attend.analysis.statistics.pooling import of_differences, of_scores
from attend.analysis.statistics.resampling import sums

CASES = {"images": (0.0, 1.0, 1.0), "both": (0.1, 0.3, 1.0), "all": (0.15, 1.0, 1.0), "seeds": (0.5, 0.5, 0.5)}
"""Deviations of seeds, of images, and of what is of seed and image together; the scores of 60 images."""
IMAGES = 60
UNEVEN = {
    "one that varies three times as much as every other": {"deviations": (1.5, 0.5)},
    "one that varies a third as much as every other": {"deviations": (0.5, 1.5)},
    "seeds that do the same to all rows": {"common": 0.5},
}


def made(seeds: int, images: int, *, of_seeds=0.0, of_images=1.0, of_both=1.0, key=0) -> np.ndarray:
    """Scores (S, N) whose true mean is 0, with the given deviations of seeds, of images and of what is of both."""
    draw = np.random.default_rng(key).normal
    parts = (of_seeds, (seeds, 1)), (of_images, (1, images)), (of_both, (seeds, images))
    return sum(deviation * draw(size=shape) for deviation, shape in parts)


def table(rows: int, seeds: int, case: str, key, deviations=(1.0,), common: float = 0.0) -> np.ndarray:
    """Scores (rows, S, N) of a table whose rows have the same images, and where nothing differs in truth.

    ``deviations`` are those of the seeds, in turn, in units of ``case``; ``common`` is the deviation of what a seed
    does to all rows alike.
    """
    of_seeds, of_images, of_both = CASES[case]
    draw = np.random.default_rng(key)
    scores = of_images * draw.normal(size=IMAGES) + common * draw.normal(size=(seeds, 1))
    deviations = of_seeds * np.resize(deviations, rows)[:, None, None]
    own = deviations * draw.normal(size=(rows, seeds, 1)) + of_both * draw.normal(size=(rows, seeds, IMAGES))
    return scores + own


def found(values: np.ndarray, *, pool: bool = True, resamples: int = 400, differences: bool = False):
    """The interval of the first row, or its difference to the second, as a table has it."""
    _, seeds, images = values.shape
    statistics = np.stack([values[:2], np.ones_like(values[:2])], axis=-1).reshape(2 * seeds, images, 2)
    drawn = sums(statistics, resamples=resamples)
    by_seed = [dict(enumerate(row.mean(axis=1))) for row in values]
    first, second = drawn.of(slice(seeds)), drawn.of(slice(seeds, 2 * seeds))
    if differences:
        return of_pair(first, second, ratio, spread=of_differences(by_seed) if pool else None)
    return of_sums(first, ratio, spread=of_scores([[one] for one in by_seed]) if pool else None)


def held(
    datasets: int, rows: int, seeds: int, case: str, *, pool=True, differences=False, **more
) -> tuple[float, float]:
    """How often the interval holds 0, the truth, and the mean of its width."""
    inside, width = [], []
    for key in range(datasets):
        one = found(table(rows, seeds, case, [rows, seeds, key], **more), pool=pool, differences=differences)
        inside.append(one.low <= 0 <= one.high)
        width.append(one.high - one.low)
    return float(np.mean(inside)), float(np.mean(width))


def power(datasets: int, rows: int, seeds: int, case: str, **more) -> float:
    """How often a further experiment finds the difference that one called detectable."""
    hits = []
    for key in range(datasets):
        said = found(table(rows, seeds, case, [1, rows, seeds, key], **more), differences=True).detectable
        again = table(rows, seeds, case, [2, rows, seeds, key], **more)
        again[0] += said
        hits.append(found(again, differences=True).p < 0.05)
    return float(np.mean(hits))


def main(datasets: int = 400) -> None:
    print("| seeds | rows | chance | score alone | pooled | width | difference alone | pooled | width | power |")
    print("| ---: | ---: | --- | " + "---: | " * 7)
    for seeds, rows, case in itertools.product((2, 3, 5), (2, 8), ("images", "all", "seeds")):
        cells = []
        for differences in (False, True):
            alone, wide = held(datasets, rows, seeds, case, pool=False, differences=differences)
            pooled, narrow = held(datasets, rows, seeds, case, differences=differences)
            cells += [f"{100 * alone:.1f}", f"{100 * pooled:.1f}", f"{narrow / wide:.2f}"]
        print(
            f"| {seeds} | {rows} | {case} | {' | '.join(cells)} | {100 * power(datasets, rows, seeds, case):.0f} |",
            flush=True,
        )
    for name, more in UNEVEN.items():
        score, difference = (held(datasets, 8, 2, "seeds", differences=d, **more)[0] for d in (False, True))
        print(f"eight rows, two seeds, {name}: score {100 * score:.1f}, difference {100 * difference:.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
