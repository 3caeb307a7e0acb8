"""The tables of docs/estimators.md: the target and the needs of each estimator and baseline.

python -m attend.experiments.laboratory.overview
"""

from attend.analysis.tables.text import markdown

from attend.config.catalogue import FACTS, TODAY
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
"""How glimpses are chosen from alpha, for each selection rule."""


def estimators() -> str:
    """The table of estimators in Markdown."""
    rows = [("estimator.name", "estimates the gradient of", "without bias", "takes", "samples", "passes", "source")]
    for name, facts in FACTS.items():
        samples = "all paths" if facts.select == "all" else str(facts.samples)
        bias = "yes" if facts.unbiased else "no"
        takes = TAKES[facts.select] + (" of q" if facts.proposal else "")
        rows.append((name, facts.target, bias, takes, samples, str(facts.passes), facts.source))
    return markdown(rows, left=range(len(rows[0])))


def baselines() -> str:
    """The table of REINFORCE's baselines in Markdown."""
    rows = [("estimator.baseline", "known today as", "without bias", "samples, at least", "pass beside it", "source")]
    for name, one in BASELINES.items():
        policy = "none" if one.rollout is None else type(one.rollout).__name__.lower()
        known = ", ".join(today for today, name_here in TODAY["estimator.baseline"].items() if name_here == name)
        rows.append((name, known, "yes" if one.unbiased else "no", str(one.paths), policy, one.source))
    return markdown(rows, left=range(len(rows[0])))


if __name__ == "__main__":
    print(estimators(), baselines(), sep="\n")
