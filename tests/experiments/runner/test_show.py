"""What is shown of a study: real ones of Optuna's in a file of SQLite's, with trials that were made by hand."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import optuna
import pytest
from attend.analysis.records import read_runs
from attend.analysis.tables.comparison import comparison
from attend.experiments.cli.main import main
from attend.experiments.runner import show as drawing
from attend.experiments.runner.confirm import confirmation, ranked
from attend.experiments.runner.queue import Queue, put_back
from attend.experiments.runner.study import Study, load_study
from attend.experiments.runner.trials import note
from matplotlib.figure import Figure
from optuna.trial import TrialState

from tests.made_runs import make_run, scores

STUDY = """
from attend.config import Config
from attend.config.text import replace
from attend.experiments.runner.study import Study

def space(trial, kind):
    return replace(Config(), {
        "train.learning_rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
        "decoder.dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "attention.width": trial.suggest_categorical("a|width", [64, 128]),
    })

def study(data, tiny):
    return Study(name="mine", kinds=("soft", "hard"), space=space, objectives=OBJECTIVES)
"""
OUT = Path("runs")
GRID = [
    {"rate": 10 ** (-4 + 3 * (7 * i % 12) / 11), "dropout": 0.6 * (5 * i % 12) / 11, "a|width": 64 * (1 + i % 2)}
    for i in range(12)
]
"""Parameters of the trials, which go through each range in an order of their own."""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a study with these objectives, of which nothing is done."""
    monkeypatch.chdir(tmp_path)

    def made(*objectives: str) -> tuple[Study, dict[str, Queue]]:
        Path("mine.py").write_text(STUDY.replace("OBJECTIVES", repr(objectives)))
        study = load_study("mine.py", None, False)
        return study, {kind: study.queue("sqlite:///runs/queue.db", kind) for kind in study.kinds}

    return made


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Only tests of pictures draw them: in all others that would be most of the time."""
    if request.function not in (
        test_the_best_trials_what_mattered_and_all_of_them_in_files,
        test_a_study_is_plotted_from_its_queue_alone,
    ):
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: file.write(b"no picture"))
        monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)


def do(study: Study, queue: Queue, kind: str, values, *, pruned=(), failed=(), grid=GRID) -> None:
    """Trials with these parameters: ``values(params)``, but some are pruned and some fail."""
    for number, params in enumerate(grid):
        queue.study.enqueue_trial(params, user_attrs={"job": str(number)})
        trial = queue.study.ask()
        study.config(trial, kind)
        folder = study.run_folder(OUT, kind, str(number))
        folder.mkdir(parents=True)
        trial.set_user_attr("folder", str(folder))
        if number in failed:
            trial.set_user_attr("error", "no space left")
            queue.study.tell(trial, state=TrialState.FAIL)
        elif number in pruned:
            trial.set_user_attr("pruned", "attention had collapsed for 2 epochs")
            if len(study.objectives) == 1:
                trial.report(0.1, 1)
                trial.report(0.2, 2)
            queue.study.tell(trial, state=TrialState.PRUNED)
        else:
            queue.study.tell(trial, values(params))


def by_rate(params: dict) -> list[float]:
    return [params["rate"]]


def shown(capsys) -> tuple[str, list[Path]]:
    """What `attend study mine.py --show` says, and the files it names."""
    main(["study", "mine.py", "--show"])
    said = capsys.readouterr().out
    return said, [Path(line) for line in said.splitlines() if line.startswith("runs/")]


def table(said: str, kind: str) -> list[list[str]]:
    """The cells of the first table of a kind."""
    (section,) = [part for part in said.split("\n## ") if part.startswith(f"{kind}: ")]
    first = section[section.index("\n|") :].strip().split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in first.splitlines()]


def rows() -> list[dict[str, str]]:
    with open("runs/mine/trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_best_trials_what_mattered_and_all_of_them_in_files(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, pruned=(0, 5), failed=(2,))
    do(study, queues["hard"], "hard", lambda params: [1 - params["dropout"]])
    said, files = shown(capsys)
    assert "## soft: 11 trials spent" in said and "9 completed, 2 pruned; not counted: 1 failed." in said
    assert "## hard: 12 trials spent" in said and "12 completed, 0 pruned." in said and "23 trials spent in all" in said
    header, _, *best = table(said, "soft")
    assert header == ["Rank", "Trial", "cider ↑", "rate", "dropout", r"a\|width"]
    order = sorted(set(range(12)) - {0, 2, 5}, key=lambda i: -GRID[i]["rate"])[:5]
    assert [row[:2] for row in best] == [[str(rank), str(i)] for rank, i in enumerate(order, 1)]
    assert [float(row[3]) for row in best] == pytest.approx([GRID[i]["rate"] for i in order], rel=1e-3)
    assert all(file.exists() for file in files)
    assert sorted({file.stem for file in files}) == [
        "history", "importances-hard", "importances-soft", "slices-hard", "slices-soft", "study", "trials"]  # fmt: skip
    text = Path("runs/mine/study.md").read_text()
    assert said.split("\nruns/")[0].strip() in text and "![slices-hard](slices-hard.png)" in text
    assert len(rows()) == 24
    soft = {int(row["trial"]): row for row in rows() if row["kind"] == "soft"}
    assert (soft[2]["state"], soft[2]["why"], soft[2]["values_cider"]) == ("failed", "no space left", "")
    assert (soft[5]["state"], soft[5]["last_report"], soft[5]["values_cider"]) == ("pruned", "0.2", "")
    assert soft[5]["why"] == "attention had collapsed for 2 epochs" and float(soft[1]["seconds"]) >= 0
    assert float(soft[7]["params_rate"]) == pytest.approx(GRID[7]["rate"]) and soft[7]["gone"] == "False"


@pytest.mark.parametrize(
    ("kind", "matters"), [("soft", "rate"), pytest.param("hard", "dropout", marks=pytest.mark.slow)]
)
def test_the_one_parameter_that_matters_is_found(make, capsys, kind, matters):
    study, queues = make("cider")
    do(study, queues[kind], kind, lambda params: [params[matters]])
    said, files = shown(capsys)
    assert "What mattered, by what the best 5 of 12 completed trials have in common" in said
    (path,) = [file for file in files if file.name == f"importances-{kind}.csv"]
    with open(path, newline="") as file:
        shares = {row["parameter"]: float(row["share"]) for row in csv.DictReader(file)}
    assert sum(shares.values()) == pytest.approx(1) and next(iter(shares)) == matters and shares[matters] > 0.6
    assert f"| {matters} | {shares[matters]:.2f} |" in said


def test_of_too_few_or_equal_trials_it_is_said_that_nothing_can_be_said(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, grid=GRID[:4])
    do(study, queues["hard"], "hard", lambda _: [0.5])
    said, files = shown(capsys)
    assert "What mattered: 4 completed trials are too few to say (5 at least)." in said
    assert "What mattered: the 12 completed trials do not differ enough to say." in said
    assert not [file for file in files if file.name.startswith("importances")]


@pytest.mark.slow
def test_several_objectives_have_a_history_each_and_a_front(make, capsys):
    study, queues = make("cider", "parameters")
    for kind, queue in queues.items():
        do(study, queue, kind, lambda p: [p["rate"] - p["dropout"] / 20, 1e6 * p["dropout"] + p["a|width"]])
    said, files = shown(capsys)
    names = {file.name for file in files}
    assert {"pareto.pdf", "slices-soft-cider.png", "slices-hard-parameters.csv"} <= names
    with open("runs/mine/history.csv", newline="") as file:
        assert {row["panel"] for row in csv.DictReader(file)} == {"CIDEr", "parameters"}
    for kind, queue in queues.items():
        header, _, *best = table(said, kind)
        assert header[2:4] == ["cider ↑", "parameters ↓"]
        assert [row[1] for row in best] == [t.user_attrs["job"] for t in ranked(study, queue)][:5]


def test_one_objective_is_ranked_as_its_winners_are_chosen(make, capsys):
    study, queues = make("nll")
    do(study, queues["soft"], "soft", lambda params: [params["a|width"]])  # many are equal
    said, _ = shown(capsys)
    _, _, *best = table(said, "soft")
    assert [row[1] for row in best] == [trial.user_attrs["job"] for trial in ranked(study, queues["soft"])][:5]
    assert {row[2] for row in best} == {"64"}


def test_the_trials_spent_are_noted_for_every_table(make):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, pruned=(0,), failed=(1,))
    do(study, queues["hard"], "hard", by_rate, grid=GRID[:3])
    for kind, queue in queues.items():
        note(study, kind, queue, OUT)
    confirmation(study, queues, 1, OUT)
    names = ("mine-soft/trial090", "mine-hard/trial090", "mine-confirmed/soft-best1/seed1000")
    runs = [make_run(OUT, name, headline=scores()) for name in names]
    assert comparison(read_runs(runs)).notes == (
        "mine-soft: 11 trials were spent on the study mine.",
        "mine-hard: 3 trials were spent on the study mine.",
        "mine-confirmed: 14 trials were spent on the study mine (soft 11, hard 3).",
    )


def test_a_trial_counts_once_however_often_it_was_tried(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, grid=GRID[:3], failed=(1,))
    put_back(queues["soft"].study, queues["soft"].jobs()["1"].trial)
    trial = queues["soft"].study.ask()
    study.config(trial, "soft")
    queues["soft"].study.tell(trial, [0.7])
    said, _ = shown(capsys)
    assert "## soft: 3 trials spent" in said and "3 completed, 0 pruned." in said
    assert [(row["trial"], row["state"]) for row in rows()] == [(str(i), "complete") for i in range(3)]
    assert table(said, "soft")[2][1:3] == ["1", "0.7"]


def test_a_trial_whose_folder_is_gone_is_shown_and_marked(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, pruned=(0,), failed=(1,))
    order = sorted(range(2, 12), key=lambda i: -GRID[i]["rate"])
    for number in (0, order[1]):
        shutil.rmtree(study.run_folder(OUT, "soft", str(number)))
    said, _ = shown(capsys)
    assert [row[1] for row in table(said, "soft")[2:4]] == [str(order[0]), f"{order[1]} ‡"]
    gone = ", ".join(f"soft {number}" for number in sorted((0, order[1])))
    assert f"‡ The run folder is not there ({gone}): shown is what the storage knows." in said
    assert {int(row["trial"]) for row in rows() if row["gone"] == "True"} == {0, order[1]}


def test_run_folders_that_have_moved_with_out_are_found(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, grid=GRID[:2])
    Path("runs").rename("elsewhere")
    main(["study", "mine.py", "--show", "--out", "elsewhere"])
    assert "‡" not in capsys.readouterr().out
    assert Path("elsewhere/mine/history.png").exists() and not Path("runs").exists()


def test_pruned_trials_alone_are_a_history(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, grid=GRID[:2], pruned=(0, 1))
    said, files = shown(capsys)
    assert "0 completed, 2 pruned." in said and {file.stem for file in files} == {"history", "study", "trials"}


def test_a_study_of_which_nothing_is_done(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, grid=GRID[:1], failed=(0,))
    queues["hard"].fill(["0", "1"])
    with pytest.raises(SystemExit):
        main(["study", "mine.py", "--show"])
    said = capsys.readouterr()
    last = said.err.splitlines()[-1]
    assert last == "attend: the study mine has no trial that is done: run `attend study` on it without --show"
    assert not said.out and not Path("runs/mine").exists()


def test_a_study_that_is_under_way(make, capsys):
    study, queues = make("cider")
    do(study, queues["soft"], "soft", by_rate, grid=GRID[:2])
    queues["soft"].fill(["2", "3"])
    queues["soft"].study.ask()
    said, _ = shown(capsys)
    assert "2 completed, 0 pruned; not counted: 1 running, 1 waiting." in said and "## hard: 0 trials spent" in said
    assert "‡" not in said  # one that has not begun has no folder to lose
    assert [row["state"] for row in rows()] == ["complete", "complete", "running", "waiting"]


def test_a_study_is_found_in_its_queue_alone(make, monkeypatch):
    study, queues = make("cider")
    for kind, queue in queues.items():
        do(study, queue, kind, by_rate)
    drawn = []
    monkeypatch.setattr(
        drawing,
        "draw_study",
        lambda trials, _, __, out, ___: drawn.append(({trial.kind for trial in trials}, out)) or [],
    )
    for folder, kinds in (("runs", {"soft", "hard"}), ("runs/mine-hard", {"hard"})):
        Path(folder).mkdir(exist_ok=True)
        drawing.draw_found(Path(folder), Path("pictures"), ["svg"])
        assert drawn.pop() == (kinds, Path("pictures/mine"))


@pytest.mark.slow
def test_a_study_is_plotted_from_its_queue_alone(make, capsys):
    study, queues = make("cider")
    for kind, queue in queues.items():
        do(study, queue, kind, by_rate, pruned=(3,))
    shown(capsys)
    wanted = {file.name: file.read_bytes() for file in Path("runs/mine").glob("*.p*")}
    Path("mine.py").unlink()
    for folder, kinds, formats in (("runs", ("soft", "hard"), "png,pdf"), ("runs/mine-hard", ("hard",), "svg")):
        main(["plot", "study", folder, "--out", "pictures", "--formats", formats])
        files = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert {file.name for file in files if file.name.startswith("slices")} == {
            f"slices-{kind}.{suffix}" for kind in kinds for suffix in (*formats.split(","), "csv")}  # fmt: skip
        if len(kinds) == 2:
            assert {file.name: file.read_bytes() for file in files if file.suffix != ".csv"} == wanted


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("elsewhere", "has no queue.db and neither has the folder above"),
        ("runs/other", "holds no study of other"),
        ("runs", "holds no study"),
    ],
)
def test_what_is_no_study_to_plot(make, capsys, folder, words):
    _, queues = make("cider")
    assert queues["soft"].study and Path(folder).mkdir(exist_ok=True, parents=True) is None
    if folder == "runs":
        for queue in queues.values():
            optuna.delete_study(study_name=queue.name, storage=queue.study._storage)
    with pytest.raises(SystemExit):
        main(["plot", "study", folder, "--out", "pictures"])
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said and not Path("elsewhere/queue.db").exists()
