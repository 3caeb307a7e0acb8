"""What an experiment is said to cost before it starts, held against what it leaves; and who is asked."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import termios
from collections import defaultdict, namedtuple
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from attend.analysis.records import read_runs
from attend.analysis.statistics.evidence import Evidence
from attend.analysis.statistics.planning import _headlines
from attend.analysis.statistics.power import seeds_needed
from attend.experiments.cli.common import confirmed
from attend.experiments.cli.main import main
from attend.experiments.runner import runner
from attend.experiments.runner.estimate import (
    METEOR,
    Cost,
    Estimate,
    estimate,
    rehearse,
    shortages,
)
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config.text import from_dict
from attend.data.prepared import Prepared
from attend.data.stores import unwritten
from attend.encoder.encoder import Encoder
from attend.encoder.features import ensure_store
from attend.training.loop import Trainer
from tests import halves
from tests.made_runs import make_scored

ROOT = Path(__file__).parents[3]
EPOCHS, STEPS = 3, 3 * 7
"""7 minibatches of 4 images, of 28."""


def experiment(data: Path, **changed) -> Experiment:
    """Soft and hard on the halves, hard evaluated in one more way."""
    settings = {**halves.SMALL, "data": str(data)}
    settings["encoder"] = {**halves.CLEARER, "grid": [4, 4]}
    settings["train"] = {**settings["train"], "epochs": EPOCHS, **changed}
    soft = from_dict(settings, "the test")
    hard = replace(soft, attention=replace(soft.attention, select="sample"))
    return Experiment(
        name="halves", variants={"soft": soft, "hard": hard}, seeds={"soft": 1, "hard": 1},
        also={"hard": [Setting("expected")]},
    )  # fmt: skip


def expected(one: Experiment, out: Path) -> Estimate:
    return estimate(runner.plan(one, out, None), 1)


def perform(one: Experiment, out: Path) -> None:
    runner.run(runner.plan(one, out, None), one.name, out, workers=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("estimate") / "data")


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory):
    """What was expected of an experiment, and its folders when it is over: runs and data."""
    folder = tmp_path_factory.mktemp("whole")
    data, out = halves.write(folder / "data"), folder / "runs"
    one = experiment(data)
    before = expected(one, out)
    assert not out.exists() and not list(data.glob("features-*"))
    perform(one, out)
    return before, out, data


def test_steps_and_bytes_are_those_of_the_runs(before_and_after):
    before, out, data = before_and_after
    one = experiment(data)
    assert (before.runs, before.finished, before.resumed, before.steps) == (2, 0, 0, 2 * STEPS)
    files = [path for path in (out / one.name).rglob("*") if path.is_file() and path.name != "lease.json"]
    assert before.runs_bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.2)
    (features,) = data.glob("features-*")
    assert before.features_bytes == 40 * 16 * 128 * 2  # 40 images of 4 x 4 cells of 128 numbers in half precision
    assert before.features_bytes == pytest.approx(sum(path.stat().st_size for path in features.iterdir()), rel=0.2)
    assert before.seconds > METEOR and before.free_bytes > 0 and not before.notes


def test_finished_runs_cost_nothing_and_are_not_probed(before_and_after, monkeypatch):
    _, out, data = before_and_after
    monkeypatch.setattr("attend.experiments.runner.estimate.rehearse", None)
    after = expected(experiment(data), out)
    assert after.text() == "2 runs: 2 finished"
    assert (after.finished, after.steps, after.seconds, after.features_bytes, after.runs_bytes) == (2, 0, 0, 0, 0)


def test_an_evaluation_that_is_missing_is_all_that_is_left(before_and_after, tmp_path):
    _, out, data = before_and_after
    shutil.copytree(out, tmp_path / "runs")
    evaluation = tmp_path / "runs/halves/hard/seed0/evaluations/test-expected-beam2"
    size = sum(path.stat().st_size for path in evaluation.iterdir())
    shutil.rmtree(evaluation)
    after = expected(experiment(data), tmp_path / "runs")
    assert (after.finished, after.resumed, after.steps) == (1, 1, 0)
    assert after.seconds > METEOR and after.runs_bytes == pytest.approx(size, rel=0.3)


def test_a_resumed_run_costs_what_is_left_of_it(data, tmp_path, monkeypatch):
    one, step = experiment(data).only(["soft"]), Trainer.step
    whole = expected(one, tmp_path)

    def interrupted(self, batch):
        if self.progress.step == 10:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", interrupted)
        perform(one, tmp_path)
    rest = expected(one, tmp_path)
    assert (rest.finished, rest.resumed, rest.steps) == (0, 1, STEPS - 10)
    assert rest.runs_bytes < whole.runs_bytes and "1 to be resumed" in rest.text()


def test_training_that_has_stalled_is_over(data, tmp_path, monkeypatch):
    one = experiment(data, patience=1).only(["soft"])
    monkeypatch.setattr(Trainer, "validate", lambda self: (0.0, 1.0))
    monkeypatch.setattr("attend.training.loop.evaluate", Mock(side_effect=ValueError("enough")))
    with pytest.raises(ValueError, match="enough"):
        perform(one, tmp_path)
    left = expected(one, tmp_path)
    assert left.steps == 0 and left.seconds > METEOR


def test_a_folder_of_other_settings_and_a_model_that_cannot_be_are_said(before_and_after, tmp_path):
    _, out, data = before_and_after
    other = expected(experiment(data, learning_rate=0.02), out)
    assert "train.learning_rate 0.02 (was 0.01)" in other.text() and not other.seconds
    one = experiment(data)
    soft = one.variants["soft"]
    absent = replace(soft, decoder=replace(soft.decoder, embeddings=str(tmp_path / "no.txt")))
    found = expected(replace(one, variants=one.variants | {"soft": absent}), tmp_path)
    assert "warning: soft cannot be trained: " in found.text() and "no.txt" in found.text()
    assert found.seconds > METEOR and found.runs_bytes > 0  # hard's
    boxless = replace(soft, objective=replace(soft.objective, supervised=0.5))
    (note,) = expected(replace(one.only(["soft"]), variants={"soft": boxless}), tmp_path).notes
    assert note.startswith("soft cannot be trained: ") and f"{data} has none" in note


def test_a_run_that_stops_at_a_score_is_rehearsed(data, tmp_path):
    one = experiment(data, monitor="cider", target=0.5)
    assert not [note for note in expected(one.only(["soft"]), tmp_path).notes if "cannot be trained" in note]


def test_seconds_and_bytes_by_hand(data, tmp_path, monkeypatch):
    """7 minibatches an epoch; validation of 4 images, 6 test images; three ways to evaluate, and bounds by 5 paths."""
    search = {("argmax", 1): 0.2, ("argmax", 2): 0.3, ("sample", 2): 0.4, ("expected", 2): 0.5}
    cost = Cost(12, search, 500, 70, 3000, 25.0)
    monkeypatch.setattr("attend.experiments.runner.estimate.rehearse", lambda *_: cost)
    one = experiment(data, validation_images=4)
    one = replace(one, also={"hard": [Setting(), Setting("sample", draws=3), Setting(look="oracle")]}, bound=5)
    (run,) = runner.plan(one.only(["hard"]), tmp_path, None)
    found = estimate([run], 1)
    given = EPOCHS * 4 + 3 * 6 + 6 * 5
    seconds = STEPS * 12 + given * 12 / (3 * 4) + EPOCHS * 4 * 0.2 + 6 * 0.3 + 3 * 6 * 0.4
    assert found.seconds == pytest.approx(25 + METEOR + seconds)
    assert (found.runs_bytes, found.features_bytes) == (500 + 70 * 3 * 6, 3000)
    quiet = replace(run, config=replace(run.config, train=replace(run.config.train, monitor="nll")), bound=None)
    assert not quiet.left(Prepared(data)).searches["argmax", 1]
    more = [replace(run, folder=tmp_path / f"seed{seed}", config=replace(run.config, seed=seed)) for seed in range(3)]
    assert estimate(more, 2).seconds == pytest.approx(25 + METEOR + 1.5 * seconds) and estimate(more, 2).workers == 2
    assert estimate(more, 8).seconds == pytest.approx(25 + METEOR + seconds) and estimate(more, 8).workers == 3


def test_the_seeds_of_a_variant_share_a_rehearsal_wherever_they_begin(data, tmp_path, monkeypatch):
    rehearsed = []
    cost = Cost(12, defaultdict(float), 500, 70, 3000, 25.0)
    monkeypatch.setattr("attend.experiments.runner.estimate.rehearse", lambda *a: rehearsed.append(a) or cost)
    plan = runner.plan(replace(experiment(data), after={"hard": "soft"}), tmp_path, 3)
    assert len({run.config.start for run in plan}) == 4
    estimate(plan, 1)
    assert len(rehearsed) == 2


@pytest.mark.parametrize("tune", [0, 1])
def test_features_are_missing_until_they_are_stored(tmp_path, tmp_path_factory, tune):
    data = halves.write(tmp_path / "data")
    one = experiment(data).variants["soft"]
    one = replace(one, encoder=replace(one.encoder, tune_blocks=tune))
    folder = partial(tmp_path_factory.mktemp, "rehearsal")
    size, seconds = rehearse(one, [], folder())[-2:]
    assert size == 40 * (3 * 32 * 32 if tune else 16 * 128 * 2) and seconds > 0
    ensure_store(Prepared(data), Encoder(one.encoder))
    assert rehearse(one, [], folder())[-2:] == (0, 0.0)


@pytest.mark.parametrize(
    ("rows", "shards", "left"), [(600, [], 600), (600, [0], 344), (600, [0, 2], 256), (600, [0, 1, 2], 0)]
)
def test_rows_that_are_not_written_are_counted_by_shard(tmp_path, rows, shards, left):
    for number in shards:
        (tmp_path / f"{number:05d}.h5").touch()
    assert unwritten(tmp_path, rows) == left


def test_a_disk_that_is_too_small_is_warned_of(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**10, 9 * 10**9, 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    needs = {tmp_path / "runs": 6 * 10**8, tmp_path / "data": 5 * 10**8}
    assert not any(shortages({folder: size}) for folder, size in needs.items())
    (sentence,) = shortages(needs)
    assert f"{tmp_path / 'runs'} has 1.0 GB free, and 1.1 GB are needed" in sentence


def test_the_text():
    one = Estimate(
        runs=5, finished=2, resumed=1, workers=2, steps=3290, seconds=1490.0, features_bytes=120_000_000,
        runs_bytes=3_100_000_000, free_bytes=52_000_000_000, notes=["the disk is small"],
    )  # fmt: skip
    assert one.text().splitlines() == [
        "5 runs: 2 finished, 1 to be resumed, 2 to do",
        "about 25 minutes, 2 at once: 3,290 training steps and their evaluations, from a probe of a few; less if "
        "training stops early",
        "disk: 120.0 MB of features and 3.1 GB of runs, 52.0 GB free",
        "warning: the disk is small",
    ]


@pytest.mark.parametrize(
    ("typed", "answer"),
    [(b"\n", True), (b"y\n", True), (b"Yes\n", True), (b"n\n", False), (b"what?\n", False), (b"\x04", False)],
)
def test_a_terminal_is_asked(monkeypatch, typed, answer):
    user, program = pty.openpty()
    settings = termios.tcgetattr(program)
    settings[3] &= ~termios.ECHO  # what is typed would be shown at any moment
    termios.tcsetattr(program, termios.TCSANOW, settings)
    with open(program) as stdin, open(program, "w", closefd=False) as stderr, open(user, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stderr", stderr)
        os.write(user, typed)
        assert confirmed("the plan", yes=False) is answer
        assert confirmed("all of it", yes=True)  # without a look at what is typed
        print("end", file=stderr)
        shown = b""
        while not shown.endswith(b"end\r\n"):
            shown += screen.read(1000)
    assert shown == b"the plan\r\nGo on? [Y/n] all of it\r\nend\r\n"


@pytest.mark.parametrize("piped", ["stdin", "stderr"])
def test_a_pipe_never_waits_for_an_answer(piped):
    (user, program), (reads, writes) = pty.openpty(), os.pipe()  # all stay open, and nothing is ever written
    streams = {"stdin": program, "stderr": program} | {piped: {"stdin": reads, "stderr": writes}[piped]}
    code = "from attend.experiments.cli.common import confirmed; print(confirmed('the plan', False))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, **streams)
    assert ran.returncode == 0 and ran.stdout == b"True\n"
    for one in (user, program, reads, writes):
        os.close(one)


def mine(tmp_path: Path, data: Path) -> Path:
    """The experiment as a user's own file."""
    file = tmp_path / "mine.py"
    file.write_text(
        f"from pathlib import Path\nfrom tests.experiments.runner.test_estimate import experiment as halves\n\n"
        f"def experiment(data, tiny):\n    return halves(Path({str(data)!r}))\n"
    )
    return file


def test_a_dry_run_prints_the_plan_and_leaves_nothing(data, tmp_path, capsys):
    there = set(data.rglob("*"))
    main(["run", str(mine(tmp_path, data)), "--dry-run", "--out", str(tmp_path / "runs")])
    assert capsys.readouterr().out.startswith("2 runs: 2 to do\nabout ")
    assert not (tmp_path / "runs").exists() and set(data.rglob("*")) == there


def test_a_dry_run_says_how_many_seeds_a_difference_needs(data, tmp_path, capsys):
    """From finished runs whose CIDEr has a known variance; the images of these are alike for all runs."""
    command = ["run", str(mine(tmp_path, data)), "--dry-run", "--out", str(tmp_path / "runs")]
    main([*command, "--detect", "cider=0.05"])
    assert "is not known: that needs finished runs of two variants" in capsys.readouterr().out
    for seed in range(3):
        for variant, chance in (("soft", 0), ("hard", 50)):
            make_scored(tmp_path / "runs", f"made/{variant}/seed{seed}", chance=chance + seed, images=4000)
    main([*command, "--detect", "cider=0.05"])
    said = capsys.readouterr().out.splitlines()[-1]
    evidence = Evidence(_headlines(read_runs([tmp_path / "runs"])))
    needed = seeds_needed(0.05, *evidence.variances("cider"))
    assert said.startswith("To find a difference of 0.05 in CIDEr with a chance of 80 % it takes")
    assert said.endswith(f"{needed} seeds of each of 2 variants, from the variances of 6 finished runs of 2 variants")
    for wrong, why in (
        ("cider", "is no difference of a score"),
        ("nll=0.1", "names no score of single images"),
        ("cider=-1", "is no"),
    ):
        with pytest.raises(SystemExit):
            main([*command, "--detect", wrong])
        assert why in capsys.readouterr().err


def test_a_no_starts_nothing(data, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("attend.experiments.cli.common.confirmed", lambda text, yes: asked.append((text, yes)))
    main(["run", str(mine(tmp_path, data)), "--out", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists() and not capsys.readouterr().out
    assert asked[0][0].startswith("2 runs: 2 to do") and not asked[0][1]


def test_with_nothing_left_nothing_is_asked(before_and_after, tmp_path, monkeypatch):
    _, out, data = before_and_after
    asked = []
    monkeypatch.setattr("attend.experiments.cli.common.confirmed", lambda text, yes: asked.append((text, yes)))
    main(["run", str(mine(tmp_path, data)), "--out", str(out)])
    assert asked == [("2 runs: 2 finished", True)]


def test_the_recipe_for_coco_is_computed():
    """The columns of the table follow from those that were measured."""
    table = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (ROOT / "docs/recipes.md").read_text().splitlines()
        if re.match(r"\| \d+ x \d+ x \d+", line)
    ]
    assert len(table) == 4
    for features, kib, disk, images, compute, words, epoch in table:
        one = np.prod([int(number) for number in re.findall(r"\d+", features)[:3]]) * 2
        assert (kib, disk) == (f"{one / 1024:.4g}", f"{123287 * one / 1e9:.1f}")
        assert compute == (f"{123287 / int(images) / 3600:.1f}" if images else "")
        assert epoch == (f"{113287 * 58.9 / int(words) / 3600:.1f}" if words else "")
