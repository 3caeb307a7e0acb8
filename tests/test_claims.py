"""Every number that the README quotes stands in the file that docs/claims.md names for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.\d+(?![\w.]*\d)")
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    for line in (ROOT / "docs/claims.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| page", "| ---"))
]
VERSIONS = {"3.11", "0.05", "0.5"}
"""Numbers of the README that claim nothing: a version, and stated margins."""


def numbers(text: str) -> list[str]:
    return NUMBER.findall(text)


def stands(number: str, there: set[float]) -> bool:
    """Whether a number is one of these, or a hundred times one, as it is rounded; signs aside, as behind by 2.4 is."""
    decimals = len(number.partition(".")[2])
    said = f"{abs(float(number)):.{decimals}f}"
    return any(f"{abs(scale * one):.{decimals}f}" == said for one in there for scale in (1, 100))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1][:40]}")
def test_every_number_of_a_claim_stands_in_its_file(row):
    page, claim, file, command, seeds = row
    text = (ROOT / file).read_text()
    there = {float(one) for one in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?", text)}
    assert (ROOT / page).exists() or page == "README"
    assert command.startswith("`attend ") and seeds and numbers(claim)
    assert [one for one in numbers(claim) if not stands(one, there)] == []


def test_a_number_that_is_nowhere_is_found_out():
    assert not stands("57.9", {0.5778, 57.8}) and stands("57.8", {0.5778}) and stands("2.4", {-2.41})


def test_the_readme_quotes_no_number_that_is_not_listed():
    """Outside of its tables and commands."""
    listed = " ".join(row[1] for row in ROWS if row[0] == "README")
    known = {one.lstrip("+-") for one in numbers(listed)} | VERSIONS
    blocks = re.split(r"\n\n", (ROOT / "README.md").read_text())
    prose = " ".join(block for block in blocks if not block.startswith(("    ", "|")))
    assert {one.lstrip("+-") for one in numbers(prose)} - known == set()
