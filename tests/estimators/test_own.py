"""The page on one's own attention and estimator: its file runs as it stands, and its estimator is without bias."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from attend.captioner.traces import negative_log_likelihood
from attend.experiments.cli.main import main

from attend import estimators
from attend.attention.score import SCORES
from attend.config import catalogue as facts
from attend.estimators.baselines import MovingAverage
from attend.training.objective import objective
from tests import bed, halves

PAGE = Path(__file__).parents[2] / "docs/your-own-attention-or-estimator.md"
WORDS = torch.tensor([[[5, 2]]])


@pytest.fixture()
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)[1])
    return file


@pytest.fixture()
def known(mine):
    """The page's names, while a test runs."""
    runpy.run_path(str(mine))
    yield
    del SCORES["cosine"], estimators.ESTIMATORS["best-of-others"], facts.FACTS["best-of-others"]
    facts.SCORES.remove("cosine")


@pytest.mark.parametrize("feed", ["glimpse", "expected"])
@pytest.mark.parametrize("several", [2, 3])
def test_the_pages_estimator_is_without_bias(known, feed, several):
    rule = bed.settings(
        attention={"select": "sample", "feed": feed, "score": "cosine", "width": 5},
        estimator={"name": "best-of-others", "samples": several, "semi": 0.0, "entropy": 0.0},
    )
    model, a = bed.captioner(rule), bed.features(locations=2)
    truth = bed.gradient(model, bed.bound(model, a, WORDS, lambda trace: negative_log_likelihood(trace).sum()))
    estimate = lambda trace: objective(trace, rule, MovingAverage(), words=1).total  # noqa: E731
    found = bed.gradient(model, bed.over_tuples(model, a, WORDS, several, estimate))
    assert bed.distance(found, truth) < 1e-10
    assert bed.distance(found, truth, "attention.score.key") < 1e-10


def test_the_page_trains_and_evaluates(forks, mine, tmp_path):
    def attend(*arguments: object) -> tuple[int, str]:
        """Exit status and output of the program, in a process that knows no plugin but its own."""
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        process = forks.start(main, [*map(str, arguments)], folder=tmp_path, log=log)
        process.join(300)
        return process.exitcode, log.read_text()

    data = halves.write(tmp_path / "data")
    small = []
    for section, fields in halves.SMALL.items():
        for name, value in fields.items():
            small += [f"--{section}.{name}", *(value if isinstance(value, list) else [value])]
    run = tmp_path / "run"
    status, said = attend(
        "--plugin", mine, "train", "hard", *small, "--train.epochs", 1, "--train.monitor", "nll", "--attention.score",
        "cosine", "--estimator.name", "best-of-others", "--data", data, "--out", run,
    )  # fmt: skip
    assert status == 0, said
    status, said = attend("evaluate", run)
    assert status == 2 and "but must be one of" in said and "Traceback" not in said
    assert attend(f"--plugin={mine}", "evaluate", run, "--decode", "sample")[0] == 0


@pytest.mark.parametrize(
    ("text", "said"), [(None, "is no file"), ("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError")]
)
def test_a_file_that_does_not_run_is_said_in_one_sentence(tmp_path, fails, text, said):
    file = tmp_path / "mine.py"
    if text:
        file.write_text(text)
    assert said in fails("--plugin", file, "table", tmp_path)
