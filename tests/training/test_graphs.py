"""Steps that are captured and replayed: the same training as eager steps, in every mode, and nothing of the host read.

On a CPU a recorded step is the same function called again on the same buffers, so all but the capture itself is here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attend.config.text import from_dict
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES
from attend.estimators.noise import Noise
from attend.kernels.capture import CudaGraphs
from attend.training import graphs, loop, optimiser
from attend.training.graphs import Graphs
from attend.training.reward import Likelihood
from attend.training.update import Update
from tests import bed, halves
from tests.recorded import Recorded

SHAPES = [
    [[[4, 5, 6, 3, 2], [6, 2], []], [[5, 4, 2], [6, 3, 2], [2]]],  # 5 words: a bucket of 8
    [[[4, 2], [6, 5, 4, 4, 3, 2], [3, 2]], [[5, 4, 2], [2], []]],  # 6 words: the same
    [[[4, 5, 2], [6, 2]]],  # a last minibatch of one image, a bucket of 4
    [[[3, 2], [6, 5, 2], [3, 2]], [[5, 4, 4, 3, 3, 5, 2], [2], [4, 2]]],
]
EVERY_PATH = [("enumeration", "glimpse"), ("marginal", "glimpse")]
"""They are refused (below)."""
each_rule = pytest.mark.parametrize(
    ("name", "feed"),
    [
        (name, feed)
        for name, rule in ESTIMATORS.items()
        for feed in bed.FEEDS
        if rule.static and (name, feed) not in EVERY_PATH
    ],
)
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def host(device: str = "cpu"):
    return SimpleNamespace(device=torch.device(device), num_processes=1, reduce=lambda value, how: value)


class Plain(torch.nn.Module):
    """A model that reads features as they are."""

    tuned = False

    def __init__(self, captioner) -> None:
        super().__init__()
        self.captioner = captioner
        self.features, self.autocast = lambda inputs: inputs, lambda: torch.autocast("cpu", enabled=False)


def update_of(settings, device: str = "cpu") -> Update:
    model = Plain(bed.captioner(settings).to(device))
    capturable = device == "cuda"
    return Update(settings, model, Likelihood(), bed.learner(settings).to(device), host(device), capturable=capturable)


def settings_of(feed: str | None, train: dict | None = None, **estimator):
    fewer = {"samples": 3} if estimator.get("name") in ("sum-and-sample", "unordered-set") else {}
    select = {"select": "sample", "feed": feed} if feed else {}
    return bed.settings(
        attention=select,
        estimator={"entropy": 0.3, "semi": None} | fewer | estimator if feed else {},
        objective={"doubly_stochastic": 0.7, "supervised": 0.4},
        decoder={"dropout": 0.3, "dropout_words": 0.2},
        train={"learning_rate": 2**-10} | (train or {}),
    )


def minibatches(settings):
    """Minibatches of several shapes, twice, with the noise of each."""
    for step, rows in enumerate(SHAPES + SHAPES):
        words, lengths = bed.captions(rows)
        shares = bed.uniform(*words.shape, bed.LOCATIONS, seed=1)
        noise = bed.double(Noise.draw(settings, tuple(words.shape), 0, step, bed.LOCATIONS))
        yield bed.batch(bed.features(len(words), seed=step), words, lengths, shares), noise


def trained(update: Update, take) -> list[dict[str, Tensor]]:
    """What each step tells, and all that is learned after the last."""
    told = []
    for batch, noise in minibatches(update.config):
        one = take(batch, noise, health_due=True)
        told.append(
            {"loss": one.loss.clone(), "health": one.health.clone(), "gradient": one.attention_gradient.clone()}
        )
        told[-1] |= {name: term.clone() for name, term in one.terms.items()}
        told[-1] |= {} if one.top5 is None else {"top5": one.top5.clone()}
    learned = [*update.model.captioner.parameters(), *update.learner.parameters()]
    known = [value for value in update.average.values() if value is not None]
    average = {str(place): value for place, value in enumerate(torch.tensor(known))}
    return [*told, {str(n): p.detach().clone() for n, p in enumerate(learned)}, average]


def agree(settings) -> Recorded:
    eager, captured, capture = update_of(settings), update_of(settings), Recorded()
    truth, ours = trained(eager, eager), trained(captured, Graphs(captured, capture))
    for one, other in zip(truth, ours, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            close = {"rtol": 1e-5, "atol": 1e-5} if name == "health" else TOLERANCE
            torch.testing.assert_close(other[name].double(), one[name].double(), **close, msg=name)
    return capture


@pytest.mark.thin
@each_rule
def test_every_estimator_learns_the_same(name, feed):
    agree(settings_of(feed, name=name))


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_learns_the_same(baseline):
    agree(settings_of("glimpse", baseline=baseline, samples=2))


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "sgd"])
def test_soft_attention_learns_the_same_and_each_shape_is_captured_once(optimiser):
    capture = agree(settings_of(None, {"optimiser": optimiser}))
    assert (capture.warmed, capture.recorded, capture.replayed) == (2, 2, 6)


class OfTheHost(TorchDispatchMode):
    """Refuses to move a tensor from the host to the device, which a replay would not repeat."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        moves = function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        target = options.get("device") or arguments[0].device if moves else None
        source = arguments[1] if function.overloadpacket is torch.ops.aten.copy_ else arguments[0] if moves else None
        if moves and source.device.type == "cpu" and torch.device(target).type == "meta":
            raise RuntimeError(f"{function} reads the host")
        return function(*arguments, **options)


class Refusing(Recorded):
    """Records on the ``meta`` device, and refuses what a graph could not hold."""

    def warm(self, step):
        with OfTheHost():
            return step()


def on_meta(settings) -> None:
    update = update_of(settings, "meta")
    groups = update.optimiser.param_groups  # fused kernels have no meta form
    update.optimiser = SimpleNamespace(param_groups=groups, step=lambda: None, zero_grad=update.optimiser.zero_grad)
    take = Graphs(update, Refusing())
    for batch, noise in [*minibatches(settings)][:: len(SHAPES)]:  # of one shape: the first is captured
        take(batch, noise, health_due=True)
    assert take.capture.recorded == 1


@pytest.mark.thin
@each_rule
def test_a_captured_step_reads_nothing_of_the_host(name, feed):
    on_meta(settings_of(feed, name=name))


@pytest.mark.parametrize(
    "baseline",
    [pytest.param(one, marks=() if one in ("learned", "soft") else pytest.mark.slow) for one in BASELINES],
)
def test_nor_with_any_baseline(baseline):
    on_meta(settings_of("glimpse", baseline=baseline, samples=2))


def test_nor_with_soft_attention():
    on_meta(settings_of(None))


def test_what_reads_the_host_is_seen():
    with OfTheHost(), pytest.raises(RuntimeError, match="reads the host"):
        torch.zeros(3, device="meta") + torch.arange(3).to("meta")
    with OfTheHost(), pytest.raises(RuntimeError, match="reads the host"):
        torch.zeros(3, device="meta").copy_(torch.arange(3.0))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("few") / "data", (12, 2, 2), boxes=True)


@pytest.mark.parametrize("select", ["expected", "sample"])
def test_a_run_whose_steps_are_captured_is_the_eager_one_and_goes_on_where_it_was_stopped(
    few, tmp_path, monkeypatch, select
):
    """On a CPU, with recorded steps in place of graphs; the learning rate is lowered after the first epoch."""
    attention = {"select": select, "width": 16}
    of_train = halves.SMALL["train"] | {"epochs": 3, "monitor": "nll", "lower_after": 1, "learning_rate": 2**-8}
    wanted = from_dict(halves.SMALL | {"data": str(few), "attention": attention, "train": of_train})
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: {})
    monkeypatch.setattr(
        loop.Trainer, "validate", lambda trainer: (-float(trainer.progress.epoch), 1.0)
    )  # worse and worse
    loop.train(wanted, tmp_path / "eager")
    captures = []
    monkeypatch.setattr(graphs, "wanted", lambda *_: True)
    monkeypatch.setattr(loop, "CudaGraphs", lambda: captures.append(Recorded()) or captures[-1])
    monkeypatch.setattr(optimiser, "COUNT_STEPS", ())  # a CPU has no optimiser that counts on the device
    loop.train(wanted, tmp_path / "captured")
    step = loop.Trainer.step

    def stop(trainer, batch):
        if trainer.progress.step == 4:
            raise KeyboardInterrupt
        return step(trainer, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Trainer, "step", stop)
        loop.train(wanted, tmp_path / "stopped")
    loop.train(wanted, tmp_path / "stopped")
    assert all(one.replayed for one in captures)
    lasts = [tmp_path / name / "checkpoint/last.safetensors" for name in ("eager", "captured", "stopped")]
    eager, captured, stopped = map(load_file, lasts)
    assert eager.keys() == captured.keys() == stopped.keys()
    for name in eager:
        assert np.array_equal(stopped[name], captured[name]), name
        np.testing.assert_allclose(captured[name], eager[name], rtol=1e-3, atol=1e-5, err_msg=name)
    rates = [[line["learning_rate"] for line in lines(one) if "learning_rate" in line] for one in lasts]
    assert rates[0] == rates[1] and rates[0][-1] < rates[0][0]


def lines(checkpoint: Path) -> list[dict]:
    return [json.loads(line) for line in (checkpoint.parents[1] / "metrics.jsonl").read_text().splitlines()]


def test_what_cannot_be_captured_is_said_once(capsys):
    """On a machine with CUDA; elsewhere nothing is said."""
    said = {
        "cider": "train.reward scores captions on the host",
        "variational": "estimator.name 'variational' reads the lengths of captions",
        "enumeration": "estimator.name 'enumeration' takes every path",
        "xu2015-code": "estimator.name 'xu2015-code' reads the lengths of captions",
    }
    for name, reason in said.items():
        train = {"reward": "cider"} if name == "cider" else {}
        settings = bed.settings(
            attention={"select": "sample"}, estimator={"semi": None} if train else {"name": name}, train=train
        )
        model, learner = Plain(bed.captioner(settings)), bed.learner(settings)
        assert not graphs.wanted(settings, model, learner, host())
        assert not graphs.wanted(settings, model, learner, host("cuda"))
        assert capsys.readouterr().err == f"steps are not captured in CUDA graphs: {reason}\n"
    settings = settings_of("glimpse")
    model, learner = Plain(bed.captioner(settings)), bed.learner(settings)
    assert graphs.wanted(settings, model, learner, host("cuda")) and not capsys.readouterr().err
    off = replace(settings, train=replace(settings.train, graphs=False))
    assert not graphs.wanted(off, model, learner, host("cuda")) and not capsys.readouterr().err


class Broken(Recorded):
    """Refuses the update in the middle of a step, as a driver does: what came before it must leave no trace."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.update = update

    def record(self, step):
        def refused():
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        with mock.patch.object(self.update.optimiser, "step", refused):
            return step()


def test_a_step_that_a_driver_refuses_to_capture_runs_eagerly_and_this_is_said_once(capsys):
    settings = settings_of("glimpse")
    eager, captured = update_of(settings), update_of(settings)
    truth, ours = trained(eager, eager), trained(captured, Graphs(captured, Broken(captured)))
    for one, other in zip(truth[-2:], ours[-2:], strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, **TOLERANCE)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("runs without (operation not permitted when stream is capturing)")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("feed", [None, "glimpse", "expected"])
def test_graphs_and_eager_steps_agree_on_a_gpu(feed):
    settings = settings_of(feed, {"optimiser": "adam"})
    eager, captured = update_of(settings, "cuda"), update_of(settings, "cuda")
    truth, ours = trained(eager, eager), trained(captured, Graphs(captured, CudaGraphs()))
    for one, other in zip(truth, ours, strict=True):
        for name in one:
            torch.testing.assert_close(other[name].double(), one[name].double(), rtol=1e-4, atol=1e-4, msg=name)
