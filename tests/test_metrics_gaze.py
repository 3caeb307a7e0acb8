import numpy as np
import pytest

from attend.geometry import Geometry
from attend.metrics.gaze import Fixation, fixations, merge

GEOMETRY = Geometry.of("squash", (200, 100), (2, 2))


def test_soft_weights_look_at_their_largest_cell():
    weights = [[0.1, 0.2, 0.6, 0.1], [0.1, 0.7, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]
    np.testing.assert_allclose(fixations(weights, None, GEOMETRY), [(50, 75), (150, 25), (50, 25)])


def test_a_glimpse_counts_where_there_is_one():
    weights = np.tile([0.7, 0.1, 0.1, 0.1], (2, 1))
    np.testing.assert_allclose(fixations(weights, np.array([3, 1]), GEOMETRY), [(150, 75), (150, 25)])


def test_points_are_pixels_of_the_image_before_its_crop():
    geometry = Geometry.of("crop", (300, 100), (1, 2))  # the square from x = 100 to 200
    np.testing.assert_allclose(fixations(np.eye(2), None, geometry), [(125, 50), (175, 50)])


def test_points_are_where_a_one_hot_map_puts_its_mass():
    geometry = Geometry.of("squash", (313, 211), (4, 6))
    x, y = fixations(np.eye(24), None, geometry).T
    for cell in range(24):
        box = (x[cell] / 313 - 1e-6, y[cell] / 211 - 1e-6, x[cell] / 313 + 1e-6, y[cell] / 211 + 1e-6)
        assert geometry.shares([box]).argmax() == cell


def test_words_in_a_row_at_one_place_are_one_fixation():
    points = [(50, 75), (150, 25), (150, 25), (50, 75), (50, 75)]
    assert merge(["the", "small", "red", "circle", "sits"], points) == [
        Fixation(point=(50, 75), first=0, words=("the",)),
        Fixation(point=(150, 25), first=1, words=("small", "red")),
        Fixation(point=(50, 75), first=3, words=("circle", "sits")),
    ]


def test_merging_loses_no_word_and_no_step():
    rng = np.random.default_rng(0)
    points = GEOMETRY.centres()[rng.integers(0, 4, 40)]
    words = [f"word{t}" for t in range(40)]
    path = merge(words, points)
    assert [word for fixation in path for word in fixation.words] == words
    assert [words.index(fixation.words[0]) for fixation in path] == [fixation.first for fixation in path]
    steps = 1 + (np.diff(points, axis=0) != 0).any(axis=1).sum()
    assert len(path) == steps


def test_an_empty_caption_has_an_empty_path():
    points = fixations(np.zeros((0, 4)), None, GEOMETRY)
    assert points.shape == (0, 2)
    assert merge([], points) == []


@pytest.mark.parametrize("glimpses", [[4], [-1], [0, 1]])
def test_a_glimpse_must_be_a_cell(glimpses):
    with pytest.raises(ValueError, match="1 words need a cell each, 0 to 3"):
        fixations(np.ones((1, 4)), glimpses, GEOMETRY)


def test_weights_must_belong_to_the_grid():
    with pytest.raises(ValueError, match=r"weights are \(1, 9\); a grid of \(2, 2\) needs \(words, 4\)"):
        fixations(np.ones((1, 9)), None, GEOMETRY)


def test_words_and_points_must_agree():
    with pytest.raises(ValueError):
        merge(["one"], [(0, 0), (1, 1)])
