"""The learning rule of Xu et al.'s released code: every row of how it differs from their paper."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from attend.attention.simplex import softmax
from attend.captioner.captioner import Noise
from attend.captioner.traces import entropy, negative_log_likelihood
from attend.config.presets import CODE_HARD, PAPER_HARD
from attend.config.text import from_dict, replace
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import MovingAverage
from attend.evaluation.teacher_forced import _glimpses
from attend.training import loop as training
from attend.training.objective import doubly_stochastic, objective
from tests import bed, halves

ROWS = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [4, 2]]]  # four captions of 4, 2, 3 and 2 words, padded to 4
CAPTIONS, PADDED, REAL = 4, 4, 11
CODE = {"name": "xu2015-code", "scale": 0.1, "entropy": 0.0}


def settings(objective: dict | None = None, **estimator):
    return bed.settings(
        attention={"select": "sample"}, estimator={"semi": 0.0, "entropy": 0.0} | estimator, objective=objective or {}
    )


@pytest.fixture(scope="module")
def model():
    return bed.captioner(settings())


def looked(model, padding: int = 0, path=None):
    """A minibatch along a path, with more padding than it needs."""
    words, lengths = bed.captions(ROWS)
    words = torch.nn.functional.pad(words, (0, padding))
    if path is None:
        path = torch.randint(bed.LOCATIONS, (*words.shape[:2], PADDED), generator=torch.Generator().manual_seed(0))
    return model(bed.features(2), words, lengths, path=torch.nn.functional.pad(path, (0, padding)))


def test_it_is_reinforce_with_another_factor_and_baseline(model):
    """lambda_r = B / (10 T), the sentence's cost, and the baseline T b."""
    trace, b = looked(model), 1.7
    ours = objective(trace, settings(**CODE), MovingAverage(value=b))
    rule = {"cost": "sentence", "baseline": "average", "scale": CAPTIONS / (10 * PADDED)}
    theirs = objective(trace, settings(**rule), MovingAverage(value=PADDED * b))
    assert torch.isclose(ours.terms["nll"], theirs.terms["nll"])
    truth = bed.gradient(model, theirs.terms["surrogate"])
    assert bed.distance(bed.gradient(model, ours.terms["surrogate"]), truth) < 1e-12
    assert sum(float(g.abs().sum()) for g in truth.values()) > 1e-3


def test_its_mean_is_that_factor_times_the_score_part_of_the_bound(model):
    """Enumerated, for one caption of 3 words: grad E[l] + lambda_r (G_J - E[grad l]), lambda_r = 1 / (10 x 3)."""
    words = torch.tensor([[[4, 5, 2]]])

    def cost(trace):
        return negative_log_likelihood(trace).sum()

    ours = bed.expectation(
        model, bed.features(), words,
        lambda trace: objective(trace, settings(**CODE), MovingAverage(value=0.9), words=1).total,
    )  # fmt: skip
    whole = bed.gradient(model, bed.bound(model, bed.features(), words, cost))
    pathwise = bed.expectation(model, bed.features(), words, cost)
    truth = {name: pathwise[name] + (whole[name] - pathwise[name]) / 30 for name in whole}
    assert bed.distance(ours, truth) < 1e-10
    assert bed.distance(ours, whole, "attention") > 0.1  # and so not the gradient of the bound
    assert not ESTIMATORS["xu2015-code"].unbiased


def test_more_padding_weakens_it_and_nothing_else(model):
    """The one exception to: padding never changes a loss."""
    short, long = (objective(looked(model, extra), settings(**CODE), MovingAverage(value=0.0)) for extra in (0, 4))
    assert torch.isclose(short.terms["nll"], long.terms["nll"])
    half = bed.gradient(model, short.terms["surrogate"] / 2)
    assert bed.distance(bed.gradient(model, long.terms["surrogate"]), half) < 1e-12


def test_its_baseline_takes_in_captions_that_were_not_sampled_and_padding(model):
    """From 0, with the old value used: b <- 0.9 b + 0.1 (cost of all words) / (B T), by hand."""
    baseline, by_hand = MovingAverage(decay=0.9), 0.0
    words, lengths = bed.captions(ROWS)
    for sampled in (True, False, True):
        trace = looked(model) if sampled else model(bed.features(2), words, lengths)
        cost = float(negative_log_likelihood(trace).sum().detach())
        terms = objective(trace, settings(**CODE), baseline).terms
        used = by_hand  # as it stood before this minibatch
        row_costs = trace.spread(negative_log_likelihood(trace)).sum(-1, keepdim=True).detach() / PADDED
        truth = 0.1 * CAPTIONS * ((row_costs - used) * trace.log_probs).sum() / REAL
        assert torch.isclose(terms["surrogate"], truth)
        by_hand = 0.9 * by_hand + 0.1 * cost / (CAPTIONS * PADDED)
        assert baseline.value == pytest.approx(by_hand)


def test_its_entropy_bonus_is_not_divided_by_the_captions(model):
    trace = looked(model)
    ours = objective(trace, settings(**CODE | {"entropy": 0.002}), MovingAverage(value=0.0)).terms["entropy_bonus"]
    by_hand = -0.002 * CAPTIONS * entropy(trace.weights).sum() / REAL
    theirs = objective(trace, settings(entropy=0.002 * CAPTIONS), MovingAverage(value=0.0)).terms["entropy_bonus"]
    assert torch.isclose(ours, by_hand) and torch.isclose(ours, theirs)


def test_its_penalty_has_a_value_and_no_gradient(model):
    trace, penalty = looked(model), {"doubly_stochastic": 1.0}
    free = objective(trace, settings(**CODE), MovingAverage(value=0.0))
    ours = objective(trace, settings(penalty, **CODE), MovingAverage(value=0.0))
    value = doubly_stochastic(trace, settings(penalty).objective) / REAL
    assert torch.isclose(ours.total, free.total + value) and value > 0.01
    assert bed.distance(bed.gradient(model, ours.total), bed.gradient(model, free.total)) == 0
    paper = objective(trace, settings(penalty, cost="sentence"), MovingAverage(value=0.0)).terms["doubly_stochastic"]
    assert paper.requires_grad


def test_its_coin_is_thrown_for_the_minibatch_and_the_papers_for_the_image():
    shape = (6, 2, 3)
    for preset, kinds in ((CODE_HARD, {0, 12}), (PAPER_HARD, set(range(0, 13, 2)))):
        soft = [int(Noise.draw(preset, shape, 0, step).soft.sum()) for step in range(300)]
        assert set(soft) <= kinds and len(set(soft)) > len(kinds) / 2
        assert sum(soft) / (12 * 300) == pytest.approx(0.5, abs=0.1)


def test_it_samples_in_validation_too_with_its_coin(tmp_path, monkeypatch):
    """Half of the minibatches of validation read the expected context, and its captions always do."""
    made = halves.write(tmp_path / "data", splits=(8, 2, 2))
    asked, said = [], []
    monkeypatch.setattr(training, "evaluate", lambda *given, **named: {})
    whole, generate = training.traces, training.generate
    monkeypatch.setattr(training, "traces", lambda *given: asked.append(given[-2:]) or whole(*given))
    monkeypatch.setattr(training, "generate", lambda *given: said.append(given[4]) or generate(*given))
    wanted = from_dict(
        halves.SMALL
        | {
            "data": str(made),
            "attention": {"select": "sample", "width": 8},
            "estimator": {"name": "xu2015-code", "semi": 0.4},
            "search": {"decode": "expected", "max_length": 4},
            "train": halves.SMALL["train"] | {"epochs": 1, "monitor": "bleu4"},
        }
    )
    training.train(wanted, tmp_path / "code")
    training.train(replace(wanted, {"estimator.name": "reinforce"}), tmp_path / "other")
    assert asked == [("sample", 0.4), ("expected", 0.0)] and said == ["expected", "expected"]


def test_a_minibatch_of_validation_is_sampled_or_not_as_a_whole(model):
    def batch(first):
        rows = torch.arange(first, first + 3)
        return SimpleNamespace(words=torch.zeros(3, 2, 4), rows=rows, order=torch.zeros(3, 2, dtype=torch.long))

    drawn = [_glimpses(batch(n), settings(), 0.5) for n in range(200)]
    coins = [noise.soft for noise in drawn]
    assert all(coin.all() or not coin.any() for coin in coins)
    assert sum(bool(coin.all()) for coin in coins) / 200 == pytest.approx(0.5, abs=0.12)
    assert not any(_glimpses(batch(n), settings(), 0.0).soft.any() for n in range(50))
    alike = sum(bool(noise.soft[0, 0]) == bool(noise.glimpse[0, 0, 0] < 0.5) for noise in drawn)
    assert alike / 200 == pytest.approx(0.5, abs=0.12), "the coin is a number of its own"


def test_its_temperature_multiplies_where_ours_divides():
    """So it is 1, where both are the same, or refused."""
    e = torch.randn(5, dtype=torch.float64)
    assert torch.allclose(softmax(e, 1 / 2.5), torch.softmax(e * 2.5, -1))
    with pytest.raises(ValueError, match=r"attention\.temperature is 2\.0, but .* multiplies scores .*: leave it at 1"):
        replace(CODE_HARD, {"attention.temperature": 2})
    assert CODE_HARD.attention.temperature == 1
    assert replace(PAPER_HARD, {"attention.temperature": 2}).attention.temperature == 2


def test_the_presets_say_the_rest():
    assert CODE_HARD.decode == "expected" and PAPER_HARD.decode == "argmax"
    assert (CODE_HARD.train.monitor, CODE_HARD.train.patience) == ("nll", 10) and PAPER_HARD.train.monitor == "bleu4"
    assert CODE_HARD.train.lower_after == PAPER_HARD.train.lower_after == CODE_HARD.train.clip == 0
    rule = CODE_HARD.estimator
    assert (rule.name, rule.scale, rule.entropy, rule.decay, rule.mixed) == ("xu2015-code", 0.1, 0.002, 0.9, 0.5)
    assert (PAPER_HARD.estimator.cost, PAPER_HARD.estimator.baseline) == ("sentence", "average")
    assert PAPER_HARD.objective.doubly_stochastic == 0 and CODE_HARD.objective.doubly_stochastic == 1
