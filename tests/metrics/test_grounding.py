"""Grounding of words by hand, by drawing places at random, and beside controls that are as sharp."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from attend.geometry import CENTRE_WIDTH, Geometry, centre_weights
from attend.metrics.grounding import (
    BEYOND,
    CONTROLS,
    LOOKS,
    MEASURES,
    NAMES,
    BoxedWord,
    Cells,
    best_cells,
    best_controls,
    ground,
    pool,
)
from attend.metrics.sharpness import centre_of, entropy, tempered

GEOMETRY = Geometry.of("squash", (200, 100), (2, 2))
LEFT = (0, 0, 0.5, 1)  # cells 0 and 2
WIDE = (0, 0, 0.75, 0.5)  # cell 0, and half of cell 1: its centre lies on the edge
EVEN = np.full(4, 0.25)


def of(weights, boxes, geometry=GEOMETRY, cells=None):
    """The scores of words, each of an image of its own, by look and measure."""
    words = [
        BoxedWord(n, np.asarray(w), tuple(b), geometry) for n, (w, b) in enumerate(zip(weights, boxes, strict=True))
    ]
    return pool(scores := ground(words, cells), best_controls(scores))


def test_one_word_by_hand():
    means = of([[0.1, 0.6, 0.1, 0.2]], [(WIDE,)], cells=Cells(1, 2))
    assert means["words"] == 1
    assert means["mass"] == pytest.approx(0.1 + 0.6 * 0.5)
    assert means["pointing"] == 1
    assert means["uniform_mass"] == pytest.approx(1.5 / 4)
    assert means["uniform_pointing"] == pytest.approx(2 / 4)
    assert means["cell_mass"] == 0.5 and means["cell_pointing"] == 0
    assert means["matched_mass"] == pytest.approx(1.5 / 4)  # on 2 x 2 cells all are as far from the centre
    assert math.isnan(means["shuffled_mass"]), "there is no other image"
    assert means["mass_beyond"] == pytest.approx(0.4 - 0.5) and means["pointing_beyond"] == pytest.approx(1 - 0.5)


def test_of_several_largest_weights_the_share_in_the_box_points():
    assert of([[0.4, 0.4, 0.1, 0.1]], [(LEFT,)])["pointing"] == 0.5
    assert of([[0.4, 0.2, 0.4, 0.0]], [(LEFT,)])["pointing"] == 1
    assert of([EVEN], [(WIDE,)])["pointing"] == 0.5  # as a cell drawn at random


def test_boxes_of_a_word_count_as_their_union():
    weights = [[0.4, 0.3, 0.2, 0.1]]
    assert of(weights, [(LEFT, LEFT)])["mass"] == pytest.approx(0.6)
    assert of(weights, [(LEFT, (0.5, 0, 1, 0.5))])["mass"] == pytest.approx(0.9)


def test_a_box_that_a_crop_cut_away_is_not_visible():
    geometry = Geometry.of("crop", (200, 100), (2, 2))
    assert not BoxedWord(0, EVEN, ((0, 0, 0.25, 1),), geometry).visible
    assert BoxedWord(0, EVEN, ((0, 0, 0.26, 1),), geometry).visible


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
    assert of([alpha], [boxes], geometry)["mass"] == pytest.approx(inside.mean(), abs=0.005)


def test_the_controls_are_what_such_weights_would_score():
    """On 7 x 7 cells, words of different sharpness: weights put in place of the model's own score what is said."""
    geometry, boxes = Geometry.of("squash", (320, 240), (7, 7)), [((0.3, 0.2, 0.7, 0.6),), ((0, 0, 0.4, 0.4),)]
    weights = np.random.default_rng(0).dirichlet(np.full(49, 0.2), 2)
    nats = np.mean([scipy_entropy(one) for one in weights])
    means = of(weights, boxes, geometry, Cells(8, 24))
    centre = centre_of((7, 7), nats)
    assert scipy_entropy(centre) == pytest.approx(nats, abs=1e-9)
    one_hot = [of(np.tile(np.eye(49)[i], (2, 1)), boxes, geometry) for i in range(49)]
    others = {
        "uniform": of(np.full((2, 49), 1 / 49), boxes, geometry),
        "matched": of(np.tile(centre, (2, 1)), boxes, geometry),
        "shuffled": of(weights[::-1], boxes, geometry),
        "cell": {"mass": one_hot[8]["mass"], "pointing": one_hot[24]["pointing"]},
    }
    for control, truth in others.items():
        for measure in MEASURES:
            assert means[f"{control}_{measure}"] == pytest.approx(truth[measure]), control
    assert np.mean([one["pointing"] for one in one_hot]) == pytest.approx(means["uniform_pointing"])
    for measure in MEASURES:
        best = max(means[f"{control}_{measure}"] for control in CONTROLS)
        assert means[f"{measure}_beyond"] == pytest.approx(means[measure] - best)


def test_the_best_cell_is_the_best_of_all_tried_one_by_one():
    rng = np.random.default_rng(3)
    geometry = Geometry.of("crop", (320, 240), (5, 4))
    corners = [np.sort(rng.uniform(0, 1, (2, 2)), axis=0).ravel() for _ in range(12)]
    boxes = Counter({(geometry, (tuple(map(float, one)),)): int(rng.integers(1, 9)) for one in corners})
    tried = np.zeros((2, 20))
    for (_, some), words in boxes.items():
        for cell in range(20):
            alone = of([np.eye(20)[cell]], [some], geometry)
            tried[:, cell] += words * alone["mass"], words * alone["pointing"]
    assert best_cells(boxes) == Cells(*tried.argmax(axis=1).tolist())
    assert best_cells({(Geometry.of("crop", (200, 100), (2, 2)), ((0, 0, 0.2, 1),)): 3}) is None, "cut away"


@pytest.mark.parametrize("grid", [(7, 7), (14, 14), (3, 8)])
@pytest.mark.parametrize("nats", [1.5, 2.29, 2.9])
def test_a_centre_is_as_sharp_as_asked_for_and_in_the_middle(grid, nats):
    weights = centre_of(grid, nats)
    assert scipy_entropy(weights) == pytest.approx(nats, abs=1e-9) and weights.sum() == pytest.approx(1)
    mirrored = weights.reshape(grid)
    assert np.allclose(mirrored, mirrored[::-1, ::-1]) and mirrored.max() == mirrored[grid[0] // 2, grid[1] // 2]


def test_a_centre_that_cannot_be_so_sharp_or_so_even_is_the_nearest():
    assert entropy(centre_of((14, 14), 0.5)) == pytest.approx(math.log(4))
    assert entropy(centre_of((7, 7), 0.0)) == pytest.approx(0, abs=1e-9)
    assert centre_of((7, 7), 9.0) == pytest.approx(np.full(49, 1 / 49), abs=1e-4)


@pytest.mark.parametrize("nats", [0.7, 1.5, 2.5])
def test_tempered_weights_have_the_entropy_and_are_powers(nats):
    weights = np.random.default_rng(1).dirichlet(np.full(20, 0.4), 50)
    found, tau = tempered(weights, nats)
    assert np.mean([scipy_entropy(one) for one in found]) == pytest.approx(nats, abs=1e-9)
    by_hand = weights ** (1 / tau)
    assert np.allclose(found, by_hand / by_hand.sum(1, keepdims=True))
    assert (found.argmax(1) == weights.argmax(1)).all(), "pointing stays"
    same, one = tempered(weights, float(entropy(weights).mean()))
    assert one == pytest.approx(1) and np.allclose(same, weights)


def test_tempered_zeros_stay_zeros():
    found, _ = tempered(np.array([[0.0, 0.9, 0.1], [0.5, 0.5, 0.0]]), 0.65)
    assert found[0, 0] == found[1, 2] == 0 and np.allclose(found.sum(1), 1)


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
    assert of([EVEN], [((0, 0, 0.3, 0.3),)])["matched_pointing"] == 0.25


def test_nothing_measured_is_nan():
    pooled = pool(ground([], None), (1, 1))
    assert pooled["words"] == 0
    assert set(pooled) == {"words", *NAMES, *BEYOND} and len(NAMES) == len(LOOKS) * len(MEASURES)
    assert all(math.isnan(pooled[name]) for name in (*NAMES, *BEYOND))


def test_weights_must_belong_to_the_grid():
    with pytest.raises(ValueError, match=r"weights are \(1, 9\); 1 words on 2 x 2 cells need others"):
        of(np.zeros((1, 9)), [(LEFT,)])
