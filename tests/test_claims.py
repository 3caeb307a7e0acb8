"""Every number of the README and the pages of results stands in the file that docs/claims.md names for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<![\w.])(?:[-+]?\d+\.\d+(?![\w.]*\d)|\d+(?=\s+percent))")
"""Decimals, and whole percentages."""
CLAIMS, WHOLE = (
    [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in part.splitlines()
        if line.startswith("| ") and not line.startswith(("| page", "| all decimals", "| ---"))
    ]
    for part in (ROOT / "docs/claims.md").read_text().split("## Whole pages")
)
VERSIONS = {"3.11", "0.05", "0.5"}
"""Numbers that claim nothing: a version, and stated margins."""
PAGES = ("README", "docs/built-in-world.md", "docs/photographs.md")
"""The pages of which every number is listed."""
COMMANDS = ("    ", "```")
"""What a block of commands begins with."""


def file_of(page: str) -> Path:
    return ROOT / ("README.md" if page == "README" else page)


def numbers(text: str) -> list[str]:
    return NUMBER.findall(text)


def of_file(file: str) -> set[float]:
    return {float(one) for one in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?", (ROOT / file).read_text())}


def stands(number: str, there: set[float]) -> bool:
    """Whether a number is one of these, or a hundred times one, as it is rounded; signs aside, as behind by 2.4 is."""
    decimals = len(number.partition(".")[2])
    said = f"{abs(float(number)):.{decimals}f}"
    return any(f"{abs(scale * one):.{decimals}f}" == said for one in there for scale in (1, 100))


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: f"{row[0]}: {row[1][:40]}")
def test_every_number_of_a_claim_stands_in_its_file(row):
    pages, claim, file, command, seeds = row
    there = of_file(file)
    assert all(file_of(page).exists() for page in pages.split(", "))
    assert command.startswith("`attend ") and seeds and numbers(claim)
    assert [one for one in numbers(claim) if not stands(one, there)] == []


def test_a_number_that_is_nowhere_is_found_out():
    assert not stands("57.9", {0.5778, 57.8}) and stands("57.8", {0.5778}) and stands("2.4", {-2.41})


@pytest.mark.parametrize("page", PAGES)
def test_a_page_quotes_no_number_that_is_not_listed(page):
    """Outside of its tables and commands; a whole percentage may be a listed number without its decimals."""
    listed = " ".join(row[1] for row in CLAIMS if page in row[0].split(", "))
    known = {one.lstrip("+-") for one in numbers(listed)} | VERSIONS
    known |= {f"{float(one):.0f}" for one in known - VERSIONS}
    blocks = re.split(r"\n\n", file_of(page).read_text())
    prose = " ".join(block for block in blocks if not block.startswith((*COMMANDS, "|")))
    assert {one.lstrip("+-") for one in numbers(prose)} - known == set()


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row[0])
def test_every_decimal_of_a_whole_page_stands_in_its_files(row):
    page, files, but = row
    there = set().union(*map(of_file, files.split(", ")))
    blocks = re.split(r"\n\n", file_of(page).read_text())
    found = {one for block in blocks if not block.startswith(COMMANDS) for one in numbers(block) if "." in one}
    assert found and {one for one in found if not stands(one, there)} == set(numbers(but))
