import itertools
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from attend.data.examples import Examples, write_examples
from attend.data.sources import scenes
from attend.data.sources.scenes import COLOURS, CONTENT_KINDS, RELATIONS, WORD_KINDS, generate, write_scenes

KIND = {word: kind for kind, words in WORD_KINDS.items() for word in words}
CONTENT = {word for kind in CONTENT_KINDS for word in WORD_KINDS[kind]}


@pytest.fixture(scope="module")
def world():
    return list(generate(train=60, val=6, test=6))


def mentions(caption):
    """The mentioned objects: box -> its words, in the caption's order."""
    found = {}
    for token, boxes in zip(caption.tokens, caption.boxes, strict=True):
        if boxes:
            found.setdefault(boxes[0], []).append(token)
    return found


def described(captions):
    """What all captions together say of every object: box -> kind -> set of words."""
    said = {}
    for caption in captions:
        for box, words in mentions(caption).items():
            for word in words:
                said.setdefault(box, {}).setdefault(KIND[word], set()).add(word)
    return said


# Determinism


def test_the_same_seed_makes_the_same_world_and_another_does_not():
    one, two, other = (list(generate(train=3, val=1, test=1, seed=seed)) for seed in (5, 5, 6))
    for (pixels, example), (again, same) in zip(one, two, strict=True):
        np.testing.assert_array_equal(pixels, again)
        assert example == same
    assert all((a[0] != b[0]).any() for a, b in zip(one, other, strict=True))


def test_larger_counts_only_append():
    small = {e.image: (p, e) for p, e in generate(train=2, val=2, test=1)}
    large = {e.image: (p, e) for p, e in generate(train=4, val=3, test=2)}
    for name, (pixels, example) in small.items():
        np.testing.assert_array_equal(pixels, large[name][0])
        assert example == large[name][1]


def test_no_two_images_are_alike(world):
    assert len({pixels.tobytes() for pixels, _ in world}) == len(world)
    assert len({example.image for _, example in world}) == len(world)
    assert [e.split for _, e in world] == ["train"] * 60 + ["val"] * 6 + ["test"] * 6


def test_a_larger_picture_shows_the_same_scene():
    (small, one), (large, two) = (next(generate(train=1, size=size)) for size in (112, 448))
    assert small.shape == (112, 112, 3) and large.shape == (448, 448, 3) and small.dtype == np.uint8
    assert one == two
    shrunk = np.asarray(Image.fromarray(large).resize((112, 112), Image.Resampling.BOX), float)
    assert np.abs(shrunk - small).mean() < 8


# Captions and boxes


def test_a_caption_mentions_two_objects_and_each_content_word_has_one_box(world):
    for _, example in world:
        assert len({caption.raw for caption in example.captions}) == 5
        for caption in example.captions:
            assert len(caption.boxes) == len(caption.tokens)
            for token, boxes in zip(caption.tokens, caption.boxes, strict=True):
                assert (boxes is not None) == (token in CONTENT)
                assert boxes is None or len(boxes) == 1
            one, two = ([KIND[word] for word in words] for words in mentions(caption).values())
            assert sorted((one, two), key=len) == [["colour", "shape"], ["size", "colour", "shape"]]


def test_tokens_are_the_words_of_the_raw_caption(world):
    for _, example in world:
        for caption in example.captions:
            assert caption.raw[0].isupper() and caption.raw.endswith(".")
            assert tuple(caption.raw[:-1].lower().split()) == caption.tokens


def test_the_vocabulary_is_small_and_every_kind_of_word_is_used(world):
    counts = Counter(token for _, e in world for caption in e.captions for token in caption.tokens)
    assert 30 <= len(counts) <= 45
    assert set(KIND) <= set(counts)
    assert len(KIND) == sum(len(words) for words in WORD_KINDS.values()), "a word is of one kind"
    assert min(counts.values()) >= 5, "even a small world passes a minimum count of 5"


def test_captions_agree_about_an_object_and_no_two_objects_share_colour_and_shape(world):
    for _, example in world:
        said = described(example.captions)
        assert all(len(words) == 1 for kinds in said.values() for words in kinds.values())
        pairs = [(*kinds["colour"], *kinds["shape"]) for kinds in said.values()]
        assert len(set(pairs)) == len(pairs)


def test_attributes_are_drawn_on_their_own():
    """Counted over many objects, colour says nothing of shape, nor size of either: a chi-square of each pair."""
    rng = np.random.default_rng(0)
    things = [thing for _ in range(3000) for thing in scenes._things(rng)]
    for one, two in itertools.combinations(("size", "colour", "shape", "quarter"), 2):
        counts = Counter((getattr(t, one), getattr(t, two)) for t in things)
        rows, columns = ({pair[side] for pair in counts} for side in (0, 1))
        table = np.array([[counts[r, c] for c in columns] for r in rows])
        expected = table.sum(1)[:, None] * table.sum(0) / table.sum()
        freedom = (len(rows) - 1) * (len(columns) - 1)
        assert ((table - expected) ** 2 / expected).sum() < freedom + 4 * np.sqrt(2 * freedom)


def test_relations_and_places_are_true_of_the_boxes(world):
    steps = {phrase: step for step, phrases in RELATIONS.items() for phrase in phrases}
    for _, example in world:
        for caption in example.captions:
            text = " ".join(caption.tokens)
            full, short = sorted(mentions(caption).items(), key=lambda pair: -len(pair[1]))
            phrase = max((phrase for phrase in steps if f"{phrase} the" in text), key=len)
            (x, y), (x_short, y_short) = (((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in (full[0], short[0]))
            right, down = steps[phrase]
            assert (x - x_short) * right + (y - y_short) * down > 0.15
            for place in scenes.QUARTERS:
                if f"the {place} " in text:
                    assert place == f"{'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}"


# Pictures


def test_objects_keep_apart_and_within_the_image():
    rng = np.random.default_rng(1)
    for _ in range(200):
        boxes = [thing.box for thing in scenes._things(rng)]
        assert all(0 < x0 < x1 < 1 and 0 < y0 < y1 < 1 for x0, y0, x1, y1 in boxes)
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_a_box_is_where_its_colour_is(world):
    """The pixels nearer to an object's colour than to any muted one fill its box from edge to edge."""
    for pixels, example in world[:40]:
        for (x0, y0, x1, y1), kinds in described(example.captions).items():
            (colour,) = kinds["colour"]
            around = np.array([x0 * 224 - 4, y0 * 224 - 4, x1 * 224 + 4, y1 * 224 + 4]).round().astype(int)
            patch = pixels[around[1] : around[3], around[0] : around[2]].astype(float)
            alike = np.abs(patch - COLOURS[colour]).max(axis=2) < 45
            ys, xs = (np.flatnonzero(alike.sum(axis=axis) > 1) for axis in (1, 0))
            found = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]) + np.tile(around[:2], 2)
            np.testing.assert_allclose(found, np.array([x0, y0, x1, y1]) * 224, atol=5)


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_an_outline_fills_its_square_and_no_other_shape_looks_like_it(shape):
    corners = scenes._outline(shape)
    np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], [(0, 0), (1, 1)])
    covers = {s: np.asarray(scenes._cover(s, np.array([2, 2, 60]))[1], float) / 255 for s in scenes.SHAPES}
    for other in set(scenes.SHAPES) - {shape}:
        both, either = np.minimum(covers[shape], covers[other]), np.maximum(covers[shape], covers[other])
        assert both.sum() / either.sum() < 0.85


def test_the_cover_of_a_square_and_a_circle_is_their_area():
    for shape, area in {"square": 1, "circle": np.pi / 4, "triangle": 0.5}.items():
        (x, y), cover = scenes._cover(shape, np.array([10.5, 20.5, 60]))
        assert (x, y) == (10, 20)
        assert np.asarray(cover).sum() / 255 == pytest.approx(area * 3600, rel=0.03)


# On disk


def test_written_scenes_can_be_read_back(tmp_path):
    source = write_scenes(tmp_path / "scenes", train=3, val=1, test=1, seed=2)
    made = list(generate(train=3, val=1, test=1, seed=2))
    assert source.name == "scenes" and source.root == tmp_path / "scenes" / "images"
    assert source.examples == [example for _, example in made]
    for pixels, example in made:
        read = np.asarray(Image.open(source.root / example.image), float)
        assert np.abs(read - pixels).mean() < 6
    write_examples(tmp_path / "examples.jsonl", source.examples)
    assert list(Examples(tmp_path / "examples.jsonl")) == source.examples


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": -1}, "the splits have .*'train': -1.*; give counts of 0 or more"),
        ({"train": 0, "val": 0, "test": 0}, "at least one image"),
        ({"seed": -3}, "seed is -3; give 0 or more"),
        ({"size": 20}, "size is 20 pixels; give at least 64"),
    ],
)
def test_silly_arguments_are_refused_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        write_scenes(tmp_path / "scenes", **given)
    assert not (tmp_path / "scenes").exists()
