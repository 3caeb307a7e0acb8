"""The exact marginal against the bound: G_M and G_J differ, and agree if the glimpse matters little or is certain."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attend.estimators.noise import Noise
from attend.estimators.take import Given
from attend.training.objective import Loss
from tests import bed

WORDS = torch.tensor([[[5, 2]]])
LENGTHS = torch.tensor([[2]])
TWO = bed.features(locations=2)
NONE = Noise(glimpse=torch.zeros(1, 1, 2))


def marginal(model) -> Loss:
    """The loss of the estimator "marginal"."""
    learner = bed.learner(model.settings)
    u = learner.take(model, Given(TWO, WORDS, LENGTHS), NONE)
    return bed.loss(model, u, learner, words=1)


@bed.either_feed
def test_the_two_gradients_differ_and_agree_if_the_glimpse_matters_little(feed):
    """|G_M - G_J| / |G_J| is proportional to the weights that read the glimpse: the readout's, and the state's if it is
    fed the glimpse."""
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
    """At a low temperature alpha is one-hot. Then the value is J, and the gradient in the decoder is that of J."""
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
    assert bed.distance(ours, truth, "decoder") > 0.01  # at a temperature of 1 they differ


@pytest.mark.parametrize("cell", bed.BLIND)
def test_where_no_state_reads_a_glimpse_l_readouts_per_word_are_the_marginal_over_all_paths(cell):
    """The value of "marginal" fed the expected context, and its gradient, against the L^T paths of the same model that
    is fed its glimpses."""
    decoder = {"embedding": 4, "hidden": 5, "dropout": 0.0} | bed.BLIND[cell]
    rule = bed.settings(attention={"select": "sample"}, decoder=decoder)
    fed = bed.captioner(rule)
    truth = bed.marginal(fed, TWO, WORDS)
    apart = replace(rule.attention, feed="expected")
    ours = bed.captioner(replace(rule, attention=apart, estimator=bed.hard(name="marginal").estimator))
    loss = marginal(ours)
    assert torch.isclose(loss.terms["nll"], truth, atol=1e-12)
    assert bed.distance(bed.gradient(ours, loss.total), bed.gradient(fed, truth)) < 1e-10
