"""The attention of words that have boxes, in given and in generated captions.

The given captions were aligned with boxes by people. A generated caption is matched by head nouns: a word that equals
the head of a phrase of the image's own captions, singular or plural, has the boxes of that phrase. The head is the last
word of a phrase (``top`` of ``the blue tube top``), without a possessive 's.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from attend.data.examples import Phrase
from attend.data.phrases import Phrases
from attend.geometry import on_grid
from attend.metrics.grounding import BoxedWord, Cells, ground
from attend.metrics.sharpness import entropy, tempered
from attend.runs.evaluations import read_attention, read_given

IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth"}


@dataclass(frozen=True, kw_only=True)
class GroundedWords:
    """M words of N images that the grid shows, with the types of their phrases and ``scores`` (M, LOOKS, MEASURES)."""

    images: tuple[str, ...]
    words: tuple[BoxedWord, ...]
    types: tuple[tuple[str, ...], ...]
    scores: np.ndarray
    cells: Cells | None
    seed: int

    @cached_property
    def image(self) -> np.ndarray:
        """The number of each word's image (M,)."""
        return np.array([word.image for word in self.words], int)

    @cached_property
    def weights(self) -> np.ndarray:
        """(M, L)."""
        return np.stack([word.weights for word in self.words])

    @property
    def entropy(self) -> float:
        """The mean over words, in nats."""
        return float(entropy(self.weights).mean())

    @property
    def sharp(self) -> bool:
        """Whether any weight is larger than another."""
        return bool(np.ptp(self.weights, axis=1).max() > 1e-6)

    def tempered(self, nats: float) -> "GroundedWords":
        """The same words with weights tempered to this mean entropy, and the controls that are as sharp."""
        weights, _ = tempered(self.weights, nats)
        words = tuple(word._replace(weights=own) for word, own in zip(self.words, weights, strict=True))
        return replace(self, words=words, scores=ground(words, self.cells, self.seed))

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of each cell that the boxes of a word cover (M, L)."""
        return np.stack([on_grid(word.geometry, word.boxes)[0] for word in self.words])

    @cached_property
    def size(self) -> np.ndarray:
        """The share of the grid that the boxes of a word cover (M,)."""
        return self.shares.mean(axis=1)


def given(path: Path, phrases: Phrases, cells: Cells | None, *, seed: int = 0) -> GroundedWords:
    """The words of given captions in given.h5; ``seed`` samples the words of other images for the shuffled control.

    Raises:
        ValueError: the file cannot be read, or its captions are not those of the phrases.
    """
    file, words, types = read_given(path), [], []
    places = zip(file.image.tolist(), file.caption.tolist(), file.word.tolist(), file.weights, strict=True)
    for i, caption, place, weights in places:
        if found := _phrase(phrases, file.images[i], caption, place):
            words.append(BoxedWord(i, weights, found.boxes, file.geometries[i]))
            types.append(found.types)
    if not words:
        raise ValueError(f"{path} has no words of the dataset's phrases:  evaluate the run again")
    return _grounded(file.images, words, types, cells, seed)


def _phrase(phrases: Phrases, image: str, caption: int, place: int) -> Phrase | None:
    """The phrase with boxes that a word is part of."""
    some = phrases.get(image, ())[caption : caption + 1]
    return next((one for phrases in some for one in phrases or () if one.start <= place < one.stop and one.boxes), None)


def generated(path: Path, images: int, phrases: Phrases, cells: Cells | None, *, seed: int = 0) -> GroundedWords:
    """The words of the first ``images`` generated captions in attention.h5 that equal the head of a phrase with boxes.

    Raises:
        ValueError: the file cannot be read, or no word matches a phrase.
    """
    names, words, types = [], [], []
    for number in range(images):
        attention = read_attention(path, number)
        names.append(attention.image)
        named = heads(phrases.get(attention.image, ()))
        for word, weights in zip(attention.words, attention.weights.astype(float), strict=True):
            if found := named.get(singular(word)):
                boxes = tuple(dict.fromkeys(box for one in found for box in one.boxes))
                words.append(BoxedWord(number, weights, boxes, attention.geometry))
                types.append(tuple(dict.fromkeys(kind for one in found for kind in one.types)))
    if not words:
        raise ValueError(f"no word of the captions in {path} is the head of a phrase of the dataset")
    return _grounded(tuple(names), words, types, cells, seed)


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


def _grounded(
    images: tuple[str, ...],
    words: Sequence[BoxedWord],
    types: Sequence[tuple[str, ...]],
    cells: Cells | None,
    seed: int,
) -> GroundedWords:
    """The words that the grid shows. A word is left out if the crop removed its boxes."""
    shown = [(word, kinds) for word, kinds in zip(words, types, strict=True) if word.visible]
    seen, kinds = zip(*shown, strict=True) if shown else ((), ())
    scores = ground(seen, cells, seed)
    return GroundedWords(images=images, words=seen, types=kinds, scores=scores, cells=cells, seed=seed)


def by_group(grounded: GroundedWords, sizes: dict[str, tuple[float, float]]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Parts of the words: the criterion (all, size or type), the name of the part, and a mask (M,) of its words.

    A word with several types is in the part of each type.
    """
    yield "all", "all", np.ones(len(grounded.image), bool)
    for name, (low, high) in sizes.items():
        yield "size", name, (grounded.size > low) & (grounded.size <= high)
    for kind in sorted({kind for types in grounded.types for kind in types}):
        yield "type", kind, np.array([kind in types for types in grounded.types])
