import math

import numpy as np
import pytest

from attend.geometry import CENTRE_WIDTH, Geometry, centre_weights
from attend.metrics.grounding import MEASURES, ground, pool

GEOMETRY = Geometry.of("squash", (200, 100), (2, 2))
LEFT = (0, 0, 0.5, 1)  # cells 0 and 2
WIDE = (0, 0, 0.75, 0.5)  # cell 0, and half of cell 1: its centre lies on the edge
EVEN = np.full(4, 0.25)


def test_one_word_by_hand():
    sums = ground(np.array([[0.1, 0.6, 0.1, 0.2]]), [(WIDE,)], GEOMETRY)
    assert sums["words"] == 1
    assert sums["mass"] == pytest.approx(0.1 + 0.6 * 0.5)
    assert sums["pointing"] == 1
    assert sums["uniform_mass"] == pytest.approx(1.5 / 4)
    assert sums["uniform_pointing"] == pytest.approx(2 / 4)
    assert sums["centre_mass"] == pytest.approx(1.5 / 4)  # on 2 x 2 cells all are as far from the centre


def test_sums_run_over_the_words_that_have_boxes():
    weights = np.array([EVEN, [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], EVEN])
    sums = ground(weights, [None, (LEFT,), (LEFT,), ()], GEOMETRY)
    assert sums["words"] == 2
    assert sums["mass"] == pytest.approx(0.8 + 0.2)
    assert sums["pointing"] == 1
    assert sums["uniform_pointing"] == pytest.approx(2 * 0.5)


def test_of_several_largest_weights_the_share_in_the_box_points():
    assert ground(np.array([[0.4, 0.4, 0.1, 0.1]]), [(LEFT,)], GEOMETRY)["pointing"] == 0.5
    assert ground(np.array([[0.4, 0.2, 0.4, 0.0]]), [(LEFT,)], GEOMETRY)["pointing"] == 1
    assert ground(EVEN[None], [(WIDE,)], GEOMETRY)["pointing"] == 0.5  # as a cell drawn at random


def test_boxes_of_a_word_count_as_their_union():
    weights = np.array([[0.4, 0.3, 0.2, 0.1]])
    assert ground(weights, [(LEFT, LEFT)], GEOMETRY)["mass"] == pytest.approx(0.6)
    assert ground(weights, [(LEFT, (0.5, 0, 1, 0.5))], GEOMETRY)["mass"] == pytest.approx(0.9)


def test_a_box_that_a_crop_cut_away_is_no_word():
    geometry = Geometry.of("crop", (200, 100), (2, 2))
    assert ground(EVEN[None], [((0, 0, 0.25, 1),)], geometry)["words"] == 0


@pytest.mark.parametrize("transform", ["squash", "crop"])
def test_against_drawing_places_at_random(transform):
    """Mass is the chance that a place drawn from the weights, and evenly within its cell, lies in a box."""
    rng = np.random.default_rng(0)
    geometry, boxes = Geometry.of(transform, (320, 240), (3, 5)), [(0.2, 0.1, 0.6, 0.5), (0.4, 0.3, 0.8, 0.9)]
    alpha = rng.dirichlet(np.ones(15))
    cells = rng.choice(15, 200_000, p=alpha)
    x, y = (geometry.pixels(np.stack([cells % 5, cells // 5], 1) + rng.random((len(cells), 2))) / geometry.size).T
    inside = np.zeros(len(cells), bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
    assert ground(alpha[None], [boxes], geometry)["mass"] == pytest.approx(inside.mean(), abs=0.005)


def test_the_controls_are_what_such_weights_would_score():
    geometry, boxes = Geometry.of("squash", (320, 240), (7, 7)), [((0.3, 0.2, 0.7, 0.6),), ((0, 0, 0.4, 0.4),)]
    even, centre = np.full((2, 49), 1 / 49), np.tile(centre_weights((7, 7)), (2, 1))
    sums = ground(even, boxes, geometry)
    assert sums["mass"] == pytest.approx(sums["uniform_mass"])
    assert ground(centre, boxes, geometry)["mass"] == pytest.approx(sums["centre_mass"])
    assert ground(centre, boxes, geometry)["pointing"] == sums["centre_pointing"] == 1
    one_hot = [ground(np.tile(np.eye(49)[i], (2, 1)), boxes, geometry)["pointing"] for i in range(49)]
    assert np.mean(one_hot) == pytest.approx(sums["uniform_pointing"])


def test_centre_weights_by_hand():
    weights = centre_weights((7, 7)).reshape(7, 7)
    assert 7 * CENTRE_WIDTH == 1.5
    assert weights.sum() == pytest.approx(1)
    assert weights[3, 4] / weights[3, 3] == pytest.approx(math.exp(-1 / 4.5))
    assert weights[5, 4] / weights[3, 3] == pytest.approx(math.exp(-5 / 4.5))


@pytest.mark.parametrize("grid", [(14, 14), (28, 7), (2, 3)])
def test_centre_weights_cover_the_same_part_of_the_picture_on_every_grid(grid):
    rows, columns = grid
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in grid)
    weights = centre_weights(grid).reshape(grid)
    by_hand = np.exp(-(y[:, None] ** 2 + x**2) / (2 * CENTRE_WIDTH**2))
    np.testing.assert_allclose(weights, by_hand / by_hand.sum())
    assert (weights == weights.max()).sum() == (2 - rows % 2) * (2 - columns % 2), "equal cells share the largest"


def test_equal_centres_share_the_pointing_of_the_centre_control():
    assert ground(EVEN[None], [((0, 0, 0.3, 0.3),)], GEOMETRY)["centre_pointing"] == 0.25


def test_pool_weighs_captions_by_their_words():
    one = ground(np.array([[1, 0, 0, 0]]), [(LEFT,)], GEOMETRY)
    three = ground(np.tile([0, 1, 0, 0], (3, 1)), [(LEFT,)] * 3, GEOMETRY)
    pooled = pool([one, three])
    assert pooled["words"] == 4
    assert pooled["mass"] == pooled["pointing"] == 0.25
    assert pooled["uniform_mass"] == 0.5


@pytest.mark.parametrize(
    "captions", [[], [ground(np.zeros((0, 4)), [], GEOMETRY)], [ground(EVEN[None], [None], GEOMETRY)]]
)
def test_nothing_measured_is_nan(captions):
    pooled = pool(captions)
    assert pooled["words"] == 0
    assert set(pooled) == {"words", *MEASURES}
    assert all(math.isnan(pooled[name]) for name in MEASURES)


def test_weights_must_belong_to_the_words_and_the_grid():
    with pytest.raises(ValueError, match=r"weights are \(1, 9\); 1 words on 2 x 2 cells need \(1, 4\)"):
        ground(np.zeros((1, 9)), [None], GEOMETRY)
    with pytest.raises(ValueError, match="2 words"):
        ground(EVEN[None], [None, None], GEOMETRY)
