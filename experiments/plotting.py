"""`attend plot KIND RUNS`: a table from each kind of picture to the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.records import read_runs
from experiments.gazes import draw_gaze, draw_saccades
from experiments.options import Plot
from experiments.pictures import draw_curves


def curves(command: Plot) -> list[Path]:
    return draw_curves(read_runs(command.runs, unfinished=True), command.out)


def saccades(command: Plot) -> list[Path]:
    options = {name: getattr(command, name) for name in ("images", "dots", "raw", "decode", "draws", "seed")}
    return draw_saccades(read_runs(command.runs), command.out, names=command.image, moving=command.film, **options)


def gaze(command: Plot) -> list[Path]:
    options = {name: getattr(command, name) for name in ("decode", "draws", "seed", "people")}
    return draw_gaze(read_runs(command.runs), command.out, **options)


KINDS: dict[str, Callable[[Plot], list[Path]]] = {
    "curves": curves,
    "saccades": saccades,
    "gaze": gaze,
}
"""Each returns the files it wrote; the names are those that options.Plot knows."""
