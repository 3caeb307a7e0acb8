"""The exact test bed: the real captioner, small enough to enumerate, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from attend import config
from attend.attention.select import Forced, Policy
from attend.captioner.captioner import Captioner, decoding
from attend.captioner.search import Hypotheses
from attend.captioner.unrolled import Readout
from attend.config.text import from_dict
from attend.data.batches import Batch
from attend.estimators import Learner
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.model import build_captioner
from attend.training.objective import Counts, Loss, objective, paths_of

LOCATIONS, FEATURES, WORDS = 3, 4, 7
FEEDS = ("glimpse", "expected")
GRU = {"cell": "gru-residual", "gate": "none", "readout": "linear"}
TRANSFORMER = {"cell": "transformer", "gate": "none", "readout": "linear", "heads": 1}
ADAPTIVE = GRU | {"cell": "adaptive"}
BLIND = {"gru": GRU, "adaptive": ADAPTIVE, "transformer": TRANSFORMER}
"""Decoders whose states do not depend on glimpses."""
EVERY = TRANSFORMER | {"looks": "every"}
SHARED = TRANSFORMER | {"looks": "shared"}
either_feed = pytest.mark.parametrize("feed", FEEDS)


def settings(**sections: dict) -> config.Config:
    """A small configuration without chance or regularisers; sections override its fields."""
    small = {
        "attention": {"width": 5},
        "estimator": {"semi": 0.0, "entropy": 0.0},
        "decoder": {"embedding": 4, "hidden": 5, "dropout": 0.0},
    }
    merged = {name: small.get(name, {}) | sections.get(name, {}) for name in {*small, *sections}}
    return from_dict(merged)


def hard(feed: str = "glimpse", **estimator: object) -> config.Config:
    """Sampled attention, the state fed one or the other; ``estimator`` overrides its section."""
    return settings(attention={"select": "sample", "feed": feed}, estimator=estimator)


def captioner(settings: config.Config, seed: int = 0, grid: tuple[int, int] | None = None) -> Captioner:
    """A captioner whose weights are large enough that looking matters. It keeps its ``settings`` for the tests."""
    torch.manual_seed(seed)
    model = build_captioner(settings, FEATURES, WORDS, grid).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    model.settings = settings
    return model


def features(images: int = 1, seed: int = 1, locations: int = LOCATIONS) -> Tensor:
    return torch.randn(images, locations, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captions(rows: list[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """Words (N, C, T) and lengths (N, C) of captions given as lists of words."""
    longest = max(len(words) for image in rows for words in image)
    words = torch.tensor([[one + [0] * (longest - len(one)) for one in image] for image in rows])
    return words, torch.tensor([[len(one) for one in image] for image in rows])


def paths(length: int, locations: int = LOCATIONS) -> Iterator[Tensor]:
    """All L^T paths as (1, 1, T)."""
    for path in itertools.product(range(locations), repeat=length):
        yield torch.tensor(path).view(1, 1, -1)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in [0, 1) of a fixed seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def along(
    model: Captioner, a: Tensor, words: Tensor, lengths: Tensor, path: Tensor | None = None, samples: int = 1, **more
) -> Readout:
    """Given captions along a path (N, R, T), or softly without one."""
    policy = decoding("expected") if path is None else Forced(path)
    return model(a, words, lengths, policy, samples=samples, **more)


def one_caption(words: Tensor) -> Tensor:
    """The lengths of one caption (1, 1, T) without padding."""
    return torch.tensor([[words.shape[-1]]])


def summed(u: Readout) -> Tensor:
    """sum_t l_t of all rows."""
    return u.costs.sum()


def learner(settings: config.Config, seed: int = 3) -> Learner:
    """A learner whose networks, if it has any, have weights that are not small."""
    torch.manual_seed(seed)
    return Learner(settings, FEATURES, WORDS).double()


def batch(a: Tensor, words: Tensor, lengths: Tensor, shares: Tensor | None = None) -> Batch:
    """A minibatch of these captions."""
    return Batch.of(a, words, lengths, shares)


def double(noise: Noise) -> Noise:
    """The same noise in float64."""
    return noise._each(lambda drawn: drawn.double() if drawn.is_floating_point() else drawn)


def loss(
    model: Captioner,
    u: Readout,
    learner: Learner,
    average: Average | None = None,
    *,
    words: int | None = None,
    noise: Noise | None = None,
    passed: Tensor | None = None,
    hard: bool = True,
    shares: Tensor | None = None,
) -> Loss:
    """The loss of a pass that is there already, as ``loss_of`` has it, divided by ``words`` instead of their number.

    ``passed`` are the costs of the baseline's own passes. Without ``hard`` there is no surrogate.
    """
    lengths, paths = torch.from_numpy(u.layout.lengths[:, :: u.samples]), None
    counts = Counts.of(lengths)
    counts = counts if words is None else Counts(words, counts.captions)
    if learner.hard and hard:
        paths = paths_of(u, u.costs, learner, noise or Noise(glimpse=u.costs), model.apart, passed)
    return objective(u, u.costs, learner, learner.start() if average is None else average, counts, paths, shares)


def gradient(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter; 0 where the loss does not depend on it."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def expectation(model: Captioner, a: Tensor, words: Tensor, estimate: Callable[[Readout], Tensor]) -> dict[str, Tensor]:
    """sum over paths of p(path) (a constant) times the gradient of the estimate on that path."""
    total = 0.0
    for path in paths(words.shape[-1]):
        u = along(model, a, words, one_caption(words), path)
        total = total + u.log_probs.sum().exp().detach() * estimate(u)
    return gradient(model, total)


def tuples(several: int, length: int, locations: int) -> Iterator[Tensor]:
    """All K-tuples of paths as (1, K, T)."""
    for combination in itertools.product(paths(length, locations), repeat=several):
        yield torch.cat(combination, 1)


def over_tuples(
    model: Captioner,
    a: Tensor,
    words: Tensor,
    several: int,
    estimate: Callable[[Readout], Tensor],
    constant: bool = True,
    **more: object,
) -> Tensor:
    """sum over K-tuples of paths of p(paths) estimate(paths), one caption; p has no gradient if ``constant``."""
    total = torch.zeros((), dtype=torch.float64)
    for path in tuples(several, words.shape[-1], a.shape[1]):
        u = along(model, a, words, one_caption(words), path, several, **more)
        probability = u.log_probs.sum().exp()
        total = total + (probability.detach() if constant else probability) * estimate(u)
    return total


def bound(model: Captioner, a: Tensor, words: Tensor, cost: Callable[[Readout], Tensor] = summed) -> Tensor:
    """J = sum over paths of p(path) cost(path), both with their gradients: differentiated, it is G_J exactly."""
    total = 0.0
    for path in paths(words.shape[-1], a.shape[1]):
        u = along(model, a, words, one_caption(words), path)
        total = total + u.log_probs.sum().exp() * cost(u)
    return total


def marginal(model: Captioner, a: Tensor, words: Tensor) -> Tensor:
    """-log p(words) = -log sum over paths of p(path) p(words | path), by its definition; its gradient is G_M."""
    every = [along(model, a, words, one_caption(words), path) for path in paths(words.shape[-1], a.shape[1])]
    return -torch.logsumexp(torch.stack([u.log_probs.sum() - summed(u) for u in every]), 0)


def distance(ours: dict[str, Tensor], truth: dict[str, Tensor], part: str = "") -> float:
    """|ours - truth| / |truth| over the parameters whose name begins with ``part``."""
    names = [name for name in truth if name.startswith(part)]
    off = sum(((ours[n] - truth[n]) ** 2).sum() for n in names)
    return float((off / sum((truth[n] ** 2).sum() for n in names)).sqrt())


def search_agrees(model: Captioner, a: Tensor, decode: str, noise: Tensor, found: Hypotheses) -> None:
    """Every best hypothesis costs, looks and draws as a teacher-forced pass over its words does.

    ``noise`` (N, K, T) drew the glimpses.
    """
    for n in range(len(a)):
        length = int(found.lengths[n])
        words = found.words[n : n + 1, None, :length]
        policy: Policy = decoding(decode, model.settings.attention.top, noise[n : n + 1, :1, :length])
        u = model(a[n : n + 1], words, torch.tensor([[length]]), policy)
        assert torch.isclose(-u.cost.mean(), found.score[n], atol=1e-6)
        assert torch.equal(u.glimpses[0, 0], found.glimpses[n, :length])
        assert torch.allclose(u.weights[0, 0], found.weights[n, :length].double(), atol=1e-6)
