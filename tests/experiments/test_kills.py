"""Killed at any moment, and the same command again: whole, and equal to what an undisturbed command leaves.

`make test` kills one command once, `make test-slow` fifty of each.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import h5py
import numpy as np
import pytest
from attend.experiments.cli.main import main
from safetensors import safe_open

from attend.data.stores import fill_store
from attend.encoder import features
from tests import halves
from tests.experiments.cli.test_cli import SMALL
from tests.forks import Forks, finish, kill

FEW, MANY = 1, int(os.environ.get("KILLS", 50))
VARYING = {"commit", "dirty", "time", "seconds", "train_seconds", "wait_seconds", "step_seconds", "tokens_per_second"}
VARYING.add("started")
PREPARE = [
    "prepare",
    "data/captions",
    "--out",
    "data",
    "--minimum-count",
    "1",
    "--features",
    *SMALL[: SMALL.index("--attention.width")],
]
CLASSIC = ["prepare", "data/captions", "--out", "classic", "--classic", "halves", "--captions-per-image", "2"]
CLASSIC += ["--minimum-count", "1"]
TRAIN = ["train", "hard", "--data", "data", "--out", "run", *SMALL, "--train.epochs", "2", "--train.monitor", "nll"]
EVALUATE = ["evaluate", "run", "--split", "val", "--decode", "sample", "--draws", "2"]
RUN = ["run", "mine.py", "--workers", "1", "--tiny"]
MINE = """
from dataclasses import replace
from attend.config.text import from_dict
from attend.experiments.runner.experiment import Experiment, Setting


def experiment(data, tiny):
    soft = from_dict(SETTINGS)
    hard = replace(soft, attention=replace(soft.attention, select="sample"))
    also = {"hard": [Setting("expected")]}
    return Experiment(name="mine", variants={"soft": soft, "hard": hard}, seeds={"soft": 1, "hard": 1}, also=also)
"""
TUNED = """
from attend.config.text import from_dict, replace
from attend.experiments.runner.study import Study


def space(trial, kind):
    return replace(from_dict(SETTINGS), {"train.learning_rate": trial.suggest_float("rate", 1e-3, 1e-1, log=True)})


def study(data, tiny):
    way = {"trials": 2, "sampler": "random", "pruner": "none", "collapse": 0}
    return Study(name="tuned", kinds=("soft",), space=space, **way)
"""
STUDY = ["study", "tuned.py", "--workers", "1", "--storage"]
JOURNAL = [*STUDY, "runs/queue.journal"]
PASSED = {"queue.db", "queue.db-journal", "queue.db.lock", "queue.db.lock.holder", "queue.id", "queue.journal",
          "queue.journal.lock", "__pycache__"}  # fmt: skip
"""Files of the queue, which remembers every try (SQLite's own check says whether it is whole), with the journal of a
write that was killed before it began, and Python's own."""


def command(*arguments: str) -> None:
    """The program, in a process of its own; features are stored in so small shards that kills fall between them too."""
    features.fill_store = partial(fill_store, shard=8)
    main(arguments)


@pytest.fixture(scope="module")
def stages(forks, tmp_path_factory):
    """What each command starts from: the dataset as distributed, prepared, and a trained run."""
    folder = tmp_path_factory.mktemp("stages")
    raw = folder / "raw"
    made = halves.write(folder / "made")
    lines = [json.loads(line) for line in (made / "examples.jsonl").read_text().splitlines()]
    images = [
        {"filename": e["image"], "split": e["split"], "sentences": [{"raw": c["raw"]} for c in e["captions"]]}
        for e in lines
    ]
    shutil.copytree(made / "images", raw / "data/captions/images")
    (raw / "data/captions/dataset_halves.json").write_text(json.dumps({"dataset": "halves", "images": images}))
    prepared = undisturbed(forks, folder, raw, PREPARE)
    experiment = Path(shutil.copytree(prepared, folder / "experiment"))
    settings = halves.SMALL | {"data": "data", "train": halves.SMALL["train"] | {"epochs": 2, "monitor": "nll"}}
    for name, text in (("mine.py", MINE), ("tuned.py", TUNED)):
        (experiment / name).write_text(text.replace("SETTINGS", repr(settings)))
    trained = undisturbed(forks, folder, prepared, TRAIN)
    begin = {"prepare": raw, "classic": raw, "train": prepared, "evaluate": trained}
    return begin | dict.fromkeys(("run", "study", "journal"), experiment)


def undisturbed(forks: Forks, folder: Path, start: Path, arguments: list[str]) -> Path:
    """The folder after the command."""
    return repeated(forks, folder / arguments[0], start, arguments, 0)[0]


def repeated(
    forks: Forks,
    folder: Path,
    start: Path,
    arguments: list[str],
    kills: int,
    empty: Callable[[str], object] = lambda name: None,
) -> tuple[Path, list[Path]]:
    """An undisturbed run of the command, and others that were killed once while they ran, and run again.

    ``empty`` empties the database of a folder whose command had ended before it was to be killed.
    """
    whole, broken = folder / "whole", [folder / f"broken{i}" for i in range(kills)]
    for one in (whole, *broken):
        shutil.copytree(start, one)

    def run(folder: Path, *more: str) -> BaseProcess:
        own = [part.replace("FOLDER", folder.name) for part in arguments]  # each its own database of a server
        return forks.start(command, *own, *more, log=log, folder=folder)

    log = folder / "log"
    began = time.perf_counter()
    finish(run(whole), log)
    took, chance = time.perf_counter() - began, random.Random(0)
    for one in broken:
        while True:
            child = run(one)
            time.sleep(chance.uniform(0, took))
            if child.is_alive():
                break
            took *= 0.9  # it had ended before: once more
            shutil.rmtree(one)
            shutil.copytree(start, one)
            empty(one.name)
        kill(child)
        if "journal" in arguments[-1]:  # which knows no heartbeats
            requeue = run(one, "--requeue")
            requeue.join(300)
            last = log.read_text().splitlines()[-1]
            assert requeue.exitcode == 0 or (requeue.exitcode == 2 and "run `attend study` on it first" in last), last
        finish(run(one), log)
    return whole, broken


COMMANDS = {"prepare": PREPARE, "classic": CLASSIC, "train": TRAIN, "evaluate": EVALUATE, "run": RUN}
COMMANDS |= {"study": [*STUDY, "runs/queue.db"], "journal": JOURNAL}
LONG = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.mark.parametrize(
    ("kills", "verb"),
    [pytest.param(FEW, "run", marks=pytest.mark.slow), *(pytest.param(MANY, verb, marks=LONG) for verb in COMMANDS)],
)
def test_killed_and_run_again_is_as_undisturbed(forks, stages, tmp_path, kills, verb):
    """Of these commands `attend run` does most: it trains, evaluates, keeps a queue and writes tables and pictures."""
    whole, broken = repeated(forks, tmp_path, stages[verb], COMMANDS[verb], kills)
    for one in broken:
        same(one, whole)
        if verb in ("run", "study"):
            with sqlite3.connect(one / "runs/queue.db") as queue:
                assert queue.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_the_comparison_sees_what_differs(stages, tmp_path):
    """A number, an array, an attribute and a file more are seen; times are not."""
    whole = stages["evaluate"]
    (shard, *others) = sorted(path.relative_to(whole) for path in whole.glob("data/features-*/*.h5"))
    assert others, "a kill cannot fall between shards"
    for name, change in {
        "run/scores.json": lambda path: path.write_text(path.read_text().replace('"nll": ', '"nll": 1')),
        "run/metrics.jsonl": lambda path: path.write_text(path.read_text().replace('"nll": ', '"nll": 1')),
        "run/stray.partial": lambda path: path.touch(),
        "data/vocabulary.json": lambda path: path.unlink(),
        "run/evaluations/test-argmax-beam2/attention.h5": lambda path: renamed(path, "0"),
        str(shard): lambda path: renamed(path, "/"),
    }.items():
        other = Path(shutil.copytree(whole, tmp_path / name.replace("/", "-")))
        same(other, whole)
        change(other / name)
        with pytest.raises(AssertionError):
            same(other, whole)


def renamed(path: Path, group: str) -> None:
    with h5py.File(path, "a") as file:
        file[group].attrs["image"] = "another.png"


def same(one: Path, two: Path) -> None:
    """Equal as the architecture says: bit for bit but for times, and HDF5 files by their arrays and attributes."""
    files = [
        {path.relative_to(root) for path in root.rglob("*") if path.is_file() and not PASSED & {*path.parts}}
        for root in (one, two)
    ]
    assert files[0] == files[1], files[0] ^ files[1]
    for name in files[0]:
        assert content(one / name) == content(two / name), name


def content(path: Path) -> object:
    if path.suffix in (".h5", ".hdf5"):
        with h5py.File(path) as file:
            found = {"/": described(file)}

            def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
                found[name] = described(item)

            file.visititems(keep)
            return found
    if path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            state = json.loads(file.metadata()["state"])
            meters = state.get("progress", {}).pop("meters", {})
            state.get("progress", {}).pop("logged", None)  # bytes of a log that holds times
            return {name: file.get_tensor(name).tobytes() for name in file.keys()}, timeless(state), timeless(meters)  # noqa: SIM118
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.name == "report.html":
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d( to | UTC)|<span>\d+ (s|min)</span>", "", path.read_text())
    if path.stem in ("table", "trials"):
        return untimed(path)
    return path.read_bytes()


def untimed(path: Path) -> list[list[str]]:
    """The lines of a table without the column that says how long training or a trial took."""
    if path.suffix == ".csv":
        lines = list(csv.reader(path.read_text().splitlines()))
    else:
        lines = [line.split(" | ") for line in path.read_text().splitlines()]
    (at,) = [number for number, name in enumerate(lines[0]) if name in ("Training seconds", "Training", "seconds")]
    return [line[:at] + line[at + 1 :] if len(line) == len(lines[0]) else line for line in lines]


def described(item: h5py.Group | h5py.Dataset) -> tuple:
    """Attributes, and the type and numbers of an array."""
    array = (str(item.dtype), item[()].tolist()) if isinstance(item, h5py.Dataset) else ()
    return {name: np.asarray(value).tolist() for name, value in item.attrs.items()}, *array


def timeless(value: object) -> object:
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if name not in VARYING}
    return value
