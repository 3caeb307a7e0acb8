"""The trials of a study as records: the best ones, and figures of all.

As in ``figures.figures``, functions that draw take records and return Axes. ``directions`` maps the name of each
objective to ``maximize`` or ``minimize``.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from attend.analysis.figures import figures
from attend.analysis.figures.figures import MARKERS, colours, finish, note, panels, styled
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

LABELS = figures.LABELS | {
    "cider": "CIDEr",
    "mass": "attention mass in boxes",
    "pointing": "pointing into boxes",
    "parameters": "parameters",
    "seconds": "training time (seconds)",
}
COLUMNS = 4
"""The number of panels in a row of slices."""
MARGIN = 0.06
"""The margin of an axis on either side of the search range, as a fraction of that range."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The search range of a parameter: ``choices``, or else ``low`` to ``high``, on a logarithmic scale if ``log``."""

    choices: tuple = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial, with all its attempts: ``values`` by the objective's name, ``reports`` by epoch.

    Only a complete trial has values. ``why``: the reason if it was pruned or failed. ``gone``: its folder is missing.
    """

    number: int
    kind: str
    state: Literal["complete", "pruned", "failed", "running", "waiting"]
    params: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    reports: Mapping[int, float] = field(default_factory=dict)
    why: str = ""
    seconds: float | None = None
    folder: Path | None = None
    gone: bool = False

    @property
    def spent(self) -> bool:
        """Whether the trial counts for the study's number of trials."""
        return self.state in ("complete", "pruned")

    @property
    def last(self) -> float | None:
        """The last reported value."""
        return self.reports[max(self.reports)] if self.reports else None


def complete(trials: Iterable[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.state == "complete"]


def front(trials: Iterable[Trial], directions: Mapping[str, str]) -> list[Trial]:
    """The Pareto front: no other completed trial is as good in every objective and better in one."""
    chosen = complete(trials)
    losses = np.array([_losses(trial, directions) for trial in chosen]).reshape(len(chosen), len(directions))
    beaten = [((losses <= own).all(axis=1) & (losses < own).any(axis=1)).any() for own in losses]
    return [trial for trial, worse in zip(chosen, beaten, strict=True) if not worse]


def ranked(trials: Iterable[Trial], directions: Mapping[str, str]) -> list[Trial]:
    """Completed trials, the best first; with several objectives, only the front, sorted by the first objective."""
    chosen = front(trials, directions) if len(directions) > 1 else complete(trials)
    return sorted(chosen, key=lambda trial: (_losses(trial, directions)[0], trial.number))


def running_best(trials: Iterable[Trial], name: str, direction: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of completed trials in order, and the best value up to each, both (n,)."""
    chosen = sorted(complete(trials), key=lambda trial: trial.number)
    best = np.maximum if direction == "maximize" else np.minimum
    values = best.accumulate(np.array([trial.values[name] for trial in chosen], float))
    return np.array([trial.number for trial in chosen]), values


@styled
def history(trials: Sequence[Trial], name: str, direction: str, *, axes: Axes | None = None) -> Axes:
    """One objective of every trial and the best so far. A pruned trial is a × at its last report, or at the lower edge
    if it has none; a failed trial is a + at the lower edge.

    Raises:
        ValueError: no trial is complete or pruned.
    """
    if not any(trial.spent for trial in trials):
        raise ValueError("no trial is done, so there is no history to draw: run `attend study` first")
    (axes,) = panels(1, axes, columns=1, size=(5.4, 2.4))
    for level, (kind, (look, dash)) in enumerate(_styles(trials).items()):
        own = [trial for trial in trials if trial.kind == kind]
        points = [(trial.number, trial.values[name]) for trial in complete(own)]
        label = f"{kind} (n = {len(points)})"
        axes.plot(*_columns(points), gid=f"{kind}/trials", label=label, linestyle="", markersize=4.5, alpha=0.8, **look)
        best = running_best(own, name, direction)
        axes.plot(*best, gid=f"{kind}/best so far", color=look["color"], linestyle=dash, drawstyle="steps-post")
        cross = {"color": look["color"], "linestyle": "", "markersize": 4.5, "alpha": 0.8}
        pruned = [trial for trial in own if trial.state == "pruned"]
        points = [(trial.number, trial.last) for trial in pruned if trial.reports]
        axes.plot(*_columns(points), gid=f"{kind}/pruned", marker="x", **cross)
        failed = [trial for trial in own if trial.state == "failed"]
        for mark, some in (("x", [trial for trial in pruned if not trial.reports]), ("+", failed)):
            numbers = [trial.number for trial in some]
            height = 0.02 + 0.035 * level  # of the axes, so that no kind hides another's
            axes.plot(numbers, [height] * len(some), marker=mark, transform=axes.get_xaxis_transform(), **cross)
    axes.margins(y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, steps=[1, 2, 5, 10]))
    axes.set_xlim(-0.7, max(trial.number for trial in trials) + 0.7)
    axes.set_xlabel("trial")
    axes.set_title(LABELS.get(name, name), loc="left")
    return axes


@styled
def histories(
    trials: Sequence[Trial], directions: Mapping[str, str], *, axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """The history of each objective in its own panel."""
    every = panels(len(directions), axes, columns=1, size=(5.4, 2.5))
    for one, (name, direction) in zip(every, directions.items(), strict=True):
        history(trials, name, direction, axes=one)
    parts = ["line: the best so far"]
    pruned = [trial for trial in trials if trial.state == "pruned"]
    if pruned:
        reported = "its last report in training or " if any(trial.reports for trial in pruned) else ""
        parts.append(f"×: pruned, at {reported}the lower edge")
    if any(trial.state == "failed" for trial in trials):
        parts.append("+: failed")
    return tuple(finish(every[0].figure, every, "; ".join(parts), own=axes is None))


@styled
def slices(
    trials: Sequence[Trial], name: str, direction: str, *, axes: Sequence[Axes] | None = None
) -> tuple[Axes, ...]:
    """One objective against each parameter of the trials, in panels; a ring marks the best trial.

    Raises:
        ValueError: no trial is complete, or they have no parameters.
    """
    shown = complete(trials)
    ranges = {parameter: one for trial in shown for parameter, one in trial.ranges.items()}
    ranges = dict(sorted(ranges.items(), key=lambda one: bool(one[1].choices)))  # long labels into the last row
    if not ranges:
        raise ValueError("no completed trial has a parameter, so there are no slices to draw: run `attend study` first")
    (best, *_) = ranked(shown, {name: direction})
    every = panels(len(ranges), axes, columns=COLUMNS, size=(2.0, 2.1), level=True)
    for place, (one, (parameter, span)) in enumerate(zip(every, ranges.items(), strict=True)):
        if place % COLUMNS == 0 or axes is not None:
            one.set_ylabel(LABELS.get(name, name))
        for kind, (look, _) in _styles(shown).items():
            own = [trial for trial in shown if trial.kind == kind and parameter in trial.params]
            points = [(_position(trial, parameter, span), trial.values[name]) for trial in own]
            label = f"{kind} (n = {len(own)})"
            one.plot(*_columns(points), label=label, linestyle="", markersize=4.5, alpha=0.8, **look)
        if parameter in best.params:
            ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": "black"}
            at = _position(best, parameter, span), best.values[name]
            one.plot(*_columns([at]), linestyle="", label=f"the best, trial {best.number}", **ring)
        _scale(one, span)
        one.set_xlabel(_wrapped(parameter))
        one.margins(y=0.12)
    return tuple(finish(every[0].figure, every, "completed trials; axes span the search ranges", own=axes is None))


def sliced(trials: Iterable[Trial], name: str) -> list[tuple]:
    """The numbers behind ``slices``: a header and a row for each point."""
    rows = [(t.kind, t.number, p, value, t.values[name]) for t in complete(trials) for p, value in t.params.items()]
    return [("kind", "trial", "parameter", "value", name), *rows]


@styled
def importances(shares: Mapping[str, float], kind: str, said: str, *, axes: Axes | None = None) -> Axes:
    """The share of each parameter as a bar, the largest on top; ``said`` explains the shares."""
    (only,) = panels(1, axes, columns=1, size=(4.6, 0.4 + 0.28 * len(shares)))
    names, values = zip(*sorted(shares.items(), key=lambda item: item[::-1]), strict=True)
    colour, _ = colours([kind])[kind]
    bars = only.barh([_wrapped(name, 40) for name in names], values, height=0.62, color=colour, edgecolor=colour)
    only.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    only.grid(axis="y", visible=False)
    only.set_xlim(0, 1.15 * max(values))
    only.set_title(f"importance of the parameters, {kind}", loc="left")
    if axes is None:
        note(only.figure, said)
    else:
        only.set_xlabel(_wrapped(said, 60), fontsize=6.5)
    return only


@styled
def pareto(trials: Sequence[Trial], directions: Mapping[str, str], *, axes: Axes | None = None) -> Axes:
    """Two objectives of all completed trials, and for each kind a line through its Pareto front.

    Raises:
        ValueError: no trial is complete, or there are not two objectives.
    """
    if len(directions) != 2 or not complete(trials):
        raise ValueError(f"{len(directions)} objectives of {len(complete(trials))} completed trials have no front")
    (x, across), (y, _) = directions.items()
    (only,) = panels(1, axes, columns=1, size=(4.4, 2.9))
    steps = "steps-pre" if across == "maximize" else "steps-post"
    for kind, (look, dash) in _styles(complete(trials)).items():
        own = [trial for trial in complete(trials) if trial.kind == kind]
        best = sorted((trial.values[x], trial.values[y]) for trial in front(own, directions))
        points = [(trial.values[x], trial.values[y]) for trial in own]
        label = f"{kind} (n = {len(own)})"
        only.plot(*_columns(points), gid=f"{kind}/trials", label=label, linestyle="", markersize=4, alpha=0.45, **look)
        only.plot(*_columns(best), gid=f"{kind}/front", drawstyle=steps, linestyle=dash, markersize=5.5, **look)
    for label, (name, aim) in zip((only.set_xlabel, only.set_ylabel), directions.items(), strict=True):
        label(f"{LABELS.get(name, name)}, {'higher' if aim == 'maximize' else 'lower'} is better")
    finish(only.figure, [only], "line: the Pareto front of each kind", own=axes is None)
    return only


def _losses(trial: Trial, directions: Mapping[str, str]) -> tuple[float, ...]:
    """The objectives with signs such that lower is better."""
    return tuple((-1 if aim == "maximize" else 1) * trial.values[name] for name, aim in directions.items())


def _styles(trials: Iterable[Trial]) -> dict[str, tuple[dict[str, str], str]]:
    """The colour and marker of each kind, and its dash."""
    styles = colours(trial.kind for trial in trials)
    return {
        kind: ({"color": colour, "marker": MARKERS[colour], "markeredgewidth": 0.8}, dash)
        for kind, (colour, dash) in styles.items()
    }


def _columns(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """x and y, (2, n)."""
    return np.array(points, float).reshape(-1, 2).T


def _position(trial: Trial, parameter: str, one: Range) -> float:
    """The position of a parameter on its axis. Equal choices are jittered by the trial's number."""
    value = trial.params[parameter]
    if not one.choices:
        return value
    return one.choices.index(value) + 0.36 * ((trial.number * (math.sqrt(5) - 1) / 2) % 1 - 0.5)


def _scale(axes: Axes, one: Range) -> None:
    """Set the axis to the search range, with matching ticks."""
    if one.choices:
        longest = max(len(str(choice)) for choice in one.choices)
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if longest > 20 // len(one.choices) else {}
        axes.set_xticks(range(len(one.choices)), map(str, one.choices), **turned)
        axes.set_xlim(-0.5, len(one.choices) - 0.5)
        axes.grid(axis="x", visible=False)
    elif one.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_powers(one.low, one.high)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        margin = (one.high / one.low) ** MARGIN if one.high > one.low else 10
        axes.set_xlim(one.low / margin, one.high * margin)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        margin = MARGIN * (one.high - one.low) or 1
        axes.set_xlim(one.low - margin, one.high + margin)


def _powers(low: float, high: float) -> list[float]:
    """Two to four ticks of a logarithmic axis: powers of ten, or else the ends of the range."""
    powers = [10.0**n for n in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
    return powers[:: -(-len(powers) // 4)] if len(powers) > 1 else [low, high]


def _wrapped(name: str, width: int = 24) -> str:
    """A long name on several lines, broken after dots and underscores."""
    return textwrap.fill(name.replace("_", "_ ").replace(".", ". "), width).replace("_ ", "_").replace(". ", ".")
