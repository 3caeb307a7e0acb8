"""The parts of a table: columns (where scores.json holds a score, and how it is printed), cells and rows."""

import math
from dataclasses import dataclass

from attend.analysis.statistics.intervals import Interval

LARGEST_POWER = 700.0
"""e to a larger power overflows."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score: its title, its place in scores.json (part, name), and how it is printed: with ``power``, as e^score.

    ``better`` is 1 if higher is better, -1 if lower is, and 0 if neither is. Two scores that differ by less than
    ``margin``, in the units of the table, are as good as equal (None: that is not said of this score).
    """

    title: str
    part: str
    name: str
    scale: float = 100.0
    decimals: int = 1
    power: bool = False
    better: int = 0
    margin: float | None = None

    @property
    def signed(self) -> bool:
        """Whether the score is a difference, which may be negative."""
        return self.name.endswith("_beyond")

    def read(self, scores: dict) -> float | None:
        """The score as printed, or None if it is missing or not finite."""
        value = (scores.get(self.part) or {}).get(self.name)
        if value is None or not math.isfinite(value) or (self.power and value > LARGEST_POWER):
            return None
        return math.exp(value) if self.power else value * self.scale


COLUMNS = {
    **{
        f"bleu{n}": Column(title=f"BLEU-{n}", part="captions", name=f"bleu{n}", better=1, margin=1.0)
        for n in (1, 2, 3, 4)
    },
    **{
        f"bleu{n}_free": Column(
            title=f"BLEU-{n}, no penalty", part="captions", name=f"bleu{n}_free", better=1, margin=1.0
        )
        for n in (1, 2, 3, 4)
    },
    "meteor": Column(title="METEOR", part="captions", name="meteor", better=1, margin=0.5),
    "rouge_l": Column(title="ROUGE-L", part="captions", name="rouge_l", better=1, margin=1.0),
    "cider": Column(title="CIDEr", part="captions", name="cider", scale=1, decimals=3, better=1, margin=0.05),
    "length_ratio": Column(title="Length ratio", part="captions", name="length_ratio", scale=1, decimals=2),
    "mass": Column(title="Grounding mass", part="grounding", name="mass", better=1, margin=2.0),
    "pointing": Column(title="Grounding pointing", part="grounding", name="pointing", better=1, margin=2.0),
    "mass_beyond": Column(
        title="Mass beyond the best control", part="grounding", name="mass_beyond", better=1, margin=2.0
    ),
    "pointing_beyond": Column(
        title="Pointing beyond the best control", part="grounding", name="pointing_beyond", better=1, margin=2.0
    ),
    "nll": Column(title="NLL (nats per token)", part="given", name="nll", scale=1, decimals=3, better=-1),
    "perplexity": Column(title="Perplexity", part="given", name="nll", scale=1, decimals=3, power=True, better=-1),
    "top1": Column(title="Top-1", part="given", name="top1", better=1),
    "top5": Column(title="Top-5", part="given", name="top5", better=1),
    "content_top1": Column(title="Top-1 of content words", part="given", name="content_top1", better=1),
    "distinct_captions": Column(title="Distinct captions", part="diversity", name="distinct_captions"),
    "words_used": Column(title="Words used", part="diversity", name="words_used", scale=1, decimals=0),
    "vocabulary_used": Column(title="Vocabulary used", part="diversity", name="vocabulary_used"),
    "novel": Column(title="Novel captions", part="diversity", name="novel"),
    "mbleu": Column(title="mBLEU-4 between samples", part="diversity", name="mbleu"),
    "objects_named": Column(
        title="Objects named per caption", part="hallucination", name="objects_named", scale=1, decimals=2
    ),
    "hallucinated_objects": Column(
        title="Hallucinated objects", part="hallucination", name="hallucinated_objects", better=-1, margin=2.0
    ),
    "hallucinated_attributes": Column(
        title="Hallucinated attributes", part="hallucination", name="hallucinated_attributes", better=-1, margin=2.0
    ),
    "hallucinated_captions": Column(
        title="Captions with a hallucination", part="hallucination", name="hallucinated_captions", better=-1, margin=2.0
    ),
    "entropy": Column(title="Entropy (nats)", part="health", name="entropy", scale=1, decimals=2),
    "maximum": Column(title="Largest weight", part="health", name="maximum"),
    "change": Column(title="Change between words", part="health", name="change"),
    "distinct": Column(title="Distinct places", part="health", name="distinct"),
}
DEFAULT = (
    "bleu1",
    "bleu2",
    "bleu3",
    "bleu4",
    "meteor",
    "rouge_l",
    "cider",
    "mass",
    "pointing",
    "mass_beyond",
    "pointing_beyond",
)
CONTROLS = {
    "uniform": "looks nowhere: uniform",
    "matched": "looks at the centre, as sharp as the model",
    "cell": "looks at one cell, the best on training",
    "shuffled": "looks as at another image's word",
}
"""The controls of grounding in words. Those in SAME are the same for all models on one grid."""
SAME = ("uniform", "cell")


@dataclass(frozen=True)
class Cell:
    """The values of one score, or of its difference from a base, over the seeds that have it (at least one).

    ``interval`` is that of their mean, None if there are no scores of images, or if two seeds alone know nothing of
    others. ``mark`` is ``best`` of its column, ``tied`` if it is not resolved whether it differs from the best,
    ``equal`` if it is affirmed to be within the margin of the best or of the base, or ``differs`` if it differs from
    the base. ``p`` is the p-value of the test, corrected for all tests of the table.
    """

    values: tuple[float, ...]
    interval: Interval | None = None
    mark: str = ""
    p: float | None = None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant with one decoding, with its own attention or with that of the control ``look``. ``runs`` is 0 for a
    row without training: a control, or a ``published`` model. ``trials`` is the number of trials of its study.
    ``parameters``, ``seconds`` and ``epochs`` of training have a value per run that recorded them, epochs only if a run
    of the table began from another. ``base``: the other rows are differences from this one."""

    name: str
    decode: str = ""
    beam: int | None = None
    look: str = ""
    runs: int = 0
    collapsed: int = 0
    published: bool = False
    trials: int = 0
    parameters: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    base: bool = False
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under columns. ``caption`` explains the numbers, ``notes`` what is missing and why. With a ``base``, all
    other rows are differences from it."""

    split: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    notes: tuple[str, ...] = ()
    base: str | None = None
