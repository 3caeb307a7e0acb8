"""The fixations of people, and how well a model's attention predicts them.

A CSV with the columns image, subject, order, x, y (and duration, if it was measured) has a line for each fixation.
x and y are pixels of the image, order increases within a subject. Other columns are allowed.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from attend.analysis.gaze.paths import Gaze, paths
from attend.analysis.gaze.saccades import spread
from attend.analysis.gaze.similarity import compare_paths, in_diagonals
from attend.analysis.statistics.intervals import mean_of_known

from attend.geometry import Geometry, centre_weights
from attend.metrics import multimatch
from attend.metrics.saliency import auc, nss
from attend.runs.evaluations import Attention

COLUMNS = ("image", "subject", "order", "x", "y")
MEASURES = ("nss", "auc", *multimatch.DIMENSIONS)
CENTRE, PEOPLE = "looks at the centre", "another person"
LONGEST = 240
"""Pixels of the longer side of the map on which NSS and AUC are computed."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One subject's fixations on one image, in order: points (n, 2) in pixels and durations (n,)."""

    image: str
    subject: str
    points: np.ndarray
    durations: np.ndarray


def read_people(path: Path, geometries: Mapping[str, Geometry]) -> tuple[list[Scan], list[str]]:
    """The scans of a CSV on the images with a geometry, and a sentence for each problem.

    An image is matched by its name, or by its file name. Fixations on unknown images, outside their image, or with
    broken numbers are left out. Subjects with one fixation are reported: they have no path to compare.

    Raises:
        ValueError: the file is not a CSV with the required columns, or no fixation in it can be used.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path} lacks the column {', '.join(missing)}; its first line must have {','.join(COLUMNS)}"
                )
            lines = [(reader.line_num, line) for line in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as CSV ({error}); save it as UTF-8 with commas") from None
    files = {Path(name).name: name for name in geometries}
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = defaultdict(list)
    unknown: Counter[str] = Counter()
    left: list[str] = []
    for number, line in lines:
        named = line["image"] or ""
        image = named if named in geometries else files.get(Path(named).name)
        if image is None:
            unknown[named] += 1
            continue
        fixation = _numbers(line)
        width, height = geometries[image].size
        if fixation is None:
            left.append(f"{path}, line {number}: a fixation needs numbers for order, x and y, and a duration above 0")
        elif not (0 <= fixation[1] < width and 0 <= fixation[2] < height):
            at = f"({fixation[1]:g}, {fixation[2]:g})"
            left.append(f"{path}, line {number}: {at} is outside {image}, which has {width} x {height} pixels")
        else:
            found[image, line["subject"] or ""].append(fixation)
    left += [f"{path}: no run has the image {name!r} ({count} fixations)" for name, count in unknown.items()]
    scans = []
    for (image, subject), some in found.items():
        ordered = np.array(sorted(some, key=lambda one: one[0]))
        if len(set(ordered[:, 0])) < len(ordered):
            left.append(f"{path}: subject {subject} has two fixations of equal order on {image}, kept as in the file")
        if len(ordered) == 1:
            left.append(f"{path}: subject {subject} has one fixation on {image}, so no path to compare")
        scans.append(Scan(image=image, subject=subject, points=ordered[:, 1:3], durations=ordered[:, 3]))
    if not scans:
        raise ValueError(f"{path} has no fixation on an image of these runs" + (f": {left[0]}" if left else ""))
    return scans, left


def compare_people(scans: Sequence[Scan], looks: Sequence[Gaze]) -> list[tuple]:
    """A header, then for every run, image and subject the MEASURES of the run's attention and path.

    The map is the mean of a caption's weights over its words. The path is that of the run's first way. Durations (the
    words of a fixation for a run, those in the file for a person) are shares of the path's sum. Two baselines follow: a
    Gaussian at the centre of the grid, which has no path, and other people on the same image, who have no map.
    """
    rows: list[tuple] = [("model", "seed", "image", "subject", *MEASURES)]
    for one in looks:
        for scan in scans:
            if (look := one.attention.get(scan.image)) is not None:
                path = paths(look, one.ways[0])[0]
                seen = _map(np.mean(look.weights, axis=0), look) if len(look.words) else None
                own = _shares(in_diagonals(path, look.geometry)) if path else None
                pair = compare_paths(own, _path(scan, look.geometry)) if own else [np.nan] * 5
                rows.append((one.variant, one.seed, scan.image, scan.subject, *_maps(seen, scan, look), *pair))
    first = {image: look for one in looks for image, look in one.attention.items()}
    for scan in scans:
        look = first[scan.image]
        seen = _map(centre_weights(look.geometry.grid), look)
        rows.append((CENTRE, 0, scan.image, scan.subject, *_maps(seen, scan, look), *[np.nan] * 5))
    for a, b in combinations(scans, 2):
        if a.image == b.image:
            geometry = first[a.image].geometry
            pair = compare_paths(_path(a, geometry), _path(b, geometry))
            rows.append((PEOPLE, 0, a.image, f"{a.subject} and {b.subject}", np.nan, np.nan, *pair))
    return rows


def by_image(rows: Sequence[tuple]) -> dict[str, dict[str, np.ndarray]]:
    """The rows of ``compare_people`` as model -> measure -> (S, N): means over an image's subjects, NaN if none."""
    images = sorted({row[2] for row in rows[1:]})
    cells: dict[tuple[str, int, str], list[list[float]]] = defaultdict(list)
    for model, seed, image, _, *values in rows[1:]:
        cells[model, seed, image].append(values)
    found: dict[str, dict[str, np.ndarray]] = {}
    for model in dict.fromkeys(model for model, *_ in cells):
        seeds = sorted({seed for name, seed, _ in cells if name == model})
        values = np.full((len(seeds), len(images), len(MEASURES)), np.nan)
        for s, i in np.ndindex(values.shape[:2]):
            if (model, seeds[s], images[i]) in cells:
                values[s, i] = mean_of_known(cells[model, seeds[s], images[i]])
        found[model] = dict(zip(MEASURES, np.moveaxis(values, -1, 0), strict=True))
    return found


def _numbers(line: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """Order, x, y and duration (1 if there is none); None if one of them is invalid."""
    try:
        order, x, y = (float(line[name]) for name in ("order", "x", "y"))
        duration = float(line.get("duration") or 1)
    except (TypeError, ValueError):
        return None
    return (order, x, y, duration) if np.isfinite([order, x, y, duration]).all() and duration > 0 else None


def _map(weights: np.ndarray, look: Attention) -> np.ndarray:
    width, height = look.geometry.size
    scale = min(1.0, LONGEST / max(width, height))
    return spread(weights, look.geometry, (max(1, round(width * scale)), max(1, round(height * scale))))


def _maps(seen: np.ndarray | None, scan: Scan, look: Attention) -> tuple[float, float]:
    if seen is None:
        return np.nan, np.nan
    scale = np.array(seen.shape[::-1]) / look.geometry.size
    points = np.minimum(scan.points * scale, np.array(seen.shape[::-1]) - 0.5)
    return nss(seen, points), auc(seen, points)


def _path(scan: Scan, geometry: Geometry) -> multimatch.Path:
    return _shares(multimatch.Path(points=scan.points / np.hypot(*geometry.size), durations=scan.durations))


def _shares(path: multimatch.Path) -> multimatch.Path:
    """The path with its durations in shares of their sum."""
    total = path.durations.sum()
    return replace(path, durations=path.durations / total) if total > 0 else path
