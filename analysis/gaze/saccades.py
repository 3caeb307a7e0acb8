"""The attention of a caption over its picture, word by word.

The same code draws stored evaluations and a user's own photographs. A picture may have any resolution: coordinates are
those of the geometry.
"""

import numpy as np
from attend.analysis.figures.figures import PALETTE, styled
from attend.analysis.figures.panels import Picture, check, panels, photo_of, show
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from PIL import Image

from attend.geometry import Geometry
from attend.runs.evaluations import Attention


def spread(weights: np.ndarray, geometry: Geometry, size: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """Weights (L,) over a picture of ``size`` (width, height): a map (height, width) with largest weight 1.

    Interpolation is bicubic between the centres of the cells, or constant in each cell if not ``smooth``; zero outside
    the grid.
    """
    (width, height), (sx, sy, tx, ty) = size, geometry.affine
    grid = np.asarray(weights, np.float32).reshape(geometry.grid)
    scale = (geometry.size[0] / width, geometry.size[1] / height)
    to_cells = (sx * scale[0], 0, tx, 0, sy * scale[1], ty)
    cells = Image.fromarray(grid / max(grid.max(), 1e-12))
    way = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    light = cells.transform(size, Image.Transform.AFFINE, to_cells, way)
    return np.asarray(light).clip(0, 1)


@styled
def attention_maps(image: Picture, one: Attention, *, smooth: bool = True) -> Figure:
    """The picture, then one panel for each word with the picture lit by the word's attention.

    Brightness is relative to the largest weight of the word. It is interpolated between the centres of the cells or,
    if not ``smooth``, constant in each cell. A frame marks the sampled cell.

    Raises:
        ValueError: the parts of the attention do not match each other or the picture.
    """
    check(image, one)
    geometry = one.geometry
    photo = photo_of(image, 480)
    bright, dim = 0.2 + 0.8 * photo**0.8, 0.07 + 0.25 * photo.mean(axis=2, keepdims=True)
    figure, (whole, *lit) = panels(len(one.words) + 1, geometry.size, one.caption)
    show(whole, photo, geometry)
    for t, axes in enumerate(lit):
        light = spread(one.weights[t], geometry, photo.shape[1::-1], smooth=smooth)[..., None]
        show(axes, light * bright + (1 - light) * dim, geometry)
        fits = axes.get_position().width * figure.get_figwidth() * 72  # a long word is smaller
        axes.set_title(one.words[t], fontsize=min(8.5, 1.7 * fits / max(len(one.words[t]), 1)), pad=3)
        if one.glimpses is not None:
            _frame(axes, int(one.glimpses[t]), geometry)
        if one.gates is not None:
            halo = [withStroke(linewidth=1.5, foreground="black")]
            look = {"fontsize": 6, "color": "white", "path_effects": halo}
            axes.annotate(f"gate {one.gates[t]:.2f}", (0, 0), (2.5, 3), "axes fraction", "offset points", **look)
    return figure


def tabulate(one: Attention) -> list[tuple]:
    """The numbers behind ``attention_maps``, for ``figures.save``: a header, then one row for each word and cell."""
    rows: list[tuple] = [("position", "word", "x", "y", "weight", "sampled")]
    for t, word in enumerate(one.words):
        for cell, (x, y) in enumerate(one.geometry.centres()):
            sampled = "" if one.glimpses is None else int(one.glimpses[t] == cell)
            rows.append((t + 1, word, round(float(x), 2), round(float(y), 2), float(one.weights[t][cell]), sampled))
    return rows


def _frame(axes: Axes, cell: int, geometry: Geometry) -> None:
    """A frame around one cell of the grid."""
    half = 0.5 / np.array(geometry.affine[:2])
    corner = geometry.centres()[cell] - half
    line = {"fill": False, "edgecolor": PALETTE[1], "linewidth": 1.1}
    white = [withStroke(linewidth=2.2, foreground="white"), Normal()]
    axes.add_patch(Rectangle(corner, *(2 * half), **line, path_effects=white))
