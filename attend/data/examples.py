"""The one record that every data layout is read into, and its file on disk."""

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from attend.geometry import Box
from attend.paths import inside, regular
from attend.runs.files import read_line, write_text

SPLITS = ("train", "val", "test")
Split = Literal["train", "val", "test"]
AGAIN = "run `attend prepare` again"


class Phrase(NamedTuple):
    """Tokens ``start`` up to ``stop`` of a sentence name ``chain``, shared by all sentences of the image, in ``boxes``.

    ``head`` is the last of them (a possessive 's aside), where it is known. ``types`` are, in Flickr30k Entities, one
    or more of people, clothing, bodyparts, animals, vehicles, instruments, scene, other and notvisual.
    """

    chain: str
    types: tuple[str, ...]
    start: int
    stop: int
    boxes: tuple[Box, ...] = ()
    head: str = ""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One caption: as written, as tokens, and the boxes each token speaks of.

    ``boxes`` has one entry a token: a tuple of boxes, or None if the word speaks of no box. It is None as a
    whole where the dataset knows nothing of boxes. ``phrases`` say which words name one thing together, where a reader
    knows it: they are kept in a file of their own and are no part of what makes two captions equal.
    """

    raw: str
    tokens: tuple[str, ...]
    boxes: tuple[tuple[Box, ...] | None, ...] | None = None
    phrases: tuple[Phrase, ...] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image (a path below the dataset's image folder), its split (one of SPLITS) and its captions."""

    image: str
    split: Split
    captions: tuple[Caption, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a caption file says of one image; ``split`` is None if no split names it."""

    image: str
    split: str | None
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a layout's files say: entries, what was left out and why, and the words, where they come with them."""

    name: str
    entries: list[Entry]
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    words: tuple[str, ...] | None = None


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


class Examples(Sequence[Example]):
    """The examples in a file that ``write_examples`` wrote. Each is read on access; memory keeps none of them.

    ``splits`` are theirs in order, and ``boxes`` says whether any caption has boxes. ValueError names a line that is
    damaged, or the file where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.splits, self.boxes = path, [], False
        self._starts = array("q")
        if not path.exists():
            raise ValueError(f"{path} is missing: run `attend prepare` again")
        with open(regular(path), "rb") as lines:
            start = 0
            for number, line in enumerate(lines, 1):
                example = read_line(line, number, path, Example, AGAIN)
                inside(path.parent, example.image, f"the image in line {number} of {path}")
                self._starts.append(start)
                self.splits.append(SPLITS[SPLITS.index(example.split)])
                self.boxes = self.boxes or any(caption.boxes for caption in example.captions)
                start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, row: int) -> Example:
        with open(self.path, "rb") as lines:  # anew, so that processes that share this share no place in the file
            lines.seek(self._starts[row])
            return read_line(lines.readline(), row + 1, self.path, Example, AGAIN)
