"""The similarity of two gaze paths over one image, between seeds of a variant and between variants (MultiMatch).

The similarity of unrelated paths is far above 0. So each number has a baseline: the same two runs, with the images of
one of them permuted so that none stays in place.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from attend.analysis.gaze.path_figures import Row
from attend.analysis.gaze.paths import Gaze, paths
from attend.analysis.statistics.intervals import interval, mean_of_known, paired
from attend.analysis.tables.text import bracketed, markdown

from attend.chance import numpy_generator
from attend.geometry import Geometry
from attend.metrics.gaze import Fixation
from attend.metrics.multimatch import DIMENSIONS, Path, similarity
from attend.metrics.other_images import circle

SAME, SHUFFLED = "same image", "another image"


def in_diagonals(path: Sequence[Fixation], geometry: Geometry) -> Path:
    """The path in units of the picture's diagonal, for pictures of any size; durations are numbers of words."""
    points = np.array([fixation.point for fixation in path]).reshape(-1, 2) / np.hypot(*geometry.size)
    return Path(points=points, durations=np.array([len(fixation.words) for fixation in path], float))


def compare_paths(one: Path, other: Path) -> np.ndarray:
    """DIMENSIONS (5,) for paths in diagonals; NaN if a path has one fixation."""
    if min(len(one.durations), len(other.durations)) < 2:
        return np.full(len(DIMENSIONS), np.nan)
    return np.array(list(similarity(one, other, (0.6, 0.8)).values()))  # a diagonal of 1


def tabulate_similarity(looks: Sequence[Gaze], images: Sequence[str], *, seed: int = 0) -> list[Row]:
    """MultiMatch within each variant and between every two, on the same image, on another image, and the difference.

    Each variant has its first way. An image's value is the mean over all pairs of runs. The pairs share runs, so they
    are not independent samples of seeds and the interval is over images alone.
    """
    runs = [(one, [_path(one, image) for image in images]) for one in looks]
    other = circle(numpy_generator("paths of another image", seed).permutation(len(images))[::-1])
    rows = []
    pairs: dict[tuple[str, str], list[tuple[list[Path], list[Path]]]] = defaultdict(list)
    for (one, its), (two, theirs) in combinations(runs, 2):
        pairs[tuple(sorted((one.variant, two.variant)))].append((its, theirs))
    for (a, b), some in sorted(pairs.items(), key=lambda item: (item[0][0] != item[0][1], item[0])):
        name = f"within {a}" if a == b else f"{a} and {b}"
        same = np.array([[compare_paths(x, y) for x, y in zip(its, theirs, strict=True)] for its, theirs in some])
        far = np.array([[compare_paths(x, theirs[k]) for x, k in zip(its, other, strict=True)] for its, theirs in some])
        same, far = mean_of_known(same), mean_of_known(far)  # over pairs of runs
        for d, dimension in enumerate(DIMENSIONS):
            for part, values in ((SAME, same[:, d]), (SHUFFLED, far[:, d])):
                if not np.isnan(values).all():
                    rows.append(Row(variant=name, way="first", measure=dimension, part=part, found=interval(values)))
            if not np.isnan(same[:, d] + far[:, d]).all():
                found = paired(same[:, d], far[:, d])
                rows.append(Row(variant=name, way="first", measure=dimension, part="difference", found=found))
    return rows


def similarity_table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, dimensions as columns."""
    table: list[tuple] = [("paths of", "over", *DIMENSIONS)]
    for variant, part in dict.fromkeys((row.variant, row.part) for row in rows):
        cells = {row.measure: row.found for row in rows if (row.variant, row.part) == (variant, part)}
        table.append((variant, part, *(bracketed(cells.get(name)) for name in DIMENSIONS)))
    return markdown(table, left=(0, 1)).rstrip()


def _path(looks: Gaze, image: str) -> Path:
    look = looks.attention[image]
    return in_diagonals(paths(look, looks.ways[0])[0], look.geometry)
