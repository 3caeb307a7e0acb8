"""Figures from records: one style, one colour per variant, and a CSV of the drawn numbers beside each figure.

Functions take records and return Axes: those passed as ``axes``, or those of a new figure. A line of data has its
series' name as ``gid``, so that ``save`` writes exactly the numbers in the figure.
"""

import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from zlib import crc32

import matplotlib
import numpy as np
from attend.analysis.records import Record
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, Normal, withStroke
from scipy.special import stdtrit

from attend.runs.files import write_bytes, write_rows

# Okabe and Ito's palette without its yellow, which is hardly visible in print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
FIRST = {"soft": 0, "hard": 1}
DASHES = ("-", "--", ":", "-.")
MARKERS = dict(zip(PALETTE, "os^DvPX", strict=True))
"""Each colour has its own marker, for print without colour."""
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
"""Decorator for functions that draw: they use the style, and the user's settings are restored after."""

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
POINTS = 60
"""The largest number of points of a curve. A longer one is averaged over neighbours: print shows no more."""
LEVEL = 0.95
"""The level of every interval in a figure."""
LEAST = 3
"""The smallest number of seeds with a band. For two, it would be 12.7 standard errors wide and hide all else."""
MOST = 4
"""The largest number of variants with bands. More would hide each other, so their means have bars instead."""
THIN = 0.6
"""The width of one seed's line."""
FORMATS = ("png", "pdf", "svg")
DPI = 200
"""Dots an inch of a PNG."""
NOTE = {"fontsize": 7.5, "color": "#555555", "x": 0.01, "ha": "left"}
"""The style of the note below a figure."""


def white_edge(width: float) -> list[AbstractPathEffect]:
    """Path effects of a dark line on bars or pictures of any colour: a white one of this width below it."""
    return [withStroke(linewidth=width, foreground="white"), Normal()]


def colours(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a dash for each variant, by its name or <experiment>/<variant>.

    Soft and hard have fixed colours; several of them differ in their dashes. Any other name is hashed to one of the
    other colours, so that it is the same in every figure. If two names have one colour, the later in the alphabet takes
    the next free one. If all are taken, colours repeat with other dashes.
    """
    others = PALETTE[len(FIRST) :]
    chosen: dict[str, tuple[str, str]] = {}
    firsts = {name: FIRST.get(name.rpartition("/")[2], len(FIRST)) for name in names}
    for name, first in sorted(firsts.items(), key=lambda item: item[::-1]):
        if first < len(FIRST):
            wanted = [(PALETTE[first], dash) for dash in DASHES]
        else:
            start = crc32(name.encode("utf-8", "surrogateescape")) % len(others)
            wanted = [(others[(start + i) % len(others)], dash) for dash in DASHES for i in range(len(others))]
        chosen[name] = next((style for style in wanted if style not in chosen.values()), wanted[0])
    return chosen


def named(records: Iterable[Record]) -> dict[Path, str]:
    """The name of each run by its folder: its variant, or <experiment>/<variant> if several experiments have that
    variant."""
    known = {record.folder: (record.experiment, record.variant) for record in records}
    counts = Counter(variant for _, variant in set(known.values()))
    return {f: variant if counts[variant] == 1 else f"{of}/{variant}" for f, (of, variant) in known.items()}


def panels(
    count: int, axes: Axes | Sequence[Axes] | None, *, columns: int, size: tuple[float, float], level: bool = False
) -> list[Axes]:
    """``axes`` as a list, or ``count`` panels in a new figure, each of ``size`` inches. If ``level``, new panels share
    their vertical axis, with labels only on the left.

    Raises:
        ValueError: the number of ``axes`` is not ``count``.
    """
    if axes is None:
        columns = min(columns, count)
        rows = -(-count // columns)
        figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.5), layout="constrained")
        every = list(figure.subplots(rows, columns, sharey=level, squeeze=False).ravel())
        for spare in every[count:]:
            spare.remove()
        return every[:count]
    given = [axes] if isinstance(axes, Axes) else list(np.ravel(axes))
    if len(given) != count:
        raise ValueError(f"there are {len(given)} axes for {count} panels: pass {count} axes")
    return given


def mean_interval(values: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over seeds and its interval by Student's t, (S, ...) -> three of (...); NaN if S is 1.

    m -+ t(S - 1) s / sqrt(S): exact if seeds are normally distributed, for any variance. A bootstrap over three seeds
    has only ten different resamples and is too narrow, so curves do not use it.

    Source: Student (1908).
    """
    count, mean = len(values), values.mean(axis=0)
    if count == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stdtrit(count - 1, (1 + level) / 2) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half


@styled
def curves(records: Sequence[Record], name: str, split: str, *, axes: Axes | None = None) -> Axes:
    """One metric over epochs: a thin line per seed, a thick line for the mean of several, and with at least LEAST seeds
    a band for the interval of the mean at each epoch.

    Raises:
        ValueError: no run logged this metric for this split.
    """
    seeds: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    called = named(records)
    for record in sorted(records, key=lambda record: (record.variant, record.experiment, record.seed)):
        epochs, values = record.series(name, split)
        if len(epochs):
            gid = f"{record.variant}/{record.experiment}/seed{record.seed}"
            seeds.setdefault(called[record.folder], []).append((gid, *_binned(epochs, values)))
    if not seeds:
        raise ValueError(f"no run logged {name!r} for {split!r} in its metrics.jsonl: train it for an epoch first")
    axes = axes or Figure(figsize=(3.6, 2.8), layout="constrained").add_subplot()
    bundles(axes, seeds, colours(called.values()))
    axes.set_xlabel("epoch")
    axes.set_title(titled(name, split), loc="left")
    axes.set_xlim(left=0)
    return axes


def titled(name: str, split: str) -> str:
    """The title of a metric: its label and its split."""
    return f"{LABELS.get(name, name)}, {SPLITS.get(split, split)}"


Line = tuple[str, np.ndarray, np.ndarray]
"""A seed's gid, x and y."""


def bundles(
    axes: Axes,
    seeds: dict[str, list[Line]],
    styles: dict[str, tuple[str, str]],
    *,
    markers: int = 5,
    shared: bool = False,
) -> None:
    """The lines of each variant's seeds, with their mean and its band, or bars at its ``markers`` if there are more
    variants than MOST. The mean is interpolated at every point, or with ``shared`` only at points of all seeds."""
    shown = [variant for variant in styles if variant in seeds]
    for place, variant in enumerate(shown):
        (colour, dash), lines = styles[variant], seeds[variant]
        length = max(len(x) for _, x, _ in lines)
        step = max(1, length // markers)
        marked = slice(place * step // len(shown), None, step)
        thick = {"color": colour, "linestyle": dash, "linewidth": 1.8, "label": f"{variant} (n = {len(lines)})"}
        thick |= {"marker": MARKERS[colour], "markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
        thick |= {"markevery": (marked.start, step)}
        if len(lines) == 1:
            gid, *points = lines[0]
            axes.plot(*points, gid=gid, **thick)
            continue
        at, values = _common_points([points for _, *points in lines], shared)
        mean, low, high = mean_interval(values)
        many = len(shown) > MOST
        for gid, *points in lines:
            axes.plot(*points, gid=gid, color=colour, linestyle=dash, linewidth=0 if many else THIN, alpha=0.4)
        if len(lines) >= LEAST:
            limits = axes.dataLim.frozen()
            if many:
                axes.vlines(at[marked], low[marked], high[marked], color=colour, linewidth=0.8, alpha=0.6)
            else:
                axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
            for end, edge in (("low", low), ("high", high)):
                axes.plot(at, edge, gid=f"{variant}/{end}", linewidth=0)  # for the numbers
            axes.dataLim.set(limits)  # a wide interval of few seeds must not shrink the lines
        axes.plot(at, mean, gid=f"{variant}/mean", **thick)


@styled
def curve_panels(
    records: Sequence[Record], wanted: Sequence[tuple[str, str]], *, axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """The curves of several metrics (name, split), in panels. Metrics that no run logged are named in the note.

    Raises:
        ValueError: no run logged any of them, or the numbers of axes and panels differ.
    """
    there = [one for one in wanted if is_logged(records, *one)]
    if not there:
        metrics = ", ".join(dict.fromkeys(name for name, _ in wanted))
        raise ValueError(f"no run logged any of {metrics} in its metrics.jsonl: train it for an epoch first")
    every = panels(len(there), axes, columns=2, size=(3.6, 2.5))
    for (name, split), one in zip(there, every, strict=True):
        curves(records, name, split, axes=one)
    parts = [line_note(every)]
    parts += [f"not logged: {titled(*one)}" for one in wanted if one not in there]
    return tuple(finish(every[0].figure, every, "; ".join(parts), own=axes is None))


def is_logged(records: Iterable[Record], name: str, split: str) -> bool:
    """Whether any of the runs logged this metric."""
    return any(len(record.series(name, split)[0]) for record in records)


def learning_curves(
    records: Sequence[Record], *, score: str = "bleu4", axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """Training NLL and a validation score over epochs, side by side.

    Raises:
        ValueError: no run logged either.
    """
    return curve_panels(records, [("nll", "train"), (score, "val")], axes=axes)


def health_curves(
    records: Sequence[Record], *, names: Sequence[str] = HEALTH, axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """Attention health in training: the metrics of ``names`` that some run logged, in panels.

    Raises:
        ValueError: no run logged any of them.
    """
    return curve_panels(records, [(name, "train") for name in names], axes=axes)


def dot(
    axes: Axes,
    y: float,
    ends: tuple[float, float, float],
    colour: str,
    *,
    marker: str = "o",
    size: float = 6.0,
    hollow: bool = False,
    gid: str | None = None,
) -> None:
    """A dot at the first of ``ends`` (value, low, high), and a bar from low to high unless they are NaN."""
    value, low, high = ends
    if np.isfinite(low):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6, gid=gid and f"{gid}/interval")
    look = {"color": colour, "markeredgecolor": colour, "markerfacecolor": "white" if hollow else colour}
    axes.plot([value], [y], marker=marker, markersize=size, gid=gid, **look)


@styled
def save(
    figure: Figure, path: str | Path, *, formats: Sequence[str] = FORMATS, numbers: Sequence[Sequence] | None = None
) -> list[Path]:
    """Write the figure in each format, and the numbers of its lines as CSV; no partial file is left.

    ``numbers`` (a header and rows) replace those of the lines.

    Returns:
        The paths of the files. A suffix of ``path`` that is one of the formats is not repeated.
    """
    path = Path(path)
    path = path.with_suffix("") if path.suffix.lstrip(".") in {*formats, *FORMATS, "csv"} else path
    written, layout = [], figure.get_layout_engine()
    if layout is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # each new layout moves a little, and all formats must be equal
    try:
        for format in formats:
            written.append(path.with_name(f"{path.name}.{format}"))
            undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(format)
            picture = io.BytesIO()
            figure.savefig(picture, format=format, dpi=DPI, metadata=undated)
            write_bytes(written[-1], picture.getvalue())
    finally:
        if layout is not None:
            figure.set_layout_engine(layout)
    numbers = numbers or [("panel", "series", "x", "y"), *drawn(figure)]
    if len(numbers) > 1:
        written.append(path.with_name(f"{path.name}.csv"))
        write_rows(written[-1], numbers)
    return written


def drawn(figure: Figure) -> list[tuple[str, str, float, float]]:
    """The points of every line with a gid, as (panel, series, x, y)."""
    return [
        (axes.get_title(loc="left") or axes.get_title(), line.get_gid(), float(x), float(y))
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid()
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def finish(figure: Figure, panels: Sequence[Axes], said: str, *, own: bool = True) -> Sequence[Axes]:
    """Add one legend for all panels on top and the note ``said`` below. If the figure is not their ``own``, the first
    panel gets both: the note is the title of its legend, or is below it if there is no legend."""
    entries = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not own:
        width = panels[0].get_position().width * figure.get_figwidth()
        said = textwrap.fill(said, max(20, int(14 * width)))
        if not entries:
            panels[0].set_xlabel(said, fontsize=6.5, color=NOTE["color"])
            return panels
        legend = panels[0].legend(entries.values(), entries, title=said)
        legend.get_title().set(fontsize=6.5, color=NOTE["color"])
        return panels
    across = int(15 * figure.get_figwidth() / (8 + max(map(len, entries), default=0)))
    if entries:
        columns = max(1, min(across, len(entries)))
        figure.set_figheight(figure.get_figheight() + 0.18 * (-(-len(entries) // columns) - 1))
        figure.legend(entries.values(), entries, loc="outside upper left", ncols=columns)
    note(figure, said)
    return panels


def note(figure: Figure, said: str) -> None:
    """Add a note below a figure."""
    width = int(18 * figure.get_figwidth())
    lines = [part for line in said.splitlines() for part in textwrap.wrap(line, width)]
    figure.set_figheight(figure.get_figheight() + 0.14 * (len(lines) - 1))
    figure.supxlabel("\n".join(lines), **NOTE)


def line_note(panels: Sequence[Axes], *, at: str = "epoch", reach: str = "up to the epoch that all reached") -> str:
    """Explain the lines of ``bundles``."""
    lines = [line for axes in panels for line in axes.lines]
    gids = [line.get_gid() or "" for line in lines]
    if not any(gid.endswith("/mean") for gid in gids):
        return "one run each (n = 1), so there is no interval"
    thin = any(line.get_linewidth() == THIN for line in lines)
    note = f"thin: one seed; thick: their mean, {reach}" if thin else f"mean over n seeds, {reach}"
    if not any(gid.endswith("/low") for gid in gids):
        return f"{note}; no {'band' if thin else 'bar'}: it needs {LEAST} seeds"
    counts = [line.get_label().rpartition("(n = ")[2].rstrip(")") for line in lines]
    fewer = any(count.isdecimal() and int(count) < LEAST for count in counts)
    interval = f"{100 * LEVEL:.0f} % interval of the mean at each {at}, by Student's t over the n seeds"
    return f"{note}; {'band' if thin else 'bar'}: {interval}{f' (if n >= {LEAST})' if fewer else ''}"


def _binned(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over at most POINTS groups of neighbouring points; the last group may be smaller."""
    starts = np.arange(0, len(epochs), -(-len(epochs) // POINTS))
    counts = np.diff([*starts, len(epochs)])
    return np.add.reduceat(epochs, starts) / counts, np.add.reduceat(values, starts) / counts


def _common_points(series: Sequence[tuple[np.ndarray, np.ndarray]], shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """The points (n,) at which all curves are defined, and their values (S, n). If n varied along a curve, its mean
    would jump."""
    if shared:
        at = reduce(np.intersect1d, [x for x, _ in series])
        return at, np.array([y[np.isin(x, at)] for x, y in series])
    first = max(epochs[0] for epochs, _ in series)
    last = min(epochs[-1] for epochs, _ in series)
    at = np.unique(np.concatenate([epochs for epochs, _ in series]))
    at = at[(at >= first) & (at <= last)]
    return at, np.array([np.interp(at, *points) for points in series])
