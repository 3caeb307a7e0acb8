"""Estimate what runs will cost before they start: training steps, time and disk.

Every configuration with work left is rehearsed: trained for a few steps on a minibatch of its own dataset. The time of
a run is passes x step + images x search, where a pass over given captions is a third of a step. The runs are divided
evenly among the workers, each of which starts METEOR once. Early stopping, tables, pictures and the slowdown by other
workers are left out.
"""

import contextlib
import io
import math
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from timeit import timeit
from typing import NamedTuple

import numpy as np
import torch
from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner.runner import Run
from attend.experiments.runner.workers import default_workers
from humanize import naturalsize, precisedelta

from attend.bars import through
from attend.config import Config, Decode
from attend.data.batches import longest
from attend.data.prepared import Prepared
from attend.data.stores import unwritten
from attend.encoder.encoder import Encoder
from attend.encoder.features import ensure_store, place
from attend.evaluation.generate import generate
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator
from attend.training.loop import Trainer

METEOR, SCORING, RECORD = 9.0, 0.005, 4000
"""Seconds until METEOR has started, once per worker; seconds to score a caption by all metrics (docs/performance.md);
bytes of an evaluated image besides its attention weights."""
IMAGES, STEPS = 16, 2
"""Images whose captions a rehearsal generates, and steps that it times after the first, which is slower."""


@dataclass
class Estimate:
    """The cost of the work that is left in ``runs``; ``notes`` are warnings."""

    runs: int
    finished: int = 0
    resumed: int = 0
    workers: int = 1
    steps: int = 0
    seconds: float = 0.0
    features_bytes: int = 0
    runs_bytes: int = 0
    free_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The lines that the user reads."""
        kinds = {"finished": self.finished, "to be resumed": self.resumed}
        kinds["to do"] = self.runs - sum(kinds.values())
        lines = [f"{self.runs} runs: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)]
        if self.seconds:
            time = precisedelta(max(60, self.seconds), minimum_unit="minutes", format="%.0f")
            several = f", {self.workers} at once" if self.workers > 1 else ""
            features = f"{naturalsize(self.features_bytes)} of features and " if self.features_bytes else ""
            lines += [
                f"about {time}{several}: {self.steps:,} training steps and their evaluations, from a probe of a few; "
                "less if training stops early",
                f"disk: {features}{naturalsize(self.runs_bytes)} of runs, {naturalsize(self.free_bytes)} free",
            ]
        return "\n".join([*lines, *(f"warning: {note}" for note in self.notes)])


class Cost(NamedTuple):
    """Seconds of a step and of each search of an image; bytes of the checkpoints of a run and of an evaluated image;
    bytes and seconds of the features that the dataset lacks."""

    step: float
    search: Mapping[tuple[Decode, int], float]
    checkpoints: int
    image: int
    features: int
    encoding: float


def estimate(runs: Sequence[Run], workers: int | None = None) -> Estimate:
    """The cost of the work that is left in these runs. Their data must be prepared."""
    plan, prepared, todo = Estimate(len(runs)), cache(Prepared), defaultdict(list)
    for run in runs:
        dataset = prepared(run.config.data)
        dataset.rows("train"), dataset.rows("val")  # an empty split is reported before anything is computed
        try:
            work = run.left(dataset)
        except EXPECTED as error:
            plan.notes.append(sentence(error))
            continue
        plan.steps += work.steps
        if not work.passes:
            plan.finished += 1
        else:
            plan.resumed += work.replaced > 0
            todo[replace(run.config, seed=0, start=None)].append((run.variant, work))
    plan.workers = max(1, min(workers or default_workers(), sum(map(len, todo.values()))))
    seconds, needs, encoded = [0.0], Counter(), set()
    with tempfile.TemporaryDirectory(prefix="attend-estimate-") as folder, contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(max(1, torch.get_num_threads() // plan.workers))  # as many as each worker has
        for config, some in through(todo.items(), len(todo), "estimating", "variant"):
            try:
                cost = rehearse(config, set().union(*(work.searches for _, work in some)), Path(folder))
            except EXPECTED as error:
                why = re.sub(rf"{re.escape(folder)}/sample-[\w-]+", config.data, sentence(error))
                plan.notes.append(f"{some[0][0]} cannot be trained: {why}")
                continue
            stored = (config.data, replace(config.encoder, normalise="none"))
            if stored not in encoded:  # variants share their features
                encoded.add(stored)
                plan.seconds += cost.encoding
                plan.features_bytes += cost.features
                needs[Path(config.data)] += cost.features
            for _, work in some:
                searches = sum(images * cost.search[way] for way, images in work.searches.items())
                seconds.append(work.passes * cost.step + searches)
                plan.runs_bytes += max(0, cost.checkpoints - work.replaced) + cost.image * work.evaluated
    plan.seconds += METEOR * any(seconds) + max(sum(seconds) / plan.workers, *seconds)
    plan.free_bytes = shutil.disk_usage(existing(runs[0].folder)).free
    plan.notes += shortages(needs + Counter({runs[0].folder: plan.runs_bytes}))
    return plan


def rehearse(config: Config, searches: Iterable[tuple], folder: Path) -> Cost:
    """Train a configuration for a few steps on a sample of its dataset, and generate captions of some images.

    Works below ``folder``, where configurations share their samples. ValueError if this one cannot be trained.
    """
    dataset, device, run = Prepared(config.data), accelerator(), RunFolder(tempfile.mkdtemp(prefix="run-", dir=folder))
    brief = {"epochs": 1 + STEPS, "monitor": "nll", "target": 0.0, "patience": 0}
    brief |= {"training_images": 0, "workers": 0}
    ends: list[float] = []
    with contextlib.redirect_stderr(io.StringIO()):
        some = sample(dataset, config.train.images, folder)
        encoder, val = Encoder(config.encoder), some.rows("val")
        took = timeit(lambda: ensure_store(some, encoder, device.device), number=1)
        rows = unwritten(place(dataset, encoder)[0], len(dataset.examples))
        short = replace(config, data=str(some.folder), start=None, train=replace(config.train, **brief))
        with run.open(short) as lease:
            trainer = Trainer(short, run, lease, device)
            trainer.train(lambda: ends.append(trainer.progress.train_seconds))  # epochs of one step
        most = min(config.search.max_length, longest(some, "val"))  # the captions of an untrained model do not end
        model = replace(trainer.model, config=replace(config, search=replace(config.search, max_length=most)))
        search = partial(generate, model, trainer.batches, val, device)
        seconds = {way: timeit(partial(search, *way), number=1) for way in searches}
    kept = 1 + (config.train.epochs // config.train.keep_every if config.train.keep_every else 0)
    words = np.mean([min(len(caption.tokens), most) for row in val for caption in some.examples[row].captions])
    return Cost(
        step=(ends[-1] - ends[0]) / STEPS,
        search={way: SCORING + took / len(val) for way, took in seconds.items()},
        checkpoints=run.last.stat().st_size + kept * run.best.stat().st_size,
        image=RECORD + round(4 * math.prod(encoder.grid) * words),
        features=rows * trainer.batches.store.read("inputs", [0]).nbytes,
        encoding=rows * took / len(some.examples),
    )


def sample(dataset: Prepared, images: int, folder: Path) -> Prepared:
    """A dataset of some training images, the longest caption's among them, and some for validation."""
    rows = dataset.rows("train")
    hardest = max(rows, key=lambda row: max(len(caption.tokens) for caption in dataset.examples[row].captions))
    rows = [hardest, *(row for row in rows if row != hardest)][:images] + dataset.rows("val")[:IMAGES]
    name = f"sample-{dataset.about['fingerprint']}-{images}"
    return dataset.part([dataset.examples[row] for row in rows], folder / name)


def shortages(needs: Mapping[Path, int]) -> list[str]:
    """One sentence per disk that has less free than its folders need together."""
    disks: dict[int, list[Path]] = defaultdict(list)
    for folder in needs:
        disks[existing(folder).stat().st_dev].append(folder)
    return [
        f"the disk of {folders[0]} has {naturalsize(free)} free, and {naturalsize(needed)} are needed: "
        "free some space, or choose another folder"
        for folders in disks.values()
        if (free := shutil.disk_usage(existing(folders[0])).free) < (needed := sum(needs[one] for one in folders))
    ]


def existing(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
