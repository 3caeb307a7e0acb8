"""What an experiment will cost before it starts: runs, steps, time and disk.

Time is extrapolated from a probe of every configuration that still has something to do (``experiments/probe.py``): some
training steps of its own trainer on its own captions, and one pass of each kind over a group of validation images, by a
model that has learned nothing. A run takes

    steps x step + epochs x (validation images x (given + searched + scoring)) + METEOR's start
    + ways of evaluating x (start + its images x (given + draws x (searched + scoring))) + start + images x bound

and the runs are dealt out in their order to the workers, each to whichever is free first. What is not in it: early
stopping, tables and pictures, and how much workers disturb each other.

Held against runs on two cores: of the whole quickstart 6, 7 and 9 minutes were said in three dry runs beside little
other work, and 7 min 41 s are what it takes (docs/performance.md). Beside much other work, which made steps of 0.11 s
last up to 0.43: soft and hard with one seed, 3.4 minutes said and 5.1 taken, 18.1 MB said and 18.2 written; the tiny
quickstart, 29 s said and some 40 taken.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner.experiment import Setting
from attend.experiments.runner.probe import Cost, Inputs, Probe
from attend.experiments.runner.runner import Run
from attend.experiments.runner.workers import default_workers
from tqdm import tqdm

from attend.config import Config, Decode, Encoder
from attend.data.prepared import Prepared
from attend.evaluation.evaluate import headline
from attend.runs.checkpoint import read_state
from attend.runs.folder import RunFolder
from attend.training.loop import Progress

METEOR = 9.0
"""Seconds in which its program starts, once a run (docs/performance.md)."""
SCORING = 0.005
"""Seconds to score a caption by all metrics (there)."""
RECORD = 4000
"""Bytes that an evaluation keeps of an image beside the weights of its words: HDF5's own, scores, the caption."""
LINE = 450
"""Bytes of a line of metrics.jsonl."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is to come: of all ``runs`` some are ``finished``, and some ``resumed`` from a checkpoint; training steps
    and seconds, with so many ``workers`` at once; bytes of features and of runs that are not there yet, and those free
    on the disk of the runs. ``notes`` are sentences on what will go wrong."""

    runs: int
    finished: int
    resumed: int
    workers: int
    steps: int
    seconds: float
    features_bytes: int
    runs_bytes: int
    free_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether nothing is left that takes time."""
        return self.seconds == 0

    def text(self) -> str:
        """Some lines for the user."""
        kinds = {"finished": self.finished, "to be resumed": self.resumed}
        kinds["to do"] = self.runs - sum(kinds.values())
        lines = [f"{self.runs} runs: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)]
        if not self.nothing:
            several = f", {self.workers} at once" if self.workers > 1 else ""
            features = f"{volume(self.features_bytes)} of features and " if self.features_bytes else ""
            lines += [
                f"about {duration(self.seconds)}{several}: {self.steps:,} training steps and their evaluations, from a "
                "probe of a few; less where training stops early",
                f"disk: {features}{volume(self.runs_bytes)} of runs, {volume(self.free_bytes)} free",
            ]
        return "\n".join([*lines, *(f"warning: {note}" for note in self.notes)])


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left of a run: training steps, epochs to validate, ways to evaluate it, paths to bound it from.

    ``there`` are the bytes of its checkpoints, which later ones take the place of.
    """

    variant: str
    config: Config
    dataset: Prepared
    steps: int
    epochs: int
    ways: tuple[Setting, ...]
    bound: int | None
    there: int

    @property
    def nothing(self) -> bool:
        return not (self.steps or self.ways or self.bound)

    @property
    def searches(self) -> set[tuple[Decode, int]]:
        """The contexts and beams that captions are generated with."""
        config = self.config
        validation = {(config.decode, config.train.validation_beam)} if self.epochs and self._heard else set()
        return validation | {config.way(way.decode, way.beam) for way in self.ways if not self._silent(way)}

    def seconds(self, cost: Cost) -> float:
        """How long it takes."""
        config, rows = self.config, len(self.dataset.rows("val"))
        total = cost.start + self.steps * cost.step
        if self.epochs:
            searched = cost.searched[config.decode, config.train.validation_beam] + SCORING if self._heard else 0.0
            total += self.epochs * min(config.train.validation_images or rows, rows) * (cost.given + searched)
        for way in self.ways:
            searched = 0.0 if self._silent(way) else cost.searched[config.way(way.decode, way.beam)] + SCORING
            total += cost.start + len(self._rows(way)) * (cost.given + way.draws * searched)
        if self.bound:
            total += cost.start + len(self._rows(Setting())) * cost.bounded
        return total + (METEOR if self.ways else 0.0)

    def bytes(self, cost: Cost) -> int:
        """How much more disk it takes."""
        train = self.config.train
        kept = train.epochs // train.keep_every if train.keep_every else 0
        total = max(0, (2 + kept) * cost.weights + cost.state - self.there)
        total += LINE * (self.steps // train.log_every + self.epochs)
        for way in self.ways:
            weights = 0.0 if self._silent(way) else 4 * cost.locations * self._words(way)
            total += int(len(self._rows(way)) * (weights + RECORD))
        return total

    @property
    def _heard(self) -> bool:
        """Whether validation generates captions."""
        return self.config.train.monitor != "nll"

    def _silent(self, way: Setting) -> bool:
        """Whether a way writes no captions."""
        return (way.look or self.config.attention.weights) == "oracle"

    def _rows(self, way: Setting) -> list[int]:
        return self.dataset.rows(way.split or headline(self.dataset))

    def _words(self, way: Setting) -> float:
        """The mean length of given captions, which generated ones come to have."""
        some = (self.dataset.examples[row].captions for row in self._rows(way)[:1000])
        return float(
            np.mean([min(len(c.tokens), self.config.search.max_length) for captions in some for c in captions])
        )


def left(one: Run, dataset: Prepared) -> Left:
    """What is left of a run. ValueError where its folder is of other settings, or damaged."""
    run, config, bound, split = RunFolder(one.folder), one.config, one.bound, headline(dataset)
    if (one.folder / "config.json").exists():
        run.same(config)
    folders = {
        run.evaluation(way.split or split, *config.way(way.decode, way.beam), way.look): way
        for way in (Setting(), *one.also)
    }
    steps = epochs = 0
    if not run.finished:
        progress = read_state(run.last)["progress"] if run.last.exists() else asdict(Progress())
        stalled = 0 < config.train.patience <= progress["stale"]
        epochs = 0 if stalled else config.train.epochs - progress["epoch"]
        batches = math.ceil((config.train.training_images or len(dataset.rows("train"))) / config.train.images)
        steps = epochs * batches - progress["position"]
    bounded = bound is None or (run.bound(split, bound) / "scores.json").exists()
    return Left(
        variant=one.variant,
        config=config,
        dataset=dataset,
        steps=steps,
        epochs=epochs,
        ways=tuple(way for path, way in folders.items() if not (path / "scores.json").exists()),
        bound=None if bounded else bound,
        there=sum(path.stat().st_size for path in run.last.parent.glob("*.safetensors")),
    )


def estimate(runs: Sequence[Run], workers: int | None = None) -> Estimate:
    """What is still to come of these runs, on data that are prepared."""
    datasets, todo, notes, finished = {}, [], [], 0
    for run in runs:
        data = run.config.data
        dataset = datasets.get(data) or datasets.setdefault(data, Prepared(data))
        dataset.rows("train"), dataset.rows("val")  # an empty split is said before anything is computed
        try:
            one = left(run, dataset)
        except EXPECTED as error:
            notes.append(sentence(error))
            continue
        todo += [] if one.nothing else [one]
        finished += one.nothing
    workers = max(1, min(workers or default_workers(), len(todo)))
    costs, inputs = _probed(todo, workers, notes)
    known = [(one, cost) for one in todo if (cost := costs.get(replace(one.config, seed=0)))]
    out = runs[0].folder
    needs = [(out, sum(one.bytes(cost) for one, cost in known))]
    needs += [(Path(data), one.bytes) for (data, _), one in inputs.items()]
    return Estimate(
        runs=len(runs),
        finished=finished,
        resumed=sum(one.there > 0 for one in todo),
        workers=workers,
        steps=sum(one.steps for one in todo),
        seconds=sum(one.seconds for one in inputs.values()) + last_end([one.seconds(c) for one, c in known], workers),
        features_bytes=sum(one.bytes for one in inputs.values()),
        runs_bytes=needs[0][1],
        free_bytes=shutil.disk_usage(_existing(out)).free,
        notes=(*notes, *shortages(needs)),
    )


def _probed(
    todo: Sequence[Left], workers: int, notes: list[str]
) -> tuple[dict[Config, Cost], dict[tuple[str, Encoder], Inputs]]:
    """The cost of each configuration but for its seed, and the inputs that are missing, by data and encoder.

    Of one that cannot start, the reason is noted.
    """
    groups: dict[Config, list[Left]] = defaultdict(list)
    for one in todo:
        groups[replace(one.config, seed=0)].append(one)
    costs, inputs = {}, {}
    for config, some in tqdm(groups.items(), desc="estimating", unit="variant", disable=None, leave=False):
        try:
            probe = Probe(config)
            if (config.data, config.encoder) not in inputs:
                inputs[config.data, config.encoder] = probe.inputs()
            with _threads(torch.get_num_threads() // workers):
                searches = set().union(*(one.searches for one in some))
                costs[config] = probe.cost(searches, max(one.bound or 0 for one in some))
        except EXPECTED as error:
            notes.append(f"{some[0].variant} cannot be trained: {sentence(error)}")
    return costs, inputs


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads as each of several workers has."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def last_end(seconds: Sequence[float], workers: int) -> float:
    """When the last of some runs ends, if each goes to the worker that is free first."""
    ends = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def shortages(needs: Sequence[tuple[Path, int]]) -> list[str]:
    """A sentence for every disk that has less free than these folders need together."""
    disks: dict[int, list[tuple[Path, int]]] = defaultdict(list)
    for folder, needed in needs:
        disks[_existing(folder).stat().st_dev].append((folder, needed))
    said = []
    for some in disks.values():
        free, needed = shutil.disk_usage(_existing(some[0][0])).free, sum(needed for _, needed in some)
        if free < needed:
            said.append(
                f"the disk of {some[0][0]} has {volume(free)} free, and {volume(needed)} are needed: "
                "free some space, or choose another folder"
            )
    return said


def _existing(path: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size, most in (("s", 1, 90), ("minutes", 60, 90), ("hours", 3600, 48)):
        if seconds < most * size:
            return f"{max(1, round(seconds / size))} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def volume(size: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}" if size < 10 * scale else f"{size / scale:.0f} {unit}"
    return f"{size / 1000:.0f} kB"
