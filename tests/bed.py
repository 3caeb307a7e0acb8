"""The exact test bed: the real captioner, small enough to enumerate, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from attend import config
from attend.captioner.captioner import Captioner, Trace
from attend.captioner.noise import Noise
from attend.captioner.search import Found
from attend.captioner.traces import negative_log_likelihood
from attend.config.text import from_dict
from attend.estimators.helpers import Helpers

LOCATIONS, FEATURES, WORDS = 3, 4, 7
FEEDS = ("glimpse", "expected")
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


def captioner(settings: config.Config, seed: int = 0) -> Captioner:
    """A captioner whose weights are large enough that looking matters."""
    torch.manual_seed(seed)
    model = Captioner(settings, FEATURES, WORDS).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
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


def costs_of(trace: Trace) -> Tensor:
    """l_t at their places, (N, R, T)."""
    return trace.spread(negative_log_likelihood(trace))


def summed(trace: Trace) -> Tensor:
    """sum_t l_t of all rows."""
    return negative_log_likelihood(trace).sum()


def gradient(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter; 0 where the loss does not depend on it."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def expectation(model: Captioner, a: Tensor, words: Tensor, estimate: Callable[[Trace], Tensor]) -> dict[str, Tensor]:
    """sum over paths of p(path) (a constant) times the gradient of the estimate on that path."""
    lengths = torch.tensor([[words.shape[-1]]])
    total = 0.0
    for path in paths(words.shape[-1]):
        trace = model(a, words, lengths, path=path)
        total = total + trace.log_probs.sum().exp().detach() * estimate(trace)
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
    estimate: Callable[[Trace], Tensor],
    constant: bool = True,
    **more: object,
) -> Tensor:
    """sum over K-tuples of paths of p(paths) estimate(paths), one caption; p has no gradient if ``constant``."""
    lengths = torch.tensor([[words.shape[-1]]])
    total = torch.zeros((), dtype=torch.float64)
    for path in tuples(several, words.shape[-1], a.shape[1]):
        trace = model(a, words, lengths, path=path, samples=several, **more)
        probability = trace.log_probs.sum().exp()
        total = total + (probability.detach() if constant else probability) * estimate(trace)
    return total


def bound(model: Captioner, a: Tensor, words: Tensor, cost: Callable[[Trace], Tensor] = summed) -> Tensor:
    """J = sum over paths of p(path) cost(path), both with their gradients: differentiated, it is G_J exactly."""
    lengths = torch.tensor([[words.shape[-1]]])
    total = 0.0
    for path in paths(words.shape[-1], a.shape[1]):
        trace = model(a, words, lengths, path=path)
        total = total + trace.log_probs.sum().exp() * cost(trace)
    return total


def marginal(model: Captioner, a: Tensor, words: Tensor) -> Tensor:
    """-log p(words) = -log sum over paths of p(path) p(words | path), by its definition; its gradient is G_M."""
    lengths = torch.tensor([[words.shape[-1]]])
    traces = [model(a, words, lengths, path=path) for path in paths(words.shape[-1], a.shape[1])]
    return -torch.logsumexp(torch.stack([trace.log_probs.sum() - summed(trace) for trace in traces]), 0)


def distance(ours: dict[str, Tensor], truth: dict[str, Tensor], part: str = "") -> float:
    """|ours - truth| / |truth| over the parameters whose name begins with ``part``."""
    names = [name for name in truth if name.startswith(part)]
    off = sum(((ours[n] - truth[n]) ** 2).sum() for n in names)
    return float((off / sum((truth[n] ** 2).sum() for n in names)).sqrt())


def helpers(settings: config.Config, seed: int = 3) -> Helpers:
    """What an estimator learns beside the model, with weights that are not small."""
    torch.manual_seed(seed)
    return Helpers(settings, FEATURES, WORDS).double()


def search_says_what_the_trace_does(model: Captioner, a: Tensor, decode: str, noise: Tensor, found: Found) -> None:
    """Every best hypothesis costs, looks and draws as a teacher-forced pass over its words does."""
    for n in range(len(a)):
        length = int(found.lengths[n])
        words = found.words[n : n + 1, None, :length]
        chance = Noise(glimpse=noise[n : n + 1, None, :length, 0], soft=torch.zeros(1, 1, dtype=torch.bool))
        trace = model(a[n : n + 1], words, torch.tensor([[length]]), select=decode, noise=chance)
        assert torch.isclose(-negative_log_likelihood(trace).mean(), found.score[n], atol=1e-6)
        assert torch.equal(trace.glimpses[0, 0], found.glimpses[n, :length])
        assert torch.allclose(trace.weights[0, 0], found.weights[n, :length].double(), atol=1e-6)
