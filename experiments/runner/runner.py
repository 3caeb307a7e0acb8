"""Run an experiment: every variant with every seed, each in its run folder, then a table and pictures.

The runs are the jobs of a queue that processes and machines share: the same command on any of them joins the work.
"""

import hashlib
import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from attend.experiments.runner.experiment import Experiment
from attend.experiments.runner.queue import WAIT, Queue
from attend.experiments.runner.storages import address
from attend.experiments.runner.workers import default_workers, together
from optuna.trial import Trial
from tqdm import tqdm

from attend.bars import say
from attend.config import Config, Decode
from attend.config.setting import HEADLINE, Setting
from attend.config.text import to_dict
from attend.data.prepared import Prepared
from attend.metrics.java import meteor_kept
from attend.runs.files import write_text
from attend.runs.folder import RunFolder
from attend.runs.lease import InUse

Some = TypeVar("Some")


class Work(NamedTuple):
    """The work that is left in a run: training ``steps``; ``passes``, the same with passes over given captions; images
    to search by context and beam; images to evaluate; bytes of checkpoints that will be replaced."""

    steps: int
    passes: float
    searches: Counter[tuple[Decode, int]]
    evaluated: int
    replaced: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: its folder, its configuration, and its evaluations beyond the headline."""

    folder: Path
    variant: str
    config: Config
    also: Sequence[Setting] = ()
    bound: int | None = None
    before: Self | None = None
    """the run that this one begins from"""

    @property
    def name(self) -> str:
        """<variant>/seed<k>, its name in the queue."""
        return f"{self.variant}/{self.folder.name}"

    @property
    def finished(self) -> bool:
        """Whether it is trained and completely evaluated. ValueError if its folder has another configuration."""
        run = RunFolder(self.folder)
        if not run.done(self.config):
            return False
        split = run.scores()["split"]
        folders = list(self.evaluations(split))
        folders += [] if self.bound is None else [run.bound(split, self.bound)]
        return all((folder / "scores.json").exists() for folder in folders)

    def evaluations(self, split: str) -> dict[Path, Setting]:
        """The folders of the evaluations beyond the headline, which is of ``split``."""
        of = RunFolder(self.folder).evaluation
        return {of(one.split or split, *self.config.way(one.decode, one.beam), one.look): one for one in self.also}

    def left(self, dataset: Prepared) -> Work:
        """The work that is left. ValueError if its folder has other settings or is damaged."""
        from attend.evaluation.evaluate import headline
        from attend.runs.checkpoint import Progress, read_progress, read_state

        run, config, settings, split = RunFolder(self.folder), self.config, self.config.train, headline(dataset)
        longer = (self.folder / "config.json").exists() and run.shorter_than(config) and not run.stopped_early
        if (self.folder / "config.json").exists() and not run.shorter_than(config):
            run.same(config)
        steps, given, evaluated, searches = 0, 0, 0, Counter()
        if not run.done(config):
            progress = read_progress(read_state(run.last)) if run.last.exists() else Progress()
            stalled = 0 < settings.patience <= progress.stale
            epochs = 0 if stalled else settings.epochs - progress.epoch
            batches = math.ceil((settings.training_images or len(dataset.rows("train"))) / settings.images)
            steps = epochs * batches - progress.position
            given = epochs * len(dataset.rows("val")[: settings.validation_images or None])
            if settings.monitor != "nll" and epochs:
                searches[config.decode, settings.validation_beam] += given
        for folder, way in ({run.evaluation(split, *config.way()): HEADLINE} | self.evaluations(split)).items():
            if longer or not (folder / "scores.json").exists():
                images = len(dataset.rows(way.split or split))
                given, evaluated = given + images, evaluated + images
                if (way.look or config.attention.weights) != "oracle":  # which generates no captions
                    searches[config.way(way.decode, way.beam)] += images * way.draws
        bounded = not longer and (run.bound(split, self.bound or 0) / "scores.json").exists()
        if self.bound is not None and not bounded:
            given += len(dataset.rows(split)) * (self.bound if config.attention.hard else 1)
        replaced = sum(path.stat().st_size for path in run.last.parent.glob("*.safetensors"))
        return Work(steps, steps + given / (3 * settings.images), searches, evaluated, replaced)

    def do(self) -> dict[str, Any]:
        """Train or resume the run and evaluate it; returns its headline scores."""
        from attend.evaluation.saved import evaluate_bound, evaluate_run
        from attend.training.loop import train

        if self.before is not None:
            patiently(self.before.do)
        scores = train(self.config, self.folder)
        for setting in self.also:
            evaluate_run(self.folder, setting, again=False)
        if self.bound is not None:
            evaluate_bound(self.folder, self.bound, again=False)
        return scores


def plan(experiment: Experiment, out: Path, seeds: int | None) -> list[Run]:
    """The runs in their order: after those they begin from; then the variant with the most remaining seeds is next."""
    counts = {name: seeds if seeds is not None else experiment.seeds[name] for name in experiment.variants}
    depth = {name: len(experiment.line(name)) for name in counts}
    order = [(depth[name], seed - count, name, seed) for name, count in counts.items() for seed in range(count)]
    order.sort(key=lambda one: one[:2])
    runs: dict[tuple[str, int], Run] = {}
    for _, _, name, seed in order:
        config, source = experiment.variants[name], experiment.after.get(name)
        before = None if source is None else runs.get((source, seed))
        if source is not None and before is None:
            raise ValueError(f"{name} begins after {source}, which has fewer seeds: give {source} as many")
        start = config.start if before is None else str(before.folder)
        runs[name, seed] = Run(
            folder=out / experiment.name / name / f"seed{config.seed + seed}",
            variant=name,
            config=replace(config, seed=config.seed + seed, start=start),
            also=experiment.also.get(name, ()),
            bound=experiment.bound,
            before=before,
        )
    return list(runs.values())


def run(
    runs: Sequence[Run], name: str, out: Path, storage: str | None = None, workers: int | None = None
) -> list[Path]:
    """Train and evaluate every run that is not finished; returns the folders that are.

    The ``storage`` holds the queue (none: a file in ``out``, the folder of all experiments), and whoever is given the
    same runs joins the work. ``workers`` runs go on at once, each a process with its share of the cores; none is one
    run a core, or one run where there is a GPU. A run that fails does not stop the others: what failed is said at the
    end, as one ValueError.
    """
    from attend.encoder.features import store_features

    if left := {one.name: one for one in unfinished(runs)}:
        for data, encoder in dict.fromkeys((one.config.data, one.config.encoder) for one in left.values()):
            dataset = Prepared(data)
            dataset.rows("train"), dataset.rows("val")  # an empty split is reported before its features are computed
            store_features(dataset, encoder)  # once, before the workers start
        about = [[one.name, to_dict(one.config), list(map(list, one.also)), one.bound] for one in runs]
        digest = hashlib.sha256(json.dumps([identity(out), about], sort_keys=True).encode()).hexdigest()[:12]
        queue = Queue(address(storage, out), f"{name}-{digest}", direction="minimize")
        queue.fill(left, again=list(left))
        perform(queue, partial(_do, {one.name: one for one in runs}), left, workers, name)
        failed = [f"{left[name].folder}: {job.error}" for name, job in queue.jobs().items() if job.state == "failed"]
        if failed:
            told = f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}"
            raise ValueError(f"{told}; the same command tries them again")
    return sorted(one.folder for one in runs)


def patiently(do: Callable[[], Some]) -> Some:
    """Call a function that needs a run folder as soon as no other process uses the folder."""
    while True:
        try:
            return do()
        except InUse:
            time.sleep(WAIT)


def perform(
    queue: Queue,
    do: Callable[[Trial], Any],
    names: Collection[str],
    workers: int | None,
    title: str,
    *,
    wait: bool = True,
) -> None:
    """Do the jobs of a queue, several at once, with a bar over those of these names; ``wait`` for those of others."""
    names = set(names)
    workers = min(workers or default_workers(), len(names))
    failed: set[str] = set()
    with tqdm(total=len(names), desc=title, unit="run", disable=None) as bar:

        def look(*_: object) -> None:
            jobs = {name: job for name, job in queue.jobs().items() if name in names}
            bar.n = sum(job.state in ("done", "failed") for job in jobs.values())
            bar.refresh()
            for name, job in jobs.items():
                if job.state == "failed" and name not in failed:
                    failed.add(name)
                    say(f"failed: {name}: {job.error}")

        if workers == 1:
            _work(queue, do, after=look, wait=wait)
            return
        died = together(workers, partial(_work, queue, do, wait=wait), look=look)
        look()
    if died == workers and any(job.state not in ("done", "failed") for job in queue.jobs().values()):
        raise ValueError(f"{died} of {workers} workers died: the same command goes on with what is left")


@meteor_kept()
def _work(queue: Queue, do: Callable[[Trial], Any], **how: Any) -> None:
    """Do the jobs of a queue with one METEOR for all of them."""
    queue.work(do, **how)


def _do(runs: dict[str, Run], trial: Trial) -> float:
    """The job of a trial; its value is the likelihood of given captions, in nats per token."""
    one = runs[trial.user_attrs["job"]]
    trial.set_user_attr("folder", str(one.folder))
    return patiently(one.do)["given"]["nll"]


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """The runs that are left. A damaged one is among them: its job will fail and report the error."""
    return [one for one in runs if not _finished(one)]


def _finished(one: Run) -> bool:
    try:
        return one.finished
    except (ValueError, OSError):
        return False


def identity(out: Path) -> str:
    """An identifier of the folder of all experiments, equal on all machines that share it."""
    path = out / "queue.id"
    if not path.exists():
        write_text(path, uuid.uuid4().hex)
    return path.read_text("utf-8")


GALLERY = 200
"""The largest number of images in the report of an experiment."""


def present(experiment: Experiment, out: Path, pictures: int = 1) -> list[Path]:
    """Write the table, the learning curves, some gaze pictures and the report of an experiment's runs.

    Prints a short table and the names of the files to open. Returns all files.
    """
    from attend.analysis.figures.from_runs import draw_curves
    from attend.analysis.gaze.from_runs import Pictures, draw_saccades
    from attend.analysis.records import read_runs
    from attend.analysis.report.page import report
    from attend.analysis.tables.comparison import DEFAULT, comparison, render
    from attend.analysis.tables.terminal import brief

    folder = out / experiment.name
    broken: list[str] = []
    records = [record for record in read_runs([folder], broken=broken) if record.variant in experiment.variants]
    columns = experiment.columns or DEFAULT
    table = comparison(records, columns=columns, published=experiment.published, broken=broken)
    files = [folder / "table.md", folder / "table.csv"]
    for file, format in zip(files, ("markdown", "csv"), strict=True):
        write_text(file, render(table, format))
    if experiment.conclude:
        files += experiment.conclude(records, folder)
    files += draw_curves(records, folder / "pictures")
    files += draw_saccades(records, folder / "pictures", Pictures(images=pictures))
    html, _ = report([folder], images=GALLERY)  # its notes are a part of the page
    write_text(folder / "report.html", html)
    print(f"\n{brief(table)}\n")
    print(f"{folder / 'table.md'} has all columns and notes, {folder / 'pictures'} the pictures.")
    print(f"Open {folder / 'report.html'}")
    return [*files, folder / "report.html"]
