"""The attention of a caption over its picture, word by word, on one scale for all words and all pictures.

The scale is that of multiples of an even look, which gives each of L cells the weight 1/L. The same code draws stored
evaluations and a user's own photographs. A picture may have any resolution: coordinates are those of the geometry.
"""

from collections.abc import Sequence
from math import ceil

import matplotlib
import numpy as np
from attend.analysis.figures.figures import styled
from attend.analysis.figures.panels import GAP, Picture, check, columns_of, fit, panels, photo_of, show
from attend.analysis.gaze.marks import colour_of, dashed, explained, fixation_mark, inside
from attend.analysis.grounding.word_kinds import word_kinds
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from attend.geometry import Box, Geometry
from attend.metrics.gaze import fixations
from attend.runs.evaluations import Attention

TOP = 16
"""The top of the scale, in multiples of an even look; its colour stands for all larger weights too."""
COLOURS = matplotlib.colormaps["viridis"]
SCALE = LogNorm(1, TOP, clip=True)
SMALL = 0.62
"""The width of a function word's panel, as a share of that of a content word."""
NOTE = {"fontsize": 6.5, "color": "#555555", "ha": "right", "va": "bottom", "linespacing": 1.35}
TITLE, FOOT = 0.24, 0.52
"""Inches above a function word's panel, and below all panels."""
FLAT = 1e-3
"""If weights differ by at most this share of the largest, the word has no fixation."""


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


def times_even(weights: np.ndarray, geometry: Geometry, size: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """Weights (L,) over a picture of ``size``, (height, width) in multiples of an even look."""
    weights = np.asarray(weights, float)
    return spread(weights, geometry, size, smooth=smooth) * weights.max() * weights.size


def heated(photo: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A picture (height, width, 3) in dark greys, with the colour of the scale where ``times`` is above 1."""
    level = np.asarray(SCALE(times))
    grey = 0.1 + 0.6 * photo.mean(axis=2, keepdims=True)
    share = np.minimum(0.85, 2.4 * level)[..., None]
    return (1 - share) * grey + share * COLOURS(0.3 + 0.7 * level)[..., :3]


@styled
def attention_map(
    image: Picture,
    one: Attention,
    weights: np.ndarray,
    *,
    boxes: Sequence[Box] = (),
    smooth: bool = True,
    axes: Axes | None = None,
) -> Axes:
    """Weights (L,) over the picture in multiples of an even look, and the ``boxes`` of the word, dashed.

    Without colour, a place has the weight of an even look or less. Weights are interpolated between the centres of the
    cells or, if not ``smooth``, constant in each cell.
    """
    if axes is None:
        _, (axes,) = panels(1, one.geometry.size, "", width=5.0)
    photo = photo_of(image, 480)
    show(axes, heated(photo, times_even(weights, one.geometry, photo.shape[1::-1], smooth=smooth)), one.geometry)
    for box in boxes:
        dashed(axes, box, one.geometry)
    return axes


@styled
def attention_maps(
    image: Picture, one: Attention, *, boxes: Sequence[Sequence[Box]] | None = None, smooth: bool = True
) -> Figure:
    """The picture, then one panel for each content word, and smaller ones for function words, each with its number.

    ``boxes`` (T) are those of each word, drawn dashed. A dot marks the fixation: the cell that the model
    reads, or that of the largest weight. It is filled if it lies in a box of the word, hollow if it does not, and small
    if no box is known.

    Raises:
        ValueError: the parts of the attention do not match each other or the picture.
    """
    check(image, one)
    size = one.geometry.size
    kinds = word_kinds(one.words)
    content = [t for t, kind in enumerate(kinds) if kind != "function"] or [*range(len(kinds))]
    rest = [t for t in range(len(kinds)) if t not in content]
    columns, width = columns_of(len(content) + 1)
    small = SMALL * width
    whole_width = columns * (fit(width, size)[0] + GAP)
    small, tall = fit(SMALL * width, size)
    tall = max(tall, min(small * size[1] / size[0], 1.5 * SMALL * width))
    across = max(1, int(whole_width / (small + GAP)))
    lower = ceil(len(rest) / across) * (tall + TITLE)
    below = lower + FOOT * bool(one.words)
    figure, (whole, *large) = panels(len(content) + 1, size, one.caption, width=width, below=below)
    show(whole, photo_of(image, 480), one.geometry)
    inches = figure.get_size_inches()
    for t, axes in zip(content, large, strict=True):
        _word(image, one, t, axes, boxes, smooth)
    for place, t in enumerate(rest):
        row, column = divmod(place, across)
        left, bottom = GAP + column * (small + GAP), below - TITLE - row * (tall + TITLE) - tall
        axes = figure.add_axes((left / inches[0], bottom / inches[1], small / inches[0], tall / inches[1]))
        _word(image, one, t, axes, boxes, smooth, size=6.5)
    if one.words:
        colour_bar(figure, len(one.weights[0]))
        lines = explained(boxes, one.glimpses is not None)
        figure.text(1 - 0.07 / inches[0], 0.06 / inches[1], "\n".join(lines), **NOTE)
    return figure


def _word(
    image: Picture,
    one: Attention,
    t: int,
    axes: Axes,
    boxes: Sequence[Sequence[Box]] | None,
    smooth: bool,
    size: float = 8.5,
) -> None:
    """The panel of a word: its map, its boxes, its fixation and its gate."""
    own = () if boxes is None else boxes[t]
    attention_map(image, one, one.weights[t], boxes=own, smooth=smooth, axes=axes)
    fits = axes.get_position().width * axes.figure.get_figwidth() * 72  # a long word is smaller
    title = f"{t + 1} {one.words[t]}"
    axes.set_title(title, fontsize=min(size, 1.7 * fits / len(title)), pad=2.5)
    weights = np.asarray(one.weights[t])
    if one.glimpses is not None or np.ptp(weights) > FLAT * weights.max():
        glimpse = None if one.glimpses is None else one.glimpses[t : t + 1]
        (point,) = fixations(one.weights[t : t + 1], glimpse, one.geometry)
        state = inside(point, own, one.geometry) if boxes is not None else True
        fixation_mark(axes, point, colour_of(one), state, 5.5 if size > 7 else 4.0)
    if one.gates is not None:
        halo = [withStroke(linewidth=1.5, foreground="black")]
        look = {"fontsize": size - 2.7, "color": "white", "path_effects": halo}
        axes.annotate(f"gate {one.gates[t]:.2f}", (0, 0), (2.5, 3), "axes fraction", "offset points", **look)


def colour_bar(figure: Figure, cells: int, bottom: float = 0.0) -> None:
    """The scale of all panels, at the left of the figure, ``bottom`` inches above its lower edge."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.12 / width, (bottom + 0.21) / height, min(1.9, 0.45 * width) / width, 0.085 / height))
    levels = np.linspace(0, 1, 256)
    grey = np.full((1, 256, 3), 0.5)
    axes.imshow(heated(grey, SCALE.inverse(levels)[None]), aspect="auto", extent=(0, 1, 0, 1))
    ticks = [2**n for n in range(int(np.log2(TOP)) + 1)]
    labels = [f"{n}×" if n < TOP else f"≥ {n}×" for n in ticks]
    axes.set_xticks([float(SCALE(n)) for n in ticks], labels)
    axes.tick_params(labelsize=6, length=2, pad=1.5, width=0.5)
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        f"weight, in multiples of an even look (1/{cells})", fontsize=6.5, color="#555555", pad=2, loc="left"
    )


def tabulate(one: Attention) -> list[tuple]:
    """The numbers behind ``attention_maps``, for ``figures.save``: a header, then one row for each word and cell."""
    rows: list[tuple] = [("position", "word", "x", "y", "weight", "glimpse")]
    for t, word in enumerate(one.words):
        for cell, (x, y) in enumerate(one.geometry.centres()):
            glimpse = "" if one.glimpses is None else int(one.glimpses[t] == cell)
            rows.append((t + 1, word, round(float(x), 2), round(float(y), 2), float(one.weights[t][cell]), glimpse))
    return rows
