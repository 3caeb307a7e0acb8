"""What each estimator estimates and needs: the tables of docs/estimators.md.

python -m attend.experiments.laboratory.overview
"""

from __future__ import annotations

from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES

TAKES = {
    "sample": "draws",
    "all": "all",
    "best-and-rest": "the likeliest and a draw of the rest",
    "distinct": "draws without replacement",
    "relaxed": "a mixture",
    "straight-through": "draws",
    "gumbel-straight-through": "draws",
}
"""What is taken of alpha at each selection."""


def estimators() -> str:
    """Of every estimator, in Markdown."""
    rows = [("estimator.name", "estimates the gradient of", "without bias", "takes", "samples", "passes", "source")]
    for name, entry in ESTIMATORS.items():
        exact, facts = entry.facts.select == "all", entry.facts
        samples = "all paths" if exact else str(facts.samples)
        bias = "yes" if entry.unbiased else "no"
        taken = TAKES[facts.select] + (" of q" if facts.proposal else "")
        rows.append((name, entry.target, bias, taken, samples, str(entry.passes), entry.source))
    return _table(rows)


def baselines() -> str:
    """Of every baseline of REINFORCE, in Markdown."""
    rows = [("estimator.baseline", "samples, at least", "pass beside it", "source")]
    rows += [(name, str(one.paths), one.rollout or "none", one.source) for name, one in BASELINES.items()]
    return _table(rows)


def _table(rows: list[tuple[str, ...]]) -> str:
    header, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *body)) + "\n"


if __name__ == "__main__":
    print(estimators(), baselines(), sep="\n")
