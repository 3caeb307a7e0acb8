"""The exact marginal against the bound: G_M and G_J differ, and meet where the glimpse says little or is no choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attend.captioner.captioner import Noise
from attend.estimators.baselines import MovingAverage
from attend.training.glimpses import taken
from attend.training.objective import Loss, objective
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)
NONE = Noise(glimpse=torch.zeros(1, 1, 2), soft=torch.zeros(1, 1, dtype=torch.bool))


def marginal(model) -> Loss:
    """As it is trained."""
    trace = taken(model, TWO, WORDS, LENGTHS, noise=NONE)
    return objective(trace, model.settings, MovingAverage(), words=1)


@bed.either_feed
def test_the_two_gradients_differ_and_meet_where_the_glimpse_says_little(feed):
    """|G_M - G_J| / |G_J| falls as what reads the glimpse: the readout, and the state where it is fed."""
    off = []
    for scale in (1.0, 0.1, 0.01):
        model = bed.captioner(bed.hard(feed, name="marginal"))
        with torch.no_grad():
            model.decoder.readout_context.weight.mul_(scale)
            if feed == "glimpse":
                model.decoder.context_gates.weight.mul_(scale)
        ours = bed.gradient(model, marginal(model).total)
        assert bed.distance(ours, bed.gradient(model, bed.marginal(model, TWO, WORDS))) < 1e-10
        off.append(bed.distance(ours, bed.gradient(model, bed.bound(model, TWO, WORDS))))
    assert off[0] > 0.02
    assert off[1] / off[2] == pytest.approx(10, rel=0.2)


@bed.either_feed
def test_one_hot_weights_make_them_one(feed):
    """At a low temperature alpha is one-hot: the value is J, and so is the gradient of all of the decoder."""
    rule = bed.hard(feed, name="marginal")
    model = bed.captioner(replace(rule, attention=replace(rule.attention, temperature=1e-3)))
    loss, bound = marginal(model), bed.bound(model, TWO, WORDS)
    assert torch.isclose(loss.terms["nll"], bound, atol=1e-10)
    ours, truth = (bed.gradient(model, one) for one in (loss.total, bound))
    decoder = [name for name in truth if name.startswith("decoder")]
    for name in decoder:
        assert truth[name].any() and bed.distance(ours, truth, name) < 1e-10, name
    warm = bed.captioner(rule)
    ours, truth = (bed.gradient(warm, one) for one in (marginal(warm).total, bed.bound(warm, TWO, WORDS)))
    assert bed.distance(ours, truth, "decoder") > 0.01  # which they are not else
