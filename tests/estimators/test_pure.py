"""State in, state out: estimators, baselines and the objective change nothing that they are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.noise import Noise
from attend.estimators.signals import signal_with_kl
from attend.estimators.take import Given
from attend.training.objective import Counts, objective, paths_of, rollout
from tests import bed

AVERAGE = Average.of([1.3, None])


def held(value: object) -> Iterator[Tensor | np.ndarray]:
    """All tensors and arrays in a value."""
    if isinstance(value, Tensor | np.ndarray):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict(keep_vars=True).values()
    elif isinstance(value, tuple | list):
        for one in value:
            yield from held(one)
    elif isinstance(value, dict):
        yield from held(list(value.values()))
    elif is_dataclass(value):
        yield from held([getattr(value, one.name) for one in fields(value)])


class Unchanged:
    """Remembers some values, and says whether they and torch's generator are still as they were."""

    def __init__(self, *values: object) -> None:
        self.values = [(one, self.version(one), self.copy(one)) for one in held(values)]
        self.generator = torch.get_rng_state()
        assert self.values

    @staticmethod
    def version(one: Tensor | np.ndarray) -> int:
        return one._version if isinstance(one, Tensor) else 0

    @staticmethod
    def copy(one: Tensor | np.ndarray) -> np.ndarray:
        return (one.detach() if isinstance(one, Tensor) else one).__array__().copy()

    def check(self) -> None:
        for one, version, copy in self.values:
            assert self.version(one) == version, "written in place"
            np.testing.assert_array_equal(self.copy(one), copy)
            assert not isinstance(one, nn.Parameter) or one.grad is None
        assert torch.equal(torch.get_rng_state(), self.generator)


def same(one: object, other: object) -> None:
    """Equal tensors, and None in the same places."""
    pairs = list(zip(held(one), held(other), strict=True))
    assert pairs and all(torch.equal(a, b) for a, b in pairs)


def charged(feed: str, **estimator):
    """A minibatch as it is trained: the pass, the model, the learner and the paths that the estimator reads."""
    rule = bed.hard(feed, **estimator)
    model, learner, a = bed.captioner(rule), bed.learner(rule), bed.features(2, locations=2)
    words, lengths = bed.captions([[[4, 5, 2], [5, 2]], [[6, 4, 2], [2]]])
    noise, given = bed.double(Noise.draw(rule, tuple(words.shape), 0, 0, 2)), Given(a, words, lengths)
    u = learner.take(model, given, noise)
    passed = rollout(model, given, u, noise, learner)
    return u, model, learner, paths_of(u, u.costs, learner, noise, model.apart, passed)


SAMPLES = {"sum-and-sample": 2, "unordered-set": 2}
"""Paths that are different: not more than the locations."""
CASES = {name: {"name": name, "samples": SAMPLES.get(name)} for name in ESTIMATORS}
CASES |= {f"reinforce with {name}": {"baseline": name} for name in BASELINES}
FED = [(feed, case) for feed in bed.FEEDS for case in CASES if (feed, case) != ("expected", "xu2015-code")]
"""The released code feeds the glimpse alone."""


@pytest.mark.parametrize(("feed", "case"), FED)
def test_estimators_and_the_objective_give_the_same_twice_and_change_nothing(feed, case):
    estimator = CASES[case]
    u, model, learner, paths = charged(feed, **estimator)
    counts, given = Counts.of(torch.from_numpy(u.layout.lengths)), (u, model, learner, paths, AVERAGE)
    before = Unchanged(*given)
    same(learner.charge(paths, AVERAGE), learner.charge(paths, AVERAGE))
    before.check()
    same(*(objective(u, u.costs, learner, AVERAGE, counts, paths) for _ in range(2)))
    before.check()


@bed.either_feed
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_give_the_same_twice_and_change_nothing(feed, name):
    u, model, learner, paths = charged(feed, baseline=name, semi=0.5)
    settings = learner.settings.estimator
    signal = signal_with_kl(paths, settings)
    before = Unchanged(u, model, learner, paths, AVERAGE, signal)
    first, second = (learner.baseline.function(signal, paths, settings, AVERAGE) for _ in range(2))
    same(first, second)
    before.check()
    average = Unchanged(AVERAGE, first[1])
    same(*(AVERAGE.after(first[1], 0.9) for _ in range(2)))
    average.check()
