"""The health of attention, its entropy and the likelihood, against hand-worked numbers."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from attend.attention.attention import Look
from attend.captioner.layout import Layout, Whole
from attend.captioner.unrolled import Unrolled
from attend.decoder.protocol import Inputs, Word
from attend.estimators.noise import Noise
from attend.estimators.take import Given
from attend.evaluation.health import entropy, health_sums, means
from tests import bed


def made(weights, glimpses=None, lengths=None) -> Unrolled:
    """A pass with these weights (N, C, T, L) and equal logits of two words, soft unless there are glimpses.

    Only the first ``lengths`` words of each caption are real.
    """
    weights = torch.tensor(weights)
    images, rows, length, _ = weights.shape
    layout = Layout.of(torch.full((images, rows), length) if lengths is None else torch.tensor(lengths), length)
    none = torch.zeros(images, rows * length, 1)
    glimpse = None if glimpses is None else torch.tensor(glimpses).flatten(1, 2)
    look = Look(weights.flatten(1, 2), none, glimpse, None, None, none, None)
    return Unrolled(
        decoder=SimpleNamespace(readout=lambda inputs, *_: torch.zeros(len(inputs.words), 2)),
        memory=SimpleNamespace(projected=False),
        layout=layout,
        inputs=Inputs(words=layout.index, drive=None),
        drive=lambda: layout.index,
        targets=torch.zeros_like(layout.index),
        seen=((Whole(layout), None, Word(none, none, None, look)),),
    )


def health(u: Unrolled) -> dict[str, float]:
    return means(health_sums(u))


def test_entropy_of_known_distributions_in_nats():
    weights = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.25, 0.25, 0.0]], dtype=torch.float64)
    assert entropy(weights).tolist() == pytest.approx([math.log(4), 0.0, 1.5 * math.log(2)])


def test_entropy_is_torchs_own():
    weights = torch.softmax(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), -1)
    assert torch.allclose(entropy(weights), torch.distributions.Categorical(weights).entropy(), atol=1e-6)


def test_entropy_has_a_finite_gradient_where_alpha_is_zero():
    """Through a softmax whose smallest weights underflow to exact zeros; elsewhere it is -alpha (log alpha + H)."""
    scores = torch.tensor([0.0, 1.0, -300.0, -torch.inf], requires_grad=True)
    weights = torch.softmax(scores, -1)
    assert (weights == 0).sum() == 2
    entropy(weights).backward()
    alpha = weights.detach()[:2]
    by_hand = -alpha * (alpha.log() + entropy(alpha))
    assert torch.allclose(scores.grad, torch.cat([by_hand, torch.zeros(2)]), atol=1e-6)


SOFT = [[[[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.9, 0.1, 0.0]]]]


def test_health_of_soft_attention_by_hand():
    """The second caption has one word, so two words of padding and no pair of words to compare.

    The maxima of the first caption are at 0, 0, 2: its second word repeats the location of its first.
    """
    found = health(made(SOFT, lengths=[[3, 1]]))
    assert found == pytest.approx(
        {
            "entropy": 2 * math.log(2) / 4,
            "maximum": (0.5 + 0.5 + 1 + 1) / 4,
            "change": (0.5 + 0.5) / 2,
            "distinct": 3 / 4,
        }
    )


def test_health_of_hard_attention_counts_glimpses():
    found = health(made(SOFT, glimpses=[[[1, 2, 1], [0, 0, 0]]], lengths=[[3, 1]]))
    assert found["distinct"] == pytest.approx(3 / 4)
    assert found["change"] == pytest.approx(0.5), "change is that of the weights, whatever the glimpses"
    assert health(made(SOFT, glimpses=[[[1, 1, 1], [0, 0, 0]]], lengths=[[3, 1]]))["distinct"] == pytest.approx(2 / 4)


def test_a_map_that_never_moves_has_no_change():
    found = health(made([[[[0.7, 0.2, 0.1]] * 4]]))
    assert found["change"] == 0 and found["distinct"] == 1 / 4 and found["maximum"] == pytest.approx(0.7)


def test_health_of_one_word_and_of_none():
    """One word has no change, since no word follows it."""
    assert health(made([[[[1.0, 0.0]]]])) == {"entropy": 0, "maximum": 1, "distinct": 1}
    assert health(made([[[[1.0, 0.0]]]], lengths=[[0]])) == {}


def test_health_of_two_minibatches_is_that_of_both_together():
    """Change is a mean over pairs of words, of which a minibatch of short captions has few."""
    alone = [health_sums(made([[one]], lengths=[[n]])) for one, n in zip(SOFT[0], (3, 1), strict=True)]
    together = health(made(SOFT, lengths=[[3, 1]]))
    assert means(sum(alone)) == pytest.approx(together)


def test_the_likelihood_is_in_nats_per_real_word():
    settings = bed.settings()
    model, a = bed.captioner(settings), bed.features(2)
    rows = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [2]]]
    words, lengths = bed.captions(rows)
    learner, u, total, count = bed.learner(settings), model(a, words, lengths), 0.0, 0
    for n, image in enumerate(rows):
        for caption in image:
            logits = model(a[n : n + 1], *bed.captions([[caption]])).logits
            total += float(F.cross_entropy(logits.detach(), torch.tensor(caption), reduction="sum"))
            count += len(caption)
    loss = bed.loss(model, u, learner)
    assert float(loss.terms["nll"].detach()) == float(loss.total.detach()) == pytest.approx(float(total) / count)
    half = bed.loss(model, u, learner, words=2 * count).total
    assert float(half.detach()) == pytest.approx(float(total) / count / 2)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary():
    assert made([[[[1.0, 0.0]] * 3]]).cost.tolist() == pytest.approx([math.log(2)] * 3)


def test_terms_add_up_to_the_total():
    settings = bed.settings(objective={"doubly_stochastic": 0.5})
    words, lengths = bed.captions([[[4, 5, 2]]])
    model = bed.captioner(settings)
    loss = bed.loss(model, model(bed.features(), words, lengths), bed.learner(settings))
    assert set(loss.terms) == {"nll", "doubly_stochastic"}
    assert torch.isclose(loss.total, sum(loss.terms.values()))


@pytest.mark.parametrize("name", ["enumeration", "marginal", "sum-and-sample", "unordered-set"])
@pytest.mark.parametrize("added", ["entropy", "doubly_stochastic", "supervised"])
def test_regularisers_are_averaged_by_the_probability_of_each_path(name, added):
    """Different paths are not drawn from alpha, so their plain mean would be that of another distribution.

    Here all paths are taken. So all four estimators must have the sum over paths of p(path) times the path's own term.
    """
    words, lengths, a = torch.tensor([[[5, 2]]]), torch.tensor([[2]]), bed.features(locations=2)
    rule = {"name": name, "entropy": 0.0} | ({} if name in ("enumeration", "marginal") else {"samples": 4})
    more = {"estimator": rule | {"entropy": 0.3}} if added == "entropy" else {"objective": {added: 0.3}}
    settings = bed.settings(attention={"select": "sample"}, **({"estimator": rule} | more))
    model, shares = bed.captioner(settings), torch.tensor([[[[1.0, 0.0], [0.3, 0.7]]]], dtype=torch.float64)
    noise = Noise.draw(settings, (1, 1, 2), 0, 0, 2)
    learner = bed.learner(settings)
    u = learner.take(model, Given(a, words, lengths), noise)
    assert u.samples == 4
    term = "entropy_bonus" if added == "entropy" else added
    ours = bed.loss(model, u, learner, noise=noise, shares=shares).terms[term]
    truth = torch.zeros(())
    for path in bed.paths(2, 2):
        alone = bed.along(model, a, words, lengths, path)
        value = {
            "entropy": lambda alone: -entropy(alone.weights).sum(),
            "doubly_stochastic": lambda alone: ((1 - alone.weights.sum(2)) ** 2).sum(),
            "supervised": lambda alone: -(shares * alone.weights.log()).sum(),
        }[added](alone)
        truth = truth + 0.3 * alone.log_probs.sum().exp() * value / 2
    assert float(ours.detach()) == pytest.approx(float(truth.detach()), rel=1e-10)
    rows = u.weights.unflatten(1, (-1, 4))
    assert rows.flatten(3)[0, 0].unique(dim=0).shape[0] > 1  # if all paths had equal weights, any mean would do
