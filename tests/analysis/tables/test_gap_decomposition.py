"""Differences along a chain of models: against numbers worked by hand, and on runs of the tiny experiment."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from attend.analysis.records import Record
from attend.analysis.tables.gap_decomposition import SCORES, Step, split
from attend.analysis.tables.text import markdown, rows_of
from attend.experiments.bound_or_variance import HARD, STEPS, experiment

from attend.config import Config
from attend.runs.files import comma_separated, write_json
from attend.runs.folder import RunFolder

NLL, CIDER = SCORES[0].title, "CIDEr"


def record(folder: Path, variant: str, seed: int, cider: float | None, marginal: float | None) -> Record:
    """A finished run with these two scores, or without."""
    path = folder / variant / f"seed{seed}"
    if marginal is not None:
        write_json(RunFolder(path).bound("test", 5) / "scores.json", {"bounds": {"marginal": {"nats": marginal}}})
    return Record(
        folder=path, experiment="x", variant=variant, seed=seed, config=Config(), evaluations=(),
        scores={"split": "test", "captions": {} if cider is None else {"cider": cider}, "grounding": None},
    )  # fmt: skip


def test_differences_are_taken_seed_by_seed(tmp_path):
    records = [
        record(tmp_path, "a", 0, 0.5, 3.0), record(tmp_path, "a", 1, 0.7, 3.2),
        record(tmp_path, "b", 0, 0.6, 2.5), record(tmp_path, "b", 1, 0.6, 3.1), record(tmp_path, "b", 2, 9.9, 9.9),
    ]  # fmt: skip
    (row,) = split(records, [Step(title="a to b", before="a", after="b"), Step(title="-", before="a", after="c")], 5)
    assert row["Runs"] == "2" and row["Difference"] == "a to b"
    assert row[CIDER] == "+0.000 [-0.100, +0.100]" and row[NLL] == "-0.300 [-0.500, -0.100]"
    assert row["BLEU-4"] == "–"


def test_what_is_missing_is_shown_as_missing(tmp_path):
    records = [record(tmp_path, "a", 0, None, 3.0), record(tmp_path, "b", 0, 0.6, None)]
    rows = split(records, [Step(title="a to b", before="a", after="b")], 5)
    assert rows[0][CIDER] == rows[0][NLL] == "–"
    assert markdown(rows_of(rows)).splitlines()[2].startswith("| a to b | 1 | – |")
    assert next(csv.DictReader(io.StringIO(comma_separated(rows_of(rows)))))["Difference"] == "a to b"
    unfinished = [replace(one, scores=None) for one in records]
    assert not split(unfinished, [Step(title="a to b", before="a", after="b")], 5)


def test_the_chain_of_the_experiment_adds_up(tmp_path):
    """Every step names variants there are, and the three parts sum to the whole."""
    planned = experiment(None, tiny=False)
    assert {name for step in STEPS for name in (step.before, step.after)} == set(planned.variants)
    records = [record(tmp_path, name, 0, None, float(i**2)) for i, name in enumerate(planned.variants)]
    rows = {step.title: float(row[NLL]) for step, row in zip(STEPS, split(records, STEPS, 5), strict=True)}
    sampled = [name for name in HARD if name.startswith("sampled")]
    assert len(sampled) == 7
    for name in sampled:
        parts = [v for title, v in rows.items() if "soft to marginal" in title or "marginal to enumerated" in title]
        assert sum(parts) + rows[f"variance (enumerated to {name})"] == pytest.approx(
            rows[f"all of it (soft to {name})"]
        )


def test_all_its_models_share_everything_but_how_they_learn():
    planned = experiment(None, tiny=False)
    soft = planned.variants["soft"]
    for name, rule in HARD.items():
        one = planned.variants[name]
        assert one.attention.feed == "expected" and one.estimator == rule
        attention = replace(one.attention, select="expected", feed="glimpse")
        assert replace(one, attention=attention, estimator=soft.estimator) == soft
        assert (rule.mixed, rule.entropy, rule.scale) == (0.0, 0.0, 1.0)
