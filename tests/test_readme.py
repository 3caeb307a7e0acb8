"""The README is short, and its program runs. The commands, pictures and tables of the README and its pages are true."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from attend.analysis.tables.published import PUBLISHED
from attend.experiments.cli.main import VERBS
from attend.experiments.cli.parsing import parse
from PIL import Image

from attend.config.presets import PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    page: (ROOT / page).read_text()
    for page in ("docs/command-line.md", "docs/experiments.md", "docs/built-in-world.md", "docs/photographs.md")
}
"""What the README leaves to pages of their own."""
COMMAND = re.compile(r"^ {4}attend (.+?)(?: +#.*)?$", flags=re.MULTILINE)
COMMANDS = COMMAND.findall("\n".join(PAGES.values()))
(PROGRAM,) = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)


def test_the_readme_has_at_most_120_lines():
    assert len(README.splitlines()) <= 120


def test_the_program_has_eight_lines():
    assert len([line for line in PROGRAM.splitlines() if line]) == 8


@pytest.mark.slow
def test_the_program_runs_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("dog.jpg", "street.jpg")):
        noise = np.random.default_rng(number).integers(256, size=(48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(name)
    exec(compile(PROGRAM, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert re.match(r"[a-z]+ \d+\n", said) and "CIDEr" in said
    assert (tmp_path / "maps.png").stat().st_size > 10_000


def test_the_page_of_commands_has_every_verb():
    assert {command.split()[0] for command in COMMAND.findall(PAGES["docs/command-line.md"])} == set(VERBS)


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
    """Those of other pages are tested in tests/docs/test_site.py."""
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


COLUMNS = {
    "attention in the word's box": "Grounding mass",
    "points into it": "Grounding pointing",
    "beyond the best control": "Mass beyond the best control",
    "epochs": "Epochs",
    "content words known": "Top-1 of content words",
}
"""Headings of our tables -> those of the results, where they differ."""
TABLE = r"\((?:(?:\.\./)?experiments/results/)?([\w-]+\.csv)\)(?:(?!\.csv\)).)*?\n\n((?:\|[^\n]*\n)+)"
"""A link to results, and the first table after it."""
RESULTS = ROOT / "experiments/results"
TEXTS = [README, *PAGES.values(), (RESULTS / "arrangements.md").read_text()]
TABLES = [table for text in TEXTS for table in re.findall(TABLE, text, flags=re.DOTALL)]


@pytest.mark.parametrize(("results", "table"), TABLES)
def test_every_number_of_a_table_is_in_its_results(results, table):
    """Mean, lowest and highest, as they are rounded in the table."""
    with open(RESULTS / results) as file:
        rows = {(row["Variant"], row["Decode"]): row for row in csv.DictReader(file)}
    header, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    checked = 0
    for variant, decode, *cells in lines:
        if decode.startswith("published"):
            assert [cell for cell in cells if cell] == published(variant)
            continue
        truth = rows[variant, decode.split()[0] if decode else ""]
        for title, cell in zip(header[2:], cells, strict=True):
            name = COLUMNS.get(title, title)
            said = re.findall(r"-?\d+(?:\.\d+)?", cell)
            for part, number in zip(("", " low", " high"), said, strict=False):
                decimals = len(number.partition(".")[2])
                assert f"{float(truth[name + part]):.{decimals}f}" == number, (variant, decode, title)
                checked += 1
    assert checked > 10


def published(model: str) -> list[str]:
    """BLEU-4 and METEOR of a published model of Flickr8k, as they are printed."""
    (scores,) = [one.scores for one in PUBLISHED["flickr8k"] if one.name == model]
    return [f"{100 * scores[name]:.1f}" for name in ("bleu4_free", "meteor")]


def test_the_tables_were_found():
    found = [results for results, _ in TABLES]
    assert found == ["quickstart.csv", "quickstart.csv", "world.csv", "photographs.csv", "arrangements.csv"]
