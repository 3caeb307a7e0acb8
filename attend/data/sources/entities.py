"""Boxes of Flickr30k Entities for the captions of Flickr8k and Flickr30k (Plummer et al., 2015).

``Sentences/<number>.txt`` holds an image's captions, with phrases marked as ``[/EN#<chain>/<types> words]``,
and ``Annotations/<number>.xml`` the boxes of each chain; <number> is the image's name up to ``_``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

from attend.data.examples import Caption, Example, Phrase, Source
from attend.data.text import tokenise
from attend.geometry import Box
from attend.paths import regular

Boxes = tuple[Box, ...]

_PHRASE = re.compile(r"\[/EN#(\d+)((?:/\w+)+)\s([^\[\]]*)\]")


def phrases(sentence: str) -> tuple[tuple[str, ...], list[Phrase]]:
    """The tokens of a marked sentence, and its phrases in order; ValueError if a mark is malformed."""
    found = []
    # Splitting at a pattern with three groups gives: text, chain, types, words, text, ...
    text, *rest = _PHRASE.split(sentence)
    outside = text + "".join(rest[3::4])
    if "[" in outside or "]" in outside:
        raise ValueError(f"a phrase is not marked as [/EN#<chain>/<type> words] in {sentence.strip()!r}")
    tokens = [*tokenise(text)]
    for chain, types, words, after in zip(*(rest[i::4] for i in range(4)), strict=True):
        start = len(tokens)
        tokens += tokenise(words)
        found.append(Phrase(chain, tuple(types[1:].split("/")), start, len(tokens)))
        tokens += tokenise(after)
    return tuple(tokens), found


def boxes_of(annotation: Path) -> dict[str, Boxes]:
    """Chain -> its boxes, in fractions of the width and height that the annotation itself states.

    A chain without boxes (a scene, or nothing one could box) is left out; a box may belong to several chains.
    Raises ValueError if the file is malformed.
    """
    try:
        root = ElementTree.fromstring(regular(annotation).read_bytes(), ElementTree.XMLParser(target=_PlainTree()))
        width, height = (int(root.findtext(f"size/{name}", "")) for name in ("width", "height"))
        if width < 1 or height < 1:
            raise ValueError("the image has no size")
        chains = defaultdict(list)
        for item in root.iter("object"):
            corners = item.find("bndbox")
            if corners is not None:
                box = _box(corners, width, height)
                for name in item.findall("name"):
                    chains[(name.text or "").strip()].append(box)
    except (ElementTree.ParseError, LookupError, OverflowError, ValueError) as error:
        raise ValueError(f"{annotation} is malformed ({error}); unpack the annotations again") from None
    return {chain: tuple(boxes) for chain, boxes in chains.items()}


def join_entities(source: Source, folder: Path) -> Source:
    """The same source, with the boxes and the phrases of Flickr30k Entities given to the tokens of its captions.

    The two datasets order an image's captions differently, so a caption is found by its letters and digits:
    ``sheep dog`` meets ``sheepdog``. Every token inside a phrase speaks of all boxes of its chain; other
    tokens, and those of a chain without boxes, have None. A caption without a sentence has ``boxes=None``
    as a whole, and ``notes`` count them.

    Raises FileNotFoundError if the folder is missing and ValueError if its files are malformed.
    """
    folder = Path(folder)
    for part in ("Sentences", "Annotations"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(
                f"there is no folder {folder / part}; give the folder that holds both Sentences and Annotations"
            )
    examples = [_with_boxes(example, folder) for example in source.examples]
    captions = [caption for example in examples for caption in example.captions]
    unmatched = sum(caption.boxes is None for caption in captions)
    note = f"{len(captions) - unmatched} of {len(captions)} captions equal a sentence of Flickr30k Entities"
    if unmatched:
        note += f"; the other {unmatched} have no boxes"
    return replace(source, examples=examples, notes=[*source.notes, note])


def _with_boxes(example: Example, folder: Path) -> Example:
    number = Path(example.image).stem.split("_")[0]
    sentences, annotation = folder / "Sentences" / f"{number}.txt", folder / "Annotations" / f"{number}.xml"
    if not (sentences.exists() and annotation.exists()):
        return example
    chains = boxes_of(annotation)
    known = {}
    try:
        for line in regular(sentences).read_text(encoding="utf-8-sig").split("\n"):
            tokens, found = phrases(line)
            known[_letters(tokens)] = _of_letters(tokens, found)
    except ValueError as error:
        raise ValueError(f"{sentences} is malformed ({error}); unpack the sentences again") from None

    def boxed(caption: Caption) -> Caption:
        letters = iter(known.get(_letters(caption.tokens), ()))
        spans = [list(islice(letters, len(_letters([token])))) for token in caption.tokens]
        if not all(spans):
            return replace(caption, boxes=None)
        boxes = tuple(next((chains[one.chain] for one in span if one and one.chain in chains), None) for span in spans)
        return replace(caption, boxes=boxes, phrases=_phrases(spans, chains))

    return replace(example, captions=tuple(boxed(caption) for caption in example.captions))


def _letters(tokens: Iterable[str]) -> str:
    return "".join(tokens).replace("'", "")


def _of_letters(tokens: Sequence[str], found: list[Phrase]) -> list[Phrase | None]:
    """The phrase that each letter of a sentence is part of."""
    phrase: list[Phrase | None] = [None] * len(tokens)
    for one in found:
        phrase[one.start : one.stop] = [one] * (one.stop - one.start)
    return [one for token, one in zip(tokens, phrase, strict=True) for _ in _letters([token])]


def _phrases(spans: list[list[Phrase | None]], chains: dict[str, Boxes]) -> tuple[Phrase, ...]:
    """The phrases in the tokens of a caption, from those of the letters of each."""
    places: dict[Phrase, list[int]] = defaultdict(list)
    for place, span in enumerate(spans):
        for one in dict.fromkeys(filter(None, span)):
            places[one].append(place)
    return tuple(
        one._replace(start=found[0], stop=found[-1] + 1, boxes=chains.get(one.chain, ()))
        for one, found in places.items()
    )


def _box(corners: ElementTree.Element, width: int, height: int) -> Box:
    """Pixels count from 1 and both corners belong to the box, so its left edge is at xmin - 1."""
    x0, y0, x1, y1 = (int(corners.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax"))
    box = (max(x0 - 1, 0) / width, max(y0 - 1, 0) / height, min(x1, width) / width, min(y1, height) / height)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"the box {x0, y0, x1, y1} has no area in an image of {width} x {height} pixels")
    return box


class _PlainTree(ElementTree.TreeBuilder):
    """Refuses a document type, and so every entity that could read other files or fill the memory."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type")
