"""The one record that every data layout is read into, and its file on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from attend.geometry import Box
from attend.runs import write_text

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One caption: as written, as tokens, and the boxes each token speaks of.

    ``boxes`` has one entry a token: a tuple of boxes, or None where the word speaks of no box. It is None as a
    whole where the dataset knows nothing of boxes.
    """

    raw: str
    tokens: tuple[str, ...]
    boxes: tuple[tuple[Box, ...] | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image (a path below the dataset's image folder), its split (one of SPLITS) and its captions."""

    image: str
    split: str
    captions: tuple[Caption, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a reader returns: the examples, the folder their images lie in, and what was left out and why.

    ``skipped`` maps a plain reason ("image missing on disk") to the names it befell; ``notes`` are sentences for
    the user ("COCO's restval was joined to train"). ``words`` is the vocabulary, where it came with the captions.
    """

    name: str
    root: Path
    examples: list[Example]
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    words: tuple[str, ...] | None = None


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write one JSON object a line, whole or not at all."""
    lines = []
    for example in examples:
        captions = [{"raw": c.raw, "tokens": c.tokens, "boxes": c.boxes} for c in example.captions]
        record = {"image": example.image, "split": example.split, "captions": captions}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def read_examples(path: Path) -> list[Example]:
    """Read back what ``write_examples`` wrote; ValueError names the file and the line that is damaged."""
    examples = []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                examples.append(_example(json.loads(line)))
            except (ValueError, LookupError, TypeError, RecursionError):
                raise ValueError(f"line {number} of {path} is damaged: run `attend prepare` again") from None
    return examples


def _example(record: dict) -> Example:
    captions = tuple(
        Caption(raw=c["raw"], tokens=tuple(c["tokens"]), boxes=_boxes(c["boxes"])) for c in record["captions"]
    )
    image, split = record["image"], record["split"]
    if not isinstance(image, str) or split not in SPLITS:
        raise ValueError
    return Example(image=image, split=split, captions=captions)


def _boxes(words: list | None) -> tuple | None:
    if words is None:
        return None
    return tuple(None if boxes is None else tuple(tuple(box) for box in boxes) for boxes in words)
