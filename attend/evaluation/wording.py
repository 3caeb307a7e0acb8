"""What generated captions say: their diversity and, on the built-in world, what they hallucinate."""

from collections.abc import Iterator, Sequence

from attend.data.examples import Caption
from attend.data.prepared import Prepared
from attend.data.sources.scenes import SCENES, WORD_KINDS, objects_of
from attend.data.text import SPECIALS
from attend.metrics.diversity import Words, diversity, mbleu, novelty
from attend.metrics.hallucination import COUNTS, chair, hallucinations, mentions
from attend.runs.scores import Part

Columns = dict[str, list]
"""Columns of images.csv."""


def diversity_of(dataset: Prepared, samples: Sequence[Sequence[Words]]) -> tuple[Part, Columns]:
    """Diversity of the first of K samples (K, N), and mBLEU between them if there are several; ``novel`` per image."""
    first = list(samples[0])
    found = diversity(first, len(dataset.vocabulary) - len(SPECIALS))
    novel = novelty(first, (caption.tokens for caption in _training(dataset)))
    found["novel"] = sum(novel) / len(novel)
    if len(samples) > 1:
        found["mbleu"] = mbleu(samples)
    return found, {"novel": novel}


def _training(dataset: Prepared) -> Iterator[Caption]:
    for row, split in enumerate(dataset.examples.splits):
        if split == "train":
            yield from dataset.examples[row].captions


def hallucination_of(dataset: Prepared, rows: Sequence[int], captions: Sequence[Words]) -> tuple[Part | None, Columns]:
    """Hallucination of one caption per row, and its counts per image; None for data whose objects are not all known."""
    if dataset.about["name"] != SCENES or not dataset.boxes:
        return None, {}
    attributes = {*WORD_KINDS["size"], *WORD_KINDS["colour"]}
    counts: Columns = {name: [] for name in COUNTS}
    for row, words in zip(rows, captions, strict=True):
        named = mentions(words, WORD_KINDS["shape"], attributes)
        for name, count in hallucinations(named, objects_of(dataset.examples[row])).items():
            counts[name].append(count)
    return chair(counts), counts
