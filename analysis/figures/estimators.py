"""Measurements of gradient estimators, one record per row, as a table and as a figure."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import msgspec
from attend.analysis.figures.figures import PALETTE, finish, panels, styled
from attend.analysis.tables import text
from matplotlib.axes import Axes

from attend.runs.files import comma_separated

BEYOND = 3.0
"""An estimator is biased if its bias exceeds this multiple of ``chance`` plus ROUNDING."""
ROUNDING = 1e-4
"""The share of the exact gradient that may be due to floating-point rounding."""
GROUPS = {"attention": "o", "rest": "D"}
"""Groups of parameters in the figure, and their markers."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way to estimate a gradient, over ``draws`` draws at fixed weights and a fixed minibatch.

    bias: |mean - G| / |G| for the exact gradient G of ``against``. chance: the bias expected of an unbiased estimator,
    sqrt(variance / draws) / |G|. exactly: the bias of the mean over all K-tuples of paths, which has no chance, if they
    can be enumerated. from_bound, from_marginal: the bias relative to the gradients of J and of -log p(y),
    for any target. variance: E|g - E g|^2 in (nats per word)^2. signal_to_noise: |E g|^2 / variance. cosine: the mean
    of cos(g, G). ``samples`` is K. A value is None if it is unknown, and ``note`` says why.

    The last three depend on the machine: seconds and mebibytes of one step (loss and gradient), and equal_time, the
    variance times the seconds, relative to REINFORCE with its default baseline.
    """

    feed: str
    checkpoint: str
    group: str
    estimator: str
    samples: int | None = None
    target: str
    draws: int = 0
    against: str = ""
    bias: float | None = None
    chance: float | None = None
    exactly: float | None = None
    from_bound: float | None = None
    from_marginal: float | None = None
    variance: float | None = None
    signal_to_noise: float | None = None
    cosine: float | None = None
    note: str = ""
    seconds: float | None = None
    mebibytes: float | None = None
    equal_time: float | None = None

    @property
    def biased(self) -> bool | None:
        """Whether the bias exceeds chance and rounding; None if it is unknown."""
        if self.exactly is not None:
            return self.exactly > ROUNDING
        return None if self.bias is None else self.bias > BEYOND * self.chance + ROUNDING


COLUMNS = [field.name for field in fields(Measured)]
MACHINE = ("seconds", "mebibytes", "equal_time")
"""Columns that differ between repeated measurements."""


def write_rows(rows: Iterable[Measured]) -> str:
    """The records as CSV, with six digits."""
    values = ((getattr(row, name) for name in COLUMNS) for row in rows)
    lines = ([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in values)
    return comma_separated([COLUMNS, *lines])


def read_rows(content: str, where: str) -> list[Measured]:
    """The records of a CSV from ``write_rows``; ``where`` is its path, for errors.

    Raises:
        ValueError: its columns differ, or a value does not have the type of its column.
    """
    lines = csv.DictReader(io.StringIO(content))
    if content.partition("\n")[0].rstrip("\r").split(",") != COLUMNS:
        raise ValueError(f"{where} does not have the columns of `attend estimators`: run it again")
    try:
        cells = ({name: cell for name, cell in line.items() if cell != ""} for line in lines)  # empty: the default
        return [msgspec.convert(row, Measured, strict=False) for row in cells]
    except (ValueError, csv.Error):
        raise ValueError(f"{where} is broken in line {lines.line_num}: run `attend estimators` again") from None


HEADER = {
    "estimator": "estimator",
    "samples": "K",
    "bias": "bias [chance]",
    "exactly": "bias, exactly",
    "against": "against",
    "from_bound": "from G_J",
    "from_marginal": "from G_M",
    "variance": "variance",
    "signal_to_noise": "signal / noise",
    "cosine": "cosine",
    "seconds": "ms a step",
    "mebibytes": "MiB",
    "equal_time": "variance at equal time",
}


def markdown(rows: Sequence[Measured]) -> str:
    """The records as tables, one for each model and group of parameters, with notes on unknown values below.

    A bias beyond chance is bold. So is the exact bias, if it is known and not 0.
    """
    parts = []
    for feed, checkpoint, group in dict.fromkeys((r.feed, r.checkpoint, r.group) for r in rows):
        some = [r for r in rows if (r.feed, r.checkpoint, r.group) == (feed, checkpoint, group)]
        done = [r for r in some if r.draws]
        shown = [name for name in HEADER if any(getattr(r, name) not in (None, "") for r in done)]
        lines = [[HEADER[name] for name in shown], *([_cell(row, name) for name in shown] for row in done)]
        left = [place for place, name in enumerate(shown) if name in ("estimator", "against")]
        table = [text.markdown(lines, left=left)] if done else []
        notes = []
        for note in dict.fromkeys(r.note for r in some if r.note):
            own = [r for r in some if r.note == note]
            whose = "all above" if own == done and len(own) > 1 else "; ".join(r.estimator for r in own)
            notes.append(f"- {whose}: {note}.")
        parts.append("\n".join([f"### feed {feed}, {checkpoint}: {group}", "", *table, *notes]).strip())
    return "\n\n".join(parts) + "\n"


def _cell(row: Measured, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return ""
    if name == "bias":
        return f"{f'**{value:.3f}**' if row.biased else f'{value:.3f}'} [{row.chance:.3f}]"
    if name == "exactly":
        return f"**{value:.3g}**" if row.biased else f"{value:.3g}"
    if name == "seconds":
        return f"{1000 * value:.3g}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


PANELS = {
    "bias": "bias / |exact gradient|",
    "variance": "variance, (nats per word)²",
    "equal_time": "variance at equal time",
}
"""The columns in the figure, and the titles of their panels."""


@styled
def estimator_panels(rows: Sequence[Measured], *, axes: Sequence[Axes] | None = None) -> tuple[Axes, ...]:
    """Bias, variance and variance at equal time of one feed: a line per estimator, a colour per checkpoint.

    Filled marks are for attention's parameters, hollow ones for the rest. A grey bar at a bias ends at ``chance``, and
    a bias that is not beyond chance is pale. A cross at the left edge is a value of zero. Unmeasured estimators are
    left out, and so is a panel without known values.

    Raises:
        ValueError: no estimator was measured.
    """
    drawn = [row for row in rows if row.draws and row.group in GROUPS]
    if not drawn:
        raise ValueError("nothing was measured, so there is nothing to draw: the table says why")
    names = list(dict.fromkeys(row.estimator for row in drawn))
    series = [(c, group) for c in dict.fromkeys(row.checkpoint for row in drawn) for group in GROUPS]
    shown = [name for name in PANELS if any(getattr(row, name) is not None for row in drawn)]
    height = 0.8 + len(names) * max(0.2, 0.07 * len(series))
    every = panels(len(shown), axes, columns=len(shown), size=(2.5 + 2.6 / len(shown), height), level=True)
    for one, name in zip(every, shown, strict=True):
        _panel(one, drawn, name, names, series)
        one.set_yticks(range(len(names)), names)
        one.set_ylim(len(names) - 0.4, -0.6)
    looks = [_mark(place, series) | {"label": ", ".join(one)} for place, one in enumerate(series)]
    for look in looks:  # for the legend
        every[0].plot([], [], linestyle="none", **look)
    return tuple(finish(every[0].figure, every, _note(drawn, shown), own=axes is None))


def _panel(axes: Axes, rows: Sequence[Measured], name: str, names: list[str], series: list[tuple[str, str]]) -> None:
    least = ROUNDING if name == "bias" else 1e-12
    known = [row for row in rows if getattr(row, name) is not None]
    floor = min((v for row in known if (v := getattr(row, name)) > least), default=1.0) / 3
    for row in known:
        value, place = getattr(row, name), series.index((row.checkpoint, row.group))
        y = names.index(row.estimator) + 0.7 * ((place + 0.5) / len(series) - 0.5)
        style = _mark(place, series) | ({"marker": "x"} if value <= least else {})
        if name == "bias" and value > least:
            axes.plot([floor, max(row.chance, floor)], [y, y], color="#C4C4C4", linewidth=2.4, zorder=1)
            style |= {} if row.biased else {"alpha": 0.35}
        gid = f"{row.estimator}/{row.checkpoint}/{row.group}"
        axes.plot([max(value, floor)], [y], linestyle="none", gid=gid, **style)
    axes.set_xscale("log")
    axes.set_xlim(left=floor / 1.4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_title(PANELS[name], loc="left")
    axes.tick_params(axis="y", length=0)


def _mark(place: int, series: list[tuple[str, str]]) -> dict:
    """The style of a checkpoint and a group of parameters."""
    checkpoint, group = series[place]
    colour = PALETTE[list(dict.fromkeys(one for one, _ in series)).index(checkpoint) % len(PALETTE)]
    face = colour if group == "attention" else "white"
    return {"color": colour, "marker": GROUPS[group], "markerfacecolor": face, "markersize": 4.5}


def _note(rows: Sequence[Measured], panels: Sequence[str]) -> str:
    lines = [f"n = {max(row.draws for row in rows)} draws at fixed weights; cross: zero"]
    if "bias" in panels:
        lines.append("grey bar: the bias expected from chance alone; pale: not beyond three times that")
    if "equal_time" in panels:
        lines.append("equal time: variance times seconds per step, relative to REINFORCE with its default baseline")
    return "\n".join(lines)
