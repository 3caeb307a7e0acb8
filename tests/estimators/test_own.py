"""The page on one's own attention and estimator: its files run as they stand, and its estimators are unbiased."""

from __future__ import annotations

import itertools
import re
import runpy
from pathlib import Path

import pytest
import torch
from attend.experiments.cli.main import main
from attend.experiments.runner.plugins import VARIABLE
from safetensors.torch import load_file
from torch import Tensor

from attend.attention.score import SCORES
from attend.config import catalogue
from attend.estimators import ESTIMATORS
from attend.estimators.noise import Noise
from attend.estimators.take import Given
from attend.training.loop import Trainer
from tests import bed, halves
from tests.made_runs import scores

PAGE = Path(__file__).parents[2] / "docs/your-own-attention-or-estimator.md"
WORDS, LENGTHS = torch.tensor([[[5, 2]]]), torch.tensor([[2]])


@pytest.fixture()
def files(tmp_path):
    """The files of the page, by their names."""
    texts = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    paths = {name: tmp_path / f"{name}.py" for name in ("mine", "locations")}
    for path, text in zip(paths.values(), texts, strict=True):
        path.write_text(text)
    return paths


@pytest.fixture()
def tables(monkeypatch):
    """The tables of names are after the test as they were before it."""
    monkeypatch.setenv(VARIABLE, "")
    tables = SCORES, ESTIMATORS, catalogue.FACTS
    before, scores = [dict(table) for table in tables], list(catalogue.SCORES)
    yield
    for table, known in zip(tables, before, strict=True):
        table.clear()
        table.update(known)
    catalogue.SCORES[:] = scores


@pytest.mark.parametrize("several", [2, 3])
@bed.either_feed
def test_the_estimator_without_a_network_is_unbiased(tables, files, feed, several):
    runpy.run_path(str(files["mine"]))
    rule = bed.settings(
        attention={"select": "sample", "feed": feed, "score": "cosine", "width": 5},
        estimator={"name": "best-of-others", "samples": several, "semi": 0.0, "entropy": 0.0},
    )
    model, learner, a = bed.captioner(rule), bed.learner(rule), bed.features(locations=2)
    truth = bed.gradient(model, bed.bound(model, a, WORDS))
    estimate = lambda u: bed.loss(model, u, learner, words=1).total  # noqa: E731
    found = bed.gradient(model, bed.over_tuples(model, a, WORDS, several, estimate))
    assert bed.distance(found, truth) < 1e-10
    assert bed.distance(found, truth, "attention.score.key") < 1e-10


def intervals(weights: Tensor) -> list[tuple[float, float]]:
    """The intervals of u in which no sample's glimpse changes, for the weights (K, L) of a word: width and middle."""
    several = len(weights)
    edges = [(float(edge) - k / several) % 1 for k in range(several) for edge in weights.detach()[k].cumsum(-1)]
    edges = sorted({0.0, 1.0, *edges})
    return [(b - a, (a + b) / 2) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("several", [1, 2, 3])
@bed.either_feed
def test_the_estimator_with_a_network_is_unbiased_whatever_the_network_predicts(tables, files, feed, several):
    """By an exact integral over the numbers that draw the glimpses, as its rule takes and couples them."""
    runpy.run_path(str(files["locations"]))
    rule = bed.hard(feed, name="cost-of-locations", samples=several)
    model, learner, a = bed.captioner(rule), bed.learner(rule), bed.features(locations=2)
    given = Given(a, WORDS, LENGTHS)

    def taken(*numbers: float):
        """The pass that these numbers draw, and its noise."""
        drawn = torch.tensor([*numbers, 0.5][:2], dtype=torch.float64).expand(1, several, 2)
        noise = Noise(glimpse=drawn)
        return learner.take(model, given, noise), noise

    total, charged = 0.0, False
    weights = taken()[0].weights[0, :, 0].expand(several, -1)
    for first, one in intervals(weights):
        for second, two in intervals(taken(one)[0].weights[0, :, 1].expand(several, -1)):
            u, noise = taken(one, two)
            charged = charged or several == 1 or len(set(u.glimpses[0, :, 0].tolist())) > 1
            total = total + first * second * bed.loss(model, u, learner, words=1, noise=noise).total
    assert charged, "samples of a caption differ"
    found, truth = bed.gradient(model, total), bed.gradient(model, bed.bound(model, a, WORDS))
    for name in truth:
        assert bed.distance(found, truth, name) < 1e-10, name
    learned = torch.autograd.grad(total, list(learner.parameters()))
    assert all(slope.any() for slope in learned), "the network learns"


def training(data: Path, *more: object) -> list[str]:
    """The arguments of a small run of hard attention."""
    small = []
    for section, fields in halves.SMALL.items():
        for name, value in fields.items():
            small += [f"--{section}.{name}", *(value if isinstance(value, list) else [value])]
    return [str(one) for one in ("train", "hard", *small, "--train.monitor", "nll", "--data", data, *more)]


@pytest.mark.slow
def test_the_page_trains_and_evaluates(forks, files, tmp_path):
    def attend(*arguments: object) -> tuple[int, str]:
        """Exit status and output of the program, in a process that knows no plugin but its own."""
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        process = forks.start(main, [*map(str, arguments)], folder=tmp_path, log=log)
        process.join(300)
        return process.exitcode, log.read_text()

    run, mine = tmp_path / "run", files["mine"]
    arguments = ["--attention.score", "cosine", "--estimator.name", "best-of-others", "--out", run]
    data = halves.write(tmp_path / "data")
    status, said = attend("--plugin", mine, *training(data, "--train.epochs", 1, *arguments))
    assert status == 0, said
    status, said = attend("evaluate", run)
    assert status == 2 and "but must be one of" in said and "Traceback" not in said
    assert attend(f"--plugin={mine}", "evaluate", run, "--decode", "sample")[0] == 0


def test_the_page_s_network_is_trained_and_resumed(tables, files, tmp_path, monkeypatch, capsys):
    """Stopped in its second epoch and resumed by the program, a run ends as one that was never stopped."""
    monkeypatch.setattr("attend.training.loop.evaluate", lambda *_, **__: scores())
    monkeypatch.setattr("attend.experiments.cli.train.summary", str)
    data, step = halves.write(tmp_path / "data"), Trainer.step
    plugin = ["--plugin", str(files["locations"])]

    def arguments(name: str) -> list[str]:
        more = ("--estimator.name", "cost-of-locations", "--train.epochs", 2, "--out", tmp_path / name)
        return plugin + training(data, *more)

    def stop(trainer, batch):
        if trainer.progress.step == 10:
            raise KeyboardInterrupt
        return step(trainer, batch)

    main(arguments("whole"))
    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(Trainer, "step", stop)
        main(arguments("broken"))
    del ESTIMATORS["cost-of-locations"], catalogue.FACTS["cost-of-locations"]  # --plugin adds them again
    main(arguments("broken"))
    assert "resumed at epoch 2, step 10" in capsys.readouterr().err
    whole, broken = (load_file(tmp_path / name / "checkpoint/last.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys() and {f"learner.learned.{part}.weight" for part in ("key", "query")} < set(
        whole
    )
    assert all(torch.equal(tensor, broken[name]) for name, tensor in whole.items())
    assert '"prediction"' in (tmp_path / "broken/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("text", "message"), [(None, "is no file"), ("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError")]
)
def test_a_file_that_does_not_run_is_reported_in_one_sentence(tmp_path, fails, text, message):
    file = tmp_path / "mine.py"
    if text:
        file.write_text(text)
    assert message in fails("--plugin", file, "table", tmp_path)
