"""Pictures in a figure: equal panels with sizes in inches, and a picture in each in the pixels of its geometry."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from PIL import Image

from attend.geometry import Geometry
from attend.runs.evaluations import Attention

Picture = Image.Image | np.ndarray
ACROSS = 7
"""The largest number of panels in a row of attention maps."""
GAP = 0.07
"""Inches between panels."""


def panels(
    count: int,
    size: tuple[int, int],
    caption: str,
    *,
    width: float | None = None,
    across: int = ACROSS,
    foot: float = 0.0,
    below: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels in balanced rows, with room for titles above and ``foot`` inches below each."""
    columns, fitting = columns_of(count, across)
    rows = -(-count // columns)
    gap, head = GAP, 0.22 if count > 1 or foot else 0.05
    width = width or fitting
    width, tall = fit(width, size)
    lines = textwrap.wrap(caption, int(14 * columns * (width + gap)))
    top = 0.17 * len(lines) + 0.05
    whole = (columns * (width + gap) + gap, rows * (tall + head + foot) + top + gap + below)
    figure = Figure(figsize=whole)
    panels = []
    for row, column in (divmod(i, columns) for i in range(count)):
        left = gap + column * (width + gap)
        bottom = whole[1] - top - (row + 1) * (head + tall) - row * foot
        box = (left / whole[0], bottom / whole[1], width / whole[0], tall / whole[1])
        panels.append(figure.add_axes(box))
    figure.text(gap / whole[0], 1 - 0.06 / whole[1], "\n".join(lines), va="top", fontsize=9)
    return figure, panels


def columns_of(count: int, across: int = ACROSS) -> tuple[int, float]:
    """The number of columns of so many panels in balanced rows, and the width of a panel in inches."""
    columns = -(-count // -(-count // across))
    return columns, min(1.6, 7.2 / columns - GAP)


def fit(width: float, size: tuple[int, int]) -> tuple[float, float]:
    """Width and height in inches of a panel for a picture of this size: never taller than 1.5 ``width``."""
    tall = min(width * size[1] / size[0], 1.5 * width)
    return max(tall * size[0] / size[1], 0.7), tall


def show(axes: Axes, photo: np.ndarray, geometry: Geometry) -> None:
    """The picture in the geometry's pixels; a dashed line bounds the grid if it does not cover the whole picture."""
    width, height = geometry.size
    axes.imshow(photo, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    left, right, bottom, top = geometry.extent()
    if max(left, top, width - right, height - bottom) > 0.5:
        line = {"fill": False, "edgecolor": "white", "linewidth": 0.7, "linestyle": (0, (4, 3))}
        dark = [withStroke(linewidth=1.3, foreground="#555555"), Normal()]
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **line, path_effects=dark))
    axes.set_axis_off()
    axes.apply_aspect()


def photo_of(image: Picture, longest: int) -> np.ndarray:
    """The picture as (height, width, 3) in [0, 1], with sides of at most ``longest`` pixels."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    picture = picture.convert("RGB")
    picture.thumbnail((longest, longest))
    return np.asarray(picture, float) / 255


def check(image: Picture, one: Attention) -> None:
    """Raise ValueError if the parts of the attention do not match each other or the picture."""
    geometry, count = one.geometry, len(one.words)
    cells = geometry.grid[0] * geometry.grid[1]
    if np.shape(one.weights) != (count, cells):
        raise ValueError(f"weights have shape {np.shape(one.weights)}, not that of {count} words over {cells} cells")
    for name, values in (("glimpses", one.glimpses), ("gates", one.gates)):
        if values is not None and len(values) != count:
            raise ValueError(f"there are {len(values)} {name} for {count} words")
    shape = image.size if isinstance(image, Image.Image) else np.shape(image)[1::-1]
    if abs(shape[0] * geometry.size[1] / (shape[1] * geometry.size[0]) - 1) > 0.05:
        here, there = ("{} x {}".format(*size) for size in (shape, geometry.size))
        raise ValueError(f"the picture is {here}, but the attention belongs to one of {there}; use that picture")
