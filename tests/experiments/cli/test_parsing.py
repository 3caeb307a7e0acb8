"""Common wrong uses of every verb: one sentence that says what, where, and the next step."""

from __future__ import annotations

import re
import shlex

import pytest
from attend.experiments.cli.help import options
from attend.experiments.cli.main import VERBS
from attend.experiments.cli.parsing import parse, unknown
from attend.experiments.cli.train import Train

from attend.config.catalogue import TODAY
from attend.config.presets import PRESETS

NEXT = re.compile(
    r"`attend [^`]+`|did you mean|must be|known are|it has |leave it out|choose another|"
    r"[:;,] (give|name|choose|leave|set|write|check|run|add|make|correct|take|use|start|say)\b"
)
"""A next step: a command, a name, a range, or what to do."""

WRONG = {  # a command, and what its sentence has
    "trian soft": "unknown verb 'trian': did you mean train?",
    "--seed 3": "unknown verb '--seed'",
    "prepare": "SOURCE is missing: folder of a dataset",
    "prepare photos": "--out PATH is missing: folder to write",
    "prepare nowhere --out out": "there is no dataset at nowhere; give the folder",
    "prepare scenes --out out --split 80 20": "--split has too few values: give 3 numbers",
    "prepare scenes --out out --split 80 20 ten": "--split is '80 20 ten', but must be 3 numbers",
    "prepare scenes --out out --minimum-count -1": "--minimum-count is -1, but must be 0 or more",
    "prepare scenes --out out --layout xml": "--layout is 'xml', but must be one of karpathy, flickr8k",
    "train sotf": "unknown preset 'sotf': did you mean soft?",
    "train --train.epochs 3": "a preset comes before --train.epochs: write `attend train hard --train.epochs ...`",
    "train soft": "--out data/scenes`, where SOURCE is a folder of yours, or `scenes` for the built-in world",
    "train soft --epochs 3": "there is no option --epochs, did you mean --train.epochs?",
    "train soft --lr 1e-3": "there is no option --lr, did you mean --train.learning-rate?",
    "train soft --batch_size 8": "there is no option --batch_size, did you mean --train.images?",
    "train soft --train.epoch 3": "there is no option --train.epoch, did you mean --train.epochs?",
    "train soft --train.epochs": "--train.epochs has no value: give a whole number, 1 or more",
    "train soft --train.epochs 1.5": "--train.epochs is '1.5', but must be a whole number, 1 or more",
    "train soft --train.epochs 0": "train.epochs is 0, but must be 1 or more",
    "train soft --train.learning-rate fast": "--train.learning-rate is 'fast', but must be a number, in [1e-30, 10)",
    "train soft --train.learning-rate=fast": "--train.learning-rate is 'fast', but must be a number, in [1e-30, 10)",
    "train soft --encoder.grid 7 x": "--encoder.grid is '7 x', but must be 2 whole numbers, each 1 to 256",
    "train soft --seed -1": "seed is -1, but must be in [0, 2147483648)",
    "train soft more": "no option takes 'more': leave it out",
    "train soft --decoder.no-readout-word yes": "no option takes 'yes': leave it out",
    "train soft --attention.select hard": "--attention.select is 'hard', but must be one of expected, top-k, sample",
    "train hard --estimator.name rloo": "which is estimator.name 'reinforce' with estimator.baseline 'leave-one-out'",
    "train hard --estimator.baseline grop": "did you mean group?",
    "train hard --estimator.baseline grpo --estimator.samples 1": "estimator.samples is 1, but estimator.baseline",
    "evaluate": "RUN is missing: run folder",
    "evaluate nowhere": "nowhere is no run folder (it has no config.json): name one below runs/",
    "evaluate run --beam wide": "--beam is 'wide', but must be a whole number, 0 to 1000",
    "evaluate run --beam 2000": "--beam is 2000, but must be 0 to 1000",
    "evaluate run --split tests": "--split is 'tests', but must be one of train, val, test; did you mean test?",
    "evaluate run --bound 0": "--bound is 0, but must be 1 to 1000 paths of each caption",
    "evaluate run --bound 3 --beam 2": "--beam has no effect with --bound",
    "caption": "RUN is missing: run folder, or a captioner that comes with attend",
    "caption flickr8k-hard": "no image is named: give image files",
    "caption nowhere photo.jpg": "there is no run nowhere: name a run folder",
    "caption flickr8k-hard photo.jpg": "photo.jpg does not exist: check the name of the image",
    "run": "name an experiment, or a study with --from-study: `attend run list` shows the experiments",
    "run quickstrat": "unknown experiment 'quickstrat': known are quickstart",
    "run quickstart --seeds 0": "--seeds is 0, but must be 1 to 1000",
    "run quickstart --set train.epochs": "--set 'train.epochs' is no setting: write it as train.epochs=3",
    "run quickstart --set train.epoch=3": "unknown field 'train.epoch'; did you mean train.epochs?",
    "run quickstart --only softly --tiny": "has no variant 'softly': it has soft, hard",
    "study": "NAME is missing: name of a study",
    "study soft_or_hart": "unknown study 'soft_or_hart': known are soft_or_hard",
    "study soft_or_hard --trials 0": "--trials is 0, but must be 1 to 10000",
    "estimators --draws 1": "--draws is 1, but must be 2 to 100000",
    "estimators --only reinforced": "unknown estimator 'reinforced': known are reinforce",
    "estimators --only rloo": "rloo is estimator.baseline 'leave-one-out' of reinforce: give reinforce",
    "estimators --images 3": "--images has no effect without --run: leave it out, or name a run",
    "estimators --run nowhere": "nowhere is no run folder",
    "bench --sizes huge": "unknown sizes 'huge': known are",
    "bench --rounds many": "--rounds is 'many', but must be a whole number, 1 or more",
    "table": "no run is named: give run folders",
    "table nowhere": "nowhere is not a folder; name a run, or a folder with runs",
    "table nowhere --format word": "--format is 'word', but must be one of text, markdown, latex, html, csv",
    "plot": "KIND is missing: kind of picture",
    "plot curvs runs": "KIND is 'curvs', but must be one of curves",
    "plot curves": "no run is named: give run folders",
    "plot curves nowhere": "nowhere is not a folder; name a run",
    "report": "no run is named: give run folders",
    "report nowhere": "nowhere is not a folder; name a run, or a folder with runs",
    "report nowhere --images 0": "--images is 0, but must be 1 or more",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_answered_with_the_next_step(fails, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    said = fails(*shlex.split(line), alone=True)
    assert WRONG[line] in said, said
    assert NEXT.search(said), f"no next step in: {said}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "the corrected command would be refused"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_an_option_that_it_has_not_and_one_without_a_value(fails, verb):
    before = [verb, "hard"] if verb == "train" else [verb]
    said = fails(*before, "--nonsense", "3", alone=True)
    assert "is missing: " in said or said.endswith(
        "there is no option --nonsense; see `attend " + " ".join(before) + " --help`"
    )
    first = next(one for one in options(VERBS[verb][0]) if not one.positional and one.metavar)
    flag = first.flag.split()[0]
    said = fails(*before, flag, alone=True)
    assert f"{flag} has no value: give " in said or f"{flag} has too few values: give " in said, said


@pytest.mark.parametrize("field", TODAY)
def test_names_of_today_s_papers_are_taken_on_the_command_line(field):
    """In any case, after a space or an equals sign, and after both spellings of a flag."""
    section, _, leaf = field.partition(".")
    more = ["--train.reward", "cider"] if section == "train" else []
    for number, (today, name) in enumerate(TODAY[field].items()):
        flag = f"--{field.replace('_', '-') if number % 2 else field}"
        line = [flag, today.upper()] if number % 3 else [f"{flag}={today}"]
        found = parse(Train, [*line, *more], "attend train hard", PRESETS["hard"].config)
        assert getattr(getattr(found, section), leaf) == name


def test_an_unknown_name_is_answered_with_the_close_one_or_with_all():
    assert unknown("verb", "tabel", ["table", "plot"]) == "unknown verb 'tabel': did you mean table?"
    assert unknown("verb", "x", ["table", "plot"]) == "unknown verb 'x': known are table, plot"
