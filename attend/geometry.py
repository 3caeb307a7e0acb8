"""Where a grid cell lies in an image, and how much of it a box covers.

A *transform* says how an image becomes the square the encoder reads, and so which pixels each of the L = rows x
columns cells (row by row) sees. Everything that draws or scores attention goes through this one affine map.
Boxes are (x0, y0, x1, y1) in fractions of the image's width and height, so a resized copy keeps its boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from msgspec import Meta

Edge = Annotated[float, Meta(ge=-1e6, le=1e6, description="a number from -1e6 to 1e6")]
Box = tuple[Edge, Edge, Edge, Edge]
TRANSFORMS = ("squash", "crop")
CENTRE_WIDTH = 3 / 14
"""Standard deviation of ``centre_weights`` in sides of the grid."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The affine map from the pixels of an image to the cells of its grid.

    ``size`` is (width, height) in pixels, ``grid`` is (rows, columns), and pixel (x, y) lies at
    (sx x + tx, sy y + ty) in units of cells, for ``affine`` = (sx, sy, tx, ty).
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    affine: tuple[float, float, float, float]

    @classmethod
    def of(cls, transform: str, size: tuple[int, int], grid: tuple[int, int]) -> Self:
        """The map of ``squash`` (the whole image, each axis scaled on its own) or ``crop`` (the central square)."""
        (width, height), (rows, columns) = size, grid
        if transform == "squash":
            affine = (columns / width, rows / height, 0.0, 0.0)
        elif transform == "crop":
            side = min(width, height)
            sx, sy = columns / side, rows / side
            affine = (sx, sy, -sx * (width - side) / 2, -sy * (height - side) / 2)
        else:
            raise ValueError(f"transform is {transform!r}; known are {', '.join(TRANSFORMS)}")
        return cls(size=size, grid=grid, affine=affine)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) in cells, as (x, y) -> the same points in pixels of the image."""
        sx, sy, tx, ty = self.affine
        return (np.asarray(points, float) - (tx, ty)) / (sx, sy)

    def centres(self) -> np.ndarray:
        """Centres of the cells in pixels of the image, (L, 2) as (x, y), row by row."""
        rows, columns = self.grid
        y, x = np.divmod(np.arange(rows * columns), columns)
        return self.pixels(np.stack([x + 0.5, y + 0.5], axis=1))

    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge of the whole grid in pixels: matplotlib's ``imshow(extent=...)``."""
        rows, columns = self.grid
        (left, top), (right, bottom) = self.pixels(np.array([[0, 0], [columns, rows]]))
        return float(left), float(right), float(bottom), float(top)

    def shares(self, boxes: Sequence[Box]) -> np.ndarray:
        """Share of each cell's area that lies inside the union of the boxes, (L,) in [0, 1].

        Exact: the edges of all boxes cut the plane into rectangles, and each rectangle is in the union or is not.
        """
        rows, columns = self.grid
        (width, height), (sx, sy, tx, ty) = self.size, self.affine
        pixels = np.asarray(boxes, float).reshape(-1, 4) * (width, height, width, height)
        edges = pixels * (sx, sy, sx, sy) + (tx, ty, tx, ty)  # in cells
        xs = np.unique(np.concatenate([np.arange(columns + 1), edges[:, [0, 2]].ravel().clip(0, columns)]))
        ys = np.unique(np.concatenate([np.arange(rows + 1), edges[:, [1, 3]].ravel().clip(0, rows)]))
        x, y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
        inside = np.zeros((len(y), len(x)), dtype=bool)
        for x0, y0, x1, y1 in edges:
            inside |= ((y > y0) & (y < y1))[:, None] & ((x > x0) & (x < x1))
        area = inside * np.diff(ys)[:, None] * np.diff(xs)
        shares = np.zeros((rows, columns))
        row, column = ys[:-1].astype(int), xs[:-1].astype(int)  # lower edges: a middle may round up to the next cell
        np.add.at(shares, (row[:, None], column[None]), area)
        return shares.ravel()

    def holds(self, boxes: Sequence[Box]) -> np.ndarray:
        """Whether the centre of each cell lies in some box, (L,) bool."""
        x, y = (self.centres() / self.size).T
        inside = np.zeros(len(x), dtype=bool)
        for x0, y0, x1, y1 in boxes:
            inside |= (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        return inside


@lru_cache(maxsize=50_000)
def on_grid(geometry: Geometry, boxes: tuple[Box, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each cell that boxes cover (L,), and whether a box holds its centre (L,); kept, so not to be written
    to."""
    found = geometry.shares(boxes), geometry.holds(boxes)
    for one in found:
        one.flags.writeable = False
    return found


def centre_weights(grid: tuple[int, int], width: float = CENTRE_WIDTH) -> np.ndarray:
    """Weights (L,) of a Gaussian at the centre of a grid of (rows, columns), L row by row, that sum to 1:

        alpha_yx ~ exp(-((y - (rows - 1)/2) / (w rows))^2 / 2 - ((x - (columns - 1)/2) / (w columns))^2 / 2).

    The ``width`` w is in sides and not in cells, so the weights cover the same part of the picture on every grid. By
    default it is 3/14 of a side, which is 1.5 of 7 cells.
    """
    squares = [((np.arange(n) - (n - 1) / 2) / (width * n)) ** 2 for n in grid]
    down, across = (np.exp(-(one - one.min()) / 2) for one in squares)
    weights = np.outer(down, across).ravel()
    return weights / weights.sum()
