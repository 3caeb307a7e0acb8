"""Estimate what runs will cost before they start: training steps, time and disk.

A configuration with work left is rehearsed once (``rehearsal.py``). A run then takes

    (1 + evaluations) x start + steps x step + given x step / (3 x images) + searched x (search + SCORING) + METEOR,

since the forward pass over the given captions takes a third of a step, and each run goes to the worker that is free
first. The estimate leaves out early stopping, tables and pictures, and how much workers disturb each other.
"""

import heapq
import math
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner.experiment import Setting
from attend.experiments.runner.rehearsal import Cost, rehearse
from attend.experiments.runner.runner import Run
from attend.experiments.runner.workers import default_workers
from tqdm import tqdm

from attend.config import Config, Decode, Encoder
from attend.data.prepared import Prepared
from attend.evaluation.evaluate import headline
from attend.runs.checkpoint import Progress, read_state
from attend.runs.folder import RunFolder

METEOR, SCORING = 9.0, 0.005
"""Seconds until METEOR has started, once a run, and to score a caption by all metrics (docs/performance.md)."""
RECORD, LINE = 4000, 450
"""Bytes of an image in an evaluation besides its attention weights, and of a line of metrics.jsonl."""


class Estimate(NamedTuple):
    """The work that is left in ``runs``, with so many ``workers`` at once; ``notes`` are warnings."""

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
        """The lines that the user reads."""
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


@dataclass
class Work:
    """The work that is left in a run: images whose given captions are read, and images to caption by each search.

    ``words`` have attention weights to write, ``records`` are images to write, ``there`` are bytes of checkpoints that
    will be replaced.
    """

    run: Run
    steps: int = 0
    epochs: int = 0
    evaluations: int = 0
    given: int = 0
    words: float = 0.0
    records: int = 0
    there: int = 0
    searched: Counter[tuple[Decode, int]] = field(default_factory=Counter)

    def seconds(self, cost: Cost) -> float:
        total = (1 + self.evaluations) * cost.start + self.steps * cost.step + METEOR * (self.evaluations > 0)
        total += self.given * cost.step / (3 * self.run.config.train.images)
        return total + sum(images * (cost.search[way] + SCORING) for way, images in self.searched.items())

    def bytes(self, cost: Cost) -> int:
        train = self.run.config.train
        kept = 1 + (train.epochs // train.keep_every if train.keep_every else 0)
        lines = self.steps // train.log_every + self.epochs
        written = max(0, cost.last + kept * cost.best - self.there) + LINE * lines + RECORD * self.records
        return written + int(4 * cost.locations * self.words)


def left(one: Run, dataset: Prepared) -> Work:
    """The work that is left in a run. ValueError if its folder has other settings or is damaged."""
    run, config, train, split = RunFolder(one.folder), one.config, one.config.train, headline(dataset)
    if (one.folder / "config.json").exists():
        run.same(config)
    work = Work(one, there=sum(path.stat().st_size for path in run.last.parent.glob("*.safetensors")))
    if not run.finished:
        progress = read_state(run.last)["progress"] if run.last.exists() else asdict(Progress())
        stalled = 0 < train.patience <= progress["stale"]
        work.epochs = 0 if stalled else train.epochs - progress["epoch"]
        batches = math.ceil((train.training_images or len(dataset.rows("train"))) / train.images)
        work.steps = work.epochs * batches - progress["position"]
        rows = len(dataset.rows("val"))
        work.given = work.epochs * min(train.validation_images or rows, rows)
        if train.monitor != "nll" and work.epochs:
            work.searched[config.decode, train.validation_beam] += work.given
    folders = {
        run.evaluation(way.split or split, *config.way(way.decode, way.beam), way.look): way
        for way in (Setting(), *one.also)
    }
    for way in (way for path, way in folders.items() if not (path / "scores.json").exists()):
        rows = dataset.rows(way.split or split)
        work.evaluations += 1
        work.given += len(rows)
        work.records += len(rows)
        if (way.look or config.attention.weights) != "oracle":  # which writes no captions
            work.searched[config.way(way.decode, way.beam)] += len(rows) * way.draws
            given = [len(caption.tokens) for row in rows[:1000] for caption in dataset.examples[row].captions]
            work.words += len(rows) * float(np.mean(np.minimum(given, config.search.max_length)))
    if one.bound is not None and not (run.bound(split, one.bound) / "scores.json").exists():
        work.evaluations += 1
        work.given += len(dataset.rows(split)) * (one.bound if config.attention.hard else 1)
    return work


def estimate(runs: Sequence[Run], workers: int | None = None) -> Estimate:
    """The cost of the work that is left in these runs. Their data must be prepared."""
    datasets, works, notes = {}, [], []
    for run in runs:
        dataset = datasets.get(run.config.data) or datasets.setdefault(run.config.data, Prepared(run.config.data))
        dataset.rows("train"), dataset.rows("val")  # an empty split is reported before anything is computed
        try:
            works.append(left(run, dataset))
        except EXPECTED as error:
            notes.append(sentence(error))
    todo = [work for work in works if work.steps or work.evaluations]
    workers = max(1, min(workers or default_workers(), len(todo)))
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # as many as each of the workers has
    try:
        costs, missing = rehearsed(todo, notes)
    finally:
        torch.set_num_threads(threads)
    known = [(work, costs[key]) for work in todo if (key := replace(work.run.config, seed=0)) in costs]
    needs = Counter({runs[0].folder: sum(work.bytes(cost) for work, cost in known)})
    for (data, _), (size, _) in missing.items():
        needs[Path(data)] += size
    return Estimate(
        runs=len(runs),
        finished=len(works) - len(todo),
        resumed=sum(work.there > 0 for work in todo),
        workers=workers,
        steps=sum(work.steps for work in todo),
        seconds=sum(took for _, took in missing.values()) + last_end([w.seconds(c) for w, c in known], workers),
        features_bytes=sum(size for size, _ in missing.values()),
        runs_bytes=needs[runs[0].folder],
        free_bytes=shutil.disk_usage(existing(runs[0].folder)).free,
        notes=(*notes, *shortages(needs)),
    )


def rehearsed(
    todo: Sequence[Work], notes: list[str]
) -> tuple[dict[Config, Cost], dict[tuple[str, Encoder], tuple[int, float]]]:
    """The cost of each configuration (with seed 0), and bytes and seconds of the features that each encoder lacks.

    If a configuration cannot be trained, ``notes`` receives the reason.
    """
    groups: dict[Config, list[Work]] = defaultdict(list)
    for work in todo:
        groups[replace(work.run.config, seed=0)].append(work)
    costs, missing = {}, {}
    with tempfile.TemporaryDirectory(prefix="attend-estimate-") as folder:
        for config, some in tqdm(groups.items(), desc="estimating", unit="variant", disable=None, leave=False):
            searches = set().union(*(work.searched for work in some))
            try:
                costs[config], lacking = rehearse(config, searches, Path(folder))
            except EXPECTED as error:
                why = re.sub(rf"{re.escape(folder)}/sample-[\w-]+", config.data, sentence(error))
                notes.append(f"{some[0].run.variant} cannot be trained: {why}")
            else:
                missing.setdefault((config.data, config.encoder), lacking)  # the next one finds these features
    return costs, missing


def last_end(seconds: Sequence[float], workers: int) -> float:
    """The end of the last run, if each goes to the worker that is free first."""
    ends = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def shortages(needs: Mapping[Path, int]) -> list[str]:
    """A sentence for every disk that has less free than the folders on it need together."""
    disks: dict[int, list[Path]] = defaultdict(list)
    for folder in needs:
        disks[existing(folder).stat().st_dev].append(folder)
    return [
        f"the disk of {folders[0]} has {volume(free)} free, and {volume(needed)} are needed: "
        "free some space, or choose another folder"
        for folders in disks.values()
        if (free := shutil.disk_usage(existing(folders[0])).free) < (needed := sum(needs[one] for one in folders))
    ]


def existing(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
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
