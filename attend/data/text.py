"""Tokenisation of captions, and the vocabulary that numbers their tokens."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from attend.config.section import check_caption
from attend.data.examples import Example
from attend.runs.files import read_json, write_json

PAD, START, END, UNK = SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")

UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
"""Control characters and halves of characters, which no line of text can hold."""

# A letter may carry marks of its own (most Indic vowels, a dot below): they belong to the word.
_MARKS = "".join(c for c in map(chr, range(0x10000)) if unicodedata.category(c).startswith("M"))
_LETTER = rf"(?:[^\W_]|[{_MARKS}])"
_ENDING = rf"'(?:s|m|d|re|ve|ll)(?!{_LETTER})"
_NOT = rf"n't(?!{_LETTER})"
_TOKEN = re.compile(rf"{_LETTER}+?(?={_NOT})|{_NOT}|{_ENDING}|{_LETTER}+(?:(?!{_ENDING})'{_LETTER}+)*")


def tokenise(raw: str) -> tuple[str, ...]:
    """Words and numbers of a caption in lower case; all punctuation between them is dropped.

    An apostrophe stays where it is part of a word (``o'clock``), and the English endings 's, n't, 're, 've,
    'll, 'd and 'm are words of their own, as in the Penn Treebank: ``dog's`` and ``dog 's`` both give
    (dog, 's). So all possessives cost the vocabulary one word, and the metrics split captions the same way.
    ValueError if the caption is longer than LONGEST_CAPTION.
    """
    check_caption(raw)
    text = unicodedata.normalize("NFC", raw.lower().replace("’", "'"))
    return tuple(_TOKEN.findall(text))


@dataclass(frozen=True, kw_only=True)
class _Written:
    """vocabulary.json."""

    kind: Literal["vocabulary"]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """All words a model reads and writes: the four of SPECIALS, then the others; a word's id is its position.

    Raises ValueError if the specials do not come first or a word is not a unique, non-empty string.
    """

    words: tuple[str, ...]
    pad, start, end, unk = range(len(SPECIALS))

    def __post_init__(self) -> None:
        if not all(isinstance(word, str) and word for word in self.words):
            raise ValueError("a word of the vocabulary is no string, or is empty")
        if self.words[: len(SPECIALS)] != SPECIALS:
            raise ValueError(f"the vocabulary does not begin with {' '.join(SPECIALS)}")
        if twice := [word for word, count in Counter(self.words).items() if count > 1]:
            raise ValueError(f"the vocabulary holds {twice[0]!r} more than once")

    @classmethod
    def build(cls, examples: Iterable[Example], *, minimum_count: int = 5) -> Self:
        """The words seen at least ``minimum_count`` times in the training captions, most frequent first.

        Words of equal frequency are in the order of their code points. Other splits are not looked at.
        Raises ValueError if there are no training captions, or none of their words is frequent enough.
        """
        if minimum_count < 1:
            raise ValueError(f"minimum_count is {minimum_count}; it must be at least 1")
        captions = [c.tokens for e in examples if e.split == "train" for c in e.captions]
        if not captions:
            raise ValueError("the training split has no captions to build a vocabulary from; check the splits")
        counts = Counter(token for tokens in captions for token in tokens)
        words = sorted((w for w in counts if counts[w] >= minimum_count), key=lambda w: (-counts[w], w))
        if not words:
            raise ValueError(
                f"no word occurs {minimum_count} times in {len(captions)} training captions; lower the minimum count"
            )
        return cls(SPECIALS + tuple(words))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read back what ``write`` wrote; ValueError if the file is not a sound vocabulary."""
        way_out = "build it again from the training captions"
        if not path.exists():
            raise FileNotFoundError(f"there is no vocabulary at {path}; {way_out}")
        stored = read_json(path, _Written, "is JSON but not a vocabulary", way_out)
        try:
            return cls(stored.words)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); {way_out}") from None

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(Path(path), {"kind": "vocabulary", "words": self.words})

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every word."""
        return {word: i for i, word in enumerate(self.words)}

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """One id a token, <unk> for an unknown one; <start> and <end> are not added."""
        return [self.ids.get(token, self.unk) for token in tokens]

    def decode(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The words up to the first <end>, without special ones. Raises ValueError for an id out of range."""
        words = []
        for i in map(int, ids):
            if not 0 <= i < len(self):
                raise ValueError(f"id {i} is outside the vocabulary of {len(self)} words")
            if i == self.end:
                break
            if i >= len(SPECIALS):
                words.append(self.words[i])
        return tuple(words)

    def fingerprint(self) -> str:
        """SHA-256 of the words in their order, in hexadecimal: equal exactly where the vocabularies are."""
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()
