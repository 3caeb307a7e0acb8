"""What is replayed of a run: every number once, in order, whether at the end or while the run trains."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest
from attend.experiments.cli.main import main
from attend.experiments.export import replay as replaying
from attend.experiments.export.replay import replay, run_name

from tests.made_gaze import make_experiment
from tests.made_runs import make_metrics, make_run, scores


class Recorder:
    """A tracker that remembers what it is given."""

    pictures = True

    def __init__(self, record) -> None:
        self.name, self.points, self.drawn, self.closed = run_name(record), [], [], 0

    def log(self, points) -> None:
        self.points += points

    def draw(self, name, figure, step) -> None:
        self.drawn.append((name, step, len(figure.axes)))

    def close(self, record) -> None:
        self.closed += 1


@pytest.fixture()
def begun():
    """Trackers by name, and the function that makes them."""
    trackers: dict[str, Recorder] = {}

    def begin(record):
        one = Recorder(record)
        return trackers.setdefault(one.name, one)

    return trackers, begin


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_every_number_is_replayed_once_and_the_run_is_only_read(tmp_path, begun):
    trackers, begin = begun
    lines = [*make_metrics(2), {"step": 10, "split": "val", "collapsed": True, "note": "text", "cider": 0.25}]
    run = make_run(tmp_path, headline=scores(), evaluations=[scores(), scores(beam=1)], metrics=lines)
    before = contents(tmp_path)
    replay([run], begin)
    assert contents(tmp_path) == before
    (one,) = trackers.values()
    assert one.name == "made/soft/seed1" and one.closed == 1
    logged = [point for point in one.points if not point.evaluation]
    expected = [
        (m["split"], m["step"], {k: v for k, v in m.items() if k not in ("step", "split", "time")}) for m in lines
    ]
    expected[-1] = ("val", 10, {"cider": 0.25})  # neither truth values nor text
    assert [(point.of, point.step, point.values) for point in logged] == expected
    assert logged[-1].named == {"val/cider": 0.25}
    evaluated = {point.of: point for point in one.points if point.evaluation}
    assert evaluated.keys() == {"test-expected-beam3", "test-expected-beam1"}
    named = evaluated["test-expected-beam3"].named
    assert named["test-expected-beam3/captions/cider"] == 0.5 and evaluated["test-expected-beam3"].step == 10
    assert named["test-expected-beam3/given/nll"] == 3.0 and not any("missing" in name for name in named)


def test_the_gaze_over_the_first_images_is_drawn(tmp_path, begun, capsys):
    trackers, begin = begun
    replay([make_experiment(tmp_path, seeds=1)], begin, images=2)
    assert [name for name, *_ in trackers["made/soft/seed0"].drawn] == [
        "test-expected-beam3/gaze/34", "test-expected-beam3/gaze/35"]  # fmt: skip
    assert len(trackers["made/hard/seed0"].drawn) == 2
    assert "made/hard/seed0: 0 lines of metrics.jsonl, 1 evaluation, 2 pictures" in capsys.readouterr().out
    (tmp_path / "data").rename(tmp_path / "moved")
    trackers.clear()
    replay([tmp_path / "made"], begin, images=1)
    assert "exported without its gaze" in capsys.readouterr().err and not trackers["made/soft/seed0"].drawn
    trackers.clear()
    replay([tmp_path / "made"], begin, images=1, data=tmp_path / "moved")
    assert len(trackers["made/soft/seed0"].drawn) == 1


def during(monkeypatch, *events) -> None:
    """Let something happen at each pause between two looks at the runs; then the test has waited too long."""
    left = [*events]
    monkeypatch.setattr(time, "sleep", lambda seconds: left.pop(0)())


def write_lines(run: Path, lines) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_is_followed_until_it_is_finished_and_a_resumed_one_is_replayed_once(
    tmp_path, begun, monkeypatch, capsys
):
    trackers, begin = begun
    lines = make_metrics(3)
    run = make_run(tmp_path, metrics=lines[:7])
    half = "".join(json.dumps(line) + "\n" for line in lines[:9]) + '{"step": 9, "spl'

    def evaluated():
        write_lines(run, lines)
        make = run / "evaluations/test-expected-beam3"
        make.mkdir(parents=True)
        (make / "scores.json").write_text(json.dumps(scores()))

    during(
        monkeypatch,
        lambda: (run / "metrics.jsonl").write_text(half),  # a line is being written
        lambda: write_lines(run, lines[:4]),  # killed, and cut back to its checkpoint
        lambda: write_lines(run, lines[:8]),
        evaluated,
        lambda: (run / "scores.json").write_text(json.dumps(scores())),
    )
    replay([run], begin, follow=True)
    (one,) = trackers.values()
    logged = [(point.of, point.step) for point in one.points if not point.evaluation]
    assert logged == [(line["split"], line["step"]) for line in lines] and one.closed == 1
    assert [point.of for point in one.points if point.evaluation] == ["test-expected-beam3"]
    said = capsys.readouterr()
    assert "nobody trains it" in said.err and said.err.count("\n") == 1
    assert said.out == f"made/soft/seed1: {len(lines)} lines of metrics.jsonl, 1 evaluation, 0 pictures\n"


def test_a_folder_of_runs_is_followed_a_while_longer(tmp_path, begun, monkeypatch):
    trackers, begin = begun
    make_run(tmp_path, "made/soft/seed0", headline=scores(), metrics=make_metrics(1))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    def another() -> None:
        make_run(tmp_path, "made/hard/seed0", headline=scores(), metrics=make_metrics(1))

    events = [lambda: passes(replaying.PATIENCE - 1), another, lambda: passes(replaying.PATIENCE + 1)]
    during(monkeypatch, *events)
    replay([tmp_path / "made"], begin, follow=True)
    assert trackers.keys() == {"made/soft/seed0", "made/hard/seed0"}


def test_a_broken_run_is_reported_and_the_others_are_replayed(tmp_path, begun, capsys):
    trackers, begin = begun
    broken = make_run(tmp_path, "made/soft/seed0", metrics=[{"split": "val", "cider": 1}])
    with pytest.raises(ValueError, match=r"line 1 of .*metrics\.jsonl is damaged: .*step is missing"):
        replay([broken], begin)
    make_run(tmp_path, "made/soft/seed1", headline=scores(), metrics=make_metrics(1))
    make_run(tmp_path, "other/made/soft/seed1", headline=scores())
    trackers.clear()
    replay([tmp_path], begin)
    assert len(trackers["made/soft/seed1"].points) > 1 and all(one.closed == 1 for one in trackers.values())
    said = capsys.readouterr().err
    assert "step is missing" in said and "is the second run called made/soft/seed1" in said


def test_tables_hold_what_was_logged_and_twice_is_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = make_metrics(2)
    make_run(tmp_path / "runs", headline=scores(), evaluations=[scores()], metrics=lines)
    main(["export", "runs", "--to", "csv"])
    before = contents(tmp_path / "exports")
    main(["export", "runs", "--to", "csv"])
    after = contents(tmp_path / "exports")
    assert {path: text for path, (text, _) in before.items()} == {path: text for path, (text, _) in after.items()}
    folder = tmp_path / "exports/csv/made/soft/seed1"
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{n: float(v) for n, v in row.items() if v and n != "split"} for row in rows] == [
        {name: float(value) for name, value in line.items() if name != "split"} for line in lines
    ]
    assert "test-expected-beam3,captions/cider,0.5" in (folder / "scores.csv").read_text().splitlines()
    assert capsys.readouterr().out.count("the tables: exports/csv") == 2


def test_what_cannot_be_exported_is_one_sentence(tmp_path, fails, monkeypatch):
    run = make_run(tmp_path / "runs", headline=scores())
    before = contents(tmp_path)
    sentence = fails("export", run, "--to", "csv", "--out", tmp_path / "runs", alone=True)
    assert "is a run folder, which an export does not write into: choose another --out" in sentence
    assert contents(tmp_path) == before
    assert "is not a folder" in fails("export", tmp_path / "nothing", "--to", "csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("tensorboard", "wandb", "mlflow"):
        assert fails("export", run, "--to", name).endswith(f"needs the package {name}: pip install {name}")
