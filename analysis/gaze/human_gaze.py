"""The fixations of people, and how well a model's attention predicts them.

A map (the mean of a caption's weights over its words) is compared with people's fixations and their density, a path
with each person's path. Beside the models stand a Gaussian at the centre that is as sharp as each model, an even look,
where people looked on other images, and other people on the same image: the last is about the best that can be asked
for.

A CSV with the columns image, subject, order, x, y (and duration, if it was measured) has a line for each fixation.
x and y are pixels of the image, order increases within a subject. Other columns are allowed.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from attend.analysis.gaze.paths import Gaze, paths
from attend.analysis.gaze.saccades import spread
from attend.analysis.gaze.similarity import compare_paths, in_diagonals
from attend.analysis.statistics.intervals import mean_of_known

from attend.chance import numpy_generator
from attend.geometry import Geometry
from attend.metrics import multimatch
from attend.metrics.saliency import auc, cc, density, information_gain, kl, nss, shuffled_auc, sim
from attend.metrics.scanmatch import scanmatch
from attend.metrics.sharpness import centre_of, entropy
from attend.paths import regular

COLUMNS = ("image", "subject", "order", "x", "y")
OF_MAPS = ("nss", "auc", "shuffled auc", "kl", "cc", "sim", "bits beyond others' images")
OF_PATHS = (*multimatch.DIMENSIONS, "scanmatch")
MEASURES = (*OF_MAPS, *OF_PATHS)
EVEN, CENTRE = "looks nowhere: even", "looks at the centre, as sharp as {}"
ELSEWHERE, PEOPLE = "where people look on other images", "other people"
LONGEST = 120
"""Pixels of the longer side of the maps."""
BLUR = 0.03
"""Deviation of the Gaussian that turns fixations into a density, in longer sides: about a degree of sight."""
OTHERS = 1000
"""Fixations on other images that are the negatives of the shuffled AUC, drawn for each image."""


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
        with open(regular(path), newline="", encoding="utf-8-sig") as file:
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
        why = f" ({left[0]})" if left else ""
        raise ValueError(f"{path} has no fixation on an image of these runs{why}: name images as their split does")
    return scans, left


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What people saw of one image, in pixels of a map of ``shape``: each person's path and points, the density of all,
    and of all but each; the density of other images' fixations, some of their points, and for each person the path of
    somebody on another image."""

    shape: tuple[int, int]
    geometry: Geometry
    scans: tuple[Scan, ...]
    paths: tuple[multimatch.Path, ...]
    points: tuple[np.ndarray, ...]
    everybody: np.ndarray
    but: tuple[np.ndarray, ...]
    elsewhere: np.ndarray
    others: np.ndarray
    strangers: tuple[multimatch.Path, ...]


def what_people_saw(scans: Sequence[Scan], looks: Sequence[Gaze], seed: int = 0) -> dict[str, Seen]:
    """What people saw of each image that has a look. Places on other images are taken in shares of the picture."""
    geometry = {image: one.geometry for look in looks for image, one in look.attention.items()}
    by_image: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_image[scan.image].append(scan)
    shares = {
        image: np.concatenate([one.points for one in some]) / geometry[image].size for image, some in by_image.items()
    }
    drawn, found = numpy_generator("fixations on other images", seed), {}
    of_paths = numpy_generator("paths on other images", seed)
    for image, some in by_image.items():
        shape = _shape(geometry[image])
        pixels = tuple(_pixels(one.points / geometry[image].size, shape) for one in some)
        sigma, everything = BLUR * max(shape), np.concatenate(pixels)
        rest = [points for other, points in shares.items() if other != image]
        others = _pixels(np.concatenate(rest), shape) if rest else np.zeros((0, 2))
        few = [np.concatenate([*pixels[:n], *pixels[n + 1 :]]) for n in range(len(pixels))] if len(some) > 1 else []
        found[image] = Seen(
            shape=shape,
            geometry=geometry[image],
            scans=tuple(some),
            paths=tuple(_path(scan, geometry[image]) for scan in some),
            points=pixels,
            everybody=density(everything, shape, sigma),
            but=tuple(density(points, shape, sigma) for points in few),
            elsewhere=density(others, shape, sigma) if len(others) else np.full(shape, 1 / np.prod(shape)),
            others=others[drawn.choice(len(others), min(OTHERS, len(others)), replace=False)]
            if len(others)
            else others,
            strangers=_strangers(image, scans, geometry, of_paths) if rest else (),
        )
    return found


def compare_people(scans: Sequence[Scan], looks: Sequence[Gaze], seed: int = 0) -> list[tuple]:
    """A header, then for every run, image and subject the MEASURES of the run's map and path.

    The path is that of the run's first way. Durations (the words of a fixation for a run, those in the file for a
    person) are shares of the path's sum. KL, CC and SIM are of the density of all people, and alike for all subjects.
    Baselines follow. CENTRE is the Gaussian whose entropy is the mean of that of the run's maps; it and EVEN have no
    path. For ELSEWHERE the path is one of somebody on another image, in shares of the picture. For PEOPLE the map is
    the density of the other subjects, and the path that of each of them.
    """
    rows: list[tuple] = [("model", "seed", "image", "subject", *MEASURES)]
    seen = what_people_saw(scans, looks, seed)
    for one in looks:
        for image, people in seen.items():
            if (look := one.attention.get(image)) is not None and len(look.words):
                path = paths(look, one.ways[0])[0]
                own = _shares(in_diagonals(path, look.geometry)) if path else None
                maps = _maps(_map(np.mean(look.weights, axis=0), look.geometry, people.shape), people)
                pairs = (_pair(own, theirs, look.geometry) for theirs in people.paths)
                rows += _rows(one.variant, one.seed, people, maps, pairs)
    none = (np.nan,) * len(OF_PATHS)
    for one in looks:
        name, centres = CENTRE.format(one.variant), _centres(one)
        for image, people in seen.items():
            if image in centres:
                middle = _map(centres[image], one.attention[image].geometry, people.shape)
                rows += _rows(name, one.seed, people, _maps(middle, people), (none for _ in people.scans))
    for people in seen.values():
        even = _maps(np.ones(people.shape), people)
        rows += _rows(EVEN, 0, people, even, (none for _ in people.scans))
        theirs = people.strangers or (None,) * len(people.scans)
        pairs = (_pair(path, own, people.geometry) for path, own in zip(theirs, people.paths, strict=True))
        rows += _rows(ELSEWHERE, 0, people, _maps(people.elsewhere, people), pairs)
        pairs = _all_pairs(people) if people.but else np.zeros(0)
        for n, but in enumerate(people.but):
            alone = replace(people, scans=people.scans[n : n + 1], points=people.points[n : n + 1])
            alone = replace(alone, everybody=density(alone.points[0], people.shape, BLUR * max(people.shape)))
            rows += _rows(PEOPLE, 0, alone, _maps(but, alone), iter([tuple(mean_of_known(pairs[n]))]))
    return rows


def _centres(looks: Gaze) -> dict[str, np.ndarray]:
    """For each image the Gaussian (L,) at the centre whose entropy is the mean of that of a run's maps."""
    maps = {image: np.mean(one.weights, axis=0) for image, one in looks.attention.items() if len(one.words)}
    nats = float(np.mean([entropy(one) for one in maps.values()])) if maps else 0.0
    by_grid = {grid: centre_of(grid, nats) for grid in {looks.attention[image].geometry.grid for image in maps}}
    return {image: by_grid[looks.attention[image].geometry.grid] for image in maps}


def _strangers(
    image: str, scans: Sequence[Scan], geometry: Mapping[str, Geometry], drawn: np.random.Generator
) -> tuple[multimatch.Path, ...]:
    """For each subject of an image the path of somebody on another image, at the same shares of this picture."""
    size, elsewhere = geometry[image].size, [one for one in scans if one.image != image]
    chosen = drawn.integers(len(elsewhere), size=len(scans) - len(elsewhere))
    moved = (
        replace(one, points=one.points / geometry[one.image].size * size) for one in (elsewhere[n] for n in chosen)
    )
    return tuple(_path(one, geometry[image]) for one in moved)


def _all_pairs(people: Seen) -> np.ndarray:
    """OF_PATHS of every two subjects, (S, S, OF_PATHS); NaN of a subject with itself."""
    pairs = np.full((len(people.paths), len(people.paths), len(OF_PATHS)), np.nan)
    for (m, one), (n, other) in combinations(enumerate(people.paths), 2):
        pairs[m, n] = pairs[n, m] = _pair(one, other, people.geometry)
    return pairs


def _rows(model: str, seed: int, people: Seen, maps: Iterable[tuple], pairs: Iterable[tuple]) -> Iterable[tuple]:
    for scan, of_map, of_path in zip(people.scans, maps, pairs, strict=True):
        yield (model, seed, scan.image, scan.subject, *of_map, *of_path)


def _maps(look: np.ndarray, people: Seen) -> list[tuple[float, ...]]:
    """OF_MAPS of a map for each subject."""
    alike = kl(look, people.everybody), cc(look, people.everybody), sim(look, people.everybody)
    found = []
    for points in people.points:
        ranks = nss(look, points), auc(look, points), shuffled_auc(look, points, people.others)
        found.append((*ranks, *alike, information_gain(look, people.elsewhere, points)))
    return found


def _pair(one: multimatch.Path | None, other: multimatch.Path, geometry: Geometry) -> tuple[float, ...]:
    """OF_PATHS of two paths."""
    if one is None:
        return (np.nan,) * len(OF_PATHS)
    size = np.array(geometry.size) / np.hypot(*geometry.size)
    return (*compare_paths(one, other), scanmatch(one.points, other.points, tuple(size)))


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


def _shape(geometry: Geometry) -> tuple[int, int]:
    """Height and width of the maps of an image."""
    width, height = geometry.size
    scale = min(1.0, LONGEST / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _pixels(shares: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Points in shares of the picture as points of a map."""
    size = np.array(shape[::-1])
    return np.minimum(shares * size, size - 0.5)


def _map(weights: np.ndarray, geometry: Geometry, shape: tuple[int, int]) -> np.ndarray:
    return spread(weights, geometry, shape[::-1])


def _path(scan: Scan, geometry: Geometry) -> multimatch.Path:
    return _shares(multimatch.Path(points=scan.points / np.hypot(*geometry.size), durations=scan.durations))


def _shares(path: multimatch.Path) -> multimatch.Path:
    """The path with its durations in shares of their sum."""
    total = path.durations.sum()
    return replace(path, durations=path.durations / total) if total > 0 else path
