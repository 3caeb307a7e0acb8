"""Statistics of the gaze over a split: a table with intervals, and one figure of it."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from attend.analysis.figures.figures import colours, dot, note, styled
from attend.analysis.gaze.paths import MEASURES, SECTORS, Measured
from attend.analysis.grounding.word_kinds import KINDS
from attend.analysis.statistics.intervals import Interval, interval, paired, within
from attend.analysis.tables.text import bracketed, markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

HEADER = ("variant", "way", "measure", "part", "value", "low", "high", "seeds", "images", "p", "method")
POSITIONS = 12
"""The number of word positions with entropy in the figure: few captions have later ones."""
RESAMPLES = 2000
"""Resamples for intervals in the figure only; those of MEASURES have ten thousand."""
UNBOUNDED = ("entropy",)
"""The MEASURES that may exceed 1."""
SHARES = ("amplitude", "moves", "returns", "distinct", "gate")
"""Measures that lie in [0, 1]."""
LEAST = 2
"""There is no interval if some seed has fewer images with a value."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of the table. For a difference, ``variant`` is both names with a minus sign between."""

    variant: str
    way: str
    measure: str
    part: str
    found: Interval

    def cells(self) -> tuple:
        """The values of HEADER."""
        one = self.found
        p = getattr(one, "p", "")
        numbers = (*one.ends, one.seeds, one.images, p, one.method)
        return (self.variant, self.way, self.measure, self.part, *numbers)


def tabulate_gaze(measured: Sequence[Measured]) -> list[Row]:
    """Every measure of every variant and way, with its interval over seeds and images.

    An image's value is the mean over its caption. A seed's value is the mean over the images with a value.
    """
    rows = []
    for (variant, way), some in _groups(measured).items():
        for measure, part in some[0].values:
            many = {"resamples": RESAMPLES} if part else {}
            if found := _interval([one.values[measure, part] for one in some], **many):
                found = within(found, 0, np.inf if measure in UNBOUNDED else 1)
                rows.append(Row(variant=variant, way=way, measure=measure, part=part, found=found))
        for t in range(min(POSITIONS, *(one.curve.shape[1] for one in some))):
            if found := _interval([one.curve[:, t] for one in some], resamples=RESAMPLES):
                rows.append(Row(variant=variant, way=way, measure="entropy", part=f"word {t + 1}", found=found))
    return rows


def tabulate_differences(measured: Sequence[Measured]) -> list[Row]:
    """Differences of MEASURES between each two ways of different variants, the earlier minus the later.

    Runs are paired by seed. Seeds of only one variant are left out; without common seeds there is no row.
    """
    groups = _groups(measured)
    rows = []
    for (variant, way), (other, its_way) in combinations(groups, 2):
        a, b = ({one.seed: one for one in groups[key]} for key in ((variant, way), (other, its_way)))
        seeds = sorted(a.keys() & b.keys())
        if other == variant or not seeds:
            continue
        for measure in MEASURES:
            x, y = (np.stack([some[seed].values[measure, ""] for seed in seeds]) for some in (a, b))
            if np.isnan(x + y).all(axis=1).any():
                continue
            found = paired(x, y)
            found = found if measure in UNBOUNDED else within(found, -1, 1)
            names = {"variant": f"{variant} − {other}", "way": f"{way} − {its_way}"}
            rows.append(Row(**names, measure=measure, part="", found=found))
    return rows


def gaze_table(rows: Sequence[Row], differences: Sequence[Row]) -> str:
    """MEASURES as Markdown: a line for each variant and way, and one for each difference."""
    table: list[tuple] = [("variant", "gaze", *MEASURES)]
    whole = [row for row in (*rows, *differences) if not row.part]
    for variant, way in dict.fromkeys((row.variant, row.way) for row in whole):
        cells = {row.measure: row.found for row in whole if (row.variant, row.way) == (variant, way)}
        table.append((variant, way, *(bracketed(cells.get(name)) for name in MEASURES)))
    methods = _methods(row.found for row in whole)
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in MEASURES.items())
    return "\n".join([markdown(table, left=(0, 1)), f"95 % intervals: {', '.join(methods)}.", f"{meanings}."])


@styled
def draw_gaze_statistics(rows: Sequence[Row], ceiling: float) -> Figure:
    """One figure of the table: measures, direction rose, entropy over words, and kinds of words.

    A variant has one colour. Its first way has filled dots and solid lines, its second hollow dots and dashed lines.
    ``ceiling`` is the entropy of equal weights.
    """
    figure = Figure(figsize=(7.6, 5.6), layout="constrained")
    spec = figure.add_gridspec(2, 3)
    keys = list(dict.fromkeys((row.variant, row.way) for row in rows))
    looks = _styles(keys)
    first = [key for key, (_, second) in zip(keys, looks.values(), strict=True) if not second]
    names = [name for name in MEASURES if name != "entropy"]
    short = {
        "amplitude": "length of saccade\n(diagonals)",
        "moves": "moves between\nwords",
        "returns": "returns to an\nearlier place",
        "distinct": "distinct places\nper word",
    }
    _dots(figure.add_subplot(spec[0, 0]), rows, keys, looks, [(name, "") for name in names], short.values(), "the gaze")
    _rose(figure.add_subplot(spec[0, 1], projection="polar"), rows, keys, looks)
    _curve(figure.add_subplot(spec[0, 2]), rows, first, looks, ceiling)
    spoken = [kind for kind in KINDS if kind != "other"]
    gated = any(row.measure == "gate" for row in rows)
    titles = {"entropy": "entropy (nats)", "moves": "moves to the word", "gate": "gate", "amplitude": "saccade to it"}
    for column, name in enumerate(("entropy", "moves", "gate" if gated else "amplitude")):
        axes = figure.add_subplot(spec[1, column])
        _dots(axes, rows, first, looks, [(name, kind) for kind in spoken], spoken, titles[name])
    handles = [figure.axes[0].plot([], [], **_style(*looks[key]), label=f"{key[0]}: {key[1]}")[0] for key in keys]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)))
    methods = " or ".join(_methods(row.found for row in rows if not row.part))
    note(figure, f"bars and bands: 95 % intervals, {methods}; entropy and kinds of words: filled way only")
    return figure


def _methods(found: Iterable[Interval]) -> list[str]:
    """Methods in words; those that differ in the number of images alone as one, with the range of it."""
    counts: dict[str, list[int]] = defaultdict(list)
    for one in found:
        counts[one.method.replace(f"{one.images:,} images", "{} images", 1)].append(one.images)
    ends = {method: sorted({min(images), max(images)}) for method, images in counts.items()}
    return [method.format(" to ".join(f"{n:,}" for n in few)) for method, few in ends.items()]


def _groups(measured: Sequence[Measured]) -> dict[tuple[str, str], list[Measured]]:
    groups = {(one.variant, one.way): [] for one in measured}
    for one in sorted(measured, key=lambda one: one.seed):
        groups[one.variant, one.way].append(one)
    return groups


def _interval(rows: Sequence[np.ndarray], **options) -> Interval | None:
    """The interval over the images with a value for some seed; None if a seed has fewer than LEAST values."""
    values = np.stack(rows)
    values = values[:, ~np.isnan(values).all(axis=0)]
    if (~np.isnan(values)).sum(axis=1).min() < LEAST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any value is left out
        return interval(values, **options)


def _styles(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, bool]]:
    """For each variant and way, the variant's colour, and whether the way is not its first."""
    keys = list(keys)
    styles = colours(variant for variant, _ in keys)
    firsts = {variant: way for variant, way in reversed(keys)}
    return {(variant, way): (styles[variant][0], firsts[variant] != way) for variant, way in keys}


def _style(colour: str, second: bool) -> dict:
    face = "white" if second else colour
    line = {"linestyle": "--" if second else "-", "linewidth": 1.2}
    return {"color": colour, "marker": "o", "markersize": 4.5, "markerfacecolor": face} | line


def _intervals(rows: Sequence[Row], key: tuple[str, str], parts: Sequence[tuple[str, str]]) -> list[Interval | None]:
    known = {(row.measure, row.part): row.found for row in rows if (row.variant, row.way) == key}
    return [known.get(part) for part in parts]


def _dots(axes: Axes, rows, keys, looks, parts, labels, title: str) -> None:
    """A row of dots with intervals for each part, from top to bottom."""
    for k, key in enumerate(keys):
        apart = 0.5 * ((k + 0.5) / len(keys) - 0.5)
        for y, found in enumerate(_intervals(rows, key, parts)):
            if found is not None:
                colour, second = looks[key]
                dot(axes, y + apart, found.ends, colour, size=4.5, hollow=second)
    axes.set_yticks(range(len(parts)), list(labels))
    axes.set_ylim(len(parts) - 0.5, -0.5)
    share = all(measure in SHARES for measure, _ in parts)
    right = 1.04 * axes.get_xlim()[1]  # a dot at the end is seen whole
    axes.set_xlim(0, min(1.02, right) if share else right)  # an interval from few seeds may leave [0, 1]
    axes.grid(False, axis="y")
    axes.set_title(title, loc="left")


def _rose(axes: PolarAxes, rows, keys, looks) -> None:
    """The share of saccades in each direction; up in the picture is up in the rose."""
    angles = np.arange(9) * np.pi / 4
    for key in keys:
        found = _intervals(rows, key, [("direction", sector) for sector in SECTORS])
        if None in found:
            continue
        style = _style(*looks[key]) | {"markersize": 2.5}
        value, low, high = np.transpose([one.ends for one in (*found, found[0])])
        axes.plot(angles, value, **style)
        if np.isfinite(low).all():
            axes.fill_between(angles, np.maximum(low, 0), high, color=looks[key][0], alpha=0.15, linewidth=0)
    axes.axhline(1 / 8, color="#999999", linewidth=0.7, linestyle=":")
    axes.set_xticks(angles[:8:2], ["right", "up", "left", "down"])
    axes.set_rlim(bottom=0)
    step = 0.1 if axes.get_rmax() < 0.35 else 0.3  # labels of more rings would overlap
    axes.set_rticks([tick for tick in (step, 2 * step, 3 * step) if tick < axes.get_rmax()])
    axes.set_rlabel_position(67.5)
    axes.tick_params(labelsize=7)
    axes.spines["polar"].set_color("#CCCCCC")
    axes.set_title("directions of saccades", loc="left")


def _curve(axes: Axes, rows, keys, looks, ceiling: float) -> None:
    for key in keys:
        found = _intervals(rows, key, [("entropy", f"word {t + 1}") for t in range(POSITIONS)])
        value, low, high = np.reshape([one.ends for one in found if one is not None], (-1, 3)).T
        at = np.arange(1, len(value) + 1)
        axes.plot(at, value, **_style(*looks[key]) | {"markersize": 2.5})
        axes.fill_between(at, low, high, color=looks[key][0], alpha=0.15, linewidth=0)
    axes.axhline(ceiling, color="#999999", linewidth=0.8, linestyle=":")
    look = {"ha": "right", "va": "bottom", "fontsize": 7, "color": "#555555"}
    axes.annotate("equal weights", (POSITIONS, ceiling), (0, 1), textcoords="offset points", **look)
    axes.set_ylim(0, 1.12 * ceiling)
    axes.set_xlabel("word of the caption")
    axes.set_title("entropy (nats)", loc="left")
