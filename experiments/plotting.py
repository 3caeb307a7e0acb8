"""`attend plot KIND RUNS`: a table from each kind of picture to the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.records import read_runs
from experiments.grounded import draw_grounding
from experiments.options import Plot
from experiments.pictures import draw_curves, draw_gazes


def curves(command: Plot) -> list[Path]:
    return draw_curves(read_runs(command.runs, unfinished=True), command.out)


def saccades(command: Plot) -> list[Path]:
    return draw_gazes(read_runs(command.runs), command.out, command.images)


def grounding(command: Plot) -> list[Path]:
    return draw_grounding(read_runs(command.runs), command.out, command.data)


KINDS: dict[str, Callable[[Plot], list[Path]]] = {
    "curves": curves,
    "saccades": saccades,
    "grounding": grounding,
}
"""Each returns the files it wrote; the names are those that options.Plot knows."""
