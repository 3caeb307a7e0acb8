"""Bars of grounding: each model on each part of the words, with the controls as marks."""

from collections.abc import Sequence

import numpy as np
from attend.analysis.figures.figures import colours, styled, white_edge
from attend.analysis.grounding.measure import Row
from attend.analysis.statistics.intervals import Interval
from attend.analysis.tables.columns import CONTROLS
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attend.metrics.grounding import LOOKS

EDGED = white_edge(2.5)
TITLES = {"mass": "attention in the boxes (%)", "pointing": "largest weight in a box (%)"}


@styled
def grounding_bars(
    rows: Sequence[Row], *, captions: str = "given", measure: str = "mass", axes: Axes | None = None
) -> Axes:
    """A bar for each model in each part of the words, with its interval, and the controls as marks.

    Raises:
        ValueError: no row has these captions.
    """
    rows = [row for row in rows if row.captions == captions and row.measure == measure]
    if not rows:
        raise ValueError(f"there is no {measure} of {captions} captions to draw")
    parts = list(dict.fromkeys((row.by, row.group) for row in rows))
    models = list(dict.fromkeys((row.variant, row.decode) for row in rows))
    styles = colours(variant for variant, _ in models)
    axes = axes or Figure(figsize=(7.2, 3.2), layout="constrained").add_subplot()
    wide = 0.8 / len(models)
    for number, (variant, decode) in enumerate(models):
        own = {(row.by, row.group): row.looks for row in rows if (row.variant, row.decode) == (variant, decode)}
        at = [p for p, part in enumerate(parts) if part in own]
        x = np.array(at) - 0.4 + wide * (number + 0.5)
        percent = {look: 100 * np.array([_ends(own[parts[p]].get(look)) for p in at]).T for look in LOOKS}
        value, low, high = percent["learned"]
        ways = [decode for of, decode in models if of == variant]
        alpha = (1.0, 0.55, 0.3)[min(ways.index(decode), 2)]
        name = f"{variant} ({decode})" if len(ways) > 1 else variant
        axes.bar(x, value, width=0.9 * wide, color=styles[variant][0], alpha=alpha, label=name)
        whisker = {"fmt": "none", "ecolor": "#222222", "elinewidth": 0.9, "path_effects": EDGED}
        axes.errorbar(x, value, np.abs([low - value, high - value]), **whisker)
        last = number == len(models) - 1
        marks = {"markersize": 3.4, "markerfacecolor": "white", "markeredgecolor": "#222222", "markeredgewidth": 0.8}
        axes.plot(x, percent["shuffled"][0], "o", **marks, label=CONTROLS["shuffled"] if last else None)
        for look, dash in (("uniform", ":"), ("matched", "-"), ("cell", "--")):
            line = {"color": "#222222", "linestyle": dash, "linewidth": 1.3, "label": CONTROLS[look] if last else None}
            axes.hlines(percent[look][0], x - wide / 2, x + wide / 2, path_effects=EDGED, **line)
    axes.set_xticks(
        range(len(parts)),
        [{"all": "all words", "size": f"{group} boxes"}.get(by, group) for by, group in parts],
        rotation=30,
        ha="right",
    )
    axes.set_ylim(bottom=0)
    axes.grid(False, axis="x")
    seeds = sorted({row.looks["learned"].seeds for row in rows})
    axes.set_title(f"{TITLES[measure]}, {captions} captions (seeds: {' or '.join(map(str, seeds))})", loc="left")
    return axes


def _ends(one: Interval | None) -> tuple[float, float, float]:
    """Value, low and high; NaN, which is not drawn, where there is no such control."""
    return one.shown if one else (np.nan, np.nan, np.nan)
