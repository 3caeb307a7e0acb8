"""How time and memory grow with the size of a minibatch, the length of captions, the beam and the number of images."""

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attend.analysis.figures.figures import PALETTE, save, styled
from attend.experiments.bench.beds import KINDS, bed_of
from attend.experiments.bench.clock import Setup, clock
from attend.experiments.bench.floor import Size
from attend.experiments.bench.memory import peaks
from matplotlib.figure import Figure

BASE = Size(
    name="growth", images=8, captions=5, locations=64, features=512, vocabulary=2500, width=256, embedding=256,
    hidden=256, shortest=12, longest=12,
)  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """A sweep over one size: its values, the resized base, and whether it concerns search."""

    values: tuple[int, ...]
    resized: Callable[[int], Size]
    search: bool = False


SWEEPS = {
    "locations L": Sweep((16, 64, 256, 1024), lambda n: replace(BASE, locations=n)),
    "images B": Sweep((2, 8, 32, 128), lambda n: replace(BASE, images=n)),
    "words of a caption": Sweep((4, 8, 16, 32, 64), lambda n: replace(BASE, shortest=n, longest=n)),
    "beam": Sweep((1, 4, 16, 64), lambda n: BASE, search=True),
    "images captioned": Sweep((8, 32, 128), lambda n: replace(BASE, images=n), search=True),
}


def growth(setup: Setup) -> Iterator[dict[str, Any]]:
    """A training step, or a search, for each value of each number; the others stay as in ``BASE``."""
    points, requests = [], []
    for name, sweep in SWEEPS.items():
        for kind in ["search"] if sweep.search else KINDS:
            for value in sweep.values:
                beam = str(value if name == "beam" else 3)
                points.append((name, kind, value))
                requests.append((sweep.resized(value), *((beam, "pieces") if sweep.search else (kind, "ours"))))
    memory = peaks(requests, setup.device, setup.precision)
    for (name, kind, value), (size, way, whose), found in zip(points, requests, memory, strict=True):
        call = getattr(bed_of(size, way, setup.device, setup.precision), whose)
        seconds = [clock(call, setup.device) for _ in range(setup.rounds + 1)][1:]
        yield {
            "number": name,
            "value": value,
            "of": kind,
            "seconds": statistics.median(seconds),
            "MiB of tensors": found["tensors"] / 2**20,
        }


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each line: by which power time and memory grow from the first value to the last, and at the last step."""
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["number"], row["of"]), []).append(row)
    found = []
    for (name, kind), points in lines.items():
        one: dict[str, Any] = {"number": name, "of": kind, "times": points[-1]["value"] / points[0]["value"]}
        for what in ("seconds", "MiB of tensors"):
            for since, first in (("", points[0]), (" at the end", points[-2])):
                grown = math.log(points[-1][what] / first[what]) / math.log(points[-1]["value"] / first["value"])
                one[f"power of {what}{since}"] = round(grown, 2)
        found.append(one)
    return found


@styled
def draw(rows: list[dict[str, Any]], path: Path) -> list[Path]:
    """Both against each number, on logarithmic axes, as PNG; the dotted line is proportional growth."""
    sheet = Figure(figsize=(11, 4.4), layout="constrained")
    panels = sheet.subplots(2, len(SWEEPS), sharey="row", sharex="col")
    for column, (name, sweep) in enumerate(SWEEPS.items()):
        panels[1][column].set_xlabel(name)
        for axes, what in zip(panels[:, column], ("seconds", "MiB of tensors"), strict=True):
            for number, kind in enumerate((*KINDS, "search")):
                points = [(r["value"], r[what]) for r in rows if r["number"] == name and r["of"] == kind]
                if points:
                    axes.plot(*zip(*points, strict=True), "o-", color=PALETTE[number], ms=3.5, lw=1.3, label=kind)
                    (x, y), (last, _) = points[0], points[-1]
            axes.plot([x, last], [y, y * last / x], ":", color="#777777", lw=1, label="proportional")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(sweep.values, [str(value) for value in sweep.values])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter("{x:g}")
    panels[0][0].set_ylabel("seconds")
    panels[1][0].set_ylabel("MiB")
    shown = {line.get_label(): line for axes in panels.flat for line in axes.lines}
    shown["proportional"] = shown.pop("proportional")  # last
    sheet.legend(shown.values(), shown, loc="outside upper left", ncols=len(shown))
    return save(sheet, path, formats=("png",))
