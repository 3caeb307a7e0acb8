"""Run an experiment: every variant with every seed, each in its run folder, then a table and pictures."""

from __future__ import annotations

import concurrent.futures
import io
import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from attend.config import Config
from attend.data.prepared import Prepared
from attend.metrics.java import meteor_kept
from attend.runs import write_text
from experiments import plugins
from experiments.errors import EXPECTED, sentence
from experiments.experiment import Experiment, Setting
from experiments.sources import store_features


def plan(experiment: Experiment, out: Path, seeds: int | None) -> list[tuple[Path, str, Config]]:
    """The runs in their order, (folder, variant, config): whichever variant has most seeds still to come is next."""
    counts = {name: seeds if seeds is not None else experiment.seeds[name] for name in experiment.variants}
    runs = [(count - seed, name, seed) for name, count in counts.items() for seed in range(count)]
    runs.sort(key=lambda run: -run[0])
    return [
        (out / experiment.name / name / f"seed{seed}", name, replace(one, seed=one.seed + seed))
        for _, name, seed in runs
        if (one := experiment.variants[name])
    ]


def run(experiment: Experiment, out: Path, seeds: int | None = None, workers: int | None = None) -> list[Path]:
    """Train and evaluate every run that is not finished; returns the folders that are.

    ``workers`` runs go on at once, each a process with its share of the cores; none is one run a core, or one run
    where there is a GPU. A run that fails does not stop the others: what failed is said at the end, as one ValueError.
    """
    runs = plan(experiment, out, seeds)
    if experiment.prepare:
        experiment.prepare()
    for data, encoder in dict.fromkeys((one.data, one.encoder) for _, _, one in runs):
        dataset = Prepared(data)
        dataset.rows("train"), dataset.rows("val")  # an empty split is said before its features are computed
        store_features(dataset, encoder)  # once, before the workers ask for them
    workers = min(workers or default_workers(), len(runs))
    folders, failed = [], []
    with _pool(workers) as pool:
        started = {
            pool.submit(run_one, one, folder, experiment.also.get(variant, ()), experiment.bound): folder
            for folder, variant, one in runs
        }
        done = concurrent.futures.as_completed(started)
        try:
            for future in tqdm(done, total=len(runs), desc=experiment.name, unit="run", disable=None):
                folder = started[future]
                try:
                    future.result()
                    folders.append(folder)
                except EXPECTED as error:
                    failed.append(f"{folder}: {sentence(error)}")
                    tqdm.write(f"failed: {failed[-1]}", file=sys.stderr)
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed, the first is {failed[0]}")
    return sorted(folders)


@meteor_kept()
def run_one(one: Config, folder: Path, also: Sequence[Setting], bound: int | None = None) -> None:
    """One run, and its further evaluations."""
    from attend.reopen import evaluate_bound, evaluate_run
    from attend.training import train

    train(one, folder)
    for setting in also:
        evaluate_run(folder, **setting._asdict(), again=False)
    if bound is not None:
        evaluate_bound(folder, bound, again=False)


def default_workers() -> int:
    """One run a core: a model of this size gains little from a second one. One run where there is a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else _cores()


def _cores() -> int:
    """Cores that this process may use; all there are, where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(workers: int) -> concurrent.futures.Executor:
    """Processes with a share of the cores each; with one worker, this very process."""
    if workers == 1:
        return _Here()
    threads = max(1, _cores() // workers)
    return concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_share, initargs=(threads,)
    )


def _share(threads: int) -> None:
    """What a worker starts with: its threads, its end, and progress bars off, since they would overwrite each other."""
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    plugins.load()
    torch.set_num_threads(threads)
    sys.stderr = _NoTerminal(open(2, "wb", closefd=False), line_buffering=True)  # noqa: SIM115


def _end_with_parent() -> None:
    """A worker whose experiment was killed would train on unseen, and hold its run's lease."""
    multiprocessing.parent_process().join()
    os._exit(1)


class _NoTerminal(io.TextIOWrapper):
    """A stream on which tqdm draws no bars."""

    def isatty(self) -> bool:
        return False


class _Here(concurrent.futures.Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, function, /, *arguments):
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def present(experiment: Experiment, out: Path, pictures: int = 4) -> list[Path]:
    """Write the table, the learning curves and some gaze pictures of an experiment's runs; prints the table."""
    from analysis.records import read_runs
    from analysis.tables import DEFAULT, comparison, render
    from experiments.pictures import draw_curves, draw_gazes

    folder = out / experiment.name
    records = [record for record in read_runs([folder]) if record.variant in experiment.variants]
    table = comparison(records, columns=experiment.columns or DEFAULT, published=experiment.published)
    files = []
    for format, suffix in (("markdown", "md"), ("csv", "csv")):
        files.append(folder / f"table.{suffix}")
        write_text(files[-1], render(table, format))
    print(render(table, "markdown"))
    if experiment.conclude:
        files += experiment.conclude(records, folder)
    files += draw_curves(records, folder / "pictures")
    files += draw_gazes(records, folder / "pictures", pictures)
    return files
