"""The loss of a minibatch as its estimator has it: every estimator and baseline, in both precisions and feeds."""

from __future__ import annotations

import pytest
import torch

from attend.captioner.noise import Noise
from attend.data.batches import Batch
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.estimators.helpers import Helpers
from attend.training.glimpses import loss_of
from tests import bed

RULES = [
    *({"name": name} for name in ESTIMATORS),
    *({"baseline": name} for name in BASELINES),
    *({"baseline": name, "rollout": "prefix"} for name, one in BASELINES.items() if one.rollout),
]
FEWER = {"sum-and-sample": {"samples": 3}, "unordered-set": {"samples": 3}}


def step(rule: dict, feed: str, low: bool):
    """One loss with its gradients, under dropout, for two images of two captions; bf16 where ``low``."""
    settings = bed.settings(
        attention={"select": "sample", "feed": feed},
        estimator=rule | FEWER.get(rule.get("name"), {}),
        decoder={"embedding": 4, "hidden": 5, "dropout": 0.3, "dropout_words": 0.3},
    )
    model = bed.captioner(settings).float()
    torch.manual_seed(0)
    helpers = Helpers(settings, bed.FEATURES, bed.WORDS)
    words, lengths = bed.captions([[[4, 5, 2], [6, 2]], [[5, 4, 2], [2]]])
    none = torch.zeros_like(lengths)
    batch = Batch(rows=none[:, 0], inputs=None, words=words, lengths=lengths, order=none, whole=lengths)
    noise = Noise.draw(settings, tuple(words.shape), 0, 0, bed.LOCATIONS)
    features = bed.features(2).to(torch.bfloat16 if low else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        trace, loss = loss_of(model, features, batch, noise, MovingAverage(), helpers=helpers)
    loss.total.backward()
    return trace, loss, [*model.parameters(), *helpers.parameters()]


@pytest.mark.parametrize("feed", ["glimpse", "expected"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule.values()))
def test_every_rule_has_a_loss_and_gradients_in_both_precisions(rule, feed):
    if rule.get("name") == "xu2015-code" and feed == "expected":
        return  # refused (test_estimators)
    said = []
    for low in (False, True):
        trace, loss, parameters = step(rule, feed, low)
        assert torch.isfinite(loss.total) and loss.total.dtype == torch.float32
        assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)
        assert any(p.grad is not None and p.grad.any() for p in parameters)
        said.append(loss.terms["nll"].detach())
        if trace.logits is not None:
            assert trace.logits.dtype == (torch.bfloat16 if low else torch.float32)
    assert torch.isclose(*said, rtol=0.15), "the same glimpses, but for rounding"
