"""Does looking make the word? What `attend evaluate --look redirect` and `--look without` found, compared.

Means are over words, their intervals over seeds and images. The spread of seeds is pooled over the models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.figures.figures import DASHES, FORMATS, colours, finish, save, styled
from attend.analysis.figures.from_runs import say
from attend.analysis.records import Record, names
from attend.analysis.statistics.intervals import Difference, Interval, of_pair, of_sums, ratio, within
from attend.analysis.statistics.pooling import Spread, of_scores, own, pooled
from attend.analysis.statistics.resampling import Sums, sums
from attend.analysis.tables.text import bracketed, markdown, p_value, resolved
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attend.config.catalogue import INTERVENED, WAYS
from attend.runs.evaluations import read_images
from attend.runs.files import write_text

MOVED = {"redirect": ("other's box", "random box"), "without": ("attended", "random cells")}
"""What each intervention asks about, and what it is compared with."""
LABELS = {
    "itself": "its own look", "own box": "in the word's box", "other's box": "in the other's box",
    "random box": "in a random box", "attended": "attended cells gone", "random cells": "random cells gone",
    "least attended": "least attended gone",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model under one intervention: ``means`` by way and measure, and what the intervention changes.

    ``change`` has, by measure, the moved look less the one that it is compared with (MOVED).
    """

    variant: str
    decode: str
    intervention: str
    words: int
    means: dict[tuple[str, str], Interval]
    change: dict[str, Difference]


def read_cause(records: Sequence[Record]) -> list[Row]:
    """The interventions that were evaluated on these runs; ValueError if there are none."""
    called, found = names(records), {}
    for record in records:
        for folder in sorted((record.folder / "evaluations").glob("*")):
            split, _, rest = folder.name.partition("-")
            decode, _, intervention = rest.rpartition("-")
            if intervention in WAYS and split:
                try:
                    found.setdefault((intervention, called[record.folder], decode), []).append(_statistics(folder))
                except ValueError as error:
                    say(str(error))
    if not found:
        raise ValueError(
            "no intervention was evaluated on these runs: `attend evaluate RUN --look redirect` and `--look without`"
        )
    return [row for intervention in WAYS for row in _rows(intervention, found)]


def _statistics(folder: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The images, and the words and sums of each, (N, 1 + WAYS INTERVENED)."""
    table = read_images(folder)
    return table.images, np.stack([table.numbers(name) for name in table.columns], axis=1)


def _rows(intervention: str, found: dict[tuple, list]) -> Iterable[Row]:
    models = {key[1:]: seeds for key, seeds in found.items() if key[0] == intervention}
    drawn = {}
    for model, seeds in models.items():
        images = seeds[0][0]
        same = np.stack([statistics for those, statistics in seeds if those == images])
        drawn[model] = sums(same[:, (same[..., 0] > 0).any(axis=0)])
    ways = [(way, measure) for way in WAYS[intervention] for measure in INTERVENED]
    spreads = {
        way: of_scores([[_by_seed(one, column)] for one in drawn.values()]) for column, way in enumerate(ways, 1)
    }
    moved, beside = MOVED[intervention]
    for (variant, decode), one in drawn.items():
        means = {
            way: _possible(way[1], of_sums(one.of(slice(None), [column, 0]), ratio, spread=spreads[way]))
            for column, way in enumerate(ways, 1)
        }
        change = {
            measure: of_pair(
                *(one.of(slice(None), [1 + ways.index((way, measure)), 0]) for way in (moved, beside)),
                ratio,
                spread=_of_changes(drawn.values(), [1 + ways.index((way, measure)) for way in (moved, beside)]),
            )
            for measure in INTERVENED
        }
        words = int(one.whole[:, 0].mean())
        yield Row(variant=variant, decode=decode, intervention=intervention, words=words, means=means, change=change)


def _possible(measure: str, one: Interval) -> Interval:
    """An interval that ends where no mean can be."""
    return within(one, 0, 1) if measure.startswith("said") else within(one, -np.inf, 0)


def _by_seed(drawn: Sums, column: int) -> dict[int, float]:
    return dict(enumerate(ratio(drawn.whole[:, [column, 0]]).tolist()))


def _of_changes(models: Iterable[Sums], columns: Sequence[int]) -> Spread | None:
    """The spread over seeds of the difference of two columns, pooled over models."""
    a, b = columns
    return pooled(own(ratio(one.whole[:, [a, 0]]) - ratio(one.whole[:, [b, 0]])) for one in models)


def table(rows: Sequence[Row]) -> str:
    """Markdown: a table for each intervention."""
    blocks = ["# Does looking make the word?"]
    for intervention, ways in WAYS.items():
        some = [row for row in rows if row.intervention == intervention]
        if some:
            moved, beside = MOVED[intervention]
            lines = [("Model", "n", "Words", "Look", "says the word", "says the other's", "log p of the word")]
            for row in some:
                for way in ways:
                    said, other = (bracketed(row.means[way, what], 1, scale=100) for what in ("said", "said other"))
                    first = (f"{row.variant} ({row.decode})", row.means[way, "said"].seeds, f"{row.words:,}")
                    lines.append((*first, LABELS[way], said, other, bracketed(row.means[way, "log p"], 2)))
            changes = [("Model", "says the word", "says the other's", "log p of the word", "log p of the other's")]
            for row in some:
                cells = [_changed(row.change[what], 1, 100) for what in ("said", "said other")]
                cells += [_changed(row.change[what], 2, 1) for what in ("log p", "other log p")]
                changes.append((f"{row.variant} ({row.decode})", *cells))
            blocks += [
                f"## {intervention.capitalize()}", markdown(lines, left=(0, 3)).rstrip(),
                f"{LABELS[moved].capitalize()} less {LABELS[beside]} (bold: the interval of several seeds excludes 0):",
                markdown(changes).rstrip(),
            ]  # fmt: skip
    return "\n\n".join(blocks) + "\n"


def _changed(one: Difference, decimals: int, scale: float) -> str:
    cell = bracketed(one, decimals, scale=scale, sign="+")
    return f"**{cell}**" if resolved(one) else cell


def numbers(rows: Sequence[Row]) -> list[tuple]:
    """A header and a line for each model, look and measure; and for each change."""
    lines: list[tuple] = [
        ("variant", "decode", "intervention", "look", "measure", "mean", "low", "high", "seeds", "images", "words", "p")
    ]
    for row in rows:
        name = (row.variant, row.decode, row.intervention)
        moved, beside = MOVED[row.intervention]
        for (way, measure), one in row.means.items():
            lines.append((*name, way, measure, *_shown(one), one.seeds, one.images, row.words, ""))
        for measure, one in row.change.items():
            which = f"{moved} less {beside}"
            lines.append((*name, which, measure, *_shown(one), one.seeds, one.images, row.words, p_value(one)))
    return lines


def _shown(one: Interval) -> tuple[str, ...]:
    return tuple(f"{value:.6g}" for value in one.shown)


@styled
def redirect_bars(rows: Sequence[Row], *, axes: Axes | None = None) -> Axes:
    """For each look how often each model says the word (up), and how often the other object's (down, hatched)."""
    axes = _bars(rows, "redirect", axes, {"said": 100, "said other": -100})
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_ylim(-100, 100)
    axes.set_yticks(range(-100, 101, 50), [f"{abs(tick)}" for tick in range(-100, 101, 50)])
    axes.set_ylabel("← the other's word  |  the word →\n(% of words)")
    axes.set_title("What is said if attention is moved", loc="left")
    return axes


@styled
def without_bars(rows: Sequence[Row], *, axes: Axes | None = None) -> Axes:
    """For each kind of removed cells the nats that the word costs each model."""
    axes = _bars(rows, "without", axes, {"log p": -1})
    axes.set_ylim(bottom=0)
    axes.set_ylabel("-log p of the word (nats)")
    axes.set_title("What the word costs if cells are removed", loc="left")
    return axes


def _bars(rows: Sequence[Row], intervention: str, axes: Axes | None, measures: dict[str, float]) -> Axes:
    """A bar for each look, model and measure, times a factor; one that points down is hatched."""
    rows = [row for row in rows if row.intervention == intervention]
    if not rows:
        raise ValueError(f"nothing was measured of {intervention}: `attend evaluate RUN --look {intervention}`")
    axes = axes or Figure(figsize=(7.2, 3.2), layout="constrained").add_subplot()
    styles, wide = colours(row.variant for row in rows), 0.8 / len(rows)
    for number, row in enumerate(rows):
        colour, dash = styles[row.variant]
        look = {"color": colour, "alpha": 1.0 if dash == DASHES[0] else 0.45, "edgecolor": "white", "linewidth": 0.4}
        for place, way in enumerate(WAYS[intervention]):
            x = place - 0.4 + wide * (number + 0.5)
            for measure, factor in measures.items():
                value, *ends = (factor * one for one in row.means[way, measure].shown)
                hatch = "////" if factor < 0 and len(measures) > 1 else None
                label = f"{row.variant} ({row.decode})" if place == 0 and hatch is None else None
                axes.bar(x, value, width=0.92 * wide, label=label, hatch=hatch, **look)
                whisker = [[value - min(ends)], [max(ends) - value]]
                axes.errorbar(x, value, whisker, fmt="none", ecolor="#222222", elinewidth=0.9)
    axes.set_xticks(range(len(WAYS[intervention])), [LABELS[way] for way in WAYS[intervention]])
    axes.grid(False, axis="x")
    return axes


BARS = {"redirect": redirect_bars, "without": without_bars}


@styled
def draw_cause(records: Sequence[Record], folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figure, cause.md and all numbers as CSV."""
    rows = read_cause(records)
    some = [intervention for intervention in WAYS if any(row.intervention == intervention for row in rows)]
    figure = Figure(figsize=(10.0, 3.4 * len(some) + 0.4), layout="constrained")
    panels = figure.subplots(len(some), 1, squeeze=False)[:, 0]
    for intervention, axes in zip(some, panels, strict=True):
        BARS[intervention](rows, axes=axes)
    method = next(iter(rows[0].means.values())).method
    finish(figure, panels, f"whiskers: 95 % intervals, {method}; hatched: the other object's word")
    files = save(figure, folder / "cause", formats=formats, numbers=numbers(rows))
    write_text(folder / "cause.md", table(rows))
    return [*files, folder / "cause.md"]
