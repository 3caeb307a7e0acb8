"""Files of the user: what they declare is checked, and whatever fails in them is one sentence with file and line."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from attend.experiments.cli.main import main
from attend.experiments.runner import declared, plugins
from attend.experiments.runner.experiment import Experiment, load
from attend.experiments.runner.study import Study, load_study
from hypothesis import given
from hypothesis import strategies as st
from optuna.exceptions import UpdateFinishedTrialError

from attend.config import Config
from attend.config.section import MOST_SEEDS, MOST_TRIALS
from attend.config.setting import Setting

HEAD = """import os, sys
from attend.config import Config
from attend.config.setting import Setting
from attend.experiments.runner.experiment import Experiment
from attend.experiments.runner.study import Study


"""
EXPERIMENT = HEAD + "def experiment(data, tiny):\n    return Experiment(**dict(dict({}), **dict({})))\n"
SOUND = "name='mine', variants={'soft': Config()}, seeds={'soft': 1}"


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.py"
    file.write_text(text)
    return file


def experiment(**changes) -> Experiment:
    return Experiment(**{"name": "mine", "variants": {"soft": Config()}, "seeds": {"soft": 1}} | changes)


def study(**changes) -> Study:
    return Study(**{"name": "mine", "kinds": ("soft",), "space": lambda trial, kind: Config()} | changes)


LEADS_OUT = ["../../x", "..", ".", "", " ", "a/b", "a\\b", "a\nb", "\0", "a" * 201, "\ud800", None, 3, b"x"]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda some: st.lists(some, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), some, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("name", LEADS_OUT)
def test_a_name_that_is_no_folder_is_refused_wherever_it_stands(name):
    for wrong in (
        lambda: experiment(name=name),
        lambda: experiment(variants={name: Config()}, seeds={name: 1}),
        lambda: study(name=name),
        lambda: study(kinds=("soft", name)),
    ):
        with pytest.raises(ValueError) as caught:
            wrong()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"variants": [Config()]}, "`variants` of the experiment mine is .* but must be configurations by the names"),
        ({"variants": {"soft": 3}}, "`variants`"),
        ({"variants": {"soft": Config}}, "`variants`"),
        ({"variants": {"soft/wide": Config()}}, "a variant of mine 'soft/wide' contains a slash"),
        ({"seeds": {}}, "`seeds` of the experiment mine lacks the variant 'soft'"),
        ({"seeds": {"soft": 1, "sofft": 1}}, "`seeds` of the experiment mine names 'sofft', which is no variant: it"),
        ({"also": {"sofft": []}}, "`also` of the experiment mine names 'sofft', which is no variant: it has soft"),
        ({"after": {"sofft": "soft"}}, "`after` of the experiment mine names 'sofft', which is no variant: it has"),
        ({"seeds": {"soft": 1.0}}, "a number of seeds, 1 to 1000, for every variant"),
        ({"seeds": {"soft": True}}, "`seeds`"),
        ({"seeds": {"soft": 0}}, "`seeds`"),
        ({"seeds": {"soft": MOST_SEEDS + 1}}, "`seeds`"),
        ({"seeds": 3}, "`seeds`"),
        ({"also": {"soft": Setting()}}, "`also`"),
        ({"also": {"soft": ["sample"]}}, "`also`"),
        ({"also": {"soft": [Setting(beam="3")]}}, "`also`"),
        ({"also": {"soft": [Setting(beam=-1)]}}, "`also`"),
        ({"also": {"soft": [Setting(draws=0)]}}, "`also`"),
        ({"also": {"soft": [Setting(decode="best")]}}, "`also`"),
        ({"after": ["soft"]}, "`after`"),
        ({"after": {"soft": 3}}, "`after`"),
        ({"after": {"soft": "soft"}}, "'soft' begins after 'soft', which begins from it in turn"),
        ({"after": {"soft": "hard"}}, "which is no variant"),
        ({"bound": "many"}, "`bound`"),
        ({"bound": 0}, "`bound`"),
        ({"columns": "bleu4"}, "`columns`"),
        ({"columns": ["blue4"]}, "`columns`"),
        ({"columns": 4}, "`columns`"),
        ({"published": "imagenet"}, "`published`"),
        ({"published": []}, "`published`"),
        ({"prepare": 3}, "`prepare`"),
        ({"conclude": "table"}, "`conclude`"),
    ],
)
def test_an_experiment_that_cannot_be(changes, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        experiment(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kinds": "soft"}, "`kinds`"),
        ({"kinds": 3}, "`kinds`"),
        ({"space": None}, "`space`"),
        ({"objectives": "cider"}, "`objectives`"),
        ({"trials": 0}, "`trials`"),
        ({"trials": MOST_TRIALS + 1}, "`trials`"),
        ({"trials": 2.5}, "`trials`"),
        ({"seed": -1}, "`seed`"),
        ({"collapse": None}, "`collapse`"),
        ({"settings": ["train.epochs=3"]}, "`settings`"),
        ({"sampler": ["tpe"]}, "`sampler`"),
        ({"pruner": None}, "`pruner`"),
        ({"prepare": ()}, "`prepare`"),
    ],
)
def test_a_study_of_wrong_types(changes, says):
    with pytest.raises(ValueError, match=f"{says} of the study mine is"):
        study(**changes)


@given(data=st.data(), value=JUNK)
def test_whatever_stands_in_a_field_is_accepted_or_one_sentence(data, value):
    make, kind = data.draw(st.sampled_from([(experiment, Experiment), (study, Study)]))
    field = data.draw(st.sampled_from(["name", *kind.SHAPES]))
    try:
        make(**{field: value})
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400


FAILS = [
    ("raise KeyError('x')", "KeyError: 'x'"),
    ("{}['bleu4']", "KeyError: 'bleu4'"),
    ("raise ValueError('two\\nlines')", "two lines"),
    ("sys.exit(0)", "it ends the program with sys.exit"),
    ("raise SystemExit", "it ends the program with sys.exit"),
    ("assert False", "AssertionError"),
    ("import optuna; raise optuna.TrialPruned", "TrialPruned"),
    ("raise type('Own', (BaseException,), {'__str__': lambda self: 1 / 0})", "Own"),
    ("f = lambda: f(); f()", "RecursionError"),
    ("raise ValueError('x' * 100000)", "xxx..."),
    ("open('/nothing/here')", "there is no file at /nothing/here"),
    ("import nothing_of_that_name", "ModuleNotFoundError: No module named"),
]


@pytest.mark.parametrize(("line", "says"), FAILS)
@pytest.mark.parametrize("where", ["module", "declare", "prepare", "conclude"])
def test_a_failure_anywhere_in_an_experiment_names_its_line(where, line, says, tmp_path, fails):
    text = f"def broken(*_):\n    {line}\n\n\n" + EXPERIMENT.format(
        "name='mine', variants={}, seeds={}",
        {"prepare": "prepare=broken, conclude=lambda *_: []", "conclude": "conclude=broken"}.get(where, ""),
    )
    text += {"module": "\n\nbroken()\n", "declare": "\n\nexperiment = broken\n"}.get(where, "")
    file = written(tmp_path, "import sys\n" + text)
    said = fails("run", file, "--out", tmp_path / "runs", "--yes")
    assert f"mine.py, line 3: {says}"[:60] in said or (f"{file}, line 3: " in said and says in said), said
    assert len(said) < 600


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def", "line 1: SyntaxError"),
        ("x = '\0'", "mine.py: SyntaxError"),
        ("experiment = 3", "declares no experiment"),
        ("def experiment(data, tiny):\n    pass", "line 1: experiment returns NoneType: return a Experiment"),
        ("def experiment():\n    pass", "line 1: TypeError"),
    ],
)
def test_a_file_that_declares_nothing(text, says, tmp_path, fails):
    said = fails("run", written(tmp_path, text))
    assert says.removeprefix("mine.py: ") in said and "mine.py" in said


def test_an_experiment_does_not_write_out_of_its_folder(tmp_path, fails):
    for change in ("name='../../x'", "variants={'../escaped': Config()}, seeds={'../escaped': 1}"):
        said = fails("run", written(tmp_path, EXPERIMENT.format(SOUND, change)), "--out", tmp_path / "runs")
        assert "mine.py, line 9: " in said and "contains a slash" in said
    assert [*tmp_path.iterdir()] == [tmp_path / "mine.py"]


def test_what_conclude_returns_is_files(tmp_path, fails):
    text = EXPERIMENT.format("name='mine', variants={}, seeds={}", "conclude=lambda records, folder: None")
    assert "line 9: <lambda> returns NoneType: return a list" in fails("run", written(tmp_path, text))


def test_debug_shows_the_line_and_an_interruption_passes(tmp_path, capsys):
    file = written(tmp_path, "def experiment(data, tiny):\n    {}['x']\n")
    with pytest.raises(ValueError) as caught:
        main(["--debug", "run", str(file)])
    assert isinstance(caught.value.__cause__, KeyError)
    written(tmp_path, "def experiment(data, tiny):\n    raise KeyboardInterrupt\n")
    with pytest.raises(SystemExit) as stop:
        main(["run", str(file)])
    assert stop.value.code == 130


STUDY = HEAD + "def space(trial, kind):\n    {}\n\n\ndef study(data, tiny):\n    "
STUDY += "return Study(name='mine', kinds=('soft',), space=space, trials=2)\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("return None", "mine.py, line 8: space returns NoneType: return a Config"),
        ("raise __import__('optuna').TrialPruned('no')", "mine.py, line 9: TrialPruned: no"),
        ("trial.suggest_float('x', 2, 1); return Config()", "mine.py, line 9: "),
        ("trial.suggest_float('x', float('nan'), 1); return Config()", "mine.py, line 9: "),
        ("trial.suggest_float('x', 0, float('inf')); return Config()", "mine.py, line 9: "),
        ("trial.suggest_float('x', 0, 1 + trial.number); return Config()", "samples x from 0.0 to 1.0 in one trial"),
        ("trial.suggest_int('x', 0, 1 + trial.number); return Config()", "give each range a name of its own"),
        ("trial.suggest_categorical('x', range(1, 2 + trial.number)); return Config()", "mine"),
        ("trial.suggest_int('x', 0, 1); trial.suggest_float('x', 0, 1); return Config()", "mine.py, line 9: "),
        ("sys.exit(0)", "mine.py, line 9: it ends the program with sys.exit"),
        ("return kind.nothing", "mine.py, line 9: AttributeError"),
    ],
)
def test_a_study_whose_space_is_none(line, says, tmp_path, fails):
    file = written(tmp_path, STUDY.format(line))
    for command in (["--dry-run"], ["--yes", "--workers", "1"]):
        assert says in fails("study", file, "--out", tmp_path / "runs", *command)


def test_errors_of_the_storage_cross_a_space_unchanged(tmp_path):
    file = written(tmp_path, STUDY.format("trial.suggest_float('x', 0, 1); return Config()"))
    found, trials = load_study(str(file), None, False), optuna.create_study()
    trial = trials.ask()
    trials.tell(trial, 1.0)
    with pytest.raises(UpdateFinishedTrialError):
        found.config(trial, "soft")


PLUGIN = """from torch import nn
from attend import estimators
from attend.attention import score, simplex
from attend.config.catalogue import Facts
from attend.experiments.runner.experiment import Experiment


"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("score.add('mine', lambda **_: None)", "line 8: score.add was given"),
        ("score.add('mine', nn.Module)", "line 8: score.add was given"),
        ("simplex.add('mine', 3)", "line 8: simplex.add was given 3"),
        ("estimators.add('mine', print, Facts())", "line 8: estimators.add was given str, builtin_function_or_method"),
        ("raise LookupError('no score')", "line 8: LookupError: no score"),
        ("import sys; sys.exit(0)", "line 8: it ends the program"),
        ("1 +", "line 8: SyntaxError"),
    ],
)
def test_a_plugin_that_registers_nothing(line, says, tmp_path, fails, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    assert f"mine.py, {says}" in fails("--plugin", written(tmp_path, PLUGIN + line), "table", tmp_path)


def test_what_a_plugin_added_is_blamed_wherever_it_fails(tmp_path, monkeypatch):
    """Its own lines are in the traceback, or it returned what ours cannot use."""
    file = written(tmp_path, "def score(keys):\n    return keys.nothing\n")
    monkeypatch.setenv(plugins.VARIABLE, str(file))
    module = declared.executed(file)
    for call, says in ((lambda: module.score(3), f"{file}, line 2: Attrib"), (lambda: None + 1, "does not fit")):
        try:
            call()
        except Exception as error:
            assert says in str(plugins.blame(error))
    assert plugins.blame(KeyboardInterrupt()) is None and plugins.blame(ValueError("ours")) is None
    monkeypatch.setenv(plugins.VARIABLE, "")
    assert plugins.blame(TypeError("ours")) is None


def test_a_file_with_dataclasses_and_postponed_annotations_is_run(tmp_path):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n"
    text += "@dataclass\nclass A:\n    x: int\n"
    written(tmp_path, text + "\n\n" + EXPERIMENT.format(SOUND, ""))
    assert load(str(tmp_path / "mine.py"), None, False).name == "mine"
