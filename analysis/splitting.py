"""What the bound costs hard attention and what its samples' variance costs: differences along a chain of models.

soft -> marginal -> enumerated -> sampled: each differs from the one before in one thing, how it was trained, and all
are compared by the same numbers, so the differences along the chain add up to that of its ends.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.records import Record
from analysis.tables import DASH
from attend.runs import RunFolder, read_json


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number of a run: its heading, where it is found, and how it is printed."""

    title: str
    part: str
    name: str
    scale: float = 1.0
    decimals: int = 3


SCORES = (
    Score(title="NLL, marginal (nats a token)", part="bounds", name="marginal"),
    Score(title="NLL, bound J", part="bounds", name="bound"),
    Score(title="BLEU-4", part="captions", name="bleu4", scale=100, decimals=1),
    Score(title="METEOR", part="captions", name="meteor", scale=100, decimals=1),
    Score(title="CIDEr", part="captions", name="cider"),
    Score(title="Grounding mass", part="grounding", name="mass", scale=100, decimals=1),
    Score(title="Entropy (nats)", part="health", name="entropy", decimals=2),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One link of the chain: what is said of it, and the variants it is the difference of (second less first)."""

    title: str
    before: str
    after: str


def read(record: Record, score: Score, draws: int) -> float | None:
    """A score of a run; None where it is missing."""
    if score.part == "bounds":
        path = RunFolder(record.folder).bound(record.scores["split"], draws) / "scores.json"
        part = read_json(path)["bounds"] if path.exists() else {}
        value = part.get(score.name, {}).get("nats")
    else:
        value = (record.scores.get(score.part) or {}).get(score.name)
    return None if value is None else value * score.scale


def split(records: Sequence[Record], steps: Sequence[Step], draws: int) -> list[dict[str, str]]:
    """One row a step: the mean over seeds, and the range, of the difference of each score, seed by seed."""
    runs = {(record.variant, record.seed): record for record in records if record.finished}
    rows = []
    for step in steps:
        seeds = sorted(seed for name, seed in runs if name == step.before and (step.after, seed) in runs)
        row = {"Difference": step.title, "Runs": str(len(seeds))}
        for score in SCORES:
            pairs = [[read(runs[one, seed], score, draws) for one in (step.before, step.after)] for seed in seeds]
            found = [after - before for before, after in pairs if before is not None and after is not None]
            row[score.title] = _cell(found, score.decimals)
        rows.append(row)
    return [row for row in rows if row["Runs"] != "0"]


def _cell(values: Sequence[float], decimals: int) -> str:
    if not values:
        return DASH
    mean = f"{sum(values) / len(values):+.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):+.{decimals}f}, {max(values):+.{decimals}f}]"


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    titles = list(rows[0])
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def comma_separated(rows: Sequence[dict[str, str]]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
