"""The health of attention, its entropy and the likelihood, against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from attend.captioner.captioner import Trace
from attend.captioner.noise import Noise
from attend.captioner.traces import entropy, negative_log_likelihood
from attend.estimators.baselines import MovingAverage
from attend.evaluation.health import health, health_sums
from attend.training.glimpses import taken
from attend.training.objective import objective
from tests import bed


def traced(weights, glimpses=None, lengths=None) -> Trace:
    """A trace of made weights (N, C, T, L), soft unless there are glimpses; only ``lengths`` words of each are real."""
    weights = torch.tensor(weights)
    shape = weights.shape[:-1]
    real = torch.ones(shape, dtype=torch.bool)
    if lengths is not None:
        real = torch.arange(shape[-1]) < torch.tensor(lengths)[..., None]
    count = int(real.sum())
    return Trace(
        logits=torch.zeros(count, 2),
        targets=torch.zeros(count, dtype=torch.long),
        real=real,
        weights=weights * real[..., None],
        glimpses=torch.full(shape, -1) if glimpses is None else torch.tensor(glimpses),
        log_probs=torch.zeros(shape),
        gates=torch.ones(shape),
    )


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
    """The second caption has one word: its other two rows are padding, and it has no pair of words to compare.

    Maxima are at 0, 0, 2: the second word of the first caption looks where its first has looked.
    """
    found = health(traced(SOFT, lengths=[[3, 1]]))
    assert found == pytest.approx(
        {
            "entropy": 2 * math.log(2) / 4,
            "maximum": (0.5 + 0.5 + 1 + 1) / 4,
            "change": (0.5 + 0.5) / 2,
            "distinct": 3 / 4,
        }
    )


def test_health_of_hard_attention_counts_glimpses():
    found = health(traced(SOFT, glimpses=[[[1, 2, 1], [0, 0, 0]]], lengths=[[3, 1]]))
    assert found["distinct"] == pytest.approx(3 / 4)
    assert found["change"] == pytest.approx(0.5), "of the weights, whatever is looked at"
    assert health(traced(SOFT, glimpses=[[[1, 1, 1], [0, 0, 0]]], lengths=[[3, 1]]))["distinct"] == pytest.approx(2 / 4)


def test_a_map_that_never_moves_has_no_change():
    found = health(traced([[[[0.7, 0.2, 0.1]] * 4]]))
    assert found["change"] == 0 and found["distinct"] == 1 / 4 and found["maximum"] == pytest.approx(0.7)


def test_health_of_one_word_and_of_none():
    """Nothing follows one word, so nothing can change."""
    assert health(traced([[[[1.0, 0.0]]]])) == {"entropy": 0, "maximum": 1, "distinct": 1}
    assert health(traced([[[[1.0, 0.0]]]], lengths=[[0]])) == {}


def test_health_of_two_minibatches_is_that_of_both_together():
    """Change is a mean over pairs of words: minibatches of short captions have few of them."""
    alone = [health_sums(traced([[one]], lengths=[[n]])) for one, n in zip(SOFT[0], (3, 1), strict=True)]
    together = health(traced(SOFT, lengths=[[3, 1]]))
    for name, value in together.items():
        sums, counts = zip(*(sums[name] for sums in alone), strict=True)
        assert sum(sums) / sum(counts) == pytest.approx(value)


def test_the_likelihood_is_nats_a_real_word():
    settings = bed.settings()
    model, a = bed.captioner(settings), bed.features(2)
    rows = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [2]]]
    words, lengths = bed.captions(rows)
    trace = model(a, words, lengths)
    total, count = 0.0, 0
    for n, image in enumerate(rows):
        for caption in image:
            logits = model(a[n : n + 1], *bed.captions([[caption]])).logits
            total += float(F.cross_entropy(logits.detach(), torch.tensor(caption), reduction="sum"))
            count += len(caption)
    loss = objective(trace, settings)
    assert float(loss.terms["nll"]) == float(loss.total) == pytest.approx(total / count)
    assert float(objective(trace, settings, words=2 * count).total) == pytest.approx(total / count / 2)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary():
    made = traced([[[[1.0, 0.0]] * 3]])
    assert negative_log_likelihood(made).tolist() == pytest.approx([math.log(2)] * 3)


def test_terms_add_up_to_the_total():
    settings = bed.settings(objective={"doubly_stochastic": 0.5})
    words, lengths = bed.captions([[[4, 5, 2]]])
    loss = objective(bed.captioner(settings)(bed.features(), words, lengths), settings)
    assert set(loss.terms) == {"nll", "doubly_stochastic"}
    assert torch.isclose(loss.total, sum(loss.terms.values()))


@pytest.mark.parametrize("name", ["enumeration", "marginal", "sum-and-sample", "unordered-set"])
@pytest.mark.parametrize("added", ["entropy", "doubly_stochastic", "supervised"])
def test_what_is_added_is_averaged_by_how_likely_each_path_is(name, added):
    """Different paths are not drawn from alpha, so their plain mean would be of another distribution.

    All paths are taken, so all four must have the sum over paths of p(path) times what a path alone adds.
    """
    words, lengths, a = torch.tensor([[[5, 2]]]), torch.tensor([[2]]), bed.features(locations=2)
    rule = {"name": name, "entropy": 0.0} | ({} if name in ("enumeration", "marginal") else {"samples": 4})
    more = {"estimator": rule | {"entropy": 0.3}} if added == "entropy" else {"objective": {added: 0.3}}
    settings = bed.settings(attention={"select": "sample"}, **({"estimator": rule} | more))
    model, shares = bed.captioner(settings), torch.tensor([[[[1.0, 0.0], [0.3, 0.7]]]], dtype=torch.float64)
    noise = Noise.draw(settings, (1, 1, 2), 0, 0, 2)
    trace = taken(model, a, words, lengths, noise=noise)
    assert trace.samples == 4
    term = "entropy_bonus" if added == "entropy" else added
    ours = objective(trace, settings, MovingAverage(), shares=shares).terms[term]
    truth = torch.zeros(())
    for path in bed.paths(2, 2):
        alone = model(a, words, lengths, path=path)
        value = {
            "entropy": lambda alone: -entropy(alone.weights).sum(),
            "doubly_stochastic": lambda alone: ((1 - alone.weights.sum(2)) ** 2).sum(),
            "supervised": lambda alone: -(shares * alone.weights.log()).sum(),
        }[added](alone)
        truth = truth + 0.3 * alone.log_probs.sum().exp() * value / 2
    assert float(ours) == pytest.approx(float(truth), rel=1e-10)
    rows = trace.weights.unflatten(1, (-1, 4))
    assert rows.flatten(3)[0, 0].unique(dim=0).shape[0] > 1  # where paths look alike, any mean will do
