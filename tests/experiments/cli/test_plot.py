"""`attend plot`: each kind from run folders made by hand, and what it says where runs lack what it needs."""

from __future__ import annotations

import csv
import json
import shutil
import typing
from pathlib import Path

import pytest
from attend.analysis.figures.estimators import Measured, read_rows, write_rows
from attend.experiments.cli.common import beside
from attend.experiments.cli.main import main
from attend.experiments.cli.plot import Kind
from attend.experiments.cli.plotting import KINDS
from attend.experiments.runner.experiment import Experiment
from attend.experiments.runner.runner import present

from tests.made_runs import make_metrics, make_run, scores

IMAGES = "image,rouge_l,cider,meteor\n" + "".join(f"{i}.jpg,0.{i},{(i * 7) % 5}.0,0.{9 - i}\n" for i in range(10))


@pytest.fixture
def runs(tmp_path):
    """Soft and hard with two seeds each, scored on ten images."""
    for variant, shift in (("soft", 0.02), ("hard", 0.0)):
        for seed in range(2):
            one = scores(rouge_l=0.45 + shift, cider=2.0, missing={"meteor": "no Java"}) | {"images": 10}
            run = make_run(tmp_path, f"made/{variant}/seed{seed}", headline=one, evaluations=[one],
                           metrics=make_metrics(offset=seed / 10))  # fmt: skip
            rows = IMAGES if variant == "hard" else IMAGES.replace(",0.", f",0.0{shift * 100:.0f}", 1)
            (run / "evaluations/test-expected-beam3/images.csv").write_text(rows)
    return tmp_path / "made"


@pytest.fixture
def plot(tmp_path, capsys):
    """Runs `attend plot` and gives the files it names and what it said aside."""

    def ran(*arguments) -> tuple[list[Path], str]:
        main(["plot", *map(str, arguments), "--out", str(tmp_path / "out"), "--formats", "svg"])
        said = capsys.readouterr()
        return [Path(line) for line in said.out.splitlines()], said.err

    return ran


@pytest.fixture
def fails(capsys):
    def failed(*arguments) -> str:
        with pytest.raises(SystemExit):
            main(["plot", *map(str, arguments)])
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("attend: ") and "Traceback" not in "".join(said)
        return said[-1]

    return failed


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_is_in_the_table():
    assert typing.get_args(Kind) == tuple(KINDS)


@pytest.mark.parametrize("kind", ["curves", "health", "scores", "differences", "metrics"])
def test_each_has_its_numbers_beside_it(runs, plot, kind):
    files, _ = plot(kind, runs, *(("--scores", "rouge_l,cider") if kind in ("scores", "differences") else ()))
    names = {file.name for file in files}
    stems = {"curves": {"curves", "health"}}.get(kind, {kind})
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("svg", "csv")}
    assert all(file.stat().st_size > 100 for file in files)


def test_pictures_and_a_report_lie_beside_the_runs(runs, tmp_path, capsys, monkeypatch):
    """In the deepest folder that the runs share; never in the folder where the command was given."""
    monkeypatch.chdir(tmp_path)
    main(["plot", "health", "made/soft", "made/hard/seed1", "--formats", "png"])
    assert "made/pictures/health.png" in capsys.readouterr().out.splitlines()
    main(["plot", "health", str(runs / "hard"), "--formats", "png"])
    assert (runs / "hard/pictures/health.png").exists()
    main(["report", "made", "--no-pictures"])
    assert "made/report.html" in capsys.readouterr().out and (runs / "report.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    monkeypatch.chdir(runs)
    assert beside([Path("soft"), Path("hard/seed0")]) == Path() and beside([Path("soft/seed0")]) == Path("soft/seed0")
    assert beside([Path("../elsewhere"), runs]) == tmp_path and beside([Path("/a"), Path("/b")]) == Path()


def test_scores_are_those_of_the_table(runs, plot):
    files, said = plot("scores", runs, "--scores", "cider,meteor")
    found = rows(files[-1])
    assert [(row["variant"], row["score"], row["value"], row["n"]) for row in found] == [
        ("hard", "CIDEr", "2", "2"), ("soft", "CIDEr", "2", "2")]  # fmt: skip
    assert "bootstrap over 2 seeds and 10 images" in found[0]["method"]
    assert "METEOR missing" in said and "Bold" not in said


def test_differences_are_to_the_base(runs, plot, fails):
    files, _ = plot("differences", runs, "--base", "hard", "--scores", "rouge_l")
    (row,) = rows(files[-1])
    assert row["variant"] == "soft" and float(row["value"]) == pytest.approx(2.0)
    assert "no variant 'sfot'" in fails("differences", runs, "--base", "sfot")


def test_a_broken_an_unfinished_and_a_half_copied_run_are_said_and_the_rest_is_drawn(runs, plot):
    (runs / "soft/seed0/scores.json").write_text('{"split": "te')
    (runs / "soft/seed1/scores.json").unlink()
    (runs / "hard/seed1/evaluations/test-expected-beam3/images.csv").unlink()
    shutil.copytree(runs / "hard/seed0", runs / "hard/seed2")
    (runs / "hard/seed2/config.json").unlink()
    files, said = plot("metrics", runs)
    assert "hard/seed2 has no config.json" in said and len(said.splitlines()) == 4
    assert all(line.startswith("left out: ") for line in said.splitlines())
    assert "seed0/scores.json" in said and "soft/seed1 is unfinished" in said and "images.csv is missing" in said
    assert {row["variant"] for row in rows(files[-1])} == {"hard"} and {row["runs"] for row in rows(files[-1])} == {"1"}


def test_curves_of_runs_of_which_some_logged_nothing(runs, plot, fails):
    (runs / "soft/seed0/metrics.jsonl").unlink()
    (runs / "hard/seed0/metrics.jsonl").write_text('{"split": "train", "epoch": "one", "nll": 2.0}\n')
    files, said = plot("curves", runs)
    assert "soft/seed0 has no metrics.jsonl, or an empty one" in said
    assert "hard/seed0/metrics.jsonl is damaged" in said and "epoch is 'one', but must be" in said
    assert {row["series"] for row in rows(files[1])} == {"soft/made/seed1", "hard/made/seed1"}
    for run in runs.glob("*/*"):
        (run / "metrics.jsonl").unlink(missing_ok=True)
    assert "nothing to draw" in fails("curves", runs) and "nothing to draw" in fails("health", runs)


def test_runs_of_other_data_are_said_and_left_out(runs, plot):
    for variant, print_ in (("soft", "a"), ("hard", "b")):
        for seed in range(2):
            for path in (runs / variant / f"seed{seed}").rglob("scores.json"):
                path.write_text(json.dumps(json.loads(path.read_text()) | {"data_fingerprint": print_}))
    files, said = plot("scores", runs, "--scores", "cider")
    assert "left out: 2 runs whose data differ from most of these" in said and len(rows(files[-1])) == 1


def other_data(run: Path) -> None:
    """Make it a run of other data than the rest, as it wrote down itself."""
    for path in run.rglob("*.json"):
        if path.name in ("scores.json", "environment.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"data_fingerprint": "other"}))


@pytest.mark.parametrize("kind", ["curves", "health", "metrics"])
def test_runs_of_other_data_are_drawn_by_no_kind(runs, plot, kind):
    other_data(runs / "hard/seed1")
    _, said = plot(kind, runs)
    assert f"left out: 1 runs whose data differ from most of these, for example {runs / 'hard/seed1'}" in said


@pytest.mark.parametrize("kind", ["curves", "saccades", "cause"])
def test_a_split_is_refused_where_it_would_not_be_read(runs, fails, kind):
    assert f"--split has no effect on {kind}" in fails(kind, runs, "--split", "val")


def test_a_layout_without_metrics_is_said_and_the_rest_is_drawn(runs, plot):
    (runs / "hard/seed0/evaluations/test-expected-beam3/images.csv").write_text(
        "image\n" + "".join(f"{i}.jpg\n" for i in range(10))
    )
    files, said = plot("metrics", runs)
    assert files and "images.csv has none of the metrics (its layout is older): evaluate the run again" in said


def test_a_folder_without_a_run_is_said_and_the_others_are_drawn(runs, plot, tmp_path):
    (tmp_path / "half/seed1").mkdir(parents=True)
    shutil.copy(runs / "soft/seed0/config.json", tmp_path / "half/seed1")
    files, said = plot("curves", runs, tmp_path / "half")
    assert files and f"{tmp_path / 'half'} has no run" in said


def test_beams_of_some_runs(runs, plot, fails):
    assert "no run was evaluated with two widths" in fails("beam", runs)
    folder = runs / "soft/seed0/evaluations/test-expected-beam1"
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps(scores(beam=1, bleu4=0.1)))
    files, said = plot("beam", runs, "--scores", "bleu4")
    assert said.count("was not evaluated with two widths of the beam") == 3
    assert [(row["series"], row["x"], row["y"]) for row in rows(files[-1])] == [
        ("soft/expected/seed0", "1.0", "10.0"), ("soft/expected/seed0", "3.0", "20.0")]  # fmt: skip


def test_what_cannot_be_asked_for(runs, fails, tmp_path):
    assert "unknown format 'gif'" in fails("curves", runs, "--formats", "png,gif")
    assert "unknown scores blue4: known are bleu1" in fails("scores", runs, "--scores", "blue4")
    assert "no run was scored on 'val'" in fails("scores", runs, "--split", "val")
    assert "is not a folder" in fails("metrics", tmp_path / "none")
    assert "has no run" in fails("beam", make_folder(tmp_path / "empty"))
    for run in runs.glob("*/*"):
        (run / "scores.json").unlink()
    assert "none of these runs is finished" in fails("scores", runs)


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


ESTIMATOR = {"feed": "glimpse", "checkpoint": "best", "group": "attention", "target": "bound", "against": "bound"}


def test_estimators_are_drawn_from_their_csv(tmp_path, plot, fails):
    measured = [
        Measured(**ESTIMATOR, estimator=name, draws=20, bias=bias, chance=0.1, variance=0.5)
        for name, bias in (("reinforce, none", 0.12), ("straight-through", 0.9))
    ]
    text = write_rows([*measured, Measured(**ESTIMATOR, estimator="rebar", note="needs a relaxed pass")])
    assert write_rows(read_rows(text, "here")) == text
    make_folder(tmp_path / "lab")
    (tmp_path / "lab/estimators.csv").write_text(text)
    files, said = plot("estimators", tmp_path / "lab", tmp_path)
    assert {file.name for file in files} == {"feed-glimpse.svg", "feed-glimpse.csv"}
    assert f"{tmp_path} has no estimators.csv" in said
    assert {row["series"] for row in rows(files[-1])} == {
        "reinforce, none/best/attention", "straight-through/best/attention"}  # fmt: skip
    for broken in (text.replace("0.12", "much"), text.replace("feed,", "food,"), text[:-25]):
        (tmp_path / "lab/estimators.csv").write_text(broken)
        assert "nothing to draw" in fails("estimators", tmp_path / "lab")


def test_an_experiment_whose_runs_were_too_short_to_log_is_presented(tmp_path, capsys):
    """train.log_every exceeded the steps of a run, so that training left no line."""
    one = scores()
    run = make_run(tmp_path, "short/soft/seed0", headline=one, evaluations=[one],
                   metrics=[line for line in make_metrics() if line["split"] == "val"])  # fmt: skip
    (run / "config.json").write_text(json.dumps({"attention": {"weights": "uniform"}}))
    from attend.config import Config

    experiment = Experiment(name="short", variants={"soft": Config()}, seeds={"soft": 1})
    files = present(experiment, tmp_path, pictures=0)
    assert tmp_path / "short/pictures/curves.png" in files
    assert "left out: no run logged NLL (nats per token), training" in capsys.readouterr().err
