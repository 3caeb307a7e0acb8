"""What scoring returns: the scores of one caption per image, and the paired differences of two."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from attend.analysis.scoring import sheets
from attend.analysis.statistics.intervals import Difference, Interval


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """The scores of one caption per image. Scores are fractions, and percentages only in ``render``.

    ``scores``: metric -> corpus score with its 95 % interval over images: bleu1 to bleu4, meteor, rouge_l, cider and
    length_ratio. ``of_images``: metric -> one value per image, in the order of ``images``; a corpus BLEU or METEOR is
    not their mean. ``references`` is the smallest and the largest number of references of an image. ``diversity`` has
    distinct_captions and words_used. ``missing`` says why a metric is missing, ``notes`` how captions were tokenised.
    ``left_out`` images lack a caption or references.
    """

    name: str
    images: tuple[str, ...]
    captions: tuple[str, ...] = field(repr=False)
    references: tuple[int, int]
    scores: Mapping[str, Interval]
    of_images: Mapping[str, tuple[float, ...]] = field(repr=False)
    diversity: Mapping[str, float]
    missing: Mapping[str, str]
    notes: Mapping[str, str]
    left_out: int = 0

    def __getitem__(self, metric: str) -> Interval:
        """The score of a metric: ``.value``, ``.low`` and ``.high``."""
        if metric not in self.scores:
            raise KeyError(f"{metric} is not among the scores {', '.join(self.scores)}")
        return self.scores[metric]

    def rows(self) -> list[dict[str, object]]:
        """One record per metric: metric, score, low, high. ``pandas.DataFrame(result.rows())`` is a table."""
        return [{"metric": name, "score": s.value, "low": s.low, "high": s.high} for name, s in self.scores.items()]

    def image_rows(self) -> list[dict[str, object]]:
        """One record per image: image, caption and a value per metric."""
        return [
            {"image": image, "caption": self.captions[i]} | {name: some[i] for name, some in self.of_images.items()}
            for i, image in enumerate(self.images)
        ]

    def render(self, format: str = "text") -> str:
        """The table as text, markdown, latex, html or csv."""
        return sheets.written(sheets.scores(self), self.rows(), format)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        return self.render("html")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``a`` minus ``b`` on the same images.

    ``differences``: metric -> difference with its 95 % interval, p-value and the smallest margin within which both are
    equal. ``holm``: metric -> p-value corrected for all metrics; the length ratio is not tested.
    """

    a: ScoreResult
    b: ScoreResult
    differences: Mapping[str, Difference]
    holm: Mapping[str, float]

    def __getitem__(self, metric: str) -> Difference:
        """The difference of a metric: ``.value``, ``.low``, ``.high`` and ``.p``."""
        if metric not in self.differences:
            raise KeyError(f"{metric} is not among the scores {', '.join(self.differences)}")
        return self.differences[metric]

    def rows(self) -> list[dict[str, object]]:
        """One record per metric: metric, a, b, difference, low, high, p, holm, effect, equal_within, detectable."""
        rows = []
        for name, one in self.differences.items():
            numbers = {"difference": one.value, "low": one.low, "high": one.high}
            tested = {"p": one.p, "holm": self.holm[name]} if name in self.holm else {"p": None, "holm": None}
            sizes = {key: getattr(one, key) for key in ("effect", "equal_within", "detectable")}
            both = {"metric": name, "a": self.a[name].value, "b": self.b[name].value}
            rows.append(both | numbers | tested | sizes)
        return rows

    def image_rows(self) -> list[dict[str, object]]:
        """One record per image: image, caption_a, caption_b, and for each metric its value of a and of b."""
        rows = []
        for ours, theirs in zip(self.a.image_rows(), self.b.image_rows(), strict=True):
            row = {"image": ours["image"], "caption_a": ours["caption"], "caption_b": theirs["caption"]}
            for name in (name for name in self.a.of_images if name in self.b.of_images):
                row |= {f"{name}_a": ours[name], f"{name}_b": theirs[name]}
            rows.append(row)
        return rows

    def render(self, format: str = "text") -> str:
        """The table as text, markdown, latex, html or csv."""
        return sheets.written(sheets.comparison(self), self.rows(), format)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        return self.render("html")
