"""Training: a killed run equals an uninterrupted one, and learning happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from attend import config
from attend.config.text import from_dict, replace
from attend.data.prepared import Prepared
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES
from attend.training.optimiser import OPTIMISERS
from tests import halves
from tests.forks import finish, kill, no_java


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """Captions are scored on simple tokens and without METEOR, to save time."""
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)


TIMES = {"time", "train_seconds", "wait_seconds", "step_seconds", "tokens_per_second"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("halves") / "data", boxes=True)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("few") / "data", (12, 2, 2), boxes=True)


def settings(dataset: Path, kind: str, **train) -> config.Config:
    return from_dict(
        halves.SMALL
        | {
            "data": str(dataset),
            "attention": {"select": kind, "width": 16},
            "train": halves.SMALL["train"] | {"epochs": 4} | train,
        }
    )


def kill_at(process: BaseProcess, folder: Path, steps: int) -> None:
    """SIGKILL once metrics.jsonl tells of so many steps."""
    log = folder / "metrics.jsonl"
    for _ in range(12000):
        assert process.is_alive(), "it ended before"
        if log.exists() and any(json.loads(line)["step"] >= steps for line in whole_lines(log)):
            kill(process)
            return
        time.sleep(0.01)
    raise AssertionError("the run never came so far")


def whole_lines(log: Path) -> list[str]:
    return log.read_text().rpartition("\n")[0].splitlines()


def metrics(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def same_tensors(ours: Path, theirs: Path) -> None:
    one, two = load_file(ours), load_file(theirs)
    assert one.keys() == two.keys()
    for name in one:
        assert np.array_equal(one[name], two[name]), name


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "blocks"), [("sample", 0), pytest.param("expected", 0, marks=SLOW), pytest.param("sample", 1, marks=SLOW)]
)
def test_a_killed_run_equals_an_uninterrupted_one_bit_for_bit(forks, dataset, tmp_path, kind, blocks):
    """Killed twice in the middle of an epoch, by SIGKILL; weights, captions, scores and metrics are compared."""
    from attend.training.loop import train

    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    wanted = replace(settings(dataset, kind), {"encoder.tune_blocks": blocks})
    start = partial(forks.start, train, wanted, folder=tmp_path, log=log)
    finish(start(whole), log)
    for steps in (4, 12):
        kill_at(start(broken), broken, steps)
        assert not (broken / "scores.json").exists()
    finish(start(broken), log)
    assert metrics(broken) == metrics(whole)
    for name in ("best", "last"):
        same_tensors(broken / f"checkpoint/{name}.safetensors", whole / f"checkpoint/{name}.safetensors")
    (ours,), (theirs,) = ((folder / "evaluations").iterdir() for folder in (broken, whole))
    for name in ("captions.json", "images.csv"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    times = {"seconds": 0, "train_seconds": 0}
    scores = [json.loads((folder / "scores.json").read_text()) | times for folder in (broken, whole)]
    assert scores[0] == scores[1]
    with h5py.File(ours / "attention.h5") as one, h5py.File(theirs / "attention.h5") as two:
        assert list(one) == list(two)
        assert all(np.array_equal(one[n]["alpha"][:], two[n]["alpha"][:]) for n in one)
    assert not list(broken.rglob("*.partial")) and not (broken / "lease.json").exists()


SMALLER = {  # where the grid, two by two, has too many paths, or too few locations
    "enumeration": {"encoder.grid": "1 2"},
    "marginal": {"encoder.grid": "1 2"},
    "unordered-set": {"estimator.samples": 3},
}
APART = [name for name in ESTIMATORS if name != "xu2015-code"]
CHANGED = [
    *(pytest.param({"train.optimiser": name}, marks=() if name == "rmsprop" else SLOW) for name in OPTIMISERS),
    {"encoder.tune_blocks": 1},
    *(
        pytest.param(
            {"estimator.name": name} | SMALLER.get(name, {}),
            marks=() if name in ("vimco", "relax", "xu2015-code") else SLOW,
        )
        for name in ESTIMATORS
    ),
    *(
        pytest.param(
            {"estimator.name": name, "attention.feed": "expected"} | SMALLER.get(name, {}),
            marks=() if name in ("marginal", "variational") else SLOW,
        )
        for name in APART
    ),
    *(
        pytest.param({"estimator.baseline": name}, marks=() if name in ("learned", "soft") else SLOW)
        for name in BASELINES
    ),
    {"estimator.name": "vimco", "train.precision": "bf16"},
    {"estimator.baseline": "soft", "estimator.rollout": "prefix"},
    *(
        pytest.param(
            {"attention.weights": name, "attention.select": "expected"},
            marks=() if name == "oracle" else SLOW,
        )
        for name in ("uniform", "centre", "random", "oracle")
    ),
    {"attention.weights": "first"},
    {"attention.select": "top-k", "attention.top": 2},
    {"estimator.name": "vimco", "objective.supervised": 0.5},
    {"train.training_images": 10},
]


@pytest.mark.parametrize("changed", CHANGED, ids=lambda changed: "-".join(map(str, changed.values())).replace(" ", "x"))
def test_an_interrupted_run_equals_an_uninterrupted_one_whatever_is_changed(few, tmp_path, monkeypatch, changed):
    """Stopped in the middle of the second epoch; every optimiser, estimator and baseline, and a tuned encoder."""
    from attend.model import Model
    from attend.training.loop import Trainer, train

    monkeypatch.setattr("attend.training.loop.evaluate", lambda *_, **__: {})
    wanted = settings(few, "sample", epochs=2, monitor="nll", encoder_learning_rate=0.01)
    wanted, blocks = replace(wanted, changed), changed.get("encoder.tune_blocks", 0)
    train(wanted, tmp_path / "whole")
    step = Trainer.step

    def stop(trainer, batch):
        if trainer.progress.step == 4:
            raise KeyboardInterrupt
        return step(trainer, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stop)
        train(wanted, tmp_path / "broken")
    train(wanted, tmp_path / "broken")
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "whole")
    last = tmp_path / "whole/checkpoint/last.safetensors"
    same_tensors(tmp_path / "broken/checkpoint/last.safetensors", last)
    began, ended = Model.build(wanted, Prepared(few).vocabulary).tensors(), load_file(last)
    moved = {name.split(".")[0] for name, tensor in began.items() if not np.array_equal(tensor.numpy(), ended[name])}
    assert moved == ({"captioner", "encoder"} if blocks else {"captioner"})


def test_a_finished_run_is_not_repeated_and_another_configuration_is_refused(dataset, tmp_path):
    from attend.training.loop import train

    folder = tmp_path / "run"
    first = train(settings(dataset, "expected", epochs=1, monitor="nll"), folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = train(settings(dataset, "expected", epochs=1, monitor="nll"), folder)
    assert again["captions"] == first["captions"]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["device"] == "cpu" and environment["precision"] == "fp32" and environment["data_fingerprint"]
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"another configuration: train.patience 2 \(was 6\)"):
        train(settings(dataset, "expected", epochs=1, monitor="nll", patience=2), folder)


def test_kept_weights_are_those_of_a_run_that_ended_there(dataset, tmp_path, monkeypatch):
    from attend.training.loop import train

    monkeypatch.setattr("attend.training.loop.evaluate", lambda *_, **__: {})
    train(settings(dataset, "sample", epochs=3, monitor="nll", keep_every=2), tmp_path / "whole")
    train(settings(dataset, "sample", epochs=2, monitor="nll"), tmp_path / "short")
    kept = sorted(path.name for path in (tmp_path / "whole/checkpoint").iterdir())
    assert kept == ["best.safetensors", "epoch2.safetensors", "last.safetensors"]
    ours, theirs = (
        load_file(tmp_path / name)
        for name in ("whole/checkpoint/epoch2.safetensors", "short/checkpoint/last.safetensors")
    )
    assert ours and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_every_epoch_learns_from_the_same_part_of_the_training_images(dataset, tmp_path, monkeypatch):
    from attend.training.loop import Trainer, train

    monkeypatch.setattr("attend.training.loop.evaluate", lambda *_, **__: {})
    seen, step = [], Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda trainer, batch: seen.extend(batch.rows.tolist()) or step(trainer, batch)
    )
    epochs = []
    for seed in (0, 1):
        wanted = settings(dataset, "expected", epochs=2, monitor="nll", training_images=5)
        train(replace(wanted, {"seed": seed}), tmp_path / str(seed))
        epochs += [set(seen[:5]), set(seen[5:])]
        seen.clear()
    first, again, other, _ = epochs
    assert len(first) == 5 and first == again != other and first | other <= set(Prepared(dataset).rows("train"))
    with pytest.raises(ValueError, match=r"training_images is 29, but the training split has 28"):
        train(settings(dataset, "expected", training_images=29), tmp_path / "more")


def test_soft_learns_what_two_halves_hold(dataset, tmp_path):
    from attend.training.loop import train

    scores = train(
        settings(dataset, "expected", epochs=25, patience=0, monitor="nll", checkpoint_minutes=9.0), tmp_path / "run"
    )
    assert scores["given"]["nll"] < 0.6  # guessing colours costs 2 x log 4 in 5.5 words: 0.5, and the words besides


def test_fine_tuning_moves_the_last_blocks_alone(dataset, tmp_path):
    from attend.model import Model
    from attend.runs.folder import RunFolder
    from attend.training.loop import train

    wanted = settings(dataset, "expected", epochs=1, monitor="nll", encoder_learning_rate=0.01)
    wanted = replace(wanted, {"encoder.tune_blocks": 1})
    train(wanted, tmp_path / "run")
    tuned, fresh = (
        Model.read(RunFolder(tmp_path / "run")),
        Model.build(wanted, Model.read(RunFolder(tmp_path / "run")).vocabulary),
    )
    trained = {name for name, p in fresh.encoder.named_parameters() if p.requires_grad}
    for (name, ours), theirs in zip(
        tuned.encoder.state_dict().items(), fresh.encoder.state_dict().values(), strict=True
    ):
        assert (not np.array_equal(ours.numpy(), theirs.numpy())) == (name in trained), name
    assert list(dataset.glob("images-test_resnet-*"))


def test_stalled_validation_lowers_the_rate_and_stops(dataset, tmp_path, monkeypatch):
    from attend.training.loop import Trainer, train

    monkeypatch.setattr(Trainer, "validate", lambda self: (-1.0, 1.0))
    train(settings(dataset, "expected", epochs=9, patience=3, lower_after=1, lower_by=0.5), tmp_path / "run")
    rates = [record["learning_rate"] for record in metrics(tmp_path / "run")]
    assert sorted(set(rates), reverse=True) == [0.01, 0.005, 0.0025]
    assert max(record["epoch"] for record in metrics(tmp_path / "run")) == 4


def test_collapse_is_warned_of_and_marked_once_attention_has_moved(dataset, tmp_path, capsys):
    """At an enormous temperature every map is flat, and the same at every word; the log says that one was not."""
    from attend.training.loop import Trainer, train

    wanted = replace(settings(dataset, "expected", epochs=2), {"attention.temperature": 1e6})
    scores = train(wanted, tmp_path / "flat")
    assert (scores["collapsed"], scores["unmoved"]) == (False, True) and "collapsed" not in capsys.readouterr().err
    assert [record["collapsed"] for record in metrics(tmp_path / "flat") if record["split"] == "val"] == [False] * 2

    log = Trainer.log

    def moving(trainer, **record):
        log(trainer, **record | {"change": 0.02} if record["split"] == "val" and record["epoch"] == 1 else record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "log", moving)
        scores = train(wanted, tmp_path / "moved")
    assert (scores["collapsed"], scores["unmoved"]) == (True, False)
    assert "after epoch 2 attention is the same at every word again" in capsys.readouterr().err
    assert [record["collapsed"] for record in metrics(tmp_path / "moved") if record["split"] == "val"] == [False, True]


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(tmp_path):
    """A real limit on the size of files, in a process of its own; the error is the system's, with the file's name."""
    code = """
import resource, signal, sys, torch
from pathlib import Path
from attend.runs.checkpoint import read_checkpoint, write_checkpoint
path = Path(sys.argv[1])
origin = {"vocabulary": "", "encoder": ""}
write_checkpoint(path, {"a": torch.ones(10)}, origin | {"step": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_checkpoint(path, {"a": torch.ones(10_000)}, origin | {"step": 2})
except OSError as error:
    assert error.filename == str(path), error.filename
    tensors, state = read_checkpoint(path)
    print(state["step"], len(tensors["a"]), [p.name for p in path.parent.iterdir()])
"""
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "last.safetensors"], capture_output=True, text=True, timeout=100
    )
    assert told.stdout == "1 10 ['last.safetensors']\n", told.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_start_from_the_same_loss(dataset, tmp_path, precision, monkeypatch):
    import torch

    from attend.training import reward
    from attend.training.loop import train

    seen, loss_of = set(), reward.loss_of

    def observed(*arguments):
        u, loss = loss_of(*arguments)
        seen.add(u.logits.dtype)
        return u, loss

    monkeypatch.setattr(reward, "loss_of", observed)
    train(settings(dataset, "sample", epochs=1, monitor="nll", precision=precision, log_every=1), tmp_path / precision)
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float32}
    first = metrics(tmp_path / precision)[0]
    assert first["nll"] == pytest.approx(
        np.log(len(json.loads((dataset / "vocabulary.json").read_text())["words"])), abs=0.2
    )


def test_a_run_that_an_older_version_began_is_refused(dataset, tmp_path):
    """Its moving average was stored as ``baseline`` and ``places``."""
    from attend.runs.checkpoint import read_checkpoint, write_checkpoint
    from attend.training.loop import train

    one = settings(dataset, "sample", epochs=1, monitor="nll")
    train(one, tmp_path / "run")
    (tmp_path / "run/scores.json").unlink()
    last = tmp_path / "run/checkpoint/last.safetensors"
    tensors, state = read_checkpoint(last)
    state["progress"] = {k: v for k, v in state["progress"].items() if k != "average"} | {"baseline": 3.0, "places": []}
    write_checkpoint(last, tensors, state)
    with pytest.raises(ValueError, match="was written by an older version, and this one cannot resume it: remove"):
        train(one, tmp_path / "run")


def test_a_checkpoint_of_weights_alone_is_not_resumed_from(dataset, tmp_path):
    from attend.training.loop import train

    one = settings(dataset, "sample", epochs=1, monitor="nll")
    train(one, tmp_path)
    (tmp_path / "scores.json").unlink()
    shutil.copy(tmp_path / "checkpoint/best.safetensors", tmp_path / "checkpoint/last.safetensors")
    with pytest.raises(ValueError, match=r"last\.safetensors holds the weights of best\.safetensors alone"):
        train(one, tmp_path)


def test_a_vocabulary_that_does_not_fit_is_refused(dataset, tmp_path):
    """Another one beside the run, and a dataset that has another one."""
    from attend.data.text import Vocabulary
    from attend.evaluation.saved import evaluate_run
    from attend.training.loop import train

    one = settings(dataset, "sample", epochs=1, monitor="nll")
    train(one, tmp_path / "run")
    other = halves.write(tmp_path / "data")
    vocabulary = Vocabulary.read(other / "vocabulary.json")
    Vocabulary(vocabulary.words[:-1]).write(other / "vocabulary.json")
    with pytest.raises(ValueError, match="has another vocabulary than"):
        evaluate_run(tmp_path / "run", data=str(other))
    shutil.copy(other / "vocabulary.json", tmp_path / "run/vocabulary.json")
    (tmp_path / "run/scores.json").unlink()
    with pytest.raises(ValueError, match="differs from the dataset's vocabulary"):
        train(one, tmp_path / "run")


def test_embeddings_that_are_frozen_stay_and_how_many_are_known_is_said(dataset, tmp_path, capsys):
    from attend.training.loop import train

    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red " + " ".join(["0.5"] * 16) + "\n")
    one = settings(dataset, "expected", epochs=1, monitor="nll")
    frozen = {"decoder.embeddings": str(vectors), "decoder.freeze_embeddings": True}
    train(replace(one, frozen), tmp_path / "run")
    words = len(json.loads((tmp_path / "run/vocabulary.json").read_text())["words"])
    assert f"{vectors}: embeddings of 1 of {words} words of the vocabulary" in capsys.readouterr().err
    kept = load_file(tmp_path / "run/checkpoint/best.safetensors")["captioner.decoder.embedding.weight"]
    red = json.loads((tmp_path / "run/vocabulary.json").read_text())["words"].index("red")
    assert np.array_equal(kept[red], np.full(16, 0.5, np.float32))


def test_trained_embeddings_are_those_of_the_checkpoint(dataset, tmp_path):
    """The file they started from is not read again."""
    from attend.model import Model
    from attend.runs.folder import RunFolder
    from attend.training.loop import train

    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red " + " ".join(["0.5"] * 16) + "\n")
    one = settings(dataset, "sample", epochs=1, monitor="nll")
    train(replace(one, {"decoder.embeddings": str(vectors)}), tmp_path / "run")
    vectors.unlink()
    model = Model.read(RunFolder(tmp_path / "run"))
    kept = load_file(tmp_path / "run/checkpoint/best.safetensors")["captioner.decoder.embedding.weight"]
    assert np.array_equal(model.captioner.decoder.embedding.weight.detach().numpy(), kept)
