"""Hallucination on the built-in world: its own captions have none, and captions made wrong have what was made wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from attend.chance import numpy_generator
from attend.data.examples import Example
from attend.data.sources import scenes
from attend.data.sources.scenes import SHAPES, WORD_KINDS, objects_of
from attend.evaluation.wording import diversity_of, hallucination_of


class Listed(list):
    """Examples with the splits that ``Examples`` has."""

    @property
    def splits(self):
        return [example.split for example in self]


@pytest.fixture(scope="module")
def world():
    """A dataset of 24 images without their pictures, and the things that are truly in each."""
    examples, things = Listed(), []
    for number in range(24):
        rng = numpy_generator("scene", 3, 0, number)
        things.append(scenes._things(rng))
        split = "train" if number < 12 else "test"
        examples.append(Example(image=f"{number}.jpg", split=split, captions=scenes._captions(rng, things[-1])))
    return SimpleNamespace(about={"name": "scenes"}, boxes=True, examples=examples, vocabulary=range(44)), things


def test_the_objects_of_an_image_are_the_things_that_were_painted(world):
    """Sizes too, although some are in no caption."""
    dataset, things = world
    for example, truth in zip(dataset.examples, things, strict=True):
        expected = {frozenset({thing.size, thing.colour, thing.shape}) for thing in truth}
        assert set(objects_of(example)) == expected and len(objects_of(example)) == 4


def test_people_of_the_world_hallucinate_nothing(world):
    dataset, _ = world
    rows = list(range(24))
    for k in range(5):
        found, counts = hallucination_of(dataset, rows, [dataset.examples[row].captions[k].tokens for row in rows])
        assert found == {
            "hallucinated_objects": 0, "hallucinated_attributes": 0, "hallucinated_captions": 0, "objects_named": 2,
        }  # fmt: skip
        assert counts["attributes_named"] == [3] * 24


def wrong(tokens, kind, truth):
    """The caption with the first word of a kind replaced by one that no object of the image has."""
    there = {getattr(thing, kind) for thing in truth}
    other = next(word for word in WORD_KINDS[kind] if word not in there)
    place = next(t for t, token in enumerate(tokens) if token in WORD_KINDS[kind])
    return (*tokens[:place], other, *tokens[place + 1 :])


@pytest.mark.parametrize(("kind", "absent"), [("shape", ("objects_absent", 1)), ("colour", ("attributes_absent", 1))])
def test_one_wrong_word_is_one_hallucination(world, kind, absent):
    dataset, things = world
    rows = list(range(12, 24))
    said = [wrong(dataset.examples[row].captions[0].tokens, kind, things[row]) for row in rows[:9]]
    said += [dataset.examples[row].captions[0].tokens for row in rows[9:]]
    found, counts = hallucination_of(dataset, rows, said)
    name, times = absent
    assert counts[name] == [times] * 9 + [0] * 3 and counts["hallucinates"] == [1] * 9 + [0] * 3
    assert found["hallucinated_captions"] == 9 / 12
    if kind == "shape":  # the object's two attributes are not compared
        assert found["hallucinated_objects"] == 9 / 24 and found["hallucinated_attributes"] == 0
    else:
        assert found["hallucinated_objects"] == 0 and found["hallucinated_attributes"] == 9 / 36


def test_captions_of_other_images_hallucinate_as_chance_says(world):
    """Of images whose objects are drawn on their own, a shape is absent in (1 - 1/8)^4 = 58.6 percent, about."""
    dataset, things = world
    rows = list(range(24))
    expected = [
        all(word != thing.shape for thing in things[row])
        for row in rows
        for word in dataset.examples[row - 1].captions[0].tokens
        if word in SHAPES
    ]
    found, _ = hallucination_of(dataset, rows, [dataset.examples[row - 1].captions[0].tokens for row in rows])
    assert found["hallucinated_objects"] == np.mean(expected) and 0.4 < np.mean(expected) < 0.75


def test_other_data_have_no_exact_hallucination(world):
    dataset, _ = world
    other = SimpleNamespace(**{**vars(dataset), "about": {"name": "flickr8k"}})
    assert hallucination_of(other, [0], [("a", "red", "heart")]) == (None, {})
    assert hallucination_of(SimpleNamespace(**{**vars(dataset), "boxes": False}), [0], [()]) == (None, {})


def test_novel_means_not_in_the_training_split(world):
    """The captions of training images are not novel, those of a test image are unless training has them too."""
    dataset, _ = world
    known, unknown = (dataset.examples[row].captions[0].tokens for row in (3, 20))
    scores, columns = diversity_of(dataset, [[known, unknown, known, ("red",)]])
    assert columns == {"novel": [0, 1, 0, 1]} and scores["novel"] == 0.5
    assert scores["distinct_captions"] == 0.75 and "mbleu" not in scores
    assert scores["vocabulary_used"] == scores["words_used"] / 40
    twice, _ = diversity_of(dataset, [[known, unknown], [known, unknown]])
    assert twice["mbleu"] == pytest.approx(1)
