"""The columns of images.csv as sums over images, from which corpus scores are computed again.

BLEU, its length ratio and METEOR are functions of counts over the whole corpus. ROUGE-L, CIDEr and the share of novel
captions are means over images, grounding scores are means over words, and hallucination is a quotient of counts. CIDEr
keeps the document frequencies of all references of the split in every resample: they count as known, as frozen ones do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from attend.analysis.statistics.intervals import means, ratio
from attend.analysis.statistics.resampling import Score

from attend.metrics.captions import BLEU_STATISTICS, ORDERS, corpus_bleu, corpus_meteor, meteor_rows
from attend.runs.evaluations import ImageTable

TOLERANCE = 1e-3
"""The largest difference allowed between a score that is computed again and the recorded one."""


@dataclass(frozen=True)
class Family:
    """Scores that are functions of the same sums: ``columns`` of images.csv -> statistics (N, K) -> sums -> scores."""

    columns: tuple[str, ...]
    statistics: Callable[[ImageTable], np.ndarray]
    scores: dict[str, Score]


def _bleu(name: str, sums: np.ndarray) -> np.ndarray:
    return corpus_bleu(dict(zip(BLEU_STATISTICS, np.moveaxis(sums, -1, 0), strict=True)))[name]


def _mean(column: str, name: str = "") -> Family:
    """The mean of a column over images, under the name of the column if it has no other."""
    return Family((column,), lambda table: means(table.numbers(column))[0], {name or column: ratio})


def _grounding(name: str) -> Family:
    """A mean over words: the weight of an image is its number of words with boxes."""
    columns = ("grounding_words", f"grounding_{name}")
    return Family(columns, lambda table: means(*(table.numbers(one) for one in columns[::-1]))[0], {name: ratio})


def _rate(name: str, part: str, whole: str) -> Family:
    """Counts divided by counts: of what the captions name, the share that the images do not have."""

    def statistics(table: ImageTable) -> np.ndarray:
        return np.column_stack([table.numbers(part), table.numbers(whole)])

    return Family((part, whole), statistics, {name: ratio})


BLEU = ("length_ratio", *(f"bleu{n}{free}" for n in ORDERS for free in ("", "_free")))
FAMILIES = (
    Family(
        BLEU_STATISTICS,
        lambda table: np.column_stack([table.numbers(name) for name in BLEU_STATISTICS]),
        {name: partial(_bleu, name) for name in BLEU},
    ),
    Family(
        ("meteor_statistics",), lambda table: meteor_rows(table.columns["meteor_statistics"]), {"meteor": corpus_meteor}
    ),
    *map(_mean, ("rouge_l", "cider", "cider_frozen")),
    *map(_grounding, ("mass", "pointing", "mass_beyond", "pointing_beyond")),
    *map(_mean, ("novel", "objects_named")),
    _mean("hallucinates", "hallucinated_captions"),
    _rate("hallucinated_objects", "objects_absent", "objects_named"),
    _rate("hallucinated_attributes", "attributes_absent", "attributes_named"),
)
RESAMPLED = {name: family for family in FAMILIES for name in family.scores}
"""Scores that can be computed again from images.csv. Teacher-forced scores and attention health cannot."""


def statistics_of(table: ImageTable, name: str) -> np.ndarray:
    """The statistics (N, K) that the score ``name`` is a function of.

    Raises:
        ValueError: the file does not have them, or they are not finite numbers.
    """
    family = RESAMPLED[name]
    lacking = [column for column in family.columns if column not in table.columns]
    if lacking:
        raise ValueError(
            f"{table.path} has no column {lacking[0]} (an older layout, or scored without it): evaluate the run again"
        )
    try:
        found = family.statistics(table)
    except (ValueError, IndexError):
        found = np.array(np.nan)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise ValueError(f"{table.path} lacks some of the numbers of {name}: evaluate the run again")
    return found
