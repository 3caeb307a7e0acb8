"""What the environment says about the processes that were launched together."""

from __future__ import annotations

import pytest
from attend.experiments.cli.main import VERBS
from hypothesis import given
from hypothesis import strategies as st

from attend.runs.launch import NUMBERS, Launch, launched

ALL = (*NUMBERS, "MASTER_ADDR")
TORCHRUN = {
    "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "host",
    "MASTER_PORT": "29500",
}  # fmt: skip


def launch(variables: dict[str, str]) -> Launch:
    with pytest.MonkeyPatch.context() as patch:
        for name in ALL:
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        return launched()


def test_what_launchers_set_is_read():
    assert launch({}) == launch({"WORLD_SIZE": "1"}) == launch({"WORLD_SIZE": ""}) == Launch(0, 1, 1)
    assert launch(TORCHRUN) == Launch(3, 4, 2)
    one = {name: "1" if "SIZE" in name else "0" for name in NUMBERS}
    assert launch(TORCHRUN | one | {"MASTER_PORT": "29500"}) == Launch()
    assert launch({"RANK": "9", "LOCAL_RANK": "-1"}) == Launch()  # one process, whatever its number is elsewhere
    assert launch({name: value for name, value in TORCHRUN.items() if name != "LOCAL_WORLD_SIZE"}) == Launch(3, 4, 1)


BAD = [
    *({name: text} for name in NUMBERS for text in ("two", "1.0", "-2", "0x1", "1 2", "\u0661", "9" * 400)),
    *({"WORLD_SIZE": text} for text in ("0", "-1")),
    {"WORLD_SIZE": "2"},
    *({"WORLD_SIZE": "4", name: ""} for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")),
    {"RANK": "9"},
    {"RANK": "4"},
    {"RANK": "-1"},
    {"LOCAL_RANK": "2"},
    {"LOCAL_RANK": "-1"},
    {"MASTER_PORT": "0"},
]


@pytest.mark.parametrize("changed", BAD, ids=str)
def test_what_makes_no_sense_is_one_sentence(changed):
    variables = changed if changed == {"WORLD_SIZE": "2"} else TORCHRUN | changed
    with pytest.raises(ValueError, match=r"unset it$") as refused:
        launch(variables)
    assert any(name in str(refused.value) for name in changed) and len(str(refused.value)) < 250


@given(st.dictionaries(st.sampled_from(ALL), st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_whatever_stands_there_is_read_or_refused(variables):
    try:
        found = launch(variables)
    except ValueError as refused:
        assert str(refused).endswith("unset it")
    else:
        assert 0 <= found.rank < found.processes


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2"}, {"LOCAL_RANK": "x"}], ids=str)
def test_every_verb_says_it(variables, monkeypatch, fails, tmp_path):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for verb in VERBS:
        said = fails(*([verb, "soft"] if verb == "train" else [verb]), "--out", tmp_path, alone=True)
        assert said.startswith(f"attend: {next(iter(variables))} is ")
