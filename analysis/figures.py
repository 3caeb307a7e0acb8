"""Figures from records: one style, one colour a variant, and the numbers behind a figure beside it.

Functions take records and return Axes. A line that shows data carries its series' name as ``gid``, so that
``save`` can write the numbers that are drawn rather than numbers that should have been.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.records import Record
from attend.runs import write_bytes, write_text

# Okabe and Ito's palette without its yellow, which print loses.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
FIRST = {"soft": 0, "hard": 1}
DASHES = ("-", "--", ":", "-.")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "attend",
    "text.parse_math": False,  # captions and names may hold dollars
}
styled = matplotlib.rc_context(STYLE)
"""Decorates whatever draws: the style holds inside and the user's settings come back after."""

LABELS = {
    "nll": "NLL (nats per token)",
    "loss": "loss",
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "cider": "CIDEr (training frequencies)",
    "meteor": "METEOR",
    "entropy": "entropy of the weights (nats)",
    "maximum": "largest weight",
    "change": "change between words (total variation)",
    "distinct": "share of distinct glimpses",
    "attention_gradient": "gradient norm of the attention",
}
SPLITS = {"train": "training", "val": "validation", "test": "test"}
HEALTH = ("entropy", "maximum", "change", "distinct")
POINTS = 120
"""A curve with more points than this is averaged in so many bins: a line in print shows no more."""


def colours(variants: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a dash for each variant.

    Soft and hard have theirs for good. Any other name chooses among the rest, so it looks the same in every
    figure; of two that choose one colour, the later in the alphabet takes the next that is free. When all are
    taken they come again with other dashes.
    """
    others = PALETTE[len(FIRST) :]
    chosen: dict[str, tuple[str, str]] = {}
    for variant in sorted(set(variants), key=lambda name: (FIRST.get(name, len(FIRST)), name)):
        if variant in FIRST:
            chosen[variant] = (PALETTE[FIRST[variant]], DASHES[0])
            continue
        start = crc32(variant.encode()) % len(others)
        wanted = [(others[(start + i) % len(others)], dash) for dash in DASHES for i in range(len(others))]
        chosen[variant] = next((style for style in wanted if style not in chosen.values()), wanted[0])
    return chosen


@styled
def curves(records: Sequence[Record], name: str, split: str, *, axes: Axes | None = None) -> Axes:
    """One metric over epochs: every seed a thin line, their mean a thick one where there are several.

    Raises:
        ValueError: none of the runs wrote this metric for this split.
    """
    seeds: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for record in sorted(records, key=lambda record: (record.variant, record.experiment, record.seed)):
        epochs, values = record.series(name, split)
        if len(epochs):
            gid = f"{record.variant}/{record.experiment}/seed{record.seed}"
            seeds.setdefault(record.variant, []).append((gid, *_binned(epochs, values)))
    if not seeds:
        raise ValueError(f"no run wrote {name!r} for {split!r} into its metrics.jsonl")
    axes = axes or Figure(figsize=(3.6, 2.8), layout="constrained").add_subplot()
    styles = colours(record.variant for record in records)
    for variant in filter(seeds.get, styles):
        (colour, dash), lines = styles[variant], seeds[variant]
        label = f"{variant} (n = {len(lines)})"
        thick = {"color": colour, "linestyle": dash, "linewidth": 1.8, "label": label}
        if len(lines) == 1:
            gid, *points = lines[0]
            axes.plot(*points, gid=gid, **thick)
            continue
        for gid, *points in lines:
            axes.plot(*points, gid=gid, color=colour, linestyle=dash, linewidth=0.7, alpha=0.5)
        axes.plot(*_mean([points for _, *points in lines]), gid=f"{variant}/mean", **thick)
    axes.set_xlabel("epoch")
    axes.set_title(f"{LABELS.get(name, name)}, {SPLITS.get(split, split)}", loc="left")
    axes.set_xlim(left=0)
    return axes


@styled
def learning_curves(records: Sequence[Record], *, score: str = "bleu4") -> tuple[Axes, Axes]:
    """Training NLL and a validation score over epochs, side by side in a figure of their own."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves(records, "nll", "train", axes=left)
    curves(records, score, "val", axes=right)
    return tuple(finish(figure, (left, right), _lines(figure)))


@styled
def health_curves(records: Sequence[Record], *, names: Sequence[str] = HEALTH) -> tuple[Axes, ...]:
    """How attention fares in training: those of the named metrics that some run wrote, a panel each.

    Raises:
        ValueError: no run wrote any of them.
    """
    written = [name for name in names if any(len(record.series(name, "train")[0]) for record in records)]
    if not written:
        raise ValueError(f"no run wrote any of {', '.join(names)} into its metrics.jsonl")
    columns = min(2, len(written))
    rows = -(-len(written) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in panels[len(written) :]:
        spare.remove()
    panels = panels[: len(written)]
    for name, axes in zip(written, panels, strict=True):
        curves(records, name, "train", axes=axes)
    return tuple(finish(figure, panels, _lines(figure)))


@styled
def save(
    figure: Figure,
    path: str | Path,
    *,
    formats: Sequence[str] = ("png", "pdf"),
    numbers: Sequence[Sequence] | None = None,
) -> list[Path]:
    """Write the figure in each format, and the numbers its lines draw beside it as CSV, each whole or not.

    ``numbers`` (a header and rows) stand for those of the lines where a figure draws none.

    Returns:
        The files written. A suffix of ``path`` that is one of the formats is not repeated.
    """
    path = Path(path)
    path = path.with_suffix("") if path.suffix.lstrip(".") in {*formats, "png", "pdf", "svg", "csv"} else path
    written = []
    for format in formats:
        written.append(path.with_name(f"{path.name}.{format}"))
        undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(format)
        picture = io.BytesIO()
        figure.savefig(picture, format=format, dpi=200, metadata=undated)
        write_bytes(written[-1], picture.getvalue())
    numbers = numbers or [("panel", "series", "x", "y"), *drawn(figure)]
    if len(numbers) > 1:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(numbers)
        written.append(path.with_name(f"{path.name}.csv"))
        write_text(written[-1], text.getvalue())
    return written


def drawn(figure: Figure) -> list[tuple[str, str, float, float]]:
    """The points of every line that bears a gid, as (panel, series, x, y)."""
    return [
        (axes.get_title(loc="left") or axes.get_title(), line.get_gid(), float(x), float(y))
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid()
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def finish(figure: Figure, panels: Sequence[Axes], said: str) -> Sequence[Axes]:
    """One legend for all panels on top, and below them what the lines are."""
    entries = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    across = int(15 * figure.get_figwidth() / (8 + max(map(len, entries))))
    figure.legend(entries.values(), entries, loc="outside upper left", ncols=max(1, min(across, len(entries))))
    figure.supxlabel(said, fontsize=7.5, color="#555555", x=0.01, ha="left")
    return panels


def _lines(figure: Figure) -> str:
    """What the curves of runs are."""
    several = any(gid.endswith("/mean") for _, gid, *_ in drawn(figure))
    return "thin: one seed; thick: their mean, as far as all of them ran" if several else "one run each (n = 1)"


def _binned(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of at most POINTS runs of neighbouring points."""
    if len(epochs) <= POINTS:
        return epochs, values
    starts = np.linspace(0, len(epochs), POINTS, endpoint=False).astype(int)
    counts = np.diff([*starts, len(epochs)])
    return np.add.reduceat(epochs, starts) / counts, np.add.reduceat(values, starts) / counts


def _mean(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of curves where all of them are defined: a mean whose n changes on the way would jump."""
    first = max(epochs[0] for epochs, _ in series)
    last = min(epochs[-1] for epochs, _ in series)
    at = np.unique(np.concatenate([epochs for epochs, _ in series]))
    at = at[(at >= first) & (at <= last)]
    return at, np.mean([np.interp(at, *points) for points in series], axis=0)
