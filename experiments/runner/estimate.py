"""Estimate what runs will cost before they start: training steps, time and disk.

Every configuration that has work left is rehearsed: trained for a few steps on a minibatch of its own dataset. A run
takes METEOR + passes x step + searched x search seconds, where a forward pass over given captions is a third of a step.
The runs are divided evenly among the workers. The estimate leaves out early stopping, tables and pictures, and how much
workers disturb each other.
"""

import contextlib
import io
import math
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from timeit import timeit
from typing import NamedTuple

import numpy as np
import torch
from attend.experiments.cli.errors import EXPECTED, sentence
from attend.experiments.runner.experiment import Setting
from attend.experiments.runner.runner import Run
from attend.experiments.runner.workers import default_workers
from tqdm import tqdm

from attend.config import Config, Decode
from attend.data.batches import longest
from attend.data.prepared import Prepared
from attend.data.stores import unwritten
from attend.encoder.encoder import Encoder
from attend.encoder.features import ensure_store, place
from attend.evaluation.evaluate import headline
from attend.evaluation.generate import generate
from attend.runs.checkpoint import Progress, read_progress, read_state
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator
from attend.training.loop import Trainer

METEOR, SCORING = 9.0, 0.005
"""Seconds until METEOR has started, once per run, and to score a caption by all metrics (docs/performance.md)."""
RECORD = 4000
"""Bytes of an image in an evaluation besides its attention weights."""
IMAGES, STEPS = 16, 2
"""Images whose captions a rehearsal searches, and steps that it times after the first, which is slower."""


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

    def text(self) -> str:
        """The lines that the user reads."""
        kinds = {"finished": self.finished, "to be resumed": self.resumed}
        kinds["to do"] = self.runs - sum(kinds.values())
        lines = [f"{self.runs} runs: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)]
        if self.seconds:
            several = f", {self.workers} at once" if self.workers > 1 else ""
            features = f"{volume(self.features_bytes)} of features and " if self.features_bytes else ""
            lines += [
                f"about {duration(self.seconds)}{several}: {self.steps:,} training steps and their evaluations, from a "
                "probe of a few; less where training stops early",
                f"disk: {features}{volume(self.runs_bytes)} of runs, {volume(self.free_bytes)} free",
            ]
        return "\n".join([*lines, *(f"warning: {note}" for note in self.notes)])


class Left(NamedTuple):
    """The work that is left in a run of a ``variant``: training ``steps``; ``passes``, the same with passes over given
    captions; images to be ``searched`` by context and beam; images whose evaluation is ``written``; bytes of
    checkpoints that are ``replaced``."""

    variant: str
    steps: int
    passes: float
    searched: Counter[tuple[Decode, int]]
    written: int
    replaced: int


def estimate(runs: Sequence[Run], workers: int | None = None) -> Estimate:
    """The cost of the work that is left in these runs. Their data must be prepared."""
    prepared, todo, notes = cache(Prepared), defaultdict(list), []
    for run in runs:
        dataset = prepared(run.config.data)
        dataset.rows("train"), dataset.rows("val")  # an empty split is reported before anything is computed
        try:
            if (work := left(run, dataset)).passes:
                todo[replace(run.config, seed=0)].append(work)
        except EXPECTED as error:
            notes.append(sentence(error))
    works = [work for some in todo.values() for work in some]
    finished = len(runs) - len(works) - len(notes)
    workers = max(1, min(workers or default_workers(), len(works)))
    seconds, written, features = [0.0], 0, {}
    with tempfile.TemporaryDirectory(prefix="attend-estimate-") as folder, contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))  # as many as each of the workers has
        for config, some in tqdm(todo.items(), desc="estimating", unit="variant", disable=None, leave=False):
            try:
                searches = set().union(*(work.searched for work in some))
                step, search, checkpoints, image, *lacking = rehearse(config, searches, Path(folder))
            except EXPECTED as error:
                why = re.sub(rf"{re.escape(folder)}/sample-[\w-]+", config.data, sentence(error))
                notes.append(f"{some[0].variant} cannot be trained: {why}")
                continue
            features.setdefault((config.data, config.encoder), lacking)  # the next one finds these
            for work in some:
                searched = sum(images * search[way] for way, images in work.searched.items())
                seconds.append(METEOR + work.passes * step + searched)
                written += max(0, checkpoints - work.replaced) + image * work.written
    needs = Counter({runs[0].folder: written})
    for (data, _), (size, _) in features.items():
        needs[Path(data)] += size
    return Estimate(
        runs=len(runs),
        finished=finished,
        resumed=sum(work.replaced > 0 for work in works),
        workers=workers,
        steps=sum(work.steps for work in works),
        seconds=sum(took for _, took in features.values()) + max(sum(seconds) / workers, *seconds),
        features_bytes=sum(size for size, _ in features.values()),
        runs_bytes=written,
        free_bytes=shutil.disk_usage(existing(runs[0].folder)).free,
        notes=(*notes, *shortages(needs)),
    )


def left(one: Run, dataset: Prepared) -> Left:
    """The work that is left in a run. ValueError if its folder has other settings or is damaged."""
    run, config, settings, split = RunFolder(one.folder), one.config, one.config.train, headline(dataset)
    if (one.folder / "config.json").exists():
        run.same(config)
    steps, given, written, searched = 0, 0, 0, Counter()
    if not run.finished:
        progress = read_progress(read_state(run.last)) if run.last.exists() else Progress()
        stalled = 0 < settings.patience <= progress.stale
        epochs = 0 if stalled else settings.epochs - progress.epoch
        batches = math.ceil((settings.training_images or len(dataset.rows("train"))) / settings.images)
        steps = epochs * batches - progress.position
        given = epochs * len(dataset.rows("val")[: settings.validation_images or None])
        if settings.monitor != "nll" and epochs:
            searched[config.decode, settings.validation_beam] += given
    for folder, way in ({run.evaluation(split, *config.way()): Setting()} | one.evaluations(split)).items():
        if not (folder / "scores.json").exists():
            images = len(dataset.rows(way.split or split))
            given, written = given + images, written + images
            if (way.look or config.attention.weights) != "oracle":  # which writes no captions
                searched[config.way(way.decode, way.beam)] += images * way.draws
    if one.bound is not None and not (run.bound(split, one.bound) / "scores.json").exists():
        given += len(dataset.rows(split)) * (one.bound if config.attention.hard else 1)
    replaced = sum(path.stat().st_size for path in run.last.parent.glob("*.safetensors"))
    return Left(one.variant, steps, steps + given / (3 * settings.images), searched, written, replaced)


def rehearse(config: Config, searches: Iterable[tuple], folder: Path) -> tuple[float, dict, int, int, int, float]:
    """Train a configuration for a few steps on a sample of its dataset, and search captions of some images.

    Returns seconds of a step, seconds of each search of an image, bytes of a run's checkpoints, bytes of an evaluated
    image, and bytes and seconds of the features that the dataset lacks. Works below ``folder``, where configurations
    share their samples. ValueError if this one cannot be trained.
    """
    dataset, device, run = Prepared(config.data), accelerator(), RunFolder(tempfile.mkdtemp(prefix="run-", dir=folder))
    brief = {"epochs": 1 + STEPS, "monitor": "nll", "patience": 0, "training_images": 0, "workers": 0}
    ends: list[float] = []
    with contextlib.redirect_stderr(io.StringIO()):
        some = sample(dataset, config.train.images, folder)
        encoder, val = Encoder(config.encoder), some.rows("val")
        took = timeit(lambda: ensure_store(some, encoder, device.device), number=1)
        rows = unwritten(place(dataset, encoder)[0], len(dataset.examples))
        short = replace(config, data=str(some.folder), train=replace(config.train, **brief))
        with run.open(short) as lease:
            trainer = Trainer(short, run, lease, device)
            trainer.train(lambda: ends.append(trainer.progress.train_seconds))  # epochs of one step
        most = min(config.search.max_length, longest(some, "val"))  # the captions of an untrained model do not end
        model = replace(trainer.model, config=replace(config, search=replace(config.search, max_length=most)))
        search = partial(generate, model, trainer.batches, val, device)
        searched = {way: timeit(partial(search, *way), number=1) for way in searches}
    kept = 1 + (config.train.epochs // config.train.keep_every if config.train.keep_every else 0)
    words = np.mean([min(len(caption.tokens), most) for row in val for caption in some.examples[row].captions])
    return (
        (ends[-1] - ends[0]) / STEPS,
        {way: SCORING + seconds / len(val) for way, seconds in searched.items()},
        run.last.stat().st_size + kept * run.best.stat().st_size,
        RECORD + round(4 * math.prod(encoder.grid) * words),
        rows * trainer.batches.store.read("inputs", [0]).nbytes,
        rows * took / len(some.examples),
    )


def sample(dataset: Prepared, images: int, folder: Path) -> Prepared:
    """A dataset of some training images, the longest caption's among them, and some for validation."""
    rows = dataset.rows("train")
    hardest = max(rows, key=lambda row: max(len(caption.tokens) for caption in dataset.examples[row].captions))
    rows = [hardest, *(row for row in rows if row != hardest)][:images] + dataset.rows("val")[:IMAGES]
    name = f"sample-{dataset.about['fingerprint']}-{images}"
    return dataset.part([dataset.examples[row] for row in rows], folder / name)


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
