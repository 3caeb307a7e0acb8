"""Rank correlations over images between caption metrics, and with the grounding of attention."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from attend.analysis.figures.figures import LEVEL, PALETTE, finish, panels, styled
from attend.analysis.records import Evaluation
from attend.analysis.statistics.intervals import mean_of_known
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from scipy.stats import norm, rankdata

from attend.runs.evaluations import read_images

METRICS = {
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "bleu_length": "words",
    "grounding_mass": "mass in boxes",
    "grounding_pointing": "pointing",
}
"""Columns of images.csv and their labels. Grounding is that of the given captions."""
SHADES = LinearSegmentedColormap.from_list("rank", [PALETTE[1], "#FFFFFF", PALETTE[0]])


@dataclass(frozen=True, kw_only=True)
class Correlations:
    """Spearman's rho between metrics over images, (M, M), mean over the number of ``runs``; NaN if unknown."""

    name: str
    metrics: tuple[str, ...]
    rho: np.ndarray
    images: int
    runs: int

    @property
    def chance(self) -> float:
        """|rho| that unrelated metrics of one run exceed with probability 5 %: z / sqrt(N - 1).

        Source: Kendall and Gibbons (1990): without ties the variance of rho is 1 / (N - 1) under independence.
        """
        return float(norm.ppf((1 + LEVEL) / 2) / math.sqrt(self.images - 1)) if self.images > 1 else math.inf


def read_metrics(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The columns of METRICS that an evaluation's images.csv has, each (N,), NaN if an image has no value.

    Raises:
        ValueError: the file is missing or incomplete, or a value is not a number.
    """
    table = read_images(evaluation.folder, evaluation.scores["images"])
    found = {name: table.numbers(name) for name in METRICS if name in table.columns}
    if not found:
        raise ValueError(f"{table.path} has none of the metrics (its layout is older): evaluate the run again")
    return found


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho of a and b, both (N,), over the images that have both; NaN if one of them is constant."""
    both = np.isfinite(a) & np.isfinite(b)
    ranks = rankdata([a[both], b[both]], axis=1)
    if both.sum() < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return math.nan
    return float(np.corrcoef(ranks)[0, 1])


def correlate(name: str, tables: Sequence[Mapping[str, np.ndarray]]) -> Correlations:
    """rho of each run, then the mean over the runs that have it. Metrics that no run has are left out."""
    metrics = tuple(one for one in METRICS if any(np.isfinite(t[one]).any() for t in tables if one in t))
    rho = np.full((len(tables), len(metrics), len(metrics)), np.nan)
    for run, table in enumerate(tables):
        there = [place for place, name in enumerate(metrics) if name in table]
        for j, i in combinations(there, 2):
            rho[run, i, j] = rho[run, j, i] = rank_correlation(table[metrics[i]], table[metrics[j]])
    mean = mean_of_known(rho)
    np.fill_diagonal(mean, 1.0)
    images = min(int(np.isfinite(one).sum()) for table in tables for one in table.values() if np.isfinite(one).any())
    return Correlations(name=name, metrics=metrics, rho=mean, images=images, runs=len(tables))


@styled
def heat_map(found: Correlations, *, axes: Axes | None = None) -> Axes:
    """The correlations as a triangle of numbers on their shades; numbers below ``chance`` are grey."""
    size = 0.44 * len(found.metrics)
    (axes,) = panels(1, axes, columns=1, size=(size + 1.3, size + 0.9))
    names, count = [METRICS[one] for one in found.metrics], len(found.metrics)
    below = np.tril(np.ones((count, count), bool), -1)
    shown = np.where(below, found.rho, np.nan)[1:, :-1]
    axes.imshow(np.ma.masked_invalid(shown), cmap=SHADES, vmin=-1, vmax=1, aspect="equal")
    for i, j in zip(*np.nonzero(below), strict=True):
        value = found.rho[i, j]
        if math.isnan(value):
            axes.text(j, i - 1, "–", ha="center", va="center", color="#777777")
            continue
        colour = "#777777" if abs(value) < found.chance else "white" if abs(value) > 0.65 else "black"
        text = f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".").replace("-", "−")
        axes.text(j, i - 1, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(count - 1), names[:-1], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count - 1), names[1:])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(f"{found.name} (n = {found.runs})", loc="left")
    return axes


@styled
def heat_maps(every: Sequence[Correlations], *, axes: Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """A map for each variant, and below them a note on the numbers.

    Raises:
        ValueError: no variant has two metrics.
    """
    every = [one for one in every if len(one.metrics) > 1]
    if not every:
        raise ValueError("no run has two metrics of the same images, so there is nothing to correlate: name other runs")
    size = 0.44 * max(len(one.metrics) for one in every)
    shown = panels(len(every), axes, columns=3, size=(size + 1.0, size + 0.6))
    for one, found in zip(shown, every, strict=True):
        heat_map(found, axes=one)
    images = sorted({one.images for one in every})
    over = f"{images[0]:,}" if len(images) == 1 else f"{images[0]:,} to {images[-1]:,}"
    chance = max(one.chance for one in every)
    note = (
        f"Spearman's rank correlation over {over} images, mean over n runs; grey: below {chance:.2f}, which unrelated "
        "scores exceed with probability 5 %; grounding is that of given captions"
    )
    return tuple(finish(shown[0].figure, shown, note, own=axes is None))


def numbers(every: Iterable[Correlations]) -> list[tuple]:
    """The numbers in the maps: a header and rows."""
    rows = [
        (one.name, METRICS[first], METRICS[second], f"{one.rho[i, j]:.6f}", one.images, one.runs)
        for one in every
        for i, first in enumerate(one.metrics)
        for j, second in enumerate(one.metrics[:i])
    ]
    return [("variant", "metric", "with", "spearman", "images", "runs"), *rows]
