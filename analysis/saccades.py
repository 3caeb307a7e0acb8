"""Where a model looks while it writes: attention over the picture word by word, and the path of its gaze.

Everything takes plain arrays, so a stored evaluation and a user's own photograph are drawn by the same code:
words (T,), weights (T, L), glimpses (T,) or None where nothing was sampled, gates (T,) or None, and the
geometry through which all positions go. A picture may have any resolution; coordinates are the geometry's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import Normal, withStroke
from PIL import Image

from analysis.figures import PALETTE, colours, styled
from attend.geometry import Geometry
from attend.metrics.gaze import Fixation, fixations, merge

Picture = Image.Image | np.ndarray
ACROSS = 7
"""Most panels in a row of attention maps."""
BEND = 0.15
"""How far an arrow bends, in its own length: there and back are two arrows."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One caption over one image, as attention.h5 holds it."""

    image: str
    caption: str
    words: tuple[str, ...]
    weights: np.ndarray  # (T, L)
    glimpses: np.ndarray | None  # (T,)
    gates: np.ndarray | None  # (T,)
    geometry: Geometry


def read_attention(path: str | Path, image: int | str) -> Attention:
    """The attention over one image, by its running index or by its name.

    Raises:
        ValueError: no such image in the file, or the file is none of ours.
    """
    try:
        with h5py.File(path, "r") as file:
            group = file.get(str(image)) if isinstance(image, int) else _named(file, image)
            if group is not None:
                return _attention(group)
            held = len(file)
    except KeyError as error:
        raise ValueError(f"{path} is incomplete ({error.args[0]}); evaluate the run again") from None
    except (OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:  # what h5py says of damage varies
        raise ValueError(f"{path} cannot be read as attention ({error}); evaluate the run again") from None
    raise ValueError(f"{path} holds no image {image!r}; it holds {held}, numbered from 0")


def _attention(group: h5py.Group) -> Attention:
    (width, height), (rows, columns) = group.attrs["size"], group.attrs["grid"]
    affine = tuple(map(float, group.attrs["affine"]))
    return Attention(
        image=str(group.attrs["image"]),
        caption=str(group.attrs["caption"]),
        words=tuple(group["words"].asstr()[:]),
        weights=group["alpha"][:],
        glimpses=group["glimpse"][:] if "glimpse" in group else None,
        gates=group["gate"][:] if "gate" in group else None,
        geometry=Geometry(size=(int(width), int(height)), grid=(int(rows), int(columns)), affine=affine),
    )


def _named(file: h5py.File, name: str) -> h5py.Group | None:
    groups = [group for group in file.values() if Path(group.attrs["image"]).name == Path(name).name]
    exact = [group for group in groups if group.attrs["image"] == name]
    return next(iter(exact or groups), None)


def spread(weights: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """Weights (L,) laid smoothly over a picture of ``size`` (width, height): (height, width), largest weight 1.

    Bicubic between the centres of the cells; zero where the grid does not reach.
    """
    (width, height), (sx, sy, tx, ty) = size, geometry.affine
    grid = np.asarray(weights, np.float32).reshape(geometry.grid)
    scale = (geometry.size[0] / width, geometry.size[1] / height)
    to_cells = (sx * scale[0], 0, tx, 0, sy * scale[1], ty)
    cells = Image.fromarray(grid / max(grid.max(), 1e-12))
    light = cells.transform(size, Image.Transform.AFFINE, to_cells, Image.Resampling.BICUBIC)
    return np.asarray(light).clip(0, 1)


@styled
def attention_maps(
    image: Picture,
    words: Sequence[str],
    weights: np.ndarray,
    geometry: Geometry,
    *,
    glimpses: np.ndarray | None = None,
    gates: np.ndarray | None = None,
    caption: str = "",
) -> Figure:
    """The picture, then for every word the picture lit by its attention: in colour where the word looks.

    Brightness is relative to the word's largest weight. A frame is the cell that was sampled.

    Raises:
        ValueError: words, weights, glimpses and geometry do not belong together, or the picture is another.
    """
    _check(image, words, weights, geometry, glimpses, gates)
    photo = _photo(image, 480)
    bright, dim = 0.2 + 0.8 * photo**0.8, 0.07 + 0.25 * photo.mean(axis=2, keepdims=True)
    figure, (whole, *panels) = _panels(len(words) + 1, geometry.size, caption)
    _show(whole, photo, geometry)
    for t, axes in enumerate(panels):
        light = spread(weights[t], geometry, photo.shape[1::-1])[..., None]
        _show(axes, light * bright + (1 - light) * dim, geometry)
        _title(axes, words[t])
        if glimpses is not None:
            _frame(axes, int(glimpses[t]), geometry)
        if gates is not None:
            _corner(axes, f"gate {gates[t]:.2f}")
    return figure


def tabulate(
    words: Sequence[str], weights: np.ndarray, geometry: Geometry, *, glimpses: np.ndarray | None = None
) -> list[tuple]:
    """The numbers behind ``attention_maps``, for ``figures.save``: a header, then a row for each word and cell."""
    rows: list[tuple] = [("position", "word", "x", "y", "weight", "sampled")]
    for t, word in enumerate(words):
        for cell, (x, y) in enumerate(geometry.centres()):
            sampled = "" if glimpses is None else int(glimpses[t] == cell)
            rows.append((t + 1, word, round(float(x), 2), round(float(y), 2), float(weights[t][cell]), sampled))
    return rows


@styled
def gaze_path(
    image: Picture,
    words: Sequence[str],
    weights: np.ndarray,
    geometry: Geometry,
    *,
    glimpses: np.ndarray | None = None,
    caption: str = "",
    colour: str = PALETTE[1],
    axes: Axes | None = None,
) -> Axes:
    """The path of the gaze over the picture: fixations in order, each with the numbers and the words it wrote.

    Words in a row that look at one place are one fixation. Draw into ``axes`` only once
    their size is settled, since labels are placed to the point.

    Raises:
        ValueError: words, weights, glimpses and geometry do not belong together, or the picture is another.
    """
    _check(image, words, weights, geometry, glimpses, None)
    if axes is None:
        _, (axes,) = _panels(1, geometry.size, caption, width=5.0)
    _show(axes, 0.25 + 0.75 * _photo(image, 1600), geometry)
    path = merge(words=words, points=fixations(weights, glimpses, geometry))
    if not path:  # a caption without a word
        return axes
    points = np.array([fixation.point for fixation in path])
    arrow = {"arrowstyle": "-|>,head_length=3.4,head_width=1.8", "connectionstyle": f"arc3,rad={BEND}"}
    line = {"color": colour, "linewidth": 1.1, "joinstyle": "miter", "capstyle": "butt"}
    white = [withStroke(linewidth=2.9, foreground="white"), Normal()]
    for here, there in pairwise(points):
        ends = {"posA": here, "posB": there, "shrinkA": 3.5, "shrinkB": 3.5}
        axes.add_patch(FancyArrowPatch(**ends, **arrow, **line, path_effects=white, zorder=3))
    dots = {"color": colour, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 1.2}
    axes.plot(*points.T, "o", **dots, zorder=4, gid="fixations", clip_on=False)
    axes.figure.draw_without_rendering()
    _label(axes, points, [label(fixation) for fixation in path], colour)
    return axes


@styled
def compare_gaze(image: Picture, models: Mapping[str, Attention]) -> Figure:
    """Several models' gazes over one picture side by side, each under its name and above what it wrote.

    Raises:
        ValueError: the models looked at different images, or the picture is another.
    """
    seen = {attention.image for attention in models.values()}
    if len(seen) != 1:
        raise ValueError(f"one image is to be compared, not {len(seen)} ({', '.join(sorted(seen))})")
    size = next(iter(models.values())).geometry.size
    styles = colours(models)
    letters = int(14 * _fit(3.5, size)[0])
    written = [textwrap.fill(attention.caption, letters) for attention in models.values()]
    foot = 0.06 + 0.16 * max(text.count("\n") + 1 for text in written)
    figure, panels = _panels(len(models), size, "", width=3.5, across=3, foot=foot)
    for (name, attention), text, axes in zip(models.items(), written, panels, strict=True):
        colour, _ = styles[name]
        looked = (attention.words, attention.weights, attention.geometry)
        gaze_path(image, *looked, glimpses=attention.glimpses, colour=colour, axes=axes)
        axes.set_title(name, color=colour, fontweight="bold", pad=4)
        axes.annotate(text, (0.5, 0), (0, -4), "axes fraction", "offset points", ha="center", va="top")
    return figure


def label(fixation: Fixation) -> str:
    """What stands beside a fixation: its words after their numbers in the caption, ``2–4 a red circle``."""
    first, last = fixation.first + 1, fixation.first + len(fixation.words)
    numbers = str(first) if first == last else f"{first}–{last}"
    return textwrap.fill(f"{numbers} {' '.join(fixation.words)}", 26)


def place(anchors: np.ndarray, sizes: np.ndarray, bounds: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Centres (n, 2) of boxes beside their anchors that overlap neither each other nor, if it can be, the path.

    One after the other, every box takes the cheapest of many candidates around its anchor: near is cheap, on
    the path costs, on another box or beyond the bounds (x0, y0, x1, y1) costs most. All in one unit of length.
    """
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    gaps = np.array([5, 8, 12, 18, 26, 36, 50, 70, 95, 125])
    centres = np.zeros((0, 2))
    for anchor, size in zip(anchors, sizes, strict=True):
        reach = gaps[:, None, None] + size / 2
        candidates = (anchor + reach * directions).reshape(-1, 2)
        low, high = candidates - size / 2, candidates + size / 2
        cost = np.repeat(gaps, len(directions)) / 10.0
        cost += 1e4 * ((low < bounds[:2]) | (high > bounds[2:])).any(axis=1)
        near = np.abs(candidates[:, None] - centres)  # (candidates, placed, 2)
        cost += 1e3 * (near < (size + sizes[: len(centres)]) / 2 + 1).all(axis=2).sum(axis=1)
        covered = np.abs(candidates[:, None] - path) - size / 2 - 2
        cost += 0.5 * (covered < 0).all(axis=2).sum(axis=1)
        centres = np.vstack([centres, candidates[cost.argmin()]])
    return centres


def _label(axes: Axes, points: np.ndarray, written: Sequence[str], colour: str) -> None:
    """Write every point's label where ``place`` finds room, tied to its dot by a thin line where that is far."""
    figure = axes.figure
    renderer = RendererAgg(*figure.bbox.size, figure.dpi)
    halo = [withStroke(linewidth=2.4, foreground="white", alpha=0.9)]
    look = {
        "ha": "center",
        "va": "center",
        "fontsize": 7.5,
        "linespacing": 1.0,
        "color": "black",
        "zorder": 6,
    }
    texts = [axes.text(*at, text, path_effects=halo, **look) for at, text in zip(points, written, strict=True)]
    inch = 72 / figure.dpi
    sizes = np.array([text.get_window_extent(renderer).size for text in texts]) * inch + 2
    anchors = axes.transData.transform(points) * inch
    bounds = axes.get_window_extent(renderer).extents * inch + (2, 2, -2, -2)
    path = np.concatenate([np.repeat(anchors, 8, axis=0), *(_arc(*ends) for ends in pairwise(anchors))])
    to_data = axes.transData.inverted()
    centres = place(anchors, sizes, bounds, path)
    for text, anchor, size, centre in zip(texts, anchors, sizes, centres, strict=True):
        text.set_position(to_data.transform(centre / inch))
        edge = np.clip(anchor, centre - size / 2, centre + size / 2)
        if np.linalg.norm(edge - anchor) > 9:
            tie = to_data.transform(np.stack([anchor, edge]) / inch)
            white = [withStroke(linewidth=2, foreground="white"), Normal()]
            axes.plot(*tie.T, color=colour, linewidth=0.6, path_effects=white, zorder=2.5)


def _arc(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Points (24, 2) along the arrow between two dots: the quadratic curve that matplotlib's arc3 draws."""
    x, y = there - here
    middle = (here + there) / 2 + BEND * np.array([y, -x])
    t = np.linspace(0, 1, 24)[:, None]
    return (1 - t) ** 2 * here + 2 * t * (1 - t) * middle + t**2 * there


def _panels(
    count: int,
    size: tuple[int, int],
    caption: str,
    *,
    width: float | None = None,
    across: int = ACROSS,
    foot: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels in balanced rows, with room for titles above and ``foot`` inches below each."""
    rows = -(-count // across)
    columns = -(-count // rows)
    gap, head = 0.07, 0.22 if count > 1 or foot else 0.05
    width = width or min(1.6, 7.2 / columns - gap)
    width, tall = _fit(width, size)
    lines = textwrap.wrap(caption, int(14 * columns * (width + gap)))
    top = 0.17 * len(lines) + 0.05
    whole = (columns * (width + gap) + gap, rows * (tall + head + foot) + top + gap)
    figure = Figure(figsize=whole)
    panels = []
    for row, column in (divmod(i, columns) for i in range(count)):
        left = gap + column * (width + gap)
        bottom = whole[1] - top - (row + 1) * (head + tall) - row * foot
        box = (left / whole[0], bottom / whole[1], width / whole[0], tall / whole[1])
        panels.append(figure.add_axes(box))
    figure.text(gap / whole[0], 1 - 0.06 / whole[1], "\n".join(lines), va="top", fontsize=9)
    return figure, panels


def _fit(width: float, size: tuple[int, int]) -> tuple[float, float]:
    """Width and height in inches of a panel for a picture of this size: never taller than 1.5 ``width``."""
    tall = min(width * size[1] / size[0], 1.5 * width)
    return max(tall * size[0] / size[1], 0.7), tall


def _show(axes: Axes, photo: np.ndarray, geometry: Geometry) -> None:
    """The picture in the geometry's pixels; a dashed line bounds the grid where that does not cover it all."""
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


def _title(axes: Axes, word: str) -> None:
    """The word above its panel, smaller where it would not fit."""
    fits = axes.get_position().width * axes.figure.get_figwidth() * 72
    axes.set_title(word, fontsize=min(8.5, 1.7 * fits / max(len(word), 1)), pad=3)


def _corner(axes: Axes, text: str) -> None:
    halo = [withStroke(linewidth=1.5, foreground="black")]
    look = {"fontsize": 6, "color": "white", "path_effects": halo}
    axes.annotate(text, (0, 0), (2.5, 3), "axes fraction", "offset points", **look)


def _frame(axes: Axes, cell: int, geometry: Geometry) -> None:
    """A frame around one cell of the grid."""
    half = 0.5 / np.array(geometry.affine[:2])
    corner = geometry.centres()[cell] - half
    line = {"fill": False, "edgecolor": PALETTE[1], "linewidth": 1.1}
    white = [withStroke(linewidth=2.2, foreground="white"), Normal()]
    axes.add_patch(Rectangle(corner, *(2 * half), **line, path_effects=white))


def _photo(image: Picture, longest: int) -> np.ndarray:
    """The picture as (height, width, 3) in [0, 1], no larger than it is worth drawing."""
    photo = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    photo = photo.convert("RGB")
    photo.thumbnail((longest, longest))
    return np.asarray(photo, float) / 255


def _check(image: Picture, words, weights, geometry, glimpses, gates) -> None:
    cells = geometry.grid[0] * geometry.grid[1]
    if np.shape(weights) != (len(words), cells):
        raise ValueError(f"weights have shape {np.shape(weights)}; {len(words)} words over {cells} cells are drawn")
    for name, values in (("glimpses", glimpses), ("gates", gates)):
        if values is not None and len(values) != len(words):
            raise ValueError(f"there are {len(values)} {name} for {len(words)} words")
    shape = image.size if isinstance(image, Image.Image) else np.shape(image)[1::-1]
    if abs(shape[0] * geometry.size[1] / (shape[1] * geometry.size[0]) - 1) > 0.05:
        here, there = ("{} x {}".format(*size) for size in (shape, geometry.size))
        raise ValueError(f"the picture is {here}, but the attention belongs to one of {there}; give that picture")
