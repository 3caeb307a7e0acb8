"""Objects and attributes that are not there, counted by hand."""

from __future__ import annotations

import pytest

from attend.metrics.hallucination import COUNTS, Mention, chair, hallucinations, mentions

NOUNS, ATTRIBUTES = {"circle", "moon", "heart"}, {"small", "large", "red", "blue"}
IMAGE = [{"small", "red", "heart"}, {"large", "blue", "heart"}, {"small", "blue", "moon"}]


def named(caption):
    return mentions(caption.split(), NOUNS, ATTRIBUTES)


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a small red circle above the moon", [Mention("circle", ("small", "red")), Mention("moon", ())]),
        ("the red is blue heart", [Mention("", ("red",)), Mention("heart", ("blue",))]),
        ("red", [Mention("", ("red",))]),
        ("heart heart", [Mention("heart", ()), Mention("heart", ())]),
        ("at the top there is nothing", []),
        ("", []),
    ],
)
def test_objects_are_named_with_the_attributes_before_them(caption, found):
    assert named(caption) == found


@pytest.mark.parametrize(
    ("caption", "counts"),
    [
        ("a small red heart above the blue moon", (2, 0, 3, 0, 0)),
        ("a small red circle", (1, 1, 0, 0, 1)),  # no circle: its attributes are compared with nothing
        ("a red moon", (1, 0, 1, 1, 1)),
        ("a large red moon and a heart", (2, 0, 2, 2, 1)),
        ("a large red heart", (1, 0, 2, 1, 1)),  # one heart is large and another one red
        ("red blue", (0, 0, 2, 1, 1)),  # nothing is red and blue
        ("blue", (0, 0, 1, 0, 0)),
        ("nothing at all", (0, 0, 0, 0, 0)),
        ("a circle and a circle and a moon", (3, 2, 0, 0, 1)),
    ],
)
def test_what_is_not_there_is_counted(caption, counts):
    assert hallucinations(named(caption), IMAGE) == dict(zip(COUNTS, counts, strict=True))


def test_rates_are_quotients_of_sums_and_not_means_of_quotients():
    """Two captions with 1 of 1 and 0 of 3 objects absent: 1 of 4, not the mean of 1 and 0."""
    some = [hallucinations(named(c), IMAGE) for c in ("a circle", "a moon and a red heart and a red heart", "hello")]
    counts = {name: [one[name] for one in some] for name in COUNTS}
    assert chair(counts) == {
        "hallucinated_objects": 1 / 4,
        "hallucinated_attributes": 0,
        "hallucinated_captions": 1 / 3,
        "objects_named": 4 / 3,
    }


def test_captions_that_name_nothing_have_no_rate():
    found = chair({name: [0, 0] for name in COUNTS})
    assert found["hallucinated_objects"] is found["hallucinated_attributes"] is None
    assert found["hallucinated_captions"] == found["objects_named"] == 0
