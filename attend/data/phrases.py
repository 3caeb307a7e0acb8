"""phrases.jsonl of a prepared dataset: the phrases of its captions, with their types and boxes.

The file lies beside examples.jsonl. It is not part of the fingerprint of the dataset, since only the analysis reads it.
"""

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from attend.data.examples import Caption, Example, Phrase
from attend.geometry import Box
from attend.paths import regular
from attend.runs.files import read_line, write_text

FILE = "phrases.jsonl"
Phrases = dict[str, tuple[tuple[Phrase, ...] | None, ...]]
"""Image -> the phrases of each of its captions; None for a caption of which they are not known."""


class Written(NamedTuple):
    """A phrase as it is written: without its boxes, which are written once for an image."""

    chain: str
    types: tuple[str, ...]
    start: int
    stop: int
    head: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of the file: an image, the boxes of each chain, and the phrases of each caption."""

    image: str
    boxes: dict[str, tuple[Box, ...]]
    captions: tuple[tuple[Written, ...] | None, ...]

    def __post_init__(self) -> None:
        for one in (one for caption in self.captions for one in caption or ()):
            if not 0 <= one.start <= one.stop:
                raise ValueError(f"phrase {one.chain!r} has the tokens from {one.start} up to {one.stop}")

    def phrases(self) -> tuple[tuple[Phrase, ...] | None, ...]:
        """The phrases of each caption, with their boxes."""
        return tuple(
            None if caption is None else tuple(Phrase(*w[:4], self.boxes.get(w.chain, ()), w.head) for w in caption)
            for caption in self.captions
        )


def write_phrases(folder: Path, examples: Iterable[Example]) -> None:
    """Write one JSON object an image, whole or not at all; nothing where no caption has phrases."""
    lines = []
    for example in examples:
        if all(caption.phrases is None for caption in example.captions):
            continue
        every = [one for caption in example.captions for one in caption.phrases or ()]
        record = {
            "image": example.image,
            "boxes": {one.chain: one.boxes for one in every if one.boxes},
            "captions": [_written(caption) for caption in example.captions],
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    if lines:
        write_text(folder / FILE, "".join(lines))


def read_phrases(folder: Path, images: Container[str] | None = None) -> Phrases:
    """The phrases of a prepared dataset's captions, of these images or of all.

    Raises ValueError if the file is missing or damaged.
    """
    path = folder / FILE
    if not path.exists():
        raise ValueError(
            f"{folder} has no {FILE}, which says what kinds of things its captions name: prepare it again by the same "
            "command (its fingerprint stays, so its runs stay valid); data without boxes have none"
        )
    found: Phrases = {}
    for number, line in enumerate(regular(path).read_bytes().splitlines(), 1):
        record = read_line(line, number, path, Record, "run `attend prepare` again")
        if images is None or record.image in images:
            found[record.image] = record.phrases()
    return found


def _written(caption: Caption) -> list[Written] | None:
    """The phrases of a caption as they are written."""
    if caption.phrases is None:
        return None
    written = []
    for chain, types, start, stop, *_ in caption.phrases:
        words = [token for token in caption.tokens[start:stop] if token != "'s"]
        written.append(Written(chain, types, start, stop, words[-1] if words else ""))
    return written
