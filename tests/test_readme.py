"""The README's commands exist, and its pictures and numbers are there."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from attend.experiments.cli.main import VERBS
from attend.experiments.cli.parsing import parse

from attend.config.presets import PRESETS

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
    assert parse(VERBS[verb][0], arguments, f"attend {verb}", default)


def test_both_make_targets_are_there():
    targets = re.findall(r"^ {4}make (\w+)", README, flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["quickstart", "test"] and all(f"\n{target}:" in makefile for target in targets)
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_pictures_and_links_exist():
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in path:
            assert (ROOT / path).exists(), path


COLUMNS = {
    "attention in the word's box": "Grounding mass",
    "points into it": "Grounding pointing",
    "beyond the best control": "Mass beyond the best control",
    "epochs": "Epochs",
    "content words known": "Top-1 of content words",
}
"""Headings of the README -> those of the results, where they differ."""
TABLE = r"\((?:experiments/results/)?([\w-]+\.csv)\)(?:(?!\.csv\)).)*?\n\n((?:\|[^\n]*\n)+)"
"""A link to results, and the first table after it."""
RESULTS = ROOT / "experiments/results"
TABLES = re.findall(TABLE, README + (RESULTS / "arrangements.md").read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(("results", "table"), TABLES)
def test_every_number_of_a_table_is_in_its_results(results, table):
    """Mean, lowest and highest, as they are rounded in the README."""
    with open(RESULTS / results) as file:
        rows = {(row["Variant"], row["Decode"]): row for row in csv.DictReader(file)}
    header, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    checked = 0
    for variant, decode, *cells in lines:
        truth = rows[variant, decode.split()[0] if decode else ""]
        for title, cell in zip(header[2:], cells, strict=True):
            name = COLUMNS.get(title, title)
            said = re.findall(r"-?\d+(?:\.\d+)?", cell)
            for part, number in zip(("", " low", " high"), said, strict=False):
                decimals = len(number.partition(".")[2])
                assert f"{float(truth[name + part]):.{decimals}f}" == number, (variant, decode, title)
                checked += 1
    assert checked > 10


def test_the_tables_were_found():
    found = [results for results, _ in TABLES]
    assert found == ["quickstart.csv", "world.csv", "photographs.csv", "arrangements.csv"]
