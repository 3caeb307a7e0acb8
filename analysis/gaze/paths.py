"""The gaze paths of whole evaluations, and measures of each path.

A *way* says how a path is computed from stored attention. For soft attention, it is the cell of the largest weight or
the centre of mass of each word. A model with glimpses has its own glimpses (argmax or sampled, as decoded), and
``draws``: K paths sampled, independently for each word, from the weights stored with the caption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from zlib import crc32

import numpy as np
from attend.analysis.grounding.word_kinds import KINDS, word_kinds
from attend.analysis.records import Evaluation, Record

from attend.geometry import Geometry
from attend.metrics.gaze import Fixation, centres_of_mass, draw_cells, entropy, fixations, merge, places, radius
from attend.runs.evaluations import Attention, read_all

LARGEST, MASS, DRAWS = "largest weight", "centre of mass", "draws"
PATHS = {"cells": "the sampled cell, or that of the largest weight", "mass": "centre of mass of the weights"}
SECTORS = ("right", "up right", "up", "up left", "left", "down left", "down", "down right")
MEASURES = {
    "amplitude": "length of a saccade (fraction of the diagonal)",
    "moves": "the gaze moves between two words (share)",
    "returns": "a saccade returns to an earlier place (share)",
    "distinct": "distinct places per word",
    "entropy": "entropy of the weights (nats)",
}
BY_KIND = {
    "entropy": "entropy of the weights (nats)",
    "moves": "the gaze moves to the word (share)",
    "amplitude": "length of the saccade to it (diagonals)",
    "gate": "gate on the context",
}


@dataclass(frozen=True, kw_only=True)
class Gaze:
    """One run's stored attention over a split, by image."""

    variant: str
    seed: int
    decode: str
    glimpsed: bool  # whether the model takes glimpses
    conditional: bool  # whether the state is fed the glimpses, so that the weights depend on earlier glimpses
    attention: Mapping[str, Attention]

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways of this gaze, the main one first."""
        if not self.glimpsed:
            return (LARGEST, MASS)
        return (self.decode if self.decode in ("argmax", "sample") else LARGEST, DRAWS)


def read_gaze(record: Record, evaluation: Evaluation, variant: str) -> Gaze:
    """The attention of one evaluation of a run.

    Raises:
        ValueError: the file is missing, damaged or empty, or has an image twice.
    """
    path = evaluation.attention
    if not path.exists():
        raise ValueError(f"{path} is missing: evaluate the run again, or copy the file too")
    attention = list(read_all(path))
    by_image = {one.image: one for one in attention}
    if len(by_image) != len(attention) or not attention:
        raise ValueError(f"{path} has {len(attention)} captions of {len(by_image)} images: evaluate the run again")
    setting = record.config.attention
    return Gaze(
        variant=variant,
        seed=record.seed,
        decode=evaluation.decode,
        glimpsed=setting.select == "sample",
        conditional=setting.select == "sample" and setting.feed == "glimpse",
        attention=by_image,
    )


def drawn_cells(look: Attention, draws: int, seed: int) -> np.ndarray:
    """Sample ``draws`` paths (K, T) from the stored weights, keyed by seed and image."""
    return draw_cells(look.weights, draws, (seed, crc32(look.image.encode("utf-8", "surrogateescape"))))


def path_of(look: Attention, path: str = "cells") -> list[Fixation]:
    """The fixations of one of PATHS. Consecutive words within half a cell are one fixation.

    Raises ValueError for an unknown path, and as ``fixations``.
    """
    if path not in PATHS:
        raise ValueError(f"path is {path!r}; known are {', '.join(PATHS)}")
    if path == "mass":
        return merge(look.words, centres_of_mass(look.weights, look.geometry), radius(look.geometry))
    return merge(look.words, fixations(look.weights, look.glimpses, look.geometry))


def paths(look: Attention, way: str, *, draws: int = 20, seed: int = 0) -> list[list[Fixation]]:
    """The path of a caption's gaze; for the way DRAWS, ``draws`` of them."""
    if way == DRAWS:
        centres = look.geometry.centres()
        return [merge(look.words, centres[cells]) for cells in drawn_cells(look, draws, seed)]
    look = replace(look, glimpses=None) if way == LARGEST else look
    return [path_of(look, "mass" if way == MASS else "cells")]


def describe(path: Sequence[Fixation], geometry: Geometry) -> dict[str, float]:
    """MEASURES of one path without the entropy, and the share of saccades in each of SECTORS; NaN if undefined.

    A saccade ``returns`` if it ends within half a cell of an earlier fixation.
    """
    points = np.array([fixation.point for fixation in path]).reshape(-1, 2)
    words = sum(len(fixation.words) for fixation in path)
    steps, seen = np.diff(points, axis=0), places(points, radius(geometry))
    back = [seen[i] in seen[:i] for i in range(1, len(seen))]
    angles = np.arctan2(-steps[:, 1], steps[:, 0])  # y counts downwards
    sector = np.round(angles / (np.pi / 4)).astype(int) % 8
    some = len(steps) > 0
    return {
        "amplitude": float(np.linalg.norm(steps, axis=1).mean() / np.hypot(*geometry.size)) if some else np.nan,
        "moves": len(steps) / (words - 1) if words > 1 else np.nan,
        "returns": float(np.mean(back)) if some else np.nan,
        "distinct": len(set(seen.tolist())) / words if words else np.nan,
    } | {name: float((sector == k).mean()) if some else np.nan for k, name in enumerate(SECTORS)}


def by_kind(look: Attention, some: Sequence[Sequence[Fixation]]) -> dict[tuple[str, str], float]:
    """(BY_KIND, KINDS) -> the mean over a caption's words of that kind and over paths; NaN if there is none."""
    jumps = np.array([_jumps(look, path) for path in some])  # (K, T), NaN where the gaze stays
    moved = np.where(np.arange(len(look.words)) > 0, ~np.isnan(jumps), np.nan)  # nothing led to the first word
    every = {
        "entropy": entropy(look.weights)[None],
        "moves": moved,
        "amplitude": jumps / np.hypot(*look.geometry.size),
        "gate": np.full((1, len(look.words)), np.nan) if look.gates is None else np.asarray(look.gates)[None],
    }
    kind = np.array(word_kinds(look.words))
    return {(name, k): _mean(value[:, kind == k]) for name, value in every.items() for k in KINDS}


def _jumps(look: Attention, path: Sequence[Fixation]) -> np.ndarray:
    """The length of the saccade to each word (T,), NaN if there is none."""
    jumps = np.full(len(look.words), np.nan)
    for before, fixation in pairwise(path):
        jumps[fixation.first] = np.linalg.norm(np.subtract(fixation.point, before.point))
    return jumps


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measures of one run's gaze in one way: for every image a value of each measure, NaN if there is none.

    ``values`` has (N,) for each ("amplitude", ""), ("direction", sector), ("entropy", kind) and so on.
    """

    variant: str
    seed: int
    way: str
    images: tuple[str, ...]
    values: Mapping[tuple[str, str], np.ndarray]
    curve: np.ndarray  # (N, T): entropy at each word, NaN after the last
    ceiling: float  # entropy of equal weights


def measure(looks: Gaze, way: str, images: Sequence[str], *, draws: int = 20, seed: int = 0) -> Measured:
    """Measure the gaze on these images; several draws are averaged."""
    rows, curves = [], []
    for image in images:
        look = looks.attention[image]
        some = paths(look, way, draws=draws, seed=seed)
        described = [describe(path, look.geometry) for path in some]
        keys = {name: ("direction", name) if name in SECTORS else (name, "") for name in described[0]}
        row = {key: _mean([one[name] for one in described]) for name, key in keys.items()}
        curves.append(entropy(look.weights))
        rows.append(row | by_kind(look, some) | {("entropy", ""): _mean(curves[-1])})
    padded = np.array(list(zip_longest(*curves, fillvalue=np.nan))).reshape(-1, len(curves)).T
    cells = looks.attention[images[0]].weights.shape[1]
    return Measured(
        variant=looks.variant,
        seed=looks.seed,
        way=way,
        images=tuple(images),
        values={name: np.array([row[name] for row in rows]) for name in rows[0]},
        curve=padded,
        ceiling=float(np.log(cells)),
    )


def _mean(values) -> float:
    """The mean of the known values, NaN if there is none."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
