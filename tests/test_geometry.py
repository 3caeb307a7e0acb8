import numpy as np
import pytest

from attend.geometry import TRANSFORMS, Geometry

SIZES = [(224, 224), (500, 333), (333, 500), (97, 640)]
GRIDS = [(7, 7), (3, 5)]


def supersampled(geometry, boxes, fine=120):
    """Shares by asking, at the middle of each of fine x fine points of every cell, whether a box is there."""
    rows, columns = geometry.grid
    y, x = (np.mgrid[: rows * fine, : columns * fine] + 0.5) / fine
    x, y = np.moveaxis(geometry.pixels(np.stack([x, y], axis=-1)) / geometry.size, -1, 0)
    inside = np.zeros(x.shape, bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
    return inside.reshape(rows, fine, columns, fine).mean(axis=(1, 3)).ravel()


def random_boxes(rng, count):
    corners = rng.uniform(-0.2, 1.2, (count, 2, 2))
    return [tuple(box) for box in np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)]


# The map, by hand


def test_squash_scales_each_axis_on_its_own():
    geometry = Geometry.of("squash", (400, 200), (2, 4))
    assert geometry.affine == (0.01, 0.01, 0, 0)
    np.testing.assert_allclose(geometry.centres()[[0, 1, 4, 7]], [(50, 50), (150, 50), (50, 150), (350, 150)])
    assert geometry.extent() == (0, 400, 200, 0)


def test_squash_of_a_wide_image_to_a_square_grid():
    geometry = Geometry.of("squash", (700, 350), (7, 7))
    np.testing.assert_allclose(geometry.centres()[[0, 48]], [(50, 25), (650, 325)])


@pytest.mark.parametrize(
    ("size", "first", "extent"),
    [((400, 200), (125, 25), (100, 300, 200, 0)), ((200, 400), (25, 125), (0, 200, 300, 100))],
)
def test_crop_keeps_the_central_square(size, first, extent):
    geometry = Geometry.of("crop", size, (4, 4))
    np.testing.assert_allclose(geometry.centres()[0], first)
    np.testing.assert_allclose(geometry.extent(), extent)


def test_crop_of_a_square_image_is_its_squash():
    assert Geometry.of("crop", (300, 300), (7, 7)) == Geometry.of("squash", (300, 300), (7, 7))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
def test_pixels_inverts_the_affine_map(transform, size):
    geometry = Geometry.of(transform, size, (7, 7))
    points = np.random.default_rng(0).uniform(-1, 8, (5, 3, 2))
    sx, sy, tx, ty = geometry.affine
    np.testing.assert_allclose(geometry.pixels(points) * (sx, sy) + (tx, ty), points)


def test_an_unknown_transform_names_the_known_ones():
    with pytest.raises(ValueError, match="'pad'; known are squash, crop"):
        Geometry.of("pad", (10, 10), (7, 7))


# Shares


def test_shares_by_hand():
    geometry = Geometry.of("squash", (200, 100), (2, 2))
    half_of_the_left_column = (0, 0, 0.25, 1)
    quarter_of_the_last_cell = (0.75, 0.75, 1, 1)
    np.testing.assert_allclose(geometry.shares([half_of_the_left_column]), [0.5, 0, 0.5, 0])
    shares = geometry.shares([half_of_the_left_column, quarter_of_the_last_cell])
    np.testing.assert_allclose(shares, [0.5, 0, 0.5, 0.25])


def test_overlapping_boxes_count_once():
    geometry = Geometry.of("squash", (100, 100), (1, 1))
    assert geometry.shares([(0, 0, 0.6, 1), (0.4, 0, 1, 1)]) == pytest.approx(1)
    assert geometry.shares([(0, 0, 0.5, 0.5)] * 3) == pytest.approx(0.25)


def test_a_crop_sees_only_its_part_of_a_box():
    geometry = Geometry.of("crop", (400, 200), (2, 2))  # sees x from 100 to 300
    np.testing.assert_allclose(geometry.shares([(0, 0, 0.375, 0.5)]), [0.5, 0, 0, 0])
    np.testing.assert_array_equal(geometry.shares([(0, 0, 0.25, 1), (0.75, 0, 1, 1)]), 0)


@pytest.mark.parametrize("boxes", [[], [(0.5, 0.2, 0.5, 0.9)], [(0.2, 0.4, 0.9, 0.4)], [(1.1, 0, 2, 1)]])
def test_boxes_without_area_in_the_grid_cover_nothing(boxes):
    np.testing.assert_array_equal(Geometry.of("squash", (300, 200), (7, 7)).shares(boxes), np.zeros(49))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", GRIDS)
def test_shares_equal_supersampling(transform, size, grid):
    rng = np.random.default_rng(1)
    geometry = Geometry.of(transform, size, grid)
    for count in (1, 2, 4):
        boxes = random_boxes(rng, count)
        np.testing.assert_allclose(geometry.shares(boxes), supersampled(geometry, boxes), atol=0.03)


def test_shares_of_a_box_sum_to_its_area_in_cells():
    boxes = np.random.default_rng(2).uniform(0, 1, (50, 2, 2))
    for (x0, y0), (x1, y1) in np.sort(boxes, axis=1):
        shares = Geometry.of("squash", (313, 211), (5, 9)).shares([(x0, y0, x1, y1)])
        assert shares.sum() == pytest.approx(45 * (x1 - x0) * (y1 - y0))
        assert shares.min() >= 0 and shares.max() <= 1 + 1e-12


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_whole_image_covers_every_cell_whatever_its_size(transform):
    """At some widths (55, 71, 83 ... for 7 columns) the image's edge lies a rounding error inside the grid's."""
    for side in range(8, 700):
        shares = Geometry.of(transform, (side, side + 13), (7, 7)).shares([(0, 0, 1, 1)])
        np.testing.assert_allclose(shares, 1)


# Centres in boxes


def test_holds_by_hand():
    geometry = Geometry.of("squash", (200, 100), (2, 2))  # centres at 1/4 and 3/4 of either side
    np.testing.assert_array_equal(geometry.holds([(0, 0, 0.3, 1)]), [True, False, True, False])
    np.testing.assert_array_equal(geometry.holds([(0.3, 0.3, 0.7, 0.7)]), [False] * 4)
    np.testing.assert_array_equal(geometry.holds([(0, 0, 0.3, 0.3), (0.7, 0.7, 1, 1)]), [True, False, False, True])
    np.testing.assert_array_equal(geometry.holds([(0.25, 0.25, 0.25, 0.25)]), [True, False, False, False])
    np.testing.assert_array_equal(geometry.holds([]), [False] * 4)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
def test_holds_equals_one_sample_at_each_centre(transform, size):
    rng = np.random.default_rng(3)
    for grid in GRIDS:
        geometry, boxes = Geometry.of(transform, size, grid), random_boxes(rng, 3)
        np.testing.assert_array_equal(geometry.holds(boxes), supersampled(geometry, boxes, fine=1) == 1)
