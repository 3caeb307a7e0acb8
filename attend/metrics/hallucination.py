"""Objects and attributes that a caption names although the image does not have them, if all its objects are known."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

COUNTS = ("objects_named", "objects_absent", "attributes_named", "attributes_absent", "hallucinates")
"""What is counted in each caption: columns of images.csv."""


class Mention(NamedTuple):
    """An object as a caption names it: its noun, empty if there is none, and the attributes directly before it."""

    noun: str
    attributes: tuple[str, ...]


def mentions(words: Iterable[str], nouns: Collection[str], attributes: Collection[str]) -> list[Mention]:
    """The objects that a caption names, in its order. Attributes without a noun after them are a mention of their own.

    "a small red circle above the moon" -> (circle, (small, red)), (moon, ()).
    """
    found, before = [], []
    for word in (*words, ""):
        if word in attributes:
            before.append(word)
        else:
            noun = word if word in nouns else ""
            if noun or before:
                found.append(Mention(noun, tuple(before)))
            before = []
    return found


def hallucinations(found: Sequence[Mention], objects: Sequence[Collection[str]]) -> dict[str, int]:
    """The COUNTS of one caption.

    ``objects`` are those of the image, each the collection of its words: noun and attributes. A noun is absent if no
    object has it. The attributes of an object that is there are compared with those of the object that has most of
    them, so a "large red heart" is wrong beside a small red heart and a large blue one. Attributes of an absent object
    are not counted: there is nothing to compare them with. ``hallucinates`` is 1 if anything is absent.

    Source: the counts behind CHAIR, Rohrbach et al. (2018).
    Differs: CHAIR has synonyms of 80 kinds of objects and no attributes, and its truth is what people annotated.
    """
    named = absent = attributes = wrong = 0
    for noun, own in found:
        candidates = [one for one in objects if not noun or noun in one]
        named += bool(noun)
        absent += bool(noun) and not candidates
        if candidates:
            attributes += len(own)
            wrong += min(sum(attribute not in one for attribute in own) for one in candidates)
    return dict(zip(COUNTS, (named, absent, attributes, wrong, int(absent + wrong > 0)), strict=True))


def chair(counts: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    """Rates from the COUNTS of all captions (N); None if nothing was named.

    ``hallucinated_objects``: absent objects divided by objects named (CHAIR_i). ``hallucinated_attributes``: the same
    for attributes. ``hallucinated_captions``: share of captions with an absent object or attribute (CHAIR_s counts
    objects alone). ``objects_named``: objects per caption; a caption that names nothing hallucinates nothing.
    """
    total = {name: sum(counts[name]) for name in COUNTS}
    captions = len(counts["hallucinates"])

    def share(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    return {
        "hallucinated_objects": share(total["objects_absent"], total["objects_named"]),
        "hallucinated_attributes": share(total["attributes_absent"], total["attributes_named"]),
        "hallucinated_captions": share(total["hallucinates"], captions),
        "objects_named": share(total["objects_named"], captions),
    }
