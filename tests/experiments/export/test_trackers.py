"""Exports read again by the trackers' own readers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attend.analysis.records import read_run
from attend.experiments.cli.main import main
from attend.experiments.export.trackers import identity

from tests.made_gaze import make_experiment
from tests.made_runs import make_metrics

LINES = [line | {"time": 1000.0 + line["step"]} for line in make_metrics(2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a log, an evaluation, and the gaze over six images."""
    run = make_experiment(tmp_path_factory.mktemp("export"), seeds=1) / "hard/seed0"
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return run


def series(split: str, name: str) -> list[tuple[int, float, float]]:
    """What was logged: step, value and time."""
    return [(line["step"], line[name], line["time"]) for line in LINES if line["split"] == split and name in line]


def test_tensorboard_reads_what_was_logged(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the second export replaces the first
        main(["export", str(run), "--to", "tensorboard", "--out", str(tmp_path), "--images", "2"])
    events = EventAccumulator(str(tmp_path / "made/hard/seed0")).Reload()
    for split, name in (("train", "nll"), ("val", "bleu4")):
        found = [(one.step, one.value, one.wall_time) for one in events.Scalars(f"{split}/{name}")]
        assert found == [pytest.approx(one) for one in series(split, name)]
    assert [one.value for one in events.Scalars("test-argmax-beam3/captions/cider")] == [0.5]
    assert events.Tags()["images"] == ["test-argmax-beam3/gaze/34", "test-argmax-beam3/gaze/35"]
    (picture,) = events.Images("test-argmax-beam3/gaze/34")
    assert picture.width > 300 and picture.height > 300 and picture.encoded_image_string.startswith(b"\x89PNG")
    (hparams,) = [events.summary_metadata["_hparams_/session_start_info"]]
    assert b"estimator.baseline" in hparams.plugin_data.content
    assert events.Scalars("headline/cider")[0].value == 0.5


def exported(run: Path, out: Path, name: str) -> None:
    """Twice, in processes of their own, as their packages warn and log as they like."""
    for _ in range(2):
        command = [sys.executable, "-m", "attend", "export", run, "--to", name, "--out", out, "--images", "2"]
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "WANDB_"))}
        ran = subprocess.run(command, capture_output=True, text=True, env=plain)
        assert ran.returncode == 0, ran.stderr
        assert f"{len(LINES)} lines of metrics.jsonl, 1 evaluation, 2 pictures" in ran.stdout


@pytest.mark.slow
def test_mlflow_reads_what_was_logged(run, tmp_path):
    exported(run, tmp_path, "mlflow")
    code = f"""
import mlflow, json
client = mlflow.MlflowClient("sqlite:///{tmp_path}/mlflow.db")
(run,) = client.search_runs([client.get_experiment_by_name("made").experiment_id])
number = run.info.run_id
history = {{name: [(m.step, m.value, m.timestamp / 1000) for m in client.get_metric_history(number, name)]
            for name in ("train/nll", "val/bleu4", "test-argmax-beam3/captions/cider")}}
pictures = [file.path for file in client.list_artifacts(number, "test-argmax-beam3/gaze")]
print(json.dumps([run.info.run_name, run.info.status, run.data.params["attention.select"], history, pictures]))
"""
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    name, status, select, history, pictures = json.loads(ran.stdout.splitlines()[-1])
    assert (name, status, select) == ("hard/seed0", "FINISHED", "sample")
    for split, metric in (("train", "nll"), ("val", "bleu4")):
        assert sorted(map(tuple, history[f"{split}/{metric}"])) == series(split, metric)
    assert [value for _, value, _ in history["test-argmax-beam3/captions/cider"]] == [0.5]
    assert pictures == ["test-argmax-beam3/gaze/34.png", "test-argmax-beam3/gaze/35.png"]
    assert len(list((tmp_path / "artifacts").iterdir())) == 1  # those of the first export are gone


def records(path: Path) -> list:
    """The records of a file of wandb: LevelDB's log format, after a header of 7 bytes, with protocol buffers in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if (rest := 32768 - place % 32768) < 7:  # a block's end is filled up
            place += rest
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


@pytest.mark.slow
def test_wandb_holds_what_was_logged(run, tmp_path):
    exported(run, tmp_path, "wandb")
    own = identity(read_run(run))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    found = records(folder / f"run-{own}.wandb")
    (about,) = [one.run for one in found if one.WhichOneof("record_type") == "run"]
    assert (about.project, about.run_group, about.display_name) == ("made", "hard", "hard/seed0")
    logged: dict[str, list] = {}
    for one in found:
        if one.WhichOneof("record_type") == "history":
            values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in one.history.item}
            for name, value in values.items():
                logged.setdefault(name, []).append((values["_step"], value))
    for split, metric in (("train", "nll"), ("val", "bleu4")):
        assert logged[f"{split}/{metric}"] == [pytest.approx(one[:2]) for one in series(split, metric)]
    assert [value for _, value in logged["test-argmax-beam3/captions/cider"]] == [0.5]
    assert len(list(folder.glob("files/media/images/test-argmax-beam3/gaze/*.png"))) == 2
