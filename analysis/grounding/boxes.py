"""The boxes of a generated caption's words, as the people who described the image drew them.

A generated noun has the boxes of the phrases that end in it, singular or plural, in the image's own captions. The words
before it that describe it (``a large black``) choose between them: only the phrases that share most of these words
count, and these words have the same boxes. A word that ends no phrase has none.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from attend.analysis.grounding.word_kinds import word_kinds
from attend.analysis.grounding.words import singular

from attend.data.examples import Caption
from attend.geometry import Box

Boxes = tuple[Box, ...]


def phrases_of(captions: Sequence[Caption]) -> Iterator[tuple[tuple[str, ...], Boxes]]:
    """The phrases with boxes of an image's captions: consecutive words that have the same boxes, and these boxes."""
    for caption in captions:
        pairs = zip(caption.tokens, caption.boxes or (), strict=False)
        for boxes, some in groupby(pairs, key=lambda pair: pair[1]):
            words = tuple(word for word, _ in some if word != "'s")
            if boxes and words:
                yield words, boxes


def boxes_of_words(words: Sequence[str], captions: Sequence[Caption]) -> list[Boxes]:
    """The boxes of each word (T) of a generated caption over an image with these captions; empty if it has none."""
    phrases, kinds = list(phrases_of(captions)), word_kinds(words)
    found: list[Boxes] = [()] * len(words)
    for t, word in enumerate(words):
        named = [(some, boxes) for some, boxes in phrases if singular(some[-1]) == singular(word)]
        if not named or kinds[t] == "function":
            continue
        first = t
        while first and kinds[first - 1] not in ("function", "verb"):
            first -= 1
        shared = [len({*words[first:t]} & {*some[:-1]}) for some, _ in named]
        chosen = [boxes for (_, boxes), count in zip(named, shared, strict=True) if count == max(shared)]
        union = tuple(dict.fromkeys(box for boxes in chosen for box in boxes))
        found[first : t + 1] = [own or union for own in found[first : t + 1]]
    return found
