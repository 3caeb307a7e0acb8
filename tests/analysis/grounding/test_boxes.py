"""The boxes of a generated caption's words, by hand."""

from __future__ import annotations

from attend.analysis.grounding.boxes import boxes_of_words, phrases_of

from attend.data.examples import Caption

STAR, OTHER, ARROW = ((0.0, 0.0, 0.5, 0.5),), ((0.5, 0.0, 1.0, 0.5),), ((0.0, 0.5, 0.5, 1.0),)


def caption(text: str, **boxes) -> Caption:
    """A caption whose phrases are in brackets, each with the boxes of its last word."""
    tokens, found = [], []
    for phrase in text.split("|"):
        words = phrase.split()
        tokens += words
        found += [boxes.get(words[-1].rstrip("12"))] * len(words)
    return Caption(raw=text, tokens=tuple(tokens), boxes=tuple(found))


THEIRS = (
    caption("a large black star | is right of | the green arrow", star=STAR, arrow=ARROW),
    caption("there is | a red star", star=OTHER),
)


def test_phrases_are_words_in_a_row_with_equal_boxes():
    assert [*phrases_of(THEIRS)] == [
        (("a", "large", "black", "star"), STAR),
        (("the", "green", "arrow"), ARROW),
        (("a", "red", "star"), OTHER),
    ]
    assert not [*phrases_of((Caption(raw="a dog", tokens=("a", "dog")),))]


def test_the_words_before_a_noun_choose_between_boxes():
    assert boxes_of_words(["a", "large", "black", "star"], THEIRS) == [(), STAR, STAR, STAR]
    assert boxes_of_words(["a", "red", "star"], THEIRS) == [(), OTHER, OTHER]
    assert boxes_of_words(["two", "stars"], THEIRS)[1] == (*STAR, *OTHER)  # plural, and nothing chooses
    assert boxes_of_words(["a", "blue", "star"], THEIRS)[2] == (*STAR, *OTHER)


def test_a_word_that_ends_no_phrase_has_none():
    found = boxes_of_words(["a", "dog", "sits", "right", "of", "the", "green", "arrow"], THEIRS)
    assert found[:6] == [()] * 6 and found[6:] == [ARROW, ARROW]
    assert boxes_of_words([], THEIRS) == [] and boxes_of_words(["star"], ()) == [()]
