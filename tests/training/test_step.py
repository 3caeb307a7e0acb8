"""The loss of a minibatch as its estimator has it: every estimator and baseline, in both precisions and feeds."""

from __future__ import annotations

import pytest
import torch

from attend.estimators import ESTIMATORS, Learner
from attend.estimators.baselines import BASELINES
from attend.estimators.noise import Noise
from attend.training.objective import loss_of
from tests import bed

RULES = [
    *({"name": name} for name in ESTIMATORS),
    *({"baseline": name} for name in BASELINES),
    *({"baseline": name, "rollout": "prefix"} for name, one in BASELINES.items() if one.rollout),
]
FEWER = {"sum-and-sample": {"samples": 3}, "unordered-set": {"samples": 3}}


def step(rule: dict, feed: str, low: bool):
    """One loss and its gradients under dropout, for two images of two captions; in bf16 if ``low``."""
    settings = bed.settings(
        attention={"select": "sample", "feed": feed},
        estimator=rule | FEWER.get(rule.get("name"), {}),
        decoder={"embedding": 4, "hidden": 5, "dropout": 0.3, "dropout_words": 0.3},
    )
    model = bed.captioner(settings).float()
    torch.manual_seed(0)
    learner = Learner(settings, bed.FEATURES, bed.WORDS)
    words, lengths = bed.captions([[[4, 5, 2], [6, 2]], [[5, 4, 2], [2]]])
    noise = Noise.draw(settings, tuple(words.shape), 0, 0, bed.LOCATIONS)
    features = bed.features(2).to(torch.bfloat16 if low else torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        u, loss = loss_of(model, features, bed.batch(features, words, lengths), noise, learner, learner.start())
    loss.total.backward()
    return u, loss, [*model.parameters(), *learner.parameters()]


@pytest.mark.thin
@pytest.mark.parametrize("feed", ["glimpse", "expected"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule.values()))
def test_every_rule_has_a_loss_and_gradients_in_both_precisions(rule, feed):
    if rule.get("name") == "xu2015-code" and feed == "expected":
        return  # refused (test_estimators)
    likelihoods = []
    for low in (False, True):
        u, loss, parameters = step(rule, feed, low)
        assert torch.isfinite(loss.total) and loss.total.dtype == torch.float32
        assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)
        assert any(p.grad is not None and p.grad.any() for p in parameters)
        likelihoods.append(loss.terms["nll"].detach())
        if u.logits is not None:
            assert u.logits.dtype == (torch.bfloat16 if low else torch.float32)
    assert torch.isclose(*likelihoods, rtol=0.15), "the glimpses are equal except for rounding"
