"""Marks on a picture: the boxes of words, and fixations that lie in them or do not."""

from collections.abc import Sequence

import numpy as np
from attend.analysis.figures.figures import FIRST, PALETTE
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke

from attend.geometry import Box, Geometry
from attend.runs.evaluations import Attention


def colour_of(one: Attention) -> str:
    """The colour of the kind of attention: that of hard attention if the model takes glimpses, else that of soft."""
    return PALETTE[FIRST["soft" if one.glimpses is None else "hard"]]


def inside(point: Sequence[float], boxes: Sequence[Box], geometry: Geometry) -> bool | None:
    """Whether a point (x, y) in pixels lies in some box; None if there is no box."""
    x, y = np.divide(point, geometry.size)
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in boxes) if boxes else None


def dashed(axes: Axes, box: Box, geometry: Geometry) -> None:
    """A dashed frame around a box."""
    (width, height), (x0, y0, x1, y1) = geometry.size, box
    line = {"fill": False, "edgecolor": "white", "linewidth": 0.9, "linestyle": (0, (4, 2.5)), "zorder": 2.6}
    dark = [withStroke(linewidth=2.0, foreground="#222222"), Normal()]
    axes.add_patch(
        Rectangle((x0 * width, y0 * height), (x1 - x0) * width, (y1 - y0) * height, **line, path_effects=dark)
    )


def fixation_mark(axes: Axes, point: Sequence[float], colour: str, state: bool | None, size: float) -> None:
    """A dot of ``size`` points: filled if ``state`` is true, hollow if false, and small and filled if None."""
    size = 0.6 * size if state is None else size
    halo = [withStroke(linewidth=2.6, foreground="white"), Normal()]
    look = {"markeredgecolor": colour, "markerfacecolor": "white" if state is False else colour}
    axes.plot(*point, "o", markersize=size, markeredgewidth=1.3, **look, path_effects=halo, clip_on=False, zorder=4)


def explained(boxes: Sequence[Sequence[Box]] | None, glimpsed: bool) -> tuple[str, ...]:
    """What a dot and a dashed frame mean, in one or two lines."""
    dot = "the cell that the model reads" if glimpsed else "the cell of the largest weight"
    if boxes is None or not any(boxes):
        return (f"dot: {dot}",)
    box = f"dot: {dot}; dashed: the word's box"
    return (box, "filled: in the box · hollow: outside · small: no box")
