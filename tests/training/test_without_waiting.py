"""A training step never waits for the device: whole steps on tensors without data, and passes on fake GPU tensors.

A ``meta`` tensor has no data, so every operation that reads a number back raises. A boolean index passes there although
it waits on a GPU, so a dispatch mode refuses it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from attend import config
from attend.config.catalogue import FACTS
from attend.estimators import Learner
from attend.estimators.baselines import BASELINES
from attend.estimators.noise import Noise
from attend.evaluation.health import health_sums
from attend.model import build_captioner
from attend.training.objective import loss_of
from attend.training.optimiser import OPTIMISERS
from attend.training.progress import Meters
from attend.training.update import norm
from tests import bed

LOCATIONS, FEATURES, WORDS = 9, 16, 11
CAPTIONS = bed.captions([[[4, 5, 2], [6, 2]], [[7, 8, 2], [2]], [[3, 2], []]])
ATTENTION = [
    {}, {"select": "top-k"}, {"simplex": "sparsemax"}, {"simplex": "entmax"}, {"score": "dot", "heads": 2},
]  # fmt: skip
WAITS: set[str] = set()
"""Estimators whose steps must wait: none. The search over distinct paths does not either."""


class Refuses(TorchDispatchMode):
    """Refuses boolean indices and whatever reads a number of a device."""

    INDEXED = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
    READS = (torch.ops.aten.nonzero, torch.ops.aten._local_scalar_dense, torch.ops.aten.masked_select)

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        packet = function.overloadpacket
        if packet in self.INDEXED and any(one is not None and one.dtype == torch.bool for one in arguments[1]):
            raise RuntimeError(f"boolean index: {function}")
        if packet in self.READS and arguments[0].device.type != "cpu":
            raise RuntimeError(f"{function} waits for the device")
        return function(*arguments, **(options or {}))


def settings(
    feed: str | None, decoder: dict | None = None, attention: dict | None = None, **estimator
) -> config.Config:
    """Hard attention with this feed, or soft attention without one."""
    select = {"select": "sample", "feed": feed} if feed else {}
    return config.Config(
        attention=config.Attention(width=8, **select | (attention or {})),
        decoder=config.Decoder(**{"embedding": 6, "hidden": 8} | (decoder or {})),
        estimator=config.Estimator(**estimator),
        objective=config.Objective(doubly_stochastic=1.0),
    )


def step(given: config.Config, *, padded: bool, optimiser: str = "adam") -> None:
    """A whole training step as the loop takes it, on ``meta`` tensors; the optimiser without its fused kernel."""
    captioner = build_captioner(given, FEATURES, WORDS, (3, 3)).to("meta")
    captioner.padded = padded
    learner, (words, lengths) = Learner(given, FEATURES, WORDS).to("meta"), CAPTIONS
    parameters = [*captioner.parameters(), *learner.parameters()]
    make = OPTIMISERS[optimiser]
    update, meters = getattr(make, "func", make)(parameters), Meters()
    features, shares = torch.zeros(3, LOCATIONS, FEATURES), torch.zeros(*words.shape, LOCATIONS)
    batch = bed.batch(features, words, lengths, shares).to(torch.device("meta"))
    noise = Noise.draw(given, tuple(words.shape), 0, 0, LOCATIONS).to(torch.device("meta"))
    with Refuses():
        u, loss = loss_of(captioner, batch.inputs, batch, noise, learner, learner.start("meta"))
        loss.total.backward()
        learner.start("meta").after(loss.observed, 0.9)
        meters.add(words=3, attention_gradient=norm(captioner.attention.parameters()), **loss.terms)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        update.step()
        update.zero_grad()
        meters.watch(0, loss.total)
        health_sums(u)


@pytest.mark.thin
@pytest.mark.parametrize("padded", [False, True])
@bed.either_feed
@pytest.mark.parametrize("name", [name for name in FACTS if name not in WAITS])
def test_a_step_of_every_estimator_never_waits(name, feed, padded):
    if (name, feed) == ("xu2015-code", "expected"):
        pytest.skip("this estimator is for feed glimpse")
    step(settings(feed, name=name), padded=padded)


@pytest.mark.thin
@pytest.mark.parametrize("padded", [False, True])
@bed.either_feed
@pytest.mark.parametrize("baseline", BASELINES)
def test_a_step_with_every_baseline_never_waits(baseline, feed, padded):
    step(settings(feed, baseline=baseline, samples=2), padded=padded)


@pytest.mark.thin
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("decoder", [{}, {"gate": "vector"}, {"readout": "linear"}, *bed.BLIND.values(), bed.SHARED])
@pytest.mark.parametrize(
    "attention",
    [{}, {"select": "top-k"}, {"simplex": "sparsemax"}, {"simplex": "entmax"}, {"score": "dot", "heads": 2}],
)
def test_a_step_of_soft_attention_never_waits(attention, decoder, padded):
    if decoder == bed.ADAPTIVE and "heads" in attention:
        pytest.skip("its sentinel is compared with the scores of one head")
    step(settings(None, decoder, attention), padded=padded)


@pytest.mark.thin
@pytest.mark.parametrize("decoder", [*bed.BLIND.values(), bed.SHARED])
@pytest.mark.parametrize("baseline", ["soft", "self-critical"])
def test_passes_from_every_prefix_never_wait(baseline, decoder):
    step(settings("glimpse", decoder, baseline=baseline, rollout="prefix", samples=2), padded=False)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_no_optimiser_waits(optimiser):
    step(settings("glimpse"), padded=True, optimiser=optimiser)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x[x > 0],
        lambda x: bool((x > 0).any()),
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: x.index_put((x > 0,), torch.zeros((), device="meta")),
    ],
)
def test_what_waits_is_refused(wrong):
    with Refuses(), pytest.raises((RuntimeError, NotImplementedError)):
        wrong(torch.zeros(3, device="meta"))


class Host(np.ndarray):
    """Lengths on the host that fake tensors cannot take over."""

    def numpy(self) -> np.ndarray:
        return self.view(np.ndarray)


@pytest.mark.thin
@pytest.mark.skipif(
    torch.torch_version.TorchVersion(torch.__version__) < (2, 9), reason="fake GPU tensors of torch 2.6 ask the driver"
)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        settings(None),
        settings("glimpse"),
        settings("expected"),
        settings("glimpse", bed.TRANSFORMER),
        settings("glimpse", bed.SHARED),
    ],
)
def test_a_pass_on_fake_gpu_tensors_never_waits(given, padded):
    """Without the residual GRU: the library's GRU asks the driver of a real GPU which kernel to take."""
    words, lengths = CAPTIONS
    noise = Noise.draw(given, tuple(words.shape), 0, 0, LOCATIONS)
    batch = bed.batch(torch.zeros(3, LOCATIONS, FEATURES), words, lengths.numpy().view(Host))
    with FakeTensorMode(allow_non_fake_inputs=True), Refuses():
        device = torch.device("cuda")
        with device:  # parameters that were real cannot become fake
            captioner, learner = build_captioner(given, FEATURES, WORDS), Learner(given, FEATURES, WORDS)
        captioner.padded = padded
        batch = batch.to(device)
        u, loss = loss_of(captioner, batch.inputs, batch, noise.to(device), learner, learner.start(device))
        assert {one.device.type for one in (batch.words, u.logits, loss.total)} == {"cuda"}
