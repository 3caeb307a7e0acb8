"""The measured results hold what the README says of them: the order of the variants, by more than the seeds differ."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "experiments/results"


def read(name: str) -> dict[str, dict[str, str]]:
    """The rows of the variants as their headline decodes them (the first row of each)."""
    rows: dict[str, dict[str, str]] = {}
    with open(RESULTS / name) as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["Variant"], row)
    return rows


def beats(rows: dict, better: str, worse: str, column: str) -> bool:
    """Whether the lowest seed of one is above the highest seed of the other by more than either's range."""
    (low, high), (bottom, top) = (
        [float(rows[name][f"{column} {end}"]) for end in ("low", "high")] for name in (better, worse)
    )
    return low - top > max(high - low, top - bottom)


@pytest.mark.parametrize("column", ["BLEU-4", "METEOR", "CIDEr", "Grounding mass", "Grounding pointing"])
@pytest.mark.parametrize("variant", ["soft", "hard"])
def test_soft_and_hard_beat_uniform_on_the_built_in_world(variant, column):
    assert beats(read("quickstart.csv"), variant, "uniform", column)


@pytest.mark.parametrize(("better", "worse"), [("oracle", "soft"), ("oracle", "hard"), ("soft", "uniform")])
def test_the_world_is_solvable_with_attention_and_hard_without(better, worse):
    assert beats(read("world.csv"), better, worse, "Top-1 of content words")
