"""Studies: equal budgets, chance that no worker changes, pruning, and winners on fresh seeds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from attend.experiments.cli.main import main
from attend.experiments.runner import trials
from attend.experiments.runner.confirm import FRESH, confirmation, ranked
from attend.experiments.runner.experiment import catalogue
from attend.experiments.runner.samplers import PRUNERS, SAMPLERS, Keyed
from attend.experiments.runner.storages import address
from attend.experiments.runner.study import OBJECTIVES, STUDIES, Study, load_study, spent
from optuna.trial import TrialState

from attend.config import Config
from attend.config.text import replace as with_fields
from attend.runs.folder import RunFolder

TUNED = """
from dataclasses import replace
from attend.experiments import quickstart
from attend.experiments.runner.study import Study


def space(trial, kind):
    base = quickstart.experiment(None, tiny=True).variants[kind]
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return replace(base, train=replace(base.train, learning_rate=rate))


def study(data, tiny):
    return Study(name="mine", kinds=("soft", "hard"), space=space, trials=2)
"""


def space(trial, kind: str) -> Config:
    found = {"decoder.dropout": trial.suggest_float("dropout", 0.1, 0.6)}
    if kind == "hard":
        found |= {"attention.select": "sample", "estimator.scale": trial.suggest_float("scale", 0.1, 1.0, log=True)}
    return with_fields(Config(), found)


def made(**changes) -> Study:
    return Study(**{"name": "made", "kinds": ("soft", "hard"), "space": space, "trials": 4} | changes)


def finished(study: Study, url: str, kind: str, values: list) -> None:
    """A queue whose trials have these values; None was pruned."""
    queue = study.queue(url, kind)
    queue.fill(map(str, range(len(values))))

    def do(trial):
        study.config(trial, kind)
        value = values[int(trial.user_attrs["job"])]
        if value is None:
            raise optuna.TrialPruned
        return value

    queue.work(do)


def drawn(sampler: Keyed, order: list[int]) -> dict[int, dict]:
    """The parameters of trials 0 to 3, asked for in this order by a sampler that is made anew for each."""
    study = optuna.create_study()
    for _ in range(4):
        study.enqueue_trial({})
    waiting = [optuna.Trial(study, trial._trial_id) for trial in study.get_trials()]
    for number in order:
        study.sampler = Keyed(sampler.name, sampler.seed)
        waiting[number].suggest_float("x", 0, 1), waiting[number].suggest_float("y", 0, 1)
    return {number: waiting[number].params for number in order}


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_chance_is_the_trial_s_own_whoever_asks(name):
    one, other = drawn(Keyed(name, 3), [0, 1, 2, 3]), drawn(Keyed(name, 3), [2, 0, 3, 1])
    assert one == other
    assert len({trial["x"] for trial in one.values()}) == 4 and all(trial["x"] != trial["y"] for trial in one.values())
    assert drawn(Keyed(name, 4), [0, 1, 2, 3]) != one


@pytest.mark.thin
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_sampler_and_pruner_by_name(sampler, pruner, tmp_path):
    study = made(sampler=sampler, pruner=pruner)
    finished(study, address(None, tmp_path), "hard", [0.1, 0.2, None])
    assert spent(study.queue(address(None, tmp_path), "hard").jobs()) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampler": "best"}, "made has the sampler 'best': known are tpe, random, nsga2"),
        ({"pruner": "never"}, "made has the pruner 'never': known are median"),
        ({"objectives": ("beauty",)}, "made has the objective 'beauty': known are cider"),
        ({"kinds": ()}, "made needs one kind and one objective"),
    ],
)
def test_what_a_study_cannot_have(changes, says):
    with pytest.raises(ValueError, match=says):
        made(**changes)


def other_range(trial, kind):
    return with_fields(Config(), {"decoder.dropout": trial.suggest_float("dropout", 0.1, 0.9)})


def other_base(trial, kind):
    return with_fields(space(trial, kind), {"train.epochs": 3})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space": other_range}, r"dropout is 0.1 to 0.9 \(was 0.1 to 0.6\); scale is none \(was 0.1 to 1.0, log"),
        ({"space": other_base}, r"train.epochs 3 \(was 15\)"),
        ({"settings": {"train.epochs": "2"}}, r"train.epochs 2 \(was 15\)"),
        ({"objectives": ("cider", "mass")}, "it seeks cider, this one cider, mass"),
    ],
)
def test_a_study_that_is_there_with_another_space_is_refused(changes, says, tmp_path):
    url = address(None, tmp_path)
    made().queue(url, "hard").jobs()
    made().queue(url, "hard").jobs()
    with pytest.raises(ValueError, match=says):
        made(**changes).queue(url, "hard")


class Told:
    """A trial that remembers what it was told, and says what it is asked."""

    def __init__(self, known=(), hopeless=False):
        frozen = optuna.trial.create_trial(value=0.0, intermediate_values=dict.fromkeys(known, 0.5))
        self.study = type("Of", (), {"get_trials": lambda self, deepcopy: [frozen]})()
        self.number, self.reported, self.attributes, self.hopeless = 0, {}, {}, hopeless

    def report(self, value, step):
        self.reported[step] = value

    def should_prune(self):
        return self.hopeless

    def set_user_attr(self, name, value):
        self.attributes[name] = value


def run_of(folder, epochs):
    """A run folder whose validation said so of each epoch: CIDEr, and whether attention had collapsed."""
    from attend.config.text import to_dict
    from attend.runs.files import write_json

    write_json(folder / "config.json", to_dict(Config()))
    write_json(folder / "environment.json", {})
    lines = [{"epoch": 0.5, "split": "train", "nll": 3.0}]
    lines += [
        {"epoch": n, "split": "val", "cider": cider, "collapsed": bad} for n, (cider, bad) in enumerate(epochs, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_every_epoch_is_reported_once(tmp_path):
    run_of(tmp_path, [(0.1, False), (0.2, False), (0.3, True)])
    trial = Told(known=[1])
    trials.judge(made(), tmp_path, trial)
    assert trial.reported == {2: 0.2, 3: 0.3}


@pytest.mark.parametrize(
    ("epochs", "collapse", "prunes"),
    [
        ([(0.1, True)], 2, False),
        ([(0.1, True), (0.2, True)], 2, True),
        ([(0.1, True), (0.2, False), (0.2, True)], 2, False),
        ([(0.1, True)], 1, True),
        ([(0.1, True)] * 5, 0, False),
    ],
)
def test_a_trial_whose_attention_stays_collapsed_is_pruned(tmp_path, epochs, collapse, prunes):
    run_of(tmp_path, epochs)
    trial = Told()
    if prunes:
        with pytest.raises(optuna.TrialPruned):
            trials.judge(made(collapse=collapse), tmp_path, trial)
        assert "collapsed" in trial.attributes["pruned"]
    else:
        trials.judge(made(collapse=collapse), tmp_path, trial)


def test_a_trial_that_is_behind_is_pruned_where_one_thing_is_sought(tmp_path):
    run_of(tmp_path, [(0.1, False)])
    with pytest.raises(optuna.TrialPruned, match="its cider was behind that of others after epoch 1"):
        trials.judge(made(), tmp_path, Told(hopeless=True))
    several = Told(hopeless=True)
    trials.judge(made(objectives=("cider", "mass")), tmp_path, several)
    assert not several.reported


def test_objectives_read_scores_and_say_what_is_missing():
    scores = {
        "captions": {"cider_frozen": 0.5}, "given": {"nll": 2.0}, "grounding": None, "parameters": 7,
        "missing": {"meteor": "no Java"},
    }  # fmt: skip
    assert [OBJECTIVES[name].read(scores) for name in ("cider", "nll", "parameters")] == [0.5, 2.0, 7.0]
    with pytest.raises(ValueError, match="the run has no mass to judge it by: the data have no boxes"):
        OBJECTIVES["mass"].read(scores)
    with pytest.raises(ValueError, match="no meteor to judge it by: no Java"):
        OBJECTIVES["meteor"].read(scores)


def test_the_best_come_first_and_of_several_objectives_those_that_no_other_beats(tmp_path):
    url = address(None, tmp_path)
    finished(made(), url, "soft", [0.2, 0.4, None, 0.3])
    assert [trial.value for trial in ranked(made(), made().queue(url, "soft"))] == [0.4, 0.3, 0.2]
    likely = made(name="likely", objectives=("nll",))
    finished(likely, url, "soft", [2.0, 1.5, 1.7])
    assert [trial.value for trial in ranked(likely, likely.queue(url, "soft"))] == [1.5, 1.7, 2.0]
    two = made(name="two", objectives=("cider", "parameters"))
    finished(two, url, "soft", [(0.4, 30.0), (0.5, 50.0), (0.3, 40.0), (0.2, 10.0)])
    assert [trial.values for trial in ranked(two, two.queue(url, "soft"))] == [[0.5, 50.0], [0.4, 30.0], [0.2, 10.0]]


def test_winners_are_confirmed_on_seeds_of_their_own(tmp_path):
    study, url = made(), address(None, tmp_path)
    for kind in study.kinds:
        finished(study, url, kind, [0.2, 0.4, None])
    queues = {kind: study.queue(url, kind) for kind in study.kinds}
    found = confirmation(study, queues, 2, tmp_path)
    assert list(found.variants) == ["soft-best1", "soft-best2", "hard-best1", "hard-best2"]
    best = ranked(study, queues["hard"])[0]
    assert found.variants["hard-best1"].estimator.scale == best.params["scale"]
    assert {one.seed for one in found.variants.values()} == {FRESH}
    told = json.loads((tmp_path / "made-confirmed/study.json").read_text())
    assert told == {"study": "made", "trials": 6, "of": {"soft": 3, "hard": 3}}
    with pytest.raises(ValueError, match="has 2 completed trials, and --best is 3"):
        confirmation(study, queues, 3, tmp_path)


def test_the_studies_of_the_project_are_valid_and_differ_in_what_they_say():
    for name in STUDIES:
        for data, tiny in ((None, False), (None, True)):
            study = load_study(name, data, tiny)
            described = {kind: study.described(kind) for kind in study.kinds}
            assert study.name.startswith(name) and len({json.dumps(one) for one in described.values()}) == 2
    assert "soft_or_hard" in catalogue(STUDIES)


def test_a_study_file_with_an_error_gets_one_sentence_with_its_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(TUNED.replace("trials=2", "trails=2"))
    with pytest.raises(SystemExit):
        main(["study", str(tmp_path / "mine.py")])
    said = capsys.readouterr().err
    assert "mine.py, line 14: TypeError" in said and "trails" in said and said.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["study", "nothing"])
    assert "unknown study 'nothing': known are soft_or_hard" in capsys.readouterr().err


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The study of a user's file, of one trial of each kind in runs of seconds; then of two."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "mine.py").write_text(TUNED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        from attend.experiments import quickstart

        quickstart.paint(None, tiny=True)
        for count in ("1", "2"):
            main(["study", "mine.py", "--trials", count, "--workers", "1", "--only", "soft"])
    return folder


def test_a_trial_is_an_ordinary_run_judged_on_validation(studied):
    study = load_study(str(studied / "mine.py"), None, False)
    jobs = study.queue(f"sqlite:///{studied}/runs/queue.db", "soft").jobs()
    assert list(jobs) == ["0", "1"] and all(job.trial.state == TrialState.COMPLETE for job in jobs.values())
    for number, job in jobs.items():
        run = RunFolder(studied / f"runs/mine-soft/trial{int(number):03}")
        scores = run.scores()
        assert scores["split"] == "val" and scores["captions"]["cider_frozen"] == job.trial.value
        assert run.config().train.learning_rate == job.trial.params["learning_rate"]
        assert job.trial.intermediate_values.keys() == {1} and scores["train_seconds"] >= 0
    assert jobs["0"].trial.params != jobs["1"].trial.params
    told = json.loads((studied / "runs/mine-soft/study.json").read_text())
    assert told == {"study": "mine", "kind": "soft", "trials": 2, "sampler": "tpe"}


@pytest.mark.slow
def test_its_winner_is_confirmed_by_the_program(studied, monkeypatch, capsys):
    monkeypatch.chdir(studied)
    for command in (["run", "--from-study"], ["study", "--show"], ["study", "--requeue"]):
        with pytest.raises(SystemExit):
            main([*command, "mine.py"])
        assert "has no study mine-hard: run `attend study` on it first" in capsys.readouterr().err
    main(["run", "--from-study", "mine.py", "--only", "soft", "--seeds", "1", "--workers", "1"])
    said = capsys.readouterr().out
    assert "| soft-best1 (trial" in said and f"seed{FRESH}" in str(list((studied / "runs").rglob("config.json")))
    table = (studied / "runs/mine-confirmed/confirmed.md").read_text()
    assert table in said and "Tuned on" in table


def test_the_plan_of_a_study_is_said_before_it_starts(studied, monkeypatch, capsys):
    monkeypatch.chdir(studied)
    plan = ["study", "mine.py", "--dry-run", "--workers", "1"]
    main([*plan, "--only", "soft"])
    assert capsys.readouterr().out == "nothing is left to run\n"
    main([*plan, "--trials", "3"])
    said = capsys.readouterr().out
    assert said.startswith("4 runs: 4 to do\nabout ") and "8 training steps" in said and "free" in said
    with pytest.raises(SystemExit):
        main([*plan, "--objectives", "cider,beauty"])
    assert "mine has the objective 'beauty': known are cider, bleu4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*plan, "--objectives", "cider,mass", "--only", "soft"])
    assert "with another space: it seeks cider, this one cider, mass" in capsys.readouterr().err
    main([*plan, "--storage", "none.db"])
    assert capsys.readouterr().out.startswith("4 runs: ")
    assert not (studied / "none.db").exists()


@pytest.mark.parametrize("command", [["study", "--show"], ["study", "--requeue"], ["run", "--from-study"]])
@pytest.mark.parametrize("file", ["none.db", "none.journal"])
def test_a_storage_that_is_not_there_is_not_made_by_looking(command, file, studied, monkeypatch, capsys):
    monkeypatch.chdir(studied)
    with pytest.raises(SystemExit):
        main([*command, "mine.py", "--storage", file])
    assert f"{file} has no study mine-soft: run `attend study` on it first" in capsys.readouterr().err
    assert not list(studied.glob("none.*"))


@pytest.mark.slow
def test_a_trial_whose_folder_is_gone_counts_still_and_one_under_way_begins_anew(studied, monkeypatch, capsys):
    monkeypatch.chdir(studied)
    command = ["study", "mine.py", "--only", "soft", "--out", "moved", "--trials", "1", "--workers", "1", "--yes"]
    main(command)
    shutil.rmtree("moved/mine-soft/trial000")
    main(command)
    said = capsys.readouterr()
    assert "The run folder is not there (soft 0)" in said.out and not Path("moved/mine-soft/trial000").exists()
    queue = load_study("mine.py", None, False).queue("sqlite:///moved/queue.db", "soft")
    queue.fill(["1"])
    queue.study.ask().set_user_attr("worker", "1@another-machine")  # begun elsewhere, and its folder is gone
    (job,) = (job for name, job in queue.jobs().items() if name == "1")
    queue.release(job.trial)
    main([*command[:-4], "2", "--workers", "1"])
    assert {name: job.state for name, job in queue.jobs().items()} == {"0": "done", "1": "done"}


def test_a_trial_of_nobody_is_put_back_by_command(studied, monkeypatch, capsys):
    """A journal has no heartbeats: of a machine that is gone nobody else finds out."""
    monkeypatch.chdir(studied)
    study = load_study("mine.py", None, False)
    queue = study.queue("journal:///gone.journal", "soft")
    queue.fill(["0", "1"])
    trial = queue.study.ask()
    study.config(trial, "soft")
    trial.set_user_attr("worker", "1@another-machine")
    command = ["study", "mine.py", "--only", "soft", "--storage", "gone.journal", "--requeue"]
    main(command)
    assert "mine: 1 trials put back" in capsys.readouterr().out
    job = queue.jobs()["0"]
    assert job.state == "waiting" and job.trial.params == trial.params
    main(command)
    assert "mine: 0 trials put back" in capsys.readouterr().out


def test_more_trials_may_be_asked_for_and_only_these_kinds(studied):
    study = replace(load_study(str(studied / "mine.py"), None, False), trials=9)
    assert study.only(["hard"]).kinds == ("hard",)
    with pytest.raises(ValueError, match="mine has no kind 'sotf': it has soft, hard"):
        study.only(["sotf"])
