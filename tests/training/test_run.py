"""Runs that grow and vary: more epochs, other settings, and training anew."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from attend.analysis.records import find_runs

import attend
from attend.config import Config
from attend.config.presets import PRESETS
from attend.config.text import from_dict, replace
from attend.evaluation.health import standstill
from attend.runs.checkpoint import read_state
from attend.runs.folder import RunFolder
from attend.runs.lease import InUse, Lease
from attend.training.loop import Trainer, train
from attend.training.run import proposal
from tests import halves
from tests.forks import no_java
from tests.training.test_loop import metrics, same_tensors


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("few") / "data", (12, 2, 2))


def settings(data: Path, epochs: int = 1, **changed) -> Config:
    loop = halves.SMALL["train"] | {"epochs": epochs, "monitor": "nll"}
    config = from_dict(
        halves.SMALL | {"data": str(data), "attention": {"select": "sample", "width": 16}, "train": loop}
    )
    return replace(config, changed)


FLAT = {
    f"{section}.{name}": tuple(value) if isinstance(value, list) else value
    for section, values in halves.SMALL.items()
    for name, value in values.items()
}
"""Settings of a small model by dotted names."""


SCORES = {"split": "test", "decode": "argmax", "beam": 1, "images": 1, "captions": {}, "given": {}}
"""Scores of a run that nobody evaluated."""


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_runs(ours: Path, theirs: Path) -> None:
    """Equal but for times, bit for bit."""
    assert metrics(ours) == metrics(theirs)
    for name in ("best", "last"):
        same_tensors(ours / f"checkpoint/{name}.safetensors", theirs / f"checkpoint/{name}.safetensors")
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (ours, theirs)]
    assert scores[0] | {"seconds": 0, "train_seconds": 0} == scores[1] | {"seconds": 0, "train_seconds": 0}
    assert (ours / "config.json").read_bytes() == (theirs / "config.json").read_bytes()
    (mine,), (other,) = ((folder / "evaluations").iterdir() for folder in (ours, theirs))
    for name in ("captions.json", "images.csv"):
        assert (mine / name).read_bytes() == (other / name).read_bytes()


SCHEDULE = {"estimator.semi_start": 1.0, "estimator.semi": 0.0, "estimator.semi_epochs": 3.0, "train.lower_after": 1}


def test_a_run_that_goes_on_equals_one_of_as_many_epochs(data, tmp_path, capsys):
    """With a schedule that is not over yet, and a learning rate that validation lowers."""
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    train(settings(data, 4, **SCHEDULE), whole)
    short = train(settings(data, 2, **SCHEDULE), grown)
    old = content(grown / "evaluations")
    train(settings(data, 4, **SCHEDULE), grown)
    same_runs(grown, whole)
    said = capsys.readouterr().err
    assert f"{grown}: goes on from 2 to 4 epochs" in said and "resumed at epoch 3" in said
    kept = content(grown / "evaluations-epochs2")
    assert json.loads(kept.pop("scores.json")) == short and kept == old
    with pytest.raises(ValueError, match=r"another configuration: train.epochs 3 \(was 4\)"):
        train(settings(data, 3, **SCHEDULE), grown)


@pytest.mark.parametrize(
    "at", ["evaluations", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scores.json", "config.json"))]
)
def test_a_run_that_is_killed_as_it_begins_to_go_on(data, tmp_path, monkeypatch, at):
    """Whatever was done by then, the same command goes on, and the command before gives the scores of before."""
    runs = [tmp_path / name for name in ("whole", "more", "less")]
    train(settings(data, 2), runs[0])
    for run in runs[1:]:
        first = train(settings(data, 1), run)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_at(patch, at)
            train(settings(data, 2), run)
    train(settings(data, 2), runs[1])
    same_runs(runs[1], runs[0])
    again = train(settings(data, 1), runs[2])
    assert again["captions"] == first["captions"] and again["given"] == first["given"]


def stop_at(patch: pytest.MonkeyPatch, at: str) -> None:
    """Interrupt the extension of a run before its scores or evaluations are moved, or its configuration is written."""
    from attend.runs import folder

    move, write = folder.os.replace, folder.write_json

    def moved(source, target):
        if (Path(source).name == "scores.json") == (at == "scores.json") and at != "config.json":
            raise KeyboardInterrupt
        move(source, target)

    def written(path, value):
        if path.name == "config.json":
            raise KeyboardInterrupt
        write(path, value)

    names = types.SimpleNamespace(**{name: getattr(folder.os, name) for name in ("rename", "truncate")}, replace=moved)
    patch.setattr(folder, "os", names)
    if at == "config.json":
        patch.setattr(folder, "write_json", written)


def test_a_run_without_its_last_checkpoint_does_not_go_on(data, tmp_path):
    """It would be trained from nothing, or not at all."""
    from attend.runs.checkpoint import write_checkpoint

    train(settings(data, 1), tmp_path)
    last = tmp_path / "checkpoint/last.safetensors"
    shutil.copy(tmp_path / "checkpoint/best.safetensors", last)  # the weights alone
    before = content(tmp_path)
    with pytest.raises(ValueError, match="cannot be resumed, so the run cannot go on"):
        train(settings(data, 2), tmp_path)
    write_checkpoint(last, {}, {"vocabulary": "", "encoder": "", "progress": {"epoch": 1}})  # of an older version
    with pytest.raises(ValueError, match="cannot be resumed"):
        train(settings(data, 2), tmp_path)
    last.unlink()
    with pytest.raises(ValueError, match="does not exist"):
        train(settings(data, 2), tmp_path)
    assert {name: file for name, file in before.items() if "last" not in name} == content(tmp_path)


def test_a_run_that_stopped_early_would_stop_there_again(data, tmp_path, monkeypatch, capsys):
    """A run of more epochs from the start stops at the same epoch, so nothing is touched."""
    monkeypatch.setattr(Trainer, "validate", lambda self: (-1.0, 1.0))
    patient = {"train.patience": 1}
    train(settings(data, 3, **patient), tmp_path / "run")
    before = content(tmp_path / "run")
    assert "stops after epoch 2 of 3, since validation has not improved for 1" in capsys.readouterr().err
    train(settings(data, 9, **patient), tmp_path / "run")
    assert content(tmp_path / "run") == before
    whole = train(settings(data, 9, **patient), tmp_path / "whole")
    assert whole["epochs"] == 2 and whole["given"] == RunFolder(tmp_path / "run").scores()["given"]


def test_equal_scores_are_decided_by_the_likelihood(data, tmp_path, monkeypatch):
    """CIDEr stays 0 while the likelihood improves: the second epoch is the best, and the third is stale."""
    judged = iter([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.1, 9.0), (0.1, 9.0)])
    monkeypatch.setattr(Trainer, "validate", lambda self: next(judged))
    monkeypatch.setattr("attend.training.loop.evaluate", lambda *_, **__: dict(SCORES))
    bests = []
    for epochs in range(1, 6):
        train(settings(data, epochs, **{"train.lower_after": 0}), tmp_path)
        bests.append((read_state(tmp_path / "checkpoint/best.safetensors")["epoch"],
                      read_state(tmp_path / "checkpoint/last.safetensors")["progress"]["stale"]))  # fmt: skip
    assert bests == [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1)]


def test_train_returns_the_run(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    run = attend.train("hard", data=data, epochs=1, seed=3, **FLAT | {"train.monitor": "nll"})
    assert run.path == Path("runs/train/hard/seed3") and run.config.attention.hard and run.config.seed == 3
    assert run.config == replace(PRESETS["hard"].config, FLAT | {"train.monitor": "nll", "train.epochs": 1, "seed": 3,
                                                                "data": str(data)})  # fmt: skip
    assert run.scores["given"]["nll"] > 0 and run.metrics[-1]["split"] == "val" and isinstance(run.metrics, list)
    before = content(run.path)
    capsys.readouterr()
    again = attend.train("hard", data=data, epochs=1, seed=3, **FLAT | {"train.monitor": "nll"})
    assert content(run.path) == before and again.scores == run.scores
    said = capsys.readouterr().err
    assert "runs/train/hard/seed3 is finished: more --train.epochs than 1 go on with it, --again trains anew" in said
    frames = types.ModuleType("pandas")
    frames.DataFrame = types.SimpleNamespace(from_records=lambda records: ("frame", len(records)))
    monkeypatch.setitem(sys.modules, "pandas", frames)
    assert again.metrics == ("frame", len(run.metrics))


def test_what_cannot_be_trained_is_one_sentence(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, says in (
        ({"preset": "sotf"}, "unknown preset 'sotf': known are soft, hard"),
        ({"encoder.nmae": "x"}, "unknown field 'encoder.nmae'; did you mean encoder.name"),
        ({"epochs": -3}, "train.epochs is -3, but must be 1 or more"),
        ({"data": "nowhere"}, "nowhere is no prepared dataset"),
        ({"name": "a/b"}, "--name 'a/b' is no name of a folder"),
        ({"name": "a", "out": "b"}, "--name a has no effect with --out b"),
        ({"start": "nowhere"}, "nowhere is no run folder"),
    ):
        with pytest.raises(ValueError, match=says):
            attend.train(**{"data": data} | arguments)
    assert not list(tmp_path.iterdir())


def begun(folder: Path, config: Config, *, finished: bool = True) -> RunFolder:
    """A run folder without a model."""
    run = RunFolder(folder)
    with run.open(config) as lease:
        run.last.parent.mkdir()
        run.last.touch()
        if finished:
            run.finish(lease, SCORES)
    return run


def test_other_settings_get_a_name_of_their_own(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soft = replace(PRESETS["soft"].config, {"data": str(data)})
    begun(Path("runs/train/soft/seed0"), soft)
    with pytest.raises(
        ValueError, match=r"learning_rate 0.01 \(was 0.001\): add --name soft-learning_rate0.01 to keep"
    ):
        attend.train("soft", data=data, **{"train.learning_rate": 0.01})
    with pytest.raises(ValueError, match="give another folder with --out to keep both, or --again to train anew"):
        attend.train("soft", data=data, out="runs/train/soft/seed0", **{"train.learning_rate": 0.01})
    many = {"encoder.name": "resnet50", "decoder.hidden": 7, "encoder.grid": "2 2", "attention.width": 9, "seed": 0,
            "decoder.dropout": 0.0}  # fmt: skip
    with pytest.raises(ValueError, match=r"and 1 more: add --name soft-resnet50-grid2x2-width9 to"):
        attend.train("soft", data=data, **many)
    slow = replace(soft, {"train.learning_rate": 0.01})
    other = {"train.learning_rate": (0.01, 0.001)}
    begun(Path("runs/train/soft-learning_rate0.01/seed0"), slow, finished=False)
    assert proposal(slow, "soft", other) == "soft-learning_rate0.01"  # the same run: it goes on
    assert proposal(replace(slow, {"decoder.hidden": 7}), "soft", other) == "soft-learning_rate0.01-2"
    paths = {"data": ("data/mine", "data/scenes"), "start": ("runs/train/uniform/seed0", None)}
    assert proposal(replace(soft, {"data": "data/mine"}), "soft", paths) == "soft-mine-uniform"


def test_training_again_moves_what_was_there_aside(data, tmp_path, capsys):
    run = begun(tmp_path / "hard/seed0", settings(data))
    before = content(run.path)
    with pytest.raises(ValueError, match=r"encoder\.stride is 5"):  # which is known when the encoder is built
        train(settings(data, **{"encoder.stride": 5}), run.path, again=True)
    assert content(run.path) == before and [path.name for path in run.path.parent.iterdir()] == ["seed0"]
    for _ in range(2):
        train(settings(data), run.path, again=True)
    assert content(tmp_path / "hard/seed0.replaced1") == before
    assert (tmp_path / "hard/seed0.replaced2/scores.json").exists() and run.finished
    assert f"the run that was there is kept in {run.path}.replaced2" in capsys.readouterr().err
    assert [path.name for path in find_runs([tmp_path])] == ["seed0"]
    assert [path.name for path in find_runs([tmp_path / "hard/seed0.replaced2"])] == ["seed0.replaced2"]


def test_training_again_goes_on_with_what_was_interrupted(data, tmp_path):
    run = begun(tmp_path / "run", settings(data), finished=False)
    assert not run.replaceable(settings(data)) and run.replaceable(settings(data, 2))
    with run.open(settings(data), again=True):
        assert run.last.exists()
    with Lease(run.path), pytest.raises(InUse, match="in use"), run.open(settings(data, 2), again=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("changes", "now", "why"),
    [
        ([], 0.0, "unmoved"),
        ([("val", 0.001)], 0.0, "unmoved"),
        ([("train", 0.2)], 0.0, "unmoved"),  # dropout
        ([("val", 0.001), ("val", 0.01)], 0.0099, "collapsed"),
        ([("val", 0.2)], 0.01, None),
    ],
)
def test_attention_collapses_only_after_it_has_moved(changes, now, why):
    records = [{"split": split, "change": change} for split, change in changes] + [{"split": "val"}]
    assert standstill({"change": now}, True, records) == why
    assert standstill({"change": now}, False, records) is None
    assert standstill({}, True, records) is None  # captions of one word: nothing could change


WRONG_LINES = """\
train hard --train.epochs -3
train hard --data nothing
train hard --from nothing
train hard --name a/b
caption nothing x.jpg
caption flickr8k-hard x.jpg
evaluate nothing
run nothing
run quickstart --set no=3
run quickstart --data nothing
study nothing
study soft_or_hard --set no=3
estimators --run nothing
bench --parts nothing
prepare nowhere --out x
table nothing
plot curves nothing
report nothing
"""
WRONG = """
import sys
from attend.experiments.cli.main import main

for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit as stop:
        assert stop.code == 2, line
    assert "torch" not in sys.modules, f"attend {line} has imported torch"
"""


def test_arguments_are_checked_before_torch_is_imported(tmp_path):
    (tmp_path / "nothing").mkdir()
    lines = WRONG_LINES.splitlines()
    ran = subprocess.run([sys.executable, "-c", WRONG, *lines], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stderr.splitlines()) == len(lines) and [path.name for path in tmp_path.iterdir()] == ["nothing"]
