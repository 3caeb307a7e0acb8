"""What images.csv of an evaluation holds of every image, as sums that corpus scores are functions of.

BLEU, its length ratio and METEOR are functions of counts over the whole corpus, ROUGE-L and CIDEr means over images,
grounding means over words. CIDEr keeps the document frequencies of all references of the split however images are
drawn: they are taken for known, as frozen ones are.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from attend.analysis.statistics.intervals import ratio
from attend.analysis.statistics.resampling import Score

from attend.metrics.captions import BLEU_STATISTICS, ORDERS, corpus_bleu, corpus_meteor, meteor_rows

TOLERANCE = 1e-3
"""A score that is computed again may differ by so much from the recorded one."""


@dataclass(frozen=True)
class Family:
    """Scores that are functions of the same sums: ``columns`` of images.csv -> statistics (N, K) -> sums -> scores."""

    columns: tuple[str, ...]
    statistics: Callable[[dict[str, Sequence[str]]], np.ndarray]
    scores: dict[str, Score]


def _bleu(name: str, sums: np.ndarray) -> np.ndarray:
    return corpus_bleu(dict(zip(BLEU_STATISTICS, np.moveaxis(sums, -1, 0), strict=True)))[name]


def _numbers(texts: Sequence[str]) -> np.ndarray:
    """A column; what is empty is missing."""
    return np.array([text if text else "nan" for text in texts], float)


def _mean(name: str) -> Family:
    return Family((name,), lambda table: _weighted(_numbers(table[name])), {name: ratio})


def _grounding(name: str) -> Family:
    """A mean over words: images weigh as many as they have words with boxes."""
    columns = ("grounding_words", f"grounding_{name}")
    return Family(columns, lambda table: _weighted(*(_numbers(table[one]) for one in columns[::-1])), {name: ratio})


def _weighted(values: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    weights = np.where(np.isnan(values), 0.0, weights)
    return np.column_stack([np.where(np.isnan(values), 0.0, values) * weights, weights])


BLEU = ("length_ratio", *(f"bleu{n}{free}" for n in ORDERS for free in ("", "_free")))
FAMILIES = (
    Family(
        BLEU_STATISTICS,
        lambda table: np.column_stack([_numbers(table[name]) for name in BLEU_STATISTICS]),
        {name: partial(_bleu, name) for name in BLEU},
    ),
    Family(("meteor_statistics",), lambda table: meteor_rows(table["meteor_statistics"]), {"meteor": corpus_meteor}),
    *map(_mean, ("rouge_l", "cider", "cider_frozen")),
    *map(_grounding, ("mass", "pointing")),
)
RESAMPLED = {name: family for family in FAMILIES for name in family.scores}
"""Scores that can be computed again from images.csv. Those of given captions and of attention's health cannot."""


@dataclass(frozen=True)
class PerImage:
    """The table of one evaluation: the images in order, and each column as text."""

    path: Path
    images: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]

    def statistics(self, name: str) -> np.ndarray:
        """The statistics (N, K) that the score ``name`` is a function of.

        Raises:
            ValueError: they are not in the file, or are no finite numbers.
        """
        family = RESAMPLED[name]
        lacking = [column for column in family.columns if column not in self.columns]
        if lacking:
            raise ValueError(f"{self.path} has no column {lacking[0]}: it is of an older layout, or was scored without")
        try:
            found = family.statistics(self.columns)
        except (ValueError, IndexError):
            found = np.array(np.nan)
        if found.ndim != 2 or not np.isfinite(found).all():
            raise ValueError(f"{self.path} has {name} without all its numbers: evaluate the run again")
        return found


def read_images(folder: str | Path, expected: int | None = None) -> PerImage:
    """The images.csv of an evaluation's folder, of ``expected`` images.

    Raises:
        ValueError: it is missing, no table, half a table, or of another number of images.
    """
    path = Path(folder) / "images.csv"
    if not path.is_file():
        raise ValueError(f"{path} is missing: the run is of an older layout, or was copied without it")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except (ValueError, csv.Error):  # not UTF-8, empty, or cut within quotes
        raise ValueError(f"{path} is no table: copy it again, or evaluate the run again") from None
    number = len(rows) if expected is None else expected
    if header[:1] != ["image"] or not rows or len(rows) != number or any(len(row) != len(header) for row in rows):
        whole = "a whole table" if expected is None else f"a whole table of {expected:,} images"
        raise ValueError(f"{path} is not {whole}: copy it again, or evaluate the run again")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    images = columns.pop("image")
    if len(set(images)) < len(images):
        raise ValueError(f"{path} has an image twice: evaluate the run again")
    return PerImage(path, images, columns)
