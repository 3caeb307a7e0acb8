from itertools import combinations

import multimatch_gaze
import numpy as np
import pytest

from attend.metrics.multimatch import DIMENSIONS, Path, align, similarity

SIZE = (400, 300)  # its diagonal is 500


def wander(rng, count, size=SIZE):
    return Path(points=rng.random((count, 2)) * size, durations=rng.integers(1, 6, count).astype(float))


def as_theirs(path):
    kind = [("start_x", float), ("start_y", float), ("duration", float)]
    return np.array([(*xy, t) for xy, t in zip(path.points, path.durations, strict=True)], dtype=kind)


def test_by_hand():
    """u = (300, 0), (0, 200) and v = (300, 0), (0, -100): paired in their order, so medians are means of two."""
    one = Path(points=np.array([[0.0, 0], [300, 0], [300, 200]]), durations=np.array([1, 2, 3]))
    other = Path(points=np.array([[0.0, 100], [300, 100], [300, 0]]), durations=np.array([1, 4, 1]))
    expected = {
        "shape": 1 - (0 + 300) / 2 / 1000,
        "direction": 1 - (0 + np.pi) / 2 / np.pi,
        "length": 1 - (0 + 100) / 2 / 500,
        "position": 1 - 100 / 500,
        "duration": 1 - (0 + 0.5) / 2,
    }
    assert similarity(one, other, SIZE) == pytest.approx(expected)


def test_equal_paths_are_alike_in_all_ways_and_order_does_not_matter():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = wander(rng, 6), wander(rng, 9)
        assert similarity(one, one, SIZE) == pytest.approx(dict.fromkeys(DIMENSIONS, 1.0))
        assert similarity(one, other, SIZE) == pytest.approx(similarity(other, one, SIZE))


def test_moving_or_turning_a_path_changes_what_it_should():
    one = wander(np.random.default_rng(1), 7, (200, 150))
    moved = Path(points=one.points + np.array([80, 60]), durations=one.durations)
    alike = similarity(one, moved, SIZE)
    assert alike == pytest.approx(dict.fromkeys(DIMENSIONS, 1.0) | {"position": 1 - 100 / 500})
    back = Path(points=np.array([[10.0, 10], [50, 10]]), durations=np.ones(2))
    forth = Path(points=back.points[::-1], durations=np.ones(2))
    assert similarity(back, forth, SIZE)["direction"] == 0


@pytest.mark.parametrize("seed", range(40))
def test_the_package_agrees(seed):
    rng = np.random.default_rng(seed)
    one, other = (wander(rng, int(rng.integers(3, 12))) for _ in range(2))
    theirs = multimatch_gaze.docomparison(as_theirs(one), as_theirs(other), screensize=SIZE)
    np.testing.assert_allclose(list(similarity(one, other, SIZE).values()), np.ravel(theirs))


def ways(rows, columns):
    """All monotone ways from corner to corner, by recursion."""
    if (rows, columns) == (1, 1):
        return [[(0, 0)]]
    shorter = [(rows - a, columns - b) for a, b in ((1, 1), (1, 0), (0, 1)) if rows > a and columns > b]
    return [[*way, (rows - 1, columns - 1)] for size in shorter for way in ways(*size)]


@pytest.mark.parametrize("seed", range(20))
def test_the_alignment_is_the_best_of_all_ways(seed):
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 4, rng.integers(1, 6, 2)).astype(float)  # small whole numbers: many ways are equal
    found = list(zip(*(part.tolist() for part in align(costs)), strict=True))
    sums = {tuple(way): (sum(costs[cell] for cell in way), len(way)) for way in ways(*costs.shape)}
    assert sums[tuple(found)] == min(sums.values())


def test_chance_is_far_above_zero():
    """Two paths of random places: what a similarity has to be compared with."""
    rng = np.random.default_rng(0)
    paths = [wander(rng, 8) for _ in range(20)]
    found = [similarity(a, b, SIZE) for a, b in combinations(paths, 2)]
    means = {name: np.mean([one[name] for one in found]) for name in DIMENSIONS}
    assert all(0.4 < mean < 1 for mean in means.values()) and means["shape"] > means["direction"]


def test_what_is_no_path():
    one = wander(np.random.default_rng(0), 4)
    point = Path(points=np.zeros((1, 2)), durations=np.ones(1))
    with pytest.raises(ValueError, match="a path of 1 fixation has no saccade"):
        similarity(one, point, SIZE)
    with pytest.raises(ValueError, match="lasts no time"):
        Path(points=np.zeros((2, 2)), durations=np.array([1, 0]))
    with pytest.raises(ValueError, match=r"points are \(2, 2\) for 3 durations"):
        Path(points=np.zeros((2, 2)), durations=np.ones(3))
