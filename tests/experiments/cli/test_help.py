"""The help: what it shows, that it fits two screens, and that the ranges it states are those that are checked."""

from __future__ import annotations

import re
import subprocess
import sys
import typing

import pytest
from attend.experiments.cli.help import Option, options, page
from attend.experiments.cli.main import VERBS, main
from attend.experiments.cli.train import Train, presets

from attend.config import Config
from attend.config.presets import PRESETS
from attend.config.section import LARGEST, within
from attend.config.text import fields

SCREENS = 2 * 45
"""Lines of two screens, of 100 columns."""


def shown(capsys, *arguments: str) -> list[str]:
    try:
        main([*arguments])
    except SystemExit as stop:
        assert not stop.code
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("arguments", [["train"], *(["train", preset] for preset in PRESETS)])
def test_the_help_of_training_fits_two_screens(capsys, arguments):
    lines = shown(capsys, *arguments, "--help")
    assert len(lines) <= SCREENS and max(map(len, lines)) <= 100
    flags = [line.split()[0] for line in lines if line.startswith("  --")]
    assert len(flags) == 24, "the verb's own four, and twenty settings"
    assert flags[:4] == ["--out", "--name", "--again", "--data"]
    assert shown(capsys, *arguments, "-h") == lines


def test_every_first_setting_has_its_default_and_its_range():
    text = " ".join(page(Train, "attend train hard").split())
    known = {one.name: one for one in options(Train)}
    for name in Train.FIRST:
        one = known[name]
        limits = "; ".join(filter(None, [one.range, one.default and f"default {one.default}"]))
        assert f"{one.flag} " in text and (not limits or f"({limits})" in text), name
        assert one.about and (one.default or name in ("out", "name", "again", "from")), name


def test_everything_shows_every_field_of_a_configuration(capsys):
    lines = shown(capsys, "train", "soft", "--help-all")
    assert max(map(len, lines)) <= 100
    named = {line.split()[0] for line in lines if line.startswith("  --")}
    for name in fields():
        flag = "--from" if name == "start" else f"--{name.replace('_', '-')}"
        off = re.sub(r"([\w-]+)$", r"no-\1", flag)
        assert flag in named or off in named, name


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_short_help_and_a_long_one(capsys, verb):
    short, long = shown(capsys, verb, "--help"), shown(capsys, verb, "--help-all")
    assert short[0].startswith(f"attend {verb} ") and len(short) <= SCREENS and len(long) >= len(short)
    for one in options(VERBS[verb][0]):
        assert one.about, f"{one.name} has no text"
        assert one.flag.split()[0] in " ".join(long), one.name


BOUNDS = (  # the words of a range, and the numbers just outside and just inside
    (r"^above ([\d.]+) and below ([\d.]+)", "()"),
    (r"^above ([\d.]+), at most ([\d.]+)", "(]"),
    (r"^between ([\d.]+) and ([\d.]+)", "()"),
    (r"^in \[([\d.e-]+), ([\d.]+)\)", "[)"),
    (r"^in \[([\d.]+), ([\d.]+)\]", "[]"),
    (r"^([\d.]+) to ([\d.]+)", "[]"),
    (r"^([\d.]+) or more", "["),
    (r"^above ([\d.]+)", "("),
)


def bounds(one: Option) -> tuple[list[float], list[float]]:
    """Values that the words of a range refuse, and values that they take."""
    whole = one.metavar == "N"
    step = 1 if whole else 1e-6
    for pattern, ends in BOUNDS:
        if found := re.match(pattern, one.range):
            low, high, *_ = *map(float, found.groups()), float(LARGEST)
            refused = [low - step if ends[0] == "[" else low]
            taken = [low if ends[0] == "[" else low + step]
            upper = ends[1:] or "]"
            refused.append(high + step if upper == "]" else high)
            taken.append(high if upper == "]" else high - step)
            return tuple([int(v) if whole else v for v in some] for some in (refused, taken))
    raise AssertionError(f"{one.name}: a test cannot read the range {one.range!r}")


NUMBERS = [one for one in options(Train) if one.metavar in ("N", "X")]


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.name)
def test_the_range_that_is_shown_is_the_range_that_is_checked(one):
    """Read from the words of the help, and tried on the check of the configuration."""
    kind = typing.get_type_hints(Config, include_extras=True)
    section, _, name = one.name.rpartition(".")
    kind = typing.get_type_hints(kind[section] if section else Config, include_extras=True)[name]
    refused, taken = bounds(one)
    for value in taken:
        within(value, kind, one.name)
    for value in refused:
        with pytest.raises(ValueError, match=re.escape(one.name)):
            within(value, kind, one.name)


def test_a_range_of_names_is_that_of_the_table():
    from attend.config.catalogue import FACTS, SCORES

    known = {one.name: one.range for one in options(Train)}
    assert known["estimator.name"] == f"one of {', '.join(FACTS)}"
    assert known["attention.score"] == f"one of {', '.join(SCORES)}"


def test_the_presets_are_named_with_what_they_differ_in():
    short, long = presets(everything=False), presets(everything=True)
    assert all(f"\n  {name} " in short for name in PRESETS)
    assert "Differs from soft" in long and "Differs from soft" not in short


def test_no_help_waits_for_torch():
    """Nor for anything else that takes seconds to import."""
    program = (
        "import sys; from attend.experiments.cli.main import VERBS, main\n"
        "for line in ([], ['train', 'hard', '--help-all'], *([verb, '--help'] for verb in VERBS)):\n"
        "    try: main(line)\n"
        "    except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'timm', 'optuna', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
