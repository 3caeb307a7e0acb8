"""The gaze of a caption over its picture: fixations, arrows and words, several models side by side, and as a film.

A *glance* is one way to draw a stored caption's attention: a path through the sampled cells or else those of the
largest weight, a path through the centres of mass of the weights, or the mean of the weights over all words. Only a
path that the caption was written with is drawn. It goes through the content words, in parts of LONGEST fixations.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import ceil

import numpy as np
from attend.analysis.figures.figures import colours, styled, white_edge
from attend.analysis.figures.panels import GAP, Picture, check, fit, panels, photo_of, show
from attend.analysis.gaze.labels import write_labels
from attend.analysis.gaze.marks import colour_of, dashed, explained, fixation_mark, inside
from attend.analysis.gaze.paths import path_of
from attend.analysis.gaze.saccades import TOP, attention_map, colour_bar, heated, times_even
from attend.analysis.grounding.word_kinds import word_kinds
from matplotlib.axes import Axes
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionStyle, FancyArrowPatch

from attend.geometry import Box
from attend.metrics.gaze import Fixation
from attend.runs.evaluations import Attention

BEND = 0.15
"""The bend of an arrow as a fraction of its length: it separates the arrows there and back."""
LONGEST = 7
"""The largest number of fixations of one part of a path: the arrows of more cannot be followed."""
SIZES = ("attention", "gate")
Boxes = Sequence[Sequence[Box]]
"""The boxes of each word of a caption (T)."""
Numbered = Sequence[tuple[int, Fixation]]
"""Fixations, each with its number on the path."""


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A caption's attention, and how to draw it: as one of PATHS, or without a ``path`` as the mean of its weights.

    ``part`` is that of a path. ``boxes`` are those of each word, if the data have some.
    """

    name: str
    variant: str
    attention: Attention
    path: str | None = "cells"
    part: int = 0
    boxes: Boxes | None = None


def dot_values(path: Sequence[Fixation], one: Attention, sizes: str) -> np.ndarray:
    """The value (n,) of each fixation's dot: the mean over its words of the weight of its cell, or of the gate.

    Raises ValueError if ``sizes`` is not in SIZES, or is "gate" without gates.
    """
    if sizes not in SIZES:
        raise ValueError(f"dots are sized by {sizes!r}; known are {', '.join(SIZES)}")
    if sizes == "gate" and one.gates is None:
        raise ValueError("this model has no gate to size dots by; size them by attention")
    spans = [slice(fixation.first, fixation.first + len(fixation.words)) for fixation in path]
    if sizes == "gate":
        return np.array([np.mean(one.gates[span]) for span in spans])
    centres = one.geometry.centres()
    cells = [np.linalg.norm(centres - fixation.point, axis=1).argmin() for fixation in path]
    return np.array([np.mean(one.weights[span, cell]) for span, cell in zip(spans, cells, strict=True)])


def content(one: Attention) -> tuple[Attention, list[int]]:
    """The attention of a caption's content words alone (of all words, if none is one), and their places (T)."""
    kinds = word_kinds(one.words)
    places = [t for t, kind in enumerate(kinds) if kind != "function"] or [*range(len(kinds))]
    arrays = {name: getattr(one, name) for name in ("weights", "glimpses", "gates")}
    arrays = {name: None if values is None else np.asarray(values)[places] for name, values in arrays.items()}
    return replace(one, words=tuple(one.words[t] for t in places), **arrays), places


def parts(one: Attention, path: str = "cells") -> int:
    """The number of parts of a path through the content words, at least one."""
    return max(1, ceil(len(path_of(content(one)[0], path)) / LONGEST))


@styled
def gaze_path(
    image: Picture,
    one: Attention,
    *,
    path: str = "cells",
    part: int = 0,
    sizes: str | None = None,
    spoken: int | None = None,
    boxes: Boxes | None = None,
    colour: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """One part of the gaze through the content words: numbered fixations, arrows, and the words at each place.

    Consecutive content words at one place are one fixation. The area of a dot is its attention, up to TOP times an
    even look, or its gate (``sizes``); without ``sizes`` all dots are equal. A dot is filled if it lies in a box of
    its words, hollow if it does not, and small if they have none; without ``boxes`` all are filled. With ``spoken``,
    the part with the last of that many words is drawn up to it, over the weights of this word, and everything is drawn
    where the whole part has it. ``axes`` must have their final size, since labels are placed in points.

    Raises:
        ValueError: the parts of the attention do not match each other or the picture.
    """
    check(image, one)
    if axes is None:
        _, (axes,) = panels(1, one.geometry.size, one.caption, width=5.0)
    photo = photo_of(image, 1600)
    lit = 0.25 + 0.75 * photo
    if spoken:
        lit = heated(photo, times_even(one.weights[spoken - 1], one.geometry, photo.shape[1::-1]))
    show(axes, lit, one.geometry)
    (named, places), colour = content(one), colour or colour_of(one)
    whole = [*enumerate(path_of(named, path), 1)]
    until = len(places) if spoken is None else sum(place < spoken for place in places)
    if spoken is not None:
        part = max(sum(fixation.first < until for _, fixation in whole) - 1, 0) // LONGEST
    whole = whole[part * LONGEST : (part + 1) * LONGEST]
    visible = [(number, _until(fixation, until)) for number, fixation in whole if fixation.first < until]
    if not visible:  # no word yet, or none at all
        return axes
    own = [_boxes_at(fixation, places, boxes) for _, fixation in visible]
    for box in dict.fromkeys(chain(*own)):
        dashed(axes, box, one.geometry)
    diameters = _diameters([fixation for _, fixation in whole], named, sizes)
    points = np.array([fixation.point for _, fixation in visible])
    _arrows(axes, points, diameters, colour)
    states = [True if boxes is None else inside(*pair, one.geometry) for pair in zip(points, own, strict=True)]
    _dots(axes, points, diameters, states, colour)
    axes.figure.draw_without_rendering()
    _write(axes, diameters / 2, whole, visible, colour)
    return axes


@styled
def gaze_paths(
    image: Picture, one: Attention, *, boxes: Boxes | None = None, sizes: str | None = "attention"
) -> Figure:
    """All parts of the gaze through a caption's content words, each over the picture, below the caption.

    Raises:
        ValueError: the parts of the attention do not match each other or the picture.
    """
    check(image, one)
    count = parts(one)
    dots = "; ".join(explained(boxes, one.glimpses is not None))
    note = f"path through the content words; {dots}; {_area(sizes)}"
    figure, every = panels(
        count, one.geometry.size, one.caption, width=5.0 if count == 1 else 3.55, across=2, below=0.36
    )
    for part, axes in enumerate(every):
        gaze_path(image, one, part=part, sizes=sizes, boxes=boxes, axes=axes)
        if count > 1:
            axes.set_title(f"part {part + 1} of {count}", pad=3, fontsize=8, color="#555555")
    _note(figure, note)
    return figure


@styled
def side_by_side(
    image: Picture,
    rows: Sequence[Sequence[Glance]],
    *,
    sizes: str | None = None,
    spoken: int | None = None,
    note: str = "",
) -> Figure:
    """Rows of glances over one picture, each in its variant's colour, with its name above and its caption below.

    Areas of dots have one scale for all figures. ``spoken`` is as in ``gaze_path``; a shorter caption is shown whole.
    ``note`` is printed below, after the explanation of the dots.

    Raises:
        ValueError: the glances have different images, or do not match the picture.
    """
    rows = [[*chain.from_iterable(map(_parts_of, row))] if spoken is None else row for row in rows]
    glances = [glance for row in rows for glance in row]
    seen = {glance.attention.image for glance in glances}
    if len(seen) != 1:
        raise ValueError(f"glances must be of one image, not of {len(seen)} ({', '.join(sorted(seen))})")
    size, across = glances[0].attention.geometry.size, max(map(len, rows))
    styles = colours(glance.variant for glance in glances)
    letters = int(14 * fit(3.5, size)[0])
    texts = [g.attention.caption if spoken is None else " ".join(g.attention.words[:spoken]) for g in glances]
    written = {id(g): textwrap.fill(text, letters) for g, text in zip(glances, texts, strict=True)}
    lines = max(textwrap.fill(g.attention.caption, letters).count("\n") + 1 for g in glances)
    bar = 0.42 if spoken or any(glance.path is None for glance in glances) else 0.0
    dots = explained(
        next((g.boxes for g in glances if g.boxes), None), all(g.attention.glimpses is not None for g in glances)
    )
    figure, places = panels(
        len(rows) * across, size, "", width=3.5, across=across, foot=0.06 + 0.16 * lines, below=0.34 + bar
    )
    for row, of_row in zip(rows, (places[i : i + across] for i in range(0, len(places), across)), strict=True):
        for spare in of_row[len(row) :]:
            spare.remove()
        for glance, axes in zip(row, of_row, strict=False):
            colour, _ = styles[glance.variant]
            _draw(image, glance, axes, colour, sizes, spoken)
            axes.set_title(glance.name, color=colour, fontweight="bold", pad=4)
            look = {"ha": "center", "va": "top"}
            axes.annotate(written[id(glance)], (0.5, 0), (0, -4), "axes fraction", "offset points", **look)
    _note(figure, f"{'; '.join(dots)}; {_area(sizes)} {note}")
    if bar:
        cells = glances[0].attention.geometry.grid[0] * glances[0].attention.geometry.grid[1]
        colour_bar(figure, cells, bottom=0.3)
    return figure


def _parts_of(glance: Glance) -> list[Glance]:
    """A glance for each part of its path."""
    count = 1 if glance.path is None else parts(glance.attention, glance.path)
    if count == 1:
        return [glance]
    return [replace(glance, part=k, name=f"{glance.name}, {k + 1} of {count}") for k in range(count)]


def _draw(image: Picture, glance: Glance, axes: Axes, colour: str, sizes: str | None, spoken: int | None) -> None:
    """A glance in its panel."""
    one = glance.attention
    if glance.path is None:
        check(image, one)
        total = np.sum(one.weights, axis=0)  # zeros, if there is no word
        attention_map(image, one, total / max(len(one.words), 1), axes=axes)
        return
    end = None if spoken is None else min(spoken, len(one.words))
    options = {"sizes": sizes, "spoken": end, "path": glance.path, "part": glance.part, "boxes": glance.boxes}
    gaze_path(image, one, **options, colour=colour, axes=axes)


def _area(sizes: str | None) -> str:
    """What the area of a dot means."""
    of = {"attention": f"attention at the place, up to {TOP} times an even look", "gate": "gate on the context"}
    return f"area of a dot: {of[sizes]}" if sizes else ""


def _note(figure: Figure, text: str) -> None:
    """A note below all panels."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(" ".join(text.split()), int(19 * width))
    figure.text(GAP / width, 0.05 / height, "\n".join(lines), fontsize=6.5, color="#555555", va="bottom")


def _until(fixation: Fixation, words: int) -> Fixation:
    """A fixation up to a number of words of the caption."""
    return replace(fixation, words=fixation.words[: words - fixation.first])


def _boxes_at(fixation: Fixation, places: Sequence[int], boxes: Boxes | None) -> list[Box]:
    """The boxes of a fixation's words; ``places`` are those of the content words in the caption."""
    if boxes is None:
        return []
    return [box for t in places[fixation.first : fixation.first + len(fixation.words)] for box in boxes[t]]


def _diameters(path: Sequence[Fixation], one: Attention, sizes: str | None) -> np.ndarray:
    """The diameter (n,) of each dot in points."""
    if sizes is None:
        return np.full(len(path), 6.0)
    values = dot_values(path, one, sizes)
    if sizes == "attention":
        values = values * one.weights.shape[1] / TOP
    return 4.0 + 8 * np.sqrt(np.clip(values, 0, 1))


def _arrows(axes: Axes, points: np.ndarray, diameters: np.ndarray, colour: str) -> None:
    """An arrow from each point to the next."""
    arrow = {"arrowstyle": "-|>,head_length=3.4,head_width=1.8", "connectionstyle": f"arc3,rad={BEND}"}
    line = {"color": colour, "linewidth": 1.1, "joinstyle": "miter", "capstyle": "butt"}
    for i, (here, there) in enumerate(pairwise(points)):
        shrink = {"shrinkA": diameters[i] / 2 + 0.5, "shrinkB": diameters[i + 1] / 2 + 0.5}
        axes.add_patch(FancyArrowPatch(here, there, **shrink, **arrow, **line, path_effects=white_edge(2.9), zorder=3))


def _dots(axes: Axes, points: np.ndarray, diameters: np.ndarray, states: Sequence[bool | None], colour: str) -> None:
    """Dots, the smaller above the larger, and their coordinates with a gid, so that ``figures.save`` writes them."""
    for i in np.argsort(-diameters[: len(points)], kind="stable"):
        fixation_mark(axes, points[i], colour, states[i], diameters[i])
    axes.plot(*points.T, linestyle="none", gid="fixations")


def _write(axes: Axes, radii: np.ndarray, whole: Numbered, visible: Numbered, colour: str) -> None:
    """A label for each place, with a line for each fixation there, at its position in the whole part."""
    points = np.array([fixation.point for _, fixation in whole])
    anchors = list(dict.fromkeys(fixation.point for _, fixation in whole))
    widest = [max(r for r, (_, fixation) in zip(radii, whole, strict=True) if fixation.point == at) for at in anchors]
    lines = {anchor: [] for anchor in anchors}
    for number, fixation in whole:
        lines[fixation.point].append((number, label(number, fixation)))
    corners = axes.transData.transform(points)
    path = np.concatenate([np.repeat(corners, 8, axis=0), *(_arc(*ends) for ends in pairwise(corners))])
    full = ["\n".join(text for _, text in lines[anchor]) for anchor in anchors]
    shown = {number: label(number, fixation) for number, fixation in visible}
    labels = write_labels(axes, np.array(anchors), np.array(widest), full, path, colour)
    for anchor, (text, tie) in zip(anchors, labels, strict=True):
        text.set_text("\n".join(shown[number] for number, _ in lines[anchor] if number in shown))
        if tie is not None and not text.get_text():
            tie.remove()


def label(number: int, fixation: Fixation) -> str:
    """The label of a fixation: its number on the path and its words, ``2 a red circle``."""
    words = " ".join(fixation.words)
    return textwrap.fill(f"{number} {words}", 26, max_lines=3, placeholder=" ...")


def _arc(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Points (24, 2) along the arrow between two dots: the quadratic curve that matplotlib's arc3 draws."""
    curve = ConnectionStyle.Arc3(BEND)(here, there, shrinkA=0, shrinkB=0)
    return BezierSegment(curve.vertices)(np.linspace(0, 1, 24))
