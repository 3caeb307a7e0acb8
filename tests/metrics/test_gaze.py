import numpy as np
import pytest
from scipy.stats import chisquare
from scipy.stats import entropy as scipy_entropy

from attend.geometry import Geometry
from attend.metrics.gaze import Fixation, centres_of_mass, draw_cells, entropy, fixations, merge, places, radius

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


def test_the_centre_of_mass_by_hand():
    weights = [[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0.5, 0, 0.5], [0.8, 0, 0, 0.2], [4, 0, 0, 1]]
    np.testing.assert_allclose(centres_of_mass(weights, GEOMETRY), [(50, 25), (100, 50), (150, 50), (70, 35), (70, 35)])
    with pytest.raises(ValueError, match=r"weights are \(1, 9\)"):
        centres_of_mass(np.ones((1, 9)), GEOMETRY)


def test_the_centre_of_mass_is_the_mean_of_draws():
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 3)
    cells = draw_cells(weights, 20_000, 0)
    error = GEOMETRY.centres()[cells].mean(axis=0) - centres_of_mass(weights, GEOMETRY)
    assert np.abs(error).max() < 4 * 75 / np.sqrt(20_000)


def test_draws_follow_the_weights_and_their_seed():
    weights = np.array([[0.5, 0.3, 0.2, 0.0], [0.0, 0.0, 0.1, 0.9]])
    cells = draw_cells(weights, 20_000, 7)
    for t in range(2):
        counts = np.bincount(cells[:, t], minlength=4)
        assert counts[weights[t] == 0].sum() == 0
        kept = weights[t] > 0
        assert chisquare(counts[kept], 20_000 * weights[t][kept]).pvalue > 0.001
    both = np.bincount(4 * cells[:, 0] + cells[:, 1], minlength=16) / 20_000
    np.testing.assert_allclose(both.reshape(4, 4), np.outer(*weights), atol=0.02)  # each word on its own
    np.testing.assert_array_equal(draw_cells(weights, 5, 7), cells[:5])
    assert (draw_cells(weights, 50, 8) != cells[:50]).any()
    assert draw_cells(np.zeros((0, 4)), 3, 0).shape == (3, 0)


def test_merging_within_a_radius():
    points = [(0, 0), (4, 0), (5, 0), (20, 0), (2, 0)]
    path = merge(["a", "b", "c", "d", "e"], points, 5)
    assert [fixation.words for fixation in path] == [("a", "b", "c"), ("d",), ("e",)]
    assert path[0].point == (3, 0) and [fixation.first for fixation in path] == [0, 3, 4]


def test_places_are_where_the_gaze_was_before():
    points = [(0, 0), (10, 0), (1, 0), (9, 1), (5, 0), (30, 0)]
    assert places(points, 3).tolist() == [0, 1, 0, 1, 2, 3]
    assert places(np.zeros((0, 2)), 3).tolist() == []


def test_half_a_cell_apart_is_one_place():
    geometry = Geometry.of("squash", (210, 140), (7, 7))
    apart = np.linalg.norm(geometry.centres()[:, None] - geometry.centres()[None], axis=2)
    assert apart[apart > 0].min() == pytest.approx(2 * radius(geometry))


def test_entropy_is_scipys():
    weights = np.vstack([np.random.default_rng(0).dirichlet(np.ones(9), 5), np.eye(9)[:1], np.ones((1, 9)) / 9])
    np.testing.assert_allclose(entropy(weights), scipy_entropy(weights, axis=1), atol=1e-12)
    assert entropy(weights)[-1] == pytest.approx(np.log(9))
