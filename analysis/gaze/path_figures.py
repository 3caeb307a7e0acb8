"""Statistics of the gaze over a split: a table with intervals, and one figure of it."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from attend.analysis.figures.figures import NOTE, colours, dot, styled
from attend.analysis.gaze.paths import MEASURES, SECTORS, Measured
from attend.analysis.grounding.word_kinds import KINDS
from attend.analysis.statistics.intervals import Interval, interval, paired, within
from attend.analysis.tables.text import bracketed, markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

HEADER = ("variant", "way", "measure", "part", "value", "low", "high", "seeds", "images", "p", "method")
POSITIONS = 12
"""Words of a caption whose entropy is drawn, counted from its first: later ones are of few captions."""
RESAMPLES = 2000
"""Of the many intervals that are only drawn; those of MEASURES have ten thousand."""
UNBOUNDED = ("entropy",)
"""Of MEASURES, those that are no share."""
SHARES = ("amplitude", "moves", "returns", "distinct", "gate")
"""Measures that lie in [0, 1]."""
LEAST = 2
"""Images with a value that every seed must have, or no interval is reported."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of the table. A difference between two variants has both as ``variant``, with a minus between."""

    variant: str
    way: str
    measure: str
    part: str
    found: Interval

    def cells(self) -> tuple:
        """As HEADER."""
        one = self.found
        p = getattr(one, "p", "")
        numbers = (*one.ends, one.seeds, one.images, p, one.method)
        return (self.variant, self.way, self.measure, self.part, *numbers)


def tabulate_gaze(measured: Sequence[Measured]) -> list[Row]:
    """Every measure of every variant and way, with its interval over seeds and images.

    An image's value is the mean over its caption, and a seed's the mean over the images that have one.
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
    """MEASURES of the first variant's ways less those of every later one's, in the order of ways.

    Runs are paired by their seeds; those that only one of two has are left out, and without a common one there is none.
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
    methods = dict.fromkeys(row.found.method for row in whole)
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in MEASURES.items())
    return "\n".join([markdown(table, left=(0, 1)), f"95 % intervals: {', '.join(methods)}.", f"{meanings}."])


@styled
def draw_gaze_statistics(rows: Sequence[Row], ceiling: float) -> Figure:
    """One figure of the table: measures, direction rose, entropy over words, and kinds of words.

    A variant has one colour; its first way a filled dot or a full line, its second a hollow one or a dashed line.
    ``ceiling`` is the entropy of equal weights.
    """
    figure = Figure(figsize=(7.6, 5.6), layout="constrained")
    spec = figure.add_gridspec(2, 3)
    keys = list(dict.fromkeys((row.variant, row.way) for row in rows))
    looks = _looks(keys)
    first = [key for key, (_, second) in zip(keys, looks.values(), strict=True) if not second]
    names = [name for name in MEASURES if name != "entropy"]
    short = {
        "amplitude": "length of saccade\n(diagonals)",
        "moves": "moves between\nwords",
        "returns": "returns to a\nplace seen",
        "distinct": "distinct places\na word",
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
    methods = dict.fromkeys(row.found.method for row in rows if not row.part)
    said = f"bars and bands: 95 % intervals, {' or '.join(methods)}; entropy, moves and gate: of the filled way"
    figure.supxlabel(said, **NOTE)
    return figure


def _groups(measured: Sequence[Measured]) -> dict[tuple[str, str], list[Measured]]:
    groups = {(one.variant, one.way): [] for one in measured}
    for one in sorted(measured, key=lambda one: one.seed):
        groups[one.variant, one.way].append(one)
    return groups


def _interval(rows: Sequence[np.ndarray], **options) -> Interval | None:
    """Over the images that have a value in some seed; None if a seed has it on fewer than LEAST."""
    values = np.stack(rows)
    values = values[:, ~np.isnan(values).all(axis=0)]
    if (~np.isnan(values)).sum(axis=1).min() < LEAST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resample without a value, which is left out
        return interval(values, **options)


def _looks(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, bool]]:
    """A colour for each variant, and whether a way is not its first."""
    keys = list(keys)
    styles = colours(variant for variant, _ in keys)
    firsts = {variant: way for variant, way in reversed(keys)}
    return {(variant, way): (styles[variant][0], firsts[variant] != way) for variant, way in keys}


def _style(colour: str, second: bool) -> dict:
    face = "white" if second else colour
    line = {"linestyle": "--" if second else "-", "linewidth": 1.2}
    return {"color": colour, "marker": "o", "markersize": 4.5, "markerfacecolor": face} | line


def _found(rows: Sequence[Row], key: tuple[str, str], parts: Sequence[tuple[str, str]]) -> list[Interval | None]:
    known = {(row.measure, row.part): row.found for row in rows if (row.variant, row.way) == key}
    return [known.get(part) for part in parts]


def _dots(axes: Axes, rows, keys, looks, parts, labels, title: str) -> None:
    """A line of dots with intervals for each part, downwards."""
    for k, key in enumerate(keys):
        apart = 0.5 * ((k + 0.5) / len(keys) - 0.5)
        for y, found in enumerate(_found(rows, key, parts)):
            if found is not None:
                colour, second = looks[key]
                dot(axes, y + apart, found.ends, colour, size=4.5, hollow=second)
    axes.set_yticks(range(len(parts)), list(labels))
    axes.set_ylim(len(parts) - 0.5, -0.5)
    share = all(measure in SHARES for measure, _ in parts)
    axes.set_xlim(0, min(1.02, axes.get_xlim()[1]) if share else None)  # an interval from few seeds may leave [0, 1]
    axes.grid(False, axis="y")
    axes.set_title(title, loc="left")


def _rose(axes: PolarAxes, rows, keys, looks) -> None:
    """The share of saccades in each direction, upwards in the picture being upwards here."""
    angles = np.arange(9) * np.pi / 4
    for key in keys:
        found = _found(rows, key, [("direction", sector) for sector in SECTORS])
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
    step = 0.1 if axes.get_rmax() < 0.35 else 0.3  # more rings would write over each other
    axes.set_rticks([tick for tick in (step, 2 * step, 3 * step) if tick < axes.get_rmax()])
    axes.set_rlabel_position(67.5)
    axes.tick_params(labelsize=7)
    axes.spines["polar"].set_color("#CCCCCC")
    axes.set_title("directions of saccades", loc="left")


def _curve(axes: Axes, rows, keys, looks, ceiling: float) -> None:
    for key in keys:
        found = _found(rows, key, [("entropy", f"word {t + 1}") for t in range(POSITIONS)])
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
