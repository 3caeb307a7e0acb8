"""The phrases of a prepared dataset, phrases.jsonl: which words of its captions name one thing, what kind, and where.

They lie beside examples.jsonl and are no part of the dataset's fingerprint: no model reads them, only analysis does.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from pathlib import Path

from attend.data.examples import Caption, Example, Phrase
from attend.runs.files import write_text

FILE = "phrases.jsonl"
Phrases = dict[str, tuple[tuple[Phrase, ...] | None, ...]]
"""Image -> the phrases of each of its captions; None for a caption of which they are not known."""


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
            "captions": [_of(caption) for caption in example.captions],
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    if lines:
        write_text(folder / FILE, "".join(lines))


def read_phrases(folder: Path, images: Container[str] | None = None) -> Phrases:
    """The phrases of a prepared dataset's captions, of these images or of all.

    Raises ValueError where the file is missing or damaged.
    """
    path = folder / FILE
    if not path.exists():
        raise ValueError(
            f"{folder} has no {FILE}, which says what kinds of things its captions name: prepare it again by the same "
            "command (its fingerprint stays, so its runs stay valid); data without boxes have none"
        )
    found: Phrases = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            if images is None or record["image"] in images:
                boxes = {chain: tuple(map(tuple, some)) for chain, some in record["boxes"].items()}
                found[record["image"]] = tuple(
                    None if one is None else tuple(_phrase(*phrase, boxes) for phrase in one)
                    for one in record["captions"]
                )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"line {number} of {path} is damaged: run `attend prepare` again") from None
    return found


def _of(caption: Caption) -> list[list] | None:
    """The phrases of a caption as they are written: chain, types, start, stop, head."""
    if caption.phrases is None:
        return None
    written = []
    for chain, types, start, stop, *_ in caption.phrases:
        words = [token for token in caption.tokens[start:stop] if token != "'s"]
        written.append([chain, types, start, stop, words[-1] if words else ""])
    return written


def _phrase(chain: str, types: list[str], start: int, stop: int, head: str, boxes: dict) -> Phrase:
    if not (isinstance(head, str) and 0 <= start <= stop):
        raise ValueError
    return Phrase(chain, tuple(map(str, types)), start, stop, boxes.get(chain, ()), head)
