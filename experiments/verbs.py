"""What each verb of `attend` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from attend.config import LARGEST, Config, Search
from attend.settings import check_field
from experiments.options import (
    Bench,
    Caption,
    Estimators,
    Evaluate,
    Plot,
    Prepare,
    Queued,
    Report,
    Run,
    Study,
    Table,
    Train,
)
from experiments.summaries import bounds, summary

if TYPE_CHECKING:
    from experiments import runner
    from experiments.experiment import Experiment

NEEDS = {
    "caption_seed": "captions_per_image",
    "encoder": "features",
    "compress": "features",
    "count": "classic",
    "maximum_length": "classic",
}
"""Options of `prepare` that another one must go with."""
READING = ("images", "layout", "minimum_count", "captions_per_image", "caption_seed", "strict", "restval", "split",
           "split_seed")  # fmt: skip
CLASSIC = ("maximum_length", "count")


def prepare(command: Prepare) -> None:
    from experiments import sources

    options = {name: getattr(command, name) for name in READING}
    if command.classic is not None:
        _without_effect(command, "the classic files", READING + CLASSIC)
        options |= {name: getattr(command, name) for name in CLASSIC}
        for file in sources.write_classic_files(command.source, command.out, name=command.classic, **options):
            print(file)
        return
    _at_least(1, minimum_count=command.minimum_count)
    if command.source == Path(sources.SCENES) and not command.source.exists():
        _without_effect(command, "the built-in world", ("minimum_count", "features", "compress", "encoder"))
        dataset = sources.prepare_scenes(command.out, minimum_count=command.minimum_count)
    else:
        _without_effect(command, "a prepared folder", (*READING, "entities", "features", "compress", "encoder"))
        dataset = sources.prepare_dataset(command.source, command.out, entities=command.entities, **options)
    sources.say(dataset)
    if command.features:
        print(sources.store_features(dataset, command.encoder, compress=command.compress))
    print(command.out)


def _without_effect(command: Prepare, what: str, used: Sequence[str]) -> None:
    """ValueError for an option that was given and would not be read."""
    plain = Prepare(source=command.source, out=command.out)
    given = [one.name for one in fields(command) if getattr(command, one.name) != getattr(plain, one.name)]
    for name in given:
        option, needed = (f"--{one.replace('_', '-')}" for one in (name, NEEDS.get(name, name)))
        if NEEDS.get(name, name) not in given:
            raise ValueError(f"{option} has no effect without {needed}: leave it out, or give both")
        if name not in ("classic", *used):
            raise ValueError(f"{option} has no effect on {what}: leave it out")


def train(command: Train, preset: str) -> None:
    from attend import training

    config = Config(**{one.name: getattr(command, one.name) for one in fields(Config)})
    folder = command.out or Path("runs") / "train" / preset / f"seed{config.seed}"
    scores = training.train(config, folder)
    if int(os.environ.get("RANK", 0)) == 0:  # of several processes the main one speaks
        print(f"{folder}: {summary(scores)}")


def evaluate(command: Evaluate) -> None:
    from attend import reopen

    options = {name: getattr(command, name) for name in ("split", "decode", "beam", "draws", "look")}
    data = None if command.data is None else str(command.data)
    if command.bound is not None:
        for name in ("decode", "beam", "draws", "look"):
            if getattr(command, name) != getattr(Evaluate, name):
                raise ValueError(f"--{name} has no effect with --bound, which captions nothing: leave one of them out")
        print(*bounds(*reopen.evaluate_bound(command.run, command.bound, data=data, split=command.split)), sep="\n")
        return
    _check_beam(command.beam)
    _at_least(1, draws=command.draws)
    folder, scores = reopen.evaluate_run(command.run, data=data, **options)
    print(f"{folder}: {summary(scores)}")


def caption(command: Caption) -> None:
    from experiments.captioning import caption_images

    _check_beam(command.beam)
    if not command.images:
        raise ValueError("no image is named: give image files, or folders of them, after the run folder")
    for image, text, files in caption_images(
        command.run, command.images, command.out, decode=command.decode, beam=command.beam
    ):
        print(f"{image}: {text or '(no words)'}", *(f"  {file}" for file in files), sep="\n")


def run(command: Run) -> None:
    from experiments import runner
    from experiments.experiment import EXPERIMENTS, catalogue

    if command.experiment == "list":
        print(catalogue(EXPERIMENTS))
        return
    from experiments.storages import address

    _at_least(1, seeds=command.seeds, workers=command.workers, best=command.best)
    settings = _settings(command)
    address(command.storage, command.out)  # what cannot be is said before data are made
    experiment = _experiment(command).with_settings(settings)
    if not experiment.variants:
        _conclude(experiment, command)
        return
    runs = runner.plan(experiment, command.out, command.seeds)
    if experiment.prepare:
        experiment.prepare()
    if not _agreed(runs, command):
        return
    runner.run(runs, experiment.name, command.out, command.storage, command.workers)
    for file in runner.present(experiment, command.out):
        print(file)


def _conclude(experiment: Experiment, command: Run) -> None:
    """All of an experiment that trains nothing."""
    if experiment.conclude is None:
        raise ValueError(f"{experiment.name} has neither variants nor anything to conclude: declare one of them")
    for name in ("set", "seeds", "workers", "storage"):
        if getattr(command, name) != getattr(Run, name):
            raise ValueError(f"--{name} has no effect on {experiment.name}, which trains nothing: leave it out")
    if command.dry_run:
        print(f"{experiment.name}: nothing is to be trained")
        return
    if experiment.prepare:
        experiment.prepare()
    print(*experiment.conclude((), command.out / experiment.name), sep="\n")


def _experiment(command: Run) -> Experiment:
    """The experiment that is named, or that confirms a study."""
    from experiments.confirm import confirmation
    from experiments.experiment import load
    from experiments.storages import address
    from experiments.study import load_study

    if (command.experiment is None) == (command.from_study is None):
        raise ValueError("name an experiment, or a study with --from-study: `attend run list` shows the experiments")
    if command.experiment is not None:
        if command.best != Run.best:
            raise ValueError("--best has no effect without --from-study: leave it out, or name a study")
        experiment = load(command.experiment, command.data, command.tiny)
        return experiment.only(command.only.split(",")) if command.only else experiment
    study = load_study(command.from_study, command.data, command.tiny)
    url = address(command.storage, command.out)
    kinds = study.only(command.only.split(",")).kinds if command.only else study.kinds
    queues = {kind: study.queue(url, kind, begun=True) for kind in kinds}
    return confirmation(study, queues, command.best, command.out)


def study(command: Study) -> None:
    from experiments import trials
    from experiments.experiment import catalogue
    from experiments.show import show
    from experiments.storages import address
    from experiments.study import STUDIES, spent

    if command.study == "list":
        print(catalogue(STUDIES))
        return
    _at_least(1, trials=command.trials, workers=command.workers, heartbeat=command.heartbeat)
    if command.show and command.requeue:
        raise ValueError("--show and --requeue are two things to do: leave one of them out")
    changes = {name: getattr(command, name) for name in ("trials", "sampler", "pruner")}
    changes = {name: value for name, value in changes.items() if value is not None} | {"settings": _settings(command)}
    changes |= {"objectives": tuple(command.objectives.split(","))} if command.objectives else {}
    told = trials.Told(command.study, command.data, command.tiny, tuple(changes.items()))
    kinds = told.study.only(command.only.split(",") if command.only else told.study.kinds).kinds
    url = address(command.storage, command.out)
    if command.requeue:
        print(f"{told.study.name}: {trials.requeue(told, kinds, command.out, url)} trials put back")
        return
    if command.show:
        queues, failed = trials.queues_of(told, kinds, url), ""
    else:
        runs = trials.planned(told, kinds, command.out, url)
        if told.study.prepare:
            told.study.prepare()
        if not _agreed(runs, command):
            return
        queues, failed = trials.search(told, kinds, command.out, url, command.workers, command.heartbeat)
    if any(spent(queue.jobs()) for queue in queues.values()) or not failed:
        for file in show(told.study, queues, command.out):
            print(file)
    if failed:
        raise ValueError(failed)


def _agreed(runs: Sequence[runner.Run], command: Queued) -> bool:
    """Say what these runs will cost, and whether they shall start."""
    from experiments.consent import agreed
    from experiments.estimate import estimate

    plan = estimate(runs, command.workers) if runs else None
    text = plan.text() if plan else "nothing is left to run"
    if command.dry_run:
        print(text)
        return False
    return agreed(text, command.yes or plan is None or plan.nothing)


def _settings(command: Queued) -> dict[str, str]:
    """What --set says."""
    settings = {}
    for one in command.set:
        name, equals, value = one.partition("=")
        if not equals:
            raise ValueError(f"--set {one!r} is no setting: write it as train.epochs=3")
        settings[name] = value
        check_field(name)  # before any data are made
    if command.tiny and command.data is not None:
        raise ValueError("--data has no effect with --tiny, which is of the built-in world: leave one of them out")
    return settings


def bench(command: Bench) -> None:
    from experiments.bench.floor import SIZES
    from experiments.bench.run import PARTS
    from experiments.bench.run import bench as measure

    parts = ",".join(PARTS) if command.parts is None else command.parts
    chosen = {"sizes": command.sizes.split(","), "parts": parts.split(",")}
    for name, known in (("sizes", SIZES), ("parts", PARTS)):
        for one in chosen[name]:
            if one not in known:
                raise ValueError(f"unknown {name} {one!r}: known are {', '.join(known)}")
    _at_least(1, rounds=command.rounds)
    options = {"rounds": command.rounds, "precision": command.precision, "data": command.data}
    print(*measure(command.out, **chosen, **options), sep="\n")


def estimators(command: Estimators) -> None:
    from attend.facts import FACTS
    from experiments.laboratory.run import laboratory

    if command.run is not None and command.tiny:
        raise ValueError("--tiny has a minibatch of its own and --run that of a run: leave one of them out")
    if command.run is None:
        for name in ("checkpoints", "split", "images", "data"):
            if getattr(command, name) != getattr(Estimators, name):
                raise ValueError(f"--{name} has no effect without --run: leave it out, or name a run")
    only = tuple(FACTS) if command.only is None else tuple(command.only.split(","))
    for name in only:
        if name not in FACTS:
            raise ValueError(f"unknown estimator {name!r}: known are {', '.join(FACTS)}")
    _at_least(2, draws=command.draws)
    _at_least(1, images=command.images, samples=command.samples)
    _at_least(0, rounds=command.rounds, seed=command.seed)
    options = {one.name: getattr(command, one.name) for one in fields(command) if one.name not in ("tiny", "out")}
    said, files = laboratory(command.out, **options | {"only": only})
    print(said, *files, sep="\n")


def table(command: Table) -> None:
    from analysis.records import read_runs
    from analysis.tables import DEFAULT, comparison, render

    theirs = [f"bleu{n}_free" for n in (1, 2, 3, 4)] if command.published else []
    columns = command.columns.split(",") if command.columns else (*DEFAULT, *theirs)
    if command.published and command.base:
        raise ValueError("--published has no effect with --base, which shows differences: leave one of them out")
    _named(command.runs)
    broken: list[str] = []
    records = read_runs(command.runs, broken=broken)
    options = {name: getattr(command, name) for name in ("split", "base", "published")}
    compared = comparison(records, columns=columns, broken=broken, **options)
    print(render(compared, command.format))


def plot(command: Plot) -> None:
    from experiments.plotting import KINDS

    _at_least(1, images=command.images, draws=command.draws)
    _at_least(0, seed=command.seed)
    _named(command.runs)
    if command.split and command.what not in ("scores", "differences", "beam", "metrics", "grounding"):
        raise ValueError(f"--split has no effect on {command.what}, which is of the headline's images: leave it out")
    files = KINDS[command.what](command)
    if not files:
        lacking = "no attention that is learned, no epoch that was logged, or nothing that was measured"
        raise ValueError(f"there is nothing to draw: {lacking}")
    print(*files, sep="\n")


def report(command: Report) -> None:
    from analysis.report import report as page
    from attend.runs import write_text

    _at_least(1, images=command.images)
    _at_least(0, seed=command.seed)
    _named(command.runs)
    options = {name: getattr(command, name) for name in ("images", "pictures", "seed", "data")}
    html, notes = page(command.runs, **options)
    write_text(command.out, html)
    for note in notes:
        print(note, file=sys.stderr)
    print(command.out)


VERBS: dict[str, tuple[type, Callable]] = {
    "prepare": (Prepare, prepare),
    "train": (Train, train),
    "evaluate": (Evaluate, evaluate),
    "caption": (Caption, caption),
    "run": (Run, run),
    "study": (Study, study),
    "estimators": (Estimators, estimators),
    "bench": (Bench, bench),
    "table": (Table, table),
    "plot": (Plot, plot),
    "report": (Report, report),
}


def _named(runs: Sequence[Path]) -> None:
    if not runs:
        raise ValueError("no run is named: give run folders, or folders of them, as runs/quickstart")


def _check_beam(beam: int | None) -> None:
    """ValueError for a width that no run could have been configured with."""
    if beam is not None:
        Search(beam=beam)


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and not least <= value <= LARGEST:
            raise ValueError(f"{name} is {value}, but must be {least} to {LARGEST}")
