"""The gaze of a caption over its picture: fixations, arrows and words, several models side by side, and as a film.

A *glance* is one way to draw a stored caption's attention as a path: the sampled cells or else those of the largest
weight, the centres of mass of the weights, or a cloud of many paths sampled from the weights.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from attend.analysis.figures.figures import PALETTE, colours, styled
from attend.analysis.figures.panels import Picture, check, fit, panels, photo_of, show
from attend.analysis.gaze.labels import write_labels
from attend.analysis.gaze.paths import path_of
from attend.analysis.gaze.saccades import spread
from matplotlib.axes import Axes
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionStyle, FancyArrowPatch
from matplotlib.patheffects import Normal, withStroke

from attend.chance import numpy_generator
from attend.geometry import Geometry
from attend.metrics.gaze import Fixation, radius
from attend.runs.evaluations import Attention

BEND = 0.15
"""The bend of an arrow as a fraction of its length: it separates the arrows there and back."""
SIZES = ("attention", "gate")
WHITE = [withStroke(linewidth=2.9, foreground="white"), Normal()]


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A caption's attention, and how to draw it: as one of PATHS, or as a ``cloud`` (K, T) of sampled cells."""

    name: str
    variant: str
    attention: Attention
    path: str = "cells"
    cloud: np.ndarray | None = None


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


@styled
def gaze_path(
    image: Picture,
    one: Attention,
    *,
    path: str = "cells",
    sizes: str | None = None,
    largest: float | None = None,
    spoken: int | None = None,
    colour: str = PALETTE[1],
    axes: Axes | None = None,
) -> Axes:
    """The path of the gaze over the picture: numbered fixations, arrows, and the words at each place.

    Consecutive words at one place are one fixation. The area of a dot is its attention or gate (``sizes``) as a share
    of the ``largest``; without ``sizes`` all dots are equal. With ``spoken``, the path ends after that number of words,
    the picture is lit by the last word's weights, and everything is drawn where the whole path has it. ``axes`` must
    have their final size, since labels are placed in points.

    Raises:
        ValueError: the parts of the attention do not match each other or the picture.
    """
    check(image, one)
    if axes is None:
        _, (axes,) = panels(1, one.geometry.size, one.caption, width=5.0)
    photo = 0.25 + 0.75 * photo_of(image, 1600)
    if spoken:
        photo *= 0.45 + 0.55 * spread(one.weights[spoken - 1], one.geometry, photo.shape[1::-1])[..., None]
    show(axes, photo, one.geometry)
    whole = path_of(one, path)
    if not whole:  # a caption without a word
        return axes
    shown = _until(whole, len(one.words) if spoken is None else spoken)
    diameters = np.full(len(whole), 6.0)
    if sizes is not None:
        values = dot_values(whole, one, sizes)
        diameters = 3.5 + 8 * np.sqrt(values / max(largest or values.max(), 1e-12))
    points = np.array([fixation.point for fixation in whole])
    arrow = {"arrowstyle": "-|>,head_length=3.4,head_width=1.8", "connectionstyle": f"arc3,rad={BEND}"}
    line = {"color": colour, "linewidth": 1.1, "joinstyle": "miter", "capstyle": "butt"}
    for i, (here, there) in enumerate(pairwise(points[: len(shown)])):
        shrink = {"shrinkA": diameters[i] / 2 + 0.5, "shrinkB": diameters[i + 1] / 2 + 0.5}
        axes.add_patch(FancyArrowPatch(here, there, **shrink, **arrow, **line, path_effects=WHITE, zorder=3))
    _dots(axes, points[: len(shown)], diameters, colour)
    axes.figure.draw_without_rendering()
    _write(axes, diameters / 2, whole, shown, colour)
    return axes


@styled
def gaze_cloud(
    image: Picture, geometry: Geometry, cells: np.ndarray, *, colour: str = PALETTE[1], axes: Axes | None = None
) -> Axes:
    """Many paths (K, T) over the picture, each a thin line. The dot of a cell grows with the number of its fixations.

    Points are jittered within their cells, since lines would hide each other.
    """
    if axes is None:
        _, (axes,) = panels(1, geometry.size, "", width=5.0)
    show(axes, 0.25 + 0.75 * photo_of(image, 1600), geometry)
    cells = np.asarray(cells, int)
    if not cells.size:
        return axes
    centres, side = geometry.centres(), 2 * radius(geometry)
    apart = numpy_generator("dots of a cloud", 0).uniform(-0.3, 0.3, (*cells.shape, 2)) * side
    for points in centres[cells] + apart:
        axes.plot(*points.T, color="white", linewidth=1.6, alpha=0.25, zorder=2.9, solid_joinstyle="round")
        axes.plot(*points.T, color=colour, linewidth=0.7, alpha=0.4, zorder=3, solid_joinstyle="round")
    visited, counts = np.unique(cells, return_counts=True)
    diameters = 2.5 + 9 * np.sqrt(counts / counts.max())
    _dots(axes, centres[visited], diameters, colour, alpha=0.85)
    return axes


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

    Areas of dots have one scale in the whole figure. ``spoken`` is as in ``gaze_path``; a shorter caption is shown
    whole. ``note`` is printed below, after the explanation of the dots.

    Raises:
        ValueError: the glances have different images, or do not match the picture.
    """
    glances = [glance for row in rows for glance in row]
    seen = {glance.attention.image for glance in glances}
    if len(seen) != 1:
        raise ValueError(f"glances must be of one image, not of {len(seen)} ({', '.join(sorted(seen))})")
    paths = [glance for glance in glances if glance.cloud is None]
    values = (v for one in paths for v in dot_values(path_of(one.attention, one.path), one.attention, sizes or ""))
    largest = max(values, default=None) if sizes else None
    if largest is not None:
        of = {"attention": "attention at the place", "gate": "gate on the context"}[sizes]
        note = f"Area of a dot: {of}, averaged over its words (largest {largest:.2f}). {note}"
    size, across = glances[0].attention.geometry.size, max(map(len, rows))
    styles = colours(glance.variant for glance in glances)
    letters = int(14 * fit(3.5, size)[0])
    texts = [g.attention.caption if spoken is None else " ".join(g.attention.words[:spoken]) for g in glances]
    written = {id(g): textwrap.fill(text, letters) for g, text in zip(glances, texts, strict=True)}
    lines = max(textwrap.fill(g.attention.caption, letters).count("\n") + 1 for g in glances)
    foot, below = 0.06 + 0.16 * lines, textwrap.wrap(note, int(17 * (across * (fit(3.5, size)[0] + 0.07))))
    figure, places = panels(
        len(rows) * across, size, "", width=3.5, across=across, foot=foot, below=0.13 * len(below) + 0.04 * bool(below)
    )
    for row, of_row in zip(rows, (places[i : i + across] for i in range(0, len(places), across)), strict=True):
        for spare in of_row[len(row) :]:
            spare.remove()
        for glance, axes in zip(row, of_row, strict=False):
            colour, _ = styles[glance.variant]
            one = glance.attention
            end = None if spoken is None else min(spoken, len(one.words))
            if glance.cloud is not None:
                gaze_cloud(image, one.geometry, glance.cloud[:, :end], colour=colour, axes=axes)
            else:
                options = {"sizes": sizes, "largest": largest, "spoken": end, "path": glance.path}
                gaze_path(image, one, **options, colour=colour, axes=axes)
            axes.set_title(glance.name, color=colour, fontweight="bold", pad=4)
            look = {"ha": "center", "va": "top"}
            axes.annotate(written[id(glance)], (0.5, 0), (0, -4), "axes fraction", "offset points", **look)
    inches = figure.get_size_inches()
    figure.text(0.07 / inches[0], 0.05 / inches[1], "\n".join(below), fontsize=7, color="#555555", va="bottom")
    return figure


def _until(path: Sequence[Fixation], spoken: int) -> list[Fixation]:
    """The path up to word ``spoken``."""
    return [
        replace(fixation, words=fixation.words[: spoken - fixation.first])
        for fixation in path
        if fixation.first < spoken
    ]


def _dots(axes: Axes, points: np.ndarray, diameters: np.ndarray, colour: str, alpha: float = 1.0) -> None:
    """Dots, the smaller above the larger, and their coordinates with a gid, so that ``figures.save`` writes them."""
    look = {"color": colour, "markeredgecolor": "white", "markeredgewidth": 1.0, "clip_on": False, "alpha": alpha}
    for i in np.argsort(-diameters[: len(points)], kind="stable"):
        axes.plot(*points[i], "o", markersize=diameters[i], **look, zorder=4)
    axes.plot(*points.T, linestyle="none", gid="fixations")


def _write(axes: Axes, radii: np.ndarray, whole: Sequence[Fixation], shown: Sequence[Fixation], colour: str) -> None:
    """A label for each place, with a line for each fixation there, at its position in the whole path."""
    points = np.array([fixation.point for fixation in whole])
    anchors = list(dict.fromkeys(fixation.point for fixation in whole))
    widest = [max(r for r, fixation in zip(radii, whole, strict=True) if fixation.point == at) for at in anchors]
    lines = {anchor: [] for anchor in anchors}
    for number, fixation in enumerate(whole, 1):
        lines[fixation.point].append((number, label(number, fixation)))
    corners = axes.transData.transform(points)
    path = np.concatenate([np.repeat(corners, 8, axis=0), *(_arc(*ends) for ends in pairwise(corners))])
    full = ["\n".join(text for _, text in lines[anchor]) for anchor in anchors]
    visible = {number: label(number, fixation) for number, fixation in enumerate(shown, 1)}
    labels = write_labels(axes, np.array(anchors), np.array(widest), full, path, colour)
    for anchor, (text, tie) in zip(anchors, labels, strict=True):
        text.set_text("\n".join(visible[number] for number, _ in lines[anchor] if number in visible))
        if tie is not None and not text.get_text():
            tie.remove()


def label(number: int, fixation: Fixation) -> str:
    """The label of a fixation: its number on the path and its words, ``2 a red circle``."""
    return textwrap.fill(f"{number} {' '.join(fixation.words)}", 26)


def _arc(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Points (24, 2) along the arrow between two dots: the quadratic curve that matplotlib's arc3 draws."""
    curve = ConnectionStyle.Arc3(BEND)(here, there, shrinkA=0, shrinkB=0)
    return BezierSegment(curve.vertices)(np.linspace(0, 1, 24))
