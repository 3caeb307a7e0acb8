"""The tables of settings and verbs: every field, as the configuration and the program have it."""

from __future__ import annotations

import re
from functools import reduce

import pytest
from attend.experiments.cli.main import VERBS, main

from attend.config import Config
from attend.config.presets import PRESETS
from attend.config.text import fields, replace
from docs.site.settings import settings_page, verbs_page

ROW = re.compile(r"^\| `([^`]+)`\{#([^}]+)\} \| (.*) \| (.*) \| (.*) \|$", re.MULTILINE)
ROWS = {name: rest for name, _, *rest in ROW.findall(settings_page())}
VERBS_PAGE = verbs_page()


def test_every_setting_has_a_row():
    assert list(ROWS) == fields()


@pytest.mark.parametrize("name", fields())
def test_a_row_has_meaning_range_and_the_default_of_the_configuration(name):
    meaning, limits, default = ROWS[name]
    value = reduce(getattr, name.split("."), Config())
    assert meaning and limits
    assert default == f"`{str(value).lower() if value is None or isinstance(value, bool) else value}`"


@pytest.mark.parametrize(
    ("name", "limits", "just", "beyond"),
    [
        ("estimator.decay", "in [0, 1)", "0", "1"),
        ("encoder.size", "8 to 4096 pixels", "8", "4097"),
        ("encoder.grid", "each 1 to 256", "1,256", "0,1"),
        ("attention.width", "1 or more", "1", "0"),
        ("decoder.gate", "one of none, scalar, vector", "vector", "matrix"),
        ("train.graphs", "true or false", "false", "maybe"),
    ],
)
def test_the_range_is_what_a_configuration_takes(name, limits, just, beyond):
    assert ROWS[name][1] == limits
    replace(Config(), {name: just})
    with pytest.raises(ValueError):
        replace(Config(), {name: beyond})


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_of_a_verb_are_those_of_its_help(verb, capsys):
    try:
        main([verb, *(["soft"] if verb == "train" else []), "--help-all"])
    except SystemExit as stop:
        assert not stop.code
    shown = capsys.readouterr().out.partition("\nencoder:")[0]  # the settings that follow have their own page
    flags = re.findall(r"^  (--[\w-]+)", shown, re.MULTILINE)
    part = re.split(r"^## ", VERBS_PAGE, flags=re.MULTILINE)[1 + list(VERBS).index(verb)]
    assert part.startswith(verb)
    rows = [name for name, anchor, *_ in ROW.findall(part) if anchor.startswith(f"{verb}-")]
    assert [name.split()[0] for name in rows if name.startswith("--")] == flags
    for name in rows:
        assert name in " ".join(shown.split())


def test_the_page_of_verbs_has_each_verb_and_preset():
    assert re.findall(r"^## (.*)$", VERBS_PAGE, re.MULTILINE) == list(VERBS)
    for name in PRESETS:
        assert f"| `{name}` |" in VERBS_PAGE


def test_no_text_of_a_cell_is_markup():
    rows = [line for line in (settings_page() + VERBS_PAGE).splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    for row in rows:
        text = re.sub(r"`[^`]*`", "", row)
        assert "<" not in text and "_" not in re.sub(r"\{#[^}]*\}", "", text)
        assert row.replace("\\|", "").count("|") in (4, 5), row
