"""Pretrained word embeddings from a text file: a word and its numbers a line (GloVe, word2vec's text format)."""

import math
from pathlib import Path

import numpy as np

from attend.data.text import Vocabulary
from attend.paths import regular


def read_embeddings(path: Path, vocabulary: Vocabulary, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The table (V, width) and which words the file knows, (V,) bool; rows of unknown words are 0.

    Raises ValueError if the file is missing, holds no word of the vocabulary, or numbers of another width.
    """
    table = np.zeros((len(vocabulary), width), dtype=np.float32)
    known = np.zeros(len(vocabulary), dtype=bool)
    try:
        lines = open(regular(path), encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError as error:
        raise ValueError(
            f"decoder.embeddings {str(path)!r} cannot be read: {error.strerror}; give a text file of embeddings"
        ) from None
    with lines:
        for number, line in enumerate(lines, 1):
            word, *values = line.rstrip().split(" ")
            if number == 1 and len(values) == 1:
                continue  # word2vec's first line counts words and numbers
            row = vocabulary.ids.get(word)
            if row is None or (len(values) > width and not _is_number(values[0])):
                continue  # some words of GloVe hold spaces: "at name@domain.com"
            if len(values) != width:
                raise ValueError(
                    f"{path}, line {number}: {len(values)} numbers, but decoder.embedding is {width}: set it to that"
                )
            if not all(map(_is_number, values)):
                raise ValueError(f"{path}, line {number}: not a word and its numbers: correct or remove it")
            table[row], known[row] = np.array(values, dtype=np.float32), True
    if not known.any():
        raise ValueError(
            f"{path} knows no word of the vocabulary: give a text file of embeddings in the language of the captions"
        )
    return table, known


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
