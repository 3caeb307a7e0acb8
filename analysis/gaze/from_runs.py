"""`attend plot saccades` and `attend plot gaze`: pictures of the gaze, and its statistics over a split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from attend.analysis.figures.figures import FORMATS, save
from attend.analysis.figures.panels import Picture
from attend.analysis.gaze.drawing import draw_maps
from attend.analysis.gaze.film import film
from attend.analysis.gaze.human_gaze import MEASURES as AGREEMENT
from attend.analysis.gaze.human_gaze import by_image, compare_people, read_people
from attend.analysis.gaze.path_figures import (
    HEADER,
    draw_gaze_statistics,
    gaze_table,
    tabulate_differences,
    tabulate_gaze,
)
from attend.analysis.gaze.paths import DRAWS, LARGEST, MASS, Gaze, measure, paths, read_gaze
from attend.analysis.gaze.pictures import Boxes, Glance, dot_values, side_by_side
from attend.analysis.gaze.similarity import similarity_table, tabulate_similarity
from attend.analysis.grounding.boxes import boxes_of_words
from attend.analysis.records import Evaluation, Record, names
from attend.analysis.statistics.intervals import interval
from attend.analysis.tables.text import bracketed, markdown

from attend.bars import say
from attend.data.examples import Caption
from attend.data.images import open_image
from attend.data.prepared import Prepared
from attend.runs.files import shortened, write_rows, write_text

FIXATIONS = (
    *("image", "subject", "variant", "seed", "way", "draw", "order", "x", "y", "duration"),
    *("first", "words", "attention", "gate", "caption"),
)
"""Columns of exported fixations. With ``subject``, a model's path can be read like a person's."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which pictures are drawn, and how: the number of ``images``, or the ``names`` of some.

    ``dots``: the quantity in the area of a dot. ``raw``: maps show cells instead of a smooth surface. ``moving``: also
    a film. ``decode``: the evaluation of hard models (None: that of their headline scores). ``draws``: the number of
    paths sampled from a hard model's weights, with this ``seed``, for the numbers beside a picture.
    """

    images: int = 4
    names: Sequence[str] = ()
    dots: str = "attention"
    raw: bool = False
    moving: bool = False
    decode: str | None = None
    draws: int = 20
    seed: int = 0


def draw_saccades(records: Sequence[Record], folder: Path, pictures: Pictures) -> list[Path]:
    """For each image: all ways of every variant (its first run) side by side, the maps, and a film if ``moving``."""
    shown = list(_read_records(records, pictures.decode, once=True))
    files: list[Path] = []
    for name in _chosen(shown, pictures.images, pictures.names) if shown else ():
        looks = [(record, one) for record, one in shown if name in one.attention]
        try:
            dataset = Prepared(looks[0][0].config.data)
            picture = open_image(dataset.file(name))
            captions = captions_of(dataset, name)
        except ValueError as error:
            say(f"{error}; this image is left out")
            continue
        stem = shortened(Path(name).stem) if pictures.names else str(list(looks[0][1].attention).index(name))
        gazes = [one for _, one in looks]
        boxes = [boxes_of_words(one.attention[name].words, captions) if captions else None for one in gazes]
        files += _draw_gazes(picture, name, gazes, boxes, folder / f"gaze-{stem}", pictures)
        for one, own in zip(gazes, boxes, strict=True):
            path = folder / f"maps-{stem}-{one.variant.replace('/', '-')}"
            files += draw_maps(picture, one.attention[name], path, boxes=own, smooth=not pictures.raw)
    return files


def captions_of(dataset: Prepared, image: str) -> tuple[Caption, ...]:
    """The captions of an image, if the dataset has boxes."""
    if not dataset.boxes:
        return ()
    return next((one.captions for one in dataset.examples if one.image == image), ())


def _draw_gazes(
    picture: Picture, name: str, looks: Sequence[Gaze], boxes: Sequence[Boxes | None], path: Path, how: Pictures
) -> list[Path]:
    """The gaze of several variants over one image side by side, with its numbers, and a film if ``moving``."""
    rows = [glances(one, name, own) for one, own in zip(looks, boxes, strict=True)]
    sizes = None if how.dots == "equal" else how.dots
    if sizes == "gate" and any(glance.attention.gates is None for row in rows for glance in row):
        say(f"not every model of {name} has a gate: dots are sized by attention")
        sizes = "attention"
    numbers = [FIXATIONS, *(line for one in looks for line in exported(one, [name], how.draws, how.seed))]
    figure = side_by_side(picture, rows, sizes=sizes)
    files = save(figure, path, formats=("png",), numbers=numbers)
    if how.moving:
        longest = max(len(one.attention[name].words) for one in looks)
        first = [[row[0] for row in rows][i : i + 3] for i in range(0, len(rows), 3)]
        ends = [*range(1, longest + 1), None]
        frames = (side_by_side(picture, first, sizes=sizes, spoken=spoken) for spoken in ends)
        files.append(film(frames, path.with_name(f"{path.name}.gif")))
    return files


def glances(looks: Gaze, name: str, boxes: Boxes | None = None) -> list[Glance]:
    """The panels of one run: its path (soft attention: two readings of it), and the mean of its weights."""
    one, variant = looks.attention[name], looks.variant
    read = replace(one, glimpses=None) if looks.ways[0] == LARGEST else one
    shared = {"variant": variant, "attention": read, "boxes": boxes}
    found = [Glance(name=f"{variant}: {looks.ways[0]}", **shared)]
    if not looks.glimpsed:
        found.append(Glance(name=f"{variant}: {MASS}", path="mass", **shared))
    return [*found, Glance(name=f"{variant}: mean over words", path=None, **shared)]


def exported(looks: Gaze, images: Sequence[str], draws: int, seed: int = 0) -> Iterator[tuple]:
    """Rows of FIXATIONS for every way of a run, with ``draws`` sampled paths; the duration is the number of words."""
    for name in images:
        one = looks.attention[name]
        for way in looks.ways[: 2 if draws or not looks.glimpsed else 1]:
            for draw, path in enumerate(paths(one, way, draws=draws, seed=seed)):
                subject = f"{looks.variant}/seed{looks.seed}/{way}" + (f"/{draw}" if way == DRAWS else "")
                who = (name, subject, looks.variant, looks.seed, way, draw)
                weights = dot_values(path, one, "attention") if path else ()
                gated = path and one.gates is not None
                gates = dot_values(path, one, "gate") if gated else [np.nan] * len(path)
                for k, (fixation, weight, gate) in enumerate(zip(path, weights, gates, strict=True), 1):
                    x, y = (round(v, 2) for v in fixation.point)
                    spoken = (fixation.first + 1, " ".join(fixation.words), round(float(weight), 5))
                    gate = "" if np.isnan(gate) else round(float(gate), 5)
                    yield (*who, k, x, y, len(fixation.words), *spoken, gate, one.caption)


def draw_gaze(
    records: Sequence[Record],
    folder: Path,
    *,
    decode: str | None = None,
    draws: int = 20,
    seed: int = 0,
    people: Path | None = None,
    split: str | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write gaze statistics over a split (that of the headline scores), path similarity, fixations and human agreement.

    ``split`` may be the name of images without captions that the runs have captioned.
    """
    looks = [one for _, one in _read_records(records, decode, split=split)]
    if not looks:
        return []
    images = _common(looks)
    measured = [measure(one, way, images, draws=draws, seed=seed) for one in looks for way in one.ways]
    rows, differences = tabulate_gaze(measured), tabulate_differences(measured)
    figure = draw_gaze_statistics(rows, measured[0].ceiling)
    numbers = [HEADER, *(row.cells() for row in (*rows, *differences))]
    files = save(figure, folder / "gaze", formats=formats, numbers=numbers)
    lines = ["# The gaze", "", gaze_table(rows, differences), "", _about(looks, images, draws, seed)]
    if len(looks) > 1:
        similar = tabulate_similarity(looks, images, seed=seed)
        lines += ["", "# Similarity of paths (MultiMatch)", "", similarity_table(similar)]
        files.append(folder / "similarity.csv")
        write_rows(files[-1], [HEADER, *(row.cells() for row in similar)])
    fixations = (row for one in looks for row in exported(one, images, draws=0))
    files.append(folder / "fixations.csv")
    write_rows(files[-1], [FIXATIONS, *fixations])
    if people is not None:
        agreement, more = _people(looks, folder, people)
        lines, files = [*lines, "", *agreement], [*files, *more]
    write_text(folder / "gaze.md", "\n".join(lines) + "\n")
    return [folder / "gaze.md", *files]


def _people(looks: Sequence[Gaze], folder: Path, people: Path) -> tuple[list[str], list[Path]]:
    """NSS, AUC and path similarity with people's fixations: Markdown, and a file with one row per comparison."""
    geometries = {name: look.geometry for one in looks for name, look in one.attention.items()}
    scans, left = read_people(people, geometries)
    for sentence in left[:20]:
        say(sentence)
    if len(left) > 20:
        say(f"{people} has {len(left) - 20} more problems of these kinds")
    rows = compare_people(scans, looks)
    images, subjects = {scan.image for scan in scans}, {scan.subject for scan in scans}
    lines = [f"# Agreement with people: {len(subjects)} subjects on {len(images)} images", ""]
    table: list[tuple] = [("model", *AGREEMENT)]
    means: list[tuple] = [("model", "measure", "mean", "low", "high", "seeds", "images")]
    for model, values in by_image(rows).items():
        known = {name: [row for row in values[name] if (row == row).any()] for name in AGREEMENT}
        found = {name: interval(some) if some else None for name, some in known.items()}
        table.append((model, *map(bracketed, found.values())))
        means += [(model, name, *one.shown, one.seeds, one.images) for name, one in found.items() if one]
    lines.append(markdown(table).rstrip())
    files = [folder / "people.csv", folder / "people-means.csv"]
    for file, content in zip(files, (rows, means), strict=True):
        write_rows(file, content)
    return lines, files


def _read_records(
    records: Sequence[Record], decode: str | None, once: bool = False, split: str | None = None
) -> Iterator[tuple[Record, Gaze]]:
    """The stored attention of the runs with learned attention (one per variant if ``once``), soft runs first."""
    called = names(records)
    seen: set[str] = set()
    for record in sorted(records, key=lambda record: record.config.attention.select == "sample"):  # soft first
        variant = called[record.folder]
        if (once and variant in seen) or record.config.attention.weights != "learned":
            continue
        if not record.finished:
            say(f"{record.folder} is not finished: resume it; it is left out")
            continue
        try:
            yield record, read_gaze(record, _evaluation(record, decode, split), variant)
            seen.add(variant)
        except ValueError as error:
            say(f"{error}; this run is left out")


def _evaluation(record: Record, decode: str | None, split: str | None = None) -> Evaluation:
    """The evaluation of the run's headline scores, or for a hard run with ``decode`` that decoding, on a split."""
    scores, split = record.scores, split or record.scores["split"]
    found, how = record.headline(split), f"{split} {scores['decode']} {scores['beam']}"
    if decode is not None and record.config.attention.select == "sample":
        found, how = record.evaluation(split=split, decode=decode, look=None), f"{split} {decode}"
    if found is None:
        raise ValueError(f"{record.folder} has no evaluation {how}: add it with `attend evaluate`")
    return found


def _chosen(shown: Sequence[tuple[Record, Gaze]], images: int, names: Sequence[str]) -> list[str]:
    """The images with these names, or the first ones for which all runs have attention."""
    common = _common([one for _, one in shown])
    if not names:
        return common[:images]
    found = []
    for name in names:
        match = [one for one in common if one == name or Path(one).name == name]
        if match:
            found.append(match[0])
        else:
            say(f"{name!r} is not among the {len(common)} images of these runs: it is left out")
    return found


def _common(looks: Sequence[Gaze]) -> list[str]:
    """The images that all runs have, in the order of the first run; ValueError if there is none."""
    common = [name for name in looks[0].attention if all(name in one.attention for one in looks)]
    if not common:
        raise ValueError("these runs have no images in common: compare runs of one dataset and split")
    most = max(len(one.attention) for one in looks)
    if len(common) < most:
        say(f"only {len(common)} of up to {most} images are common to these runs: the others are left out")
    return common


def _note(looks: Sequence[Gaze], draws: int, seed: int, more: str = "") -> str:
    """Explain the draws, followed by ``more``; empty if no run has draws."""
    if not any(one.glimpsed for one in looks):
        return ""
    note = f"Draws ({draws}, seed {seed}): each word's place is sampled independently from its stored weights."
    decoded = " and ".join(dict.fromkeys(one.decode for one in looks if one.conditional))
    depend = f" These weights depend on the glimpses of decoding ({decoded}), not on the sampled places."
    return note + (depend if decoded else "") + more


def _about(looks: Sequence[Gaze], images: Sequence[str], draws: int, seed: int) -> str:
    """The images and runs of the table, and its draws."""
    runs = "; ".join(f"{one.variant} seed {one.seed} ({one.decode})" for one in looks)
    return f"{len(images):,} images; {runs}. {_note(looks, draws, seed)}".rstrip()
