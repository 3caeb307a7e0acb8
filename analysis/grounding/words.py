"""The attention of words that have boxes, in given and in generated captions.

The given captions were aligned with boxes by people. A generated caption is matched by head nouns: a word that equals
the head of a phrase of the image's own captions, singular or plural, has the boxes of that phrase. The head is the last
word of a phrase (``top`` of ``the blue tube top``), without a possessive 's.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from attend.data.examples import Phrase
from attend.data.phrases import Phrases
from attend.geometry import Box, Geometry, centre_weights
from attend.metrics.other_images import words_of_others
from attend.runs.evaluations import read_attention, read_given

LOOKS = ("learned", "uniform", "centre", "shuffled")
MEASURES = ("mass", "pointing")
IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth"}


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word with boxes: the number of its image, its weights (L,), and the types of its phrases."""

    image: int
    weights: np.ndarray
    boxes: tuple[Box, ...]
    types: tuple[str, ...]
    geometry: Geometry


@dataclass(frozen=True, kw_only=True)
class GroundedWords:
    """M words of N images: the number of the image (M,), types, ``size`` (M,) and ``scores`` (M, LOOKS, MEASURES).

    ``size`` is the share of the grid that a word's boxes cover.
    """

    images: tuple[str, ...]
    image: np.ndarray
    types: tuple[tuple[str, ...], ...]
    size: np.ndarray
    scores: np.ndarray


def given(path: Path, phrases: Phrases, *, seed: int = 0) -> GroundedWords:
    """The words of given captions in given.h5; ``seed`` samples the words of other images for the shuffled control.

    Raises:
        ValueError: the file cannot be read, or its captions are not those of the phrases.
    """
    file, words = read_given(path), []
    places = zip(file.image.tolist(), file.caption.tolist(), file.word.tolist(), file.weights, strict=True)
    for i, caption, place, weights in places:
        if found := _phrase(phrases, file.images[i], caption, place):
            about = {"boxes": found.boxes, "types": found.types, "geometry": file.geometries[i]}
            words.append(Word(image=i, weights=weights, **about))
    if not words:
        raise ValueError(f"{path} has no words of the dataset's phrases:  evaluate the run again")
    return _grounded(file.images, words, seed)


def _phrase(phrases: Phrases, image: str, caption: int, place: int) -> Phrase | None:
    """The phrase with boxes that a word is part of."""
    some = phrases.get(image, ())[caption : caption + 1]
    return next((one for phrases in some for one in phrases or () if one.start <= place < one.stop and one.boxes), None)


def generated(path: Path, images: int, phrases: Phrases, *, seed: int = 0) -> GroundedWords:
    """The words of the first ``images`` generated captions in attention.h5 that equal the head of a phrase with boxes.

    Raises:
        ValueError: the file cannot be read, or no word matches a phrase.
    """
    names, words = [], []
    for number in range(images):
        attention = read_attention(path, number)
        names.append(attention.image)
        named = heads(phrases.get(attention.image, ()))
        for word, weights in zip(attention.words, attention.weights.astype(float), strict=True):
            if found := named.get(singular(word)):
                boxes = tuple(dict.fromkeys(box for one in found for box in one.boxes))
                types = tuple(dict.fromkeys(kind for one in found for kind in one.types))
                words.append(Word(image=number, weights=weights, boxes=boxes, types=types, geometry=attention.geometry))
    if not words:
        raise ValueError(f"no word of the captions in {path} is the head of a phrase of the dataset")
    return _grounded(tuple(names), words, seed)


def heads(captions: tuple[tuple[Phrase, ...] | None, ...]) -> dict[str, list[Phrase]]:
    """The phrases with boxes of an image by their head nouns, in the singular."""
    found: dict[str, list[Phrase]] = defaultdict(list)
    for phrase in (one for some in captions for one in some or () if one.boxes and one.head):
        found[singular(phrase.head)].append(phrase)
    return found


@lru_cache(maxsize=100_000)
def singular(word: str) -> str:
    """A noun in lower case and in the singular by rule: IRREGULAR, -ies, -es after s, sh, ch, x and z, and -s.

    A word that ends in -ss, -us or -is is kept. Phrases follow the same rules, so a wrong singular still matches.
    """
    word = word.lower()
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _grounded(images: tuple[str, ...], words: list[Word], seed: int) -> GroundedWords:
    """The scores of each of LOOKS in the boxes of the words. A word is left out if the crop removed its boxes."""
    shown = [(word, *_box_on(word.geometry, word.boxes)) for word in words]
    shown = [(word, shares, holds) for word, shares, holds in shown if shares.any()]
    image = np.array([word.image for word, *_ in shown], int)
    other = words_of_others(image, seed)
    centre = centre_weights(words[0].geometry.grid)
    uniform = np.full(len(centre), 1 / len(centre))
    scores = np.empty((len(shown), len(LOOKS), len(MEASURES)))
    for m, (word, shares, holds) in enumerate(shown):
        looks = (word.weights, uniform, centre, shown[other[m]][0].weights)
        scores[m] = [(weights @ shares, holds[weights == weights.max()].mean()) for weights in looks]
    return GroundedWords(
        images=images,
        image=image,
        types=tuple(word.types for word, *_ in shown),
        size=np.array([shares.mean() for _, shares, _ in shown]),
        scores=scores,
    )


@lru_cache(maxsize=50_000)
def _box_on(geometry: Geometry, boxes: tuple[Box, ...]) -> tuple[np.ndarray, np.ndarray]:
    return geometry.shares(boxes), geometry.holds(boxes)


def by_group(grounded: GroundedWords, sizes: dict[str, tuple[float, float]]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Parts of the words: the criterion (all, size or type), the name of the part, and a mask (M,) of its words.

    A word with several types is in the part of each type.
    """
    yield "all", "all", np.ones(len(grounded.image), bool)
    for name, (low, high) in sizes.items():
        yield "size", name, (grounded.size > low) & (grounded.size <= high)
    for kind in sorted({kind for types in grounded.types for kind in types}):
        yield "type", kind, np.array([kind in types for types in grounded.types])
