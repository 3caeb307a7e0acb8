"""Decompose the gap between soft and hard attention: the costs of the bound and of the sampling variance.

soft -> marginal -> enumerated -> sampled: each model differs from the one before only in its training. All have the
same scores, so the differences along the chain add up to that between its ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attend.analysis.records import Record
from attend.analysis.tables.comparison import COLUMNS, DASH, Column

from attend.runs.folder import RunFolder
from attend.runs.scores import read_bounds

SCORES = (
    Column(title="NLL, marginal (nats a token)", part="bounds", name="marginal", scale=1, decimals=3),
    Column(title="NLL, bound J", part="bounds", name="bound", scale=1, decimals=3),
    *(COLUMNS[name] for name in ("bleu4", "meteor", "cider", "mass", "entropy")),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One difference of the chain: its title, and the two variants (``after`` minus ``before``)."""

    title: str
    before: str
    after: str


def scores_of(record: Record, draws: int) -> dict:
    """The headline scores of a run, and as ``bounds`` the bounds of its likelihood, in nats per token."""
    path = RunFolder(record.folder).bound(record.scores["split"], draws) / "scores.json"
    bounds = read_bounds(path)["bounds"] if path.exists() else {}
    return record.scores | {"bounds": {name: one["nats"] for name, one in bounds.items()}}


def split(records: Sequence[Record], steps: Sequence[Step], draws: int) -> list[dict[str, str]]:
    """One row per step: for each score, the mean and the range over seeds of the difference, paired by seed."""
    runs = {(record.variant, record.seed): scores_of(record, draws) for record in records if record.finished}
    rows = []
    for step in steps:
        seeds = sorted(seed for name, seed in runs if name == step.before and (step.after, seed) in runs)
        row = {"Difference": step.title, "Runs": str(len(seeds))}
        for score in SCORES:
            pairs = [[score.read(runs[one, seed]) for one in (step.before, step.after)] for seed in seeds]
            found = [after - before for before, after in pairs if before is not None and after is not None]
            row[score.title] = _cell(found, score.decimals)
        rows.append(row)
    return [row for row in rows if row["Runs"] != "0"]


def _cell(values: Sequence[float], decimals: int) -> str:
    if not values:
        return DASH
    mean = f"{sum(values) / len(values):+.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):+.{decimals}f}, {max(values):+.{decimals}f}]"
