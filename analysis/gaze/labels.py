"""Labels beside the dots of a path. They do not cover each other, and avoid the path if there is room."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, withStroke
from matplotlib.text import Text

LOOK = {"ha": "left", "va": "top", "fontsize": 7.5, "linespacing": 1.3, "color": "black", "zorder": 6}
SWEEPS = 3
"""The number of times each label is placed: first beside the earlier labels, then beside all others."""


def place(
    anchors: np.ndarray, sizes: np.ndarray, bounds: np.ndarray, path: np.ndarray, radii: np.ndarray | float = 0.0
) -> np.ndarray:
    """Centres (n, 2) of boxes beside their anchors that overlap neither each other nor, if possible, the path.

    Each box in turn takes the cheapest of many candidates around its anchor. Cost grows with distance and with overlap
    of the path; overlap of another box, or being beyond the bounds (x0, y0, x1, y1), costs most. ``radii`` (n,) are
    those of the anchors' dots. All in points.
    """
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radii = np.broadcast_to(radii, len(anchors))
    gaps = np.array([3, 5, 8, 12, 18, 26, 36, 50, 70, 95, 125])
    centres = np.full((len(anchors), 2), np.inf)
    for number in [*range(len(anchors))] * SWEEPS:
        anchor, size = anchors[number], sizes[number]
        others = np.arange(len(anchors)) != number
        reach = radii[number] + gaps[:, None, None] + size / 2
        candidates = (anchor + reach * directions).reshape(-1, 2)
        low, high = candidates - size / 2, candidates + size / 2
        cost = np.repeat(gaps, len(directions)) / 10.0
        cost += 1e4 * ((low < bounds[:2]) | (high > bounds[2:])).any(axis=1)
        near = np.abs(candidates[:, None] - centres[others])  # (candidates, others, 2)
        cost += 1e3 * (near < (size + sizes[others]) / 2 + 1).all(axis=2).sum(axis=1)
        covered = np.abs(candidates[:, None] - path) - size / 2 - 2
        cost += 0.5 * (covered < 0).all(axis=2).sum(axis=1)
        dots = np.abs(candidates[:, None] - anchors[others]) - size / 2 - radii[others, None]
        cost += 6.0 * (dots < 0).all(axis=2).sum(axis=1)
        centres[number] = candidates[cost.argmin()]
    return centres


def write_labels(
    axes: Axes, points: np.ndarray, radii: np.ndarray, written: Sequence[str], path: np.ndarray, colour: str
) -> list[tuple[Text, Line2D | None]]:
    """Write a label beside each of the points (in data units), at the position from ``place``.

    ``radii`` are those of the points' dots. Labels avoid ``path`` (m, 2), in pixels of the figure. A thin line connects
    a label to its dot if it is far. The axes must have their final size. Returns labels and lines.
    """
    figure = axes.figure
    renderer = RendererAgg(*figure.bbox.size, figure.dpi)
    halo = [withStroke(linewidth=2.4, foreground="white", alpha=0.9)]
    texts = [axes.text(*at, text, path_effects=halo, **LOOK) for at, text in zip(points, written, strict=True)]
    inch = 72 / figure.dpi
    sizes = np.array([text.get_window_extent(renderer).size for text in texts]) * inch + 2
    anchors = axes.transData.transform(points) * inch
    bounds = axes.get_window_extent(renderer).extents * inch + (2, 2, -2, -2)
    to_data = axes.transData.inverted()
    centres = place(anchors, sizes, bounds, path * inch, radii)
    ties: list[Line2D | None] = []
    for text, anchor, size, centre, radius in zip(texts, anchors, sizes, centres, radii, strict=True):
        text.set_position(to_data.transform((centre + np.array([1 - size[0] / 2, size[1] / 2 - 1])) / inch))
        edge = np.clip(anchor, centre - size / 2, centre + size / 2)
        ties.append(None)
        if np.linalg.norm(edge - anchor) > radius + 7:
            tie = to_data.transform(np.stack([anchor, edge]) / inch)
            white = [withStroke(linewidth=2, foreground="white"), Normal()]
            ties[-1:] = axes.plot(*tie.T, color=colour, linewidth=0.6, path_effects=white, zorder=2.5)
    return list(zip(texts, ties, strict=True))
