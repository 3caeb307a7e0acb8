"""The README's commands exist, and its pictures and numbers are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.cli import VERBS, _parse
from experiments.presets import PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^ {4}attend (.+?)(?: +#.*)?$", README, flags=re.MULTILINE)


def test_there_are_commands():
    assert {command.split()[0] for command in COMMANDS} == set(VERBS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one(command):
    verb, *arguments = command.split()
    default = None
    if verb == "train":
        default = PRESETS[arguments.pop(0)].config
    assert _parse(VERBS[verb][0], arguments, f"attend {verb}", default)


def test_both_make_targets_are_there():
    targets = re.findall(r"^ {4}make (\w+)", README, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["quickstart", "test"] and all(f"\n{target}:" in makefile for target in targets)
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_pictures_and_links_exist():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in path:
            assert (ROOT / path).exists(), path
