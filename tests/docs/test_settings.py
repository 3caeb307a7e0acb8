"""The tables of settings and verbs: every field, as the configuration and the program have it."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from functools import reduce

import pytest
from attend.experiments.cli.main import VERBS, main

from attend.config import Config
from attend.config.presets import PRESETS
from attend.config.text import fields, replace
from docs.site.settings import options, settings, settings_page, verbs_page

ROWS = {one.name: one for _, rows in settings(Config) for one in rows}
PAGE = settings_page()


def test_every_setting_has_a_row():
    assert list(ROWS) == fields()
    for name in fields():
        assert f"| `{name}`{{#{name}}} |" in PAGE


@pytest.mark.parametrize("name", fields())
def test_a_row_has_meaning_values_and_the_default_of_the_configuration(name):
    row, default = ROWS[name], reduce(getattr, name.split("."), Config())
    assert row.meaning and row.values
    if default is None:
        assert row.default == "none" and row.values.endswith("or none")
    else:
        assert row.default == f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(
    ("name", "values", "just", "beyond"),
    [
        ("estimator.decay", "number, in [0, 1)", "0", "1"),
        ("encoder.size", "whole number, 8 to 4096 pixels; or none", "8", "4097"),
        ("encoder.grid", "2 of: whole number, 1 to 256; or none", "1,256", "0,1"),
        ("attention.width", "whole number, 1 or more", "1", "0"),
        ("decoder.gate", "`none`, `scalar`, `vector`", "vector", "matrix"),
        ("train.graphs", "true or false", "false", "maybe"),
    ],
)
def test_the_values_are_those_that_a_configuration_takes(name, values, just, beyond):
    assert ROWS[name].values == values
    replace(Config(), {name: just})
    with pytest.raises(ValueError):
        replace(Config(), {name: beyond})


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_of_a_verb_are_those_of_its_help(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    kind, _ = VERBS[verb]
    with pytest.raises(SystemExit):
        main([verb, *(["soft"] if verb == "train" else []), "--help"])
    shown = capsys.readouterr().out
    flags = set(re.findall(r"^[│ ]*(?:-\w[^-\n]*, )?(--[a-z][\w-]*)(?![\w.-])", shown, re.MULTILINE))
    rows = options(kind)
    assert {one.name for one in rows if not one.positional} == flags - {"--help"}
    for one in rows:
        choices = "{" + re.sub(r"[` ]", "", one.values) + "}"  # how the help names a positional option that has choices
        assert one.meaning and (one.name in shown or choices in shown)
        assert all(alias in shown for alias in one.aliases)


def test_the_page_of_verbs_has_each_verb_and_preset_and_no_setting_twice():
    page = verbs_page()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(VERBS)
    for name in PRESETS:
        assert f"| `{name}` |" in page
    assert "encoder.name`{" not in page and is_dataclass(Config)


def test_no_text_of_a_cell_is_markup():
    rows = [line for line in (PAGE + verbs_page()).splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    for row in rows:
        text = re.sub(r"`[^`]*`", "", row)
        assert "<" not in text and "_" not in re.sub(r"\{#[^}]*\}", "", text)
        assert row.replace("\\|", "").count("|") in (4, 5), row
