"""The learning rule of Xu et al.'s released code: every difference from their paper."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from attend.attention.simplex import softmax
from attend.config.catalogue import FACTS
from attend.config.presets import CODE_HARD, PAPER_HARD
from attend.config.text import from_dict, replace
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.evaluation.health import entropy
from attend.evaluation.teacher_forced import _unrolled
from attend.training import loop as training
from attend.training.objective import doubly_stochastic
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


def unrolled(model, padding: int = 0):
    """The minibatch along a path, with ``padding`` words more than it needs."""
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, words.shape, generator=torch.Generator().manual_seed(0))
    words, path = (torch.nn.functional.pad(part, (0, padding)) for part in (words, path))
    return bed.along(model, bed.features(2), words, lengths, path)


def loss(model, u, rule, level: float = 0.0, **more):
    """The loss of a pass under a rule whose moving average is ``level``."""
    return bed.loss(model, u, bed.learner(rule), Average.of([level]), **more)


def test_it_is_reinforce_with_another_factor_and_baseline(model):
    """lambda_r = B / (10 T), the sentence's cost, and the baseline T b."""
    u, b = unrolled(model), 1.7
    ours = loss(model, u, settings(**CODE), b)
    rule = {"cost": "sentence", "baseline": "average", "scale": CAPTIONS / (10 * PADDED)}
    theirs = loss(model, u, settings(**rule), PADDED * b)
    assert torch.isclose(ours.terms["nll"], theirs.terms["nll"])
    truth = bed.gradient(model, theirs.terms["surrogate"])
    assert bed.distance(bed.gradient(model, ours.terms["surrogate"]), truth) < 1e-12
    assert sum(float(g.abs().sum()) for g in truth.values()) > 1e-3


def test_its_mean_is_that_factor_times_the_score_part_of_the_bound(model):
    """Enumerated, for one caption of 3 words: grad E[l] + lambda_r (G_J - E[grad l]), lambda_r = 1 / (10 x 3)."""
    words = torch.tensor([[[4, 5, 2]]])
    ours = bed.expectation(model, bed.features(), words, lambda u: loss(model, u, settings(**CODE), 0.9, words=1).total)
    whole = bed.gradient(model, bed.bound(model, bed.features(), words))
    pathwise = bed.expectation(model, bed.features(), words, bed.summed)
    truth = {name: pathwise[name] + (whole[name] - pathwise[name]) / 30 for name in whole}
    assert bed.distance(ours, truth) < 1e-10
    assert bed.distance(ours, whole, "attention") > 0.1  # and so not the gradient of the bound
    assert not FACTS["xu2015-code"].unbiased


def test_more_padding_weakens_it_and_nothing_else(model):
    """Padding changes no other loss."""
    short, long = (loss(model, unrolled(model, extra), settings(**CODE)) for extra in (0, 4))
    assert torch.isclose(short.terms["nll"], long.terms["nll"])
    half = bed.gradient(model, short.terms["surrogate"] / 2)
    assert bed.distance(bed.gradient(model, long.terms["surrogate"]), half) < 1e-12


def test_its_baseline_observes_captions_that_were_not_sampled_and_padding(model):
    """b <- 0.9 b + 0.1 (cost of all words) / (B T) from 0, by hand. The old value is the baseline."""
    learner, by_hand = bed.learner(settings(**CODE)), 0.0
    average = learner.start()
    words, lengths = bed.captions(ROWS)
    for sampled in (True, False, True):
        u = unrolled(model) if sampled else model(bed.features(2), words, lengths)
        found = bed.loss(model, u, learner, average)
        row_costs = u.costs.sum(-1, keepdim=True).detach() / PADDED
        truth = 0.1 * CAPTIONS * ((row_costs - by_hand) * u.log_probs).sum() / REAL
        assert torch.isclose(found.terms["surrogate"], truth)
        by_hand = 0.9 * by_hand + 0.1 * float(u.cost.sum().detach()) / (CAPTIONS * PADDED)
        average = average.after(found.observed, decay=0.9)
        assert average.values() == pytest.approx([by_hand])


def test_its_entropy_bonus_is_not_divided_by_the_captions(model):
    u = unrolled(model)
    ours = loss(model, u, settings(**CODE | {"entropy": 0.002})).terms["entropy_bonus"]
    by_hand = -0.002 * CAPTIONS * entropy(u.weights).sum() / REAL
    theirs = loss(model, u, settings(entropy=0.002 * CAPTIONS)).terms["entropy_bonus"]
    assert torch.isclose(ours, by_hand) and torch.isclose(ours, theirs)


def test_its_penalty_has_a_value_and_no_gradient(model):
    u, penalty = unrolled(model), {"doubly_stochastic": 1.0}
    free = loss(model, u, settings(**CODE))
    ours = loss(model, u, settings(penalty, **CODE))
    value = doubly_stochastic(u, settings(penalty).objective) / REAL
    assert torch.isclose(ours.total, free.total + value) and value > 0.01
    assert bed.distance(bed.gradient(model, ours.total), bed.gradient(model, free.total)) == 0
    paper = loss(model, u, settings(penalty, cost="sentence")).terms["doubly_stochastic"]
    assert paper.requires_grad


def test_its_coin_is_thrown_per_minibatch_and_the_papers_per_image():
    shape = (6, 2, 3)
    for preset, kinds in ((CODE_HARD, {0, 12}), (PAPER_HARD, set(range(0, 13, 2)))):
        drawn = [Noise.draw(preset, shape, 0, step).soft for step in range(300)]
        soft = [0 if one is None else int(one.sum()) for one in drawn]
        assert set(soft) <= kinds and len(set(soft)) > len(kinds) / 2
        assert sum(soft) / (12 * 300) == pytest.approx(0.5, abs=0.1)


def test_it_samples_in_validation_too_with_its_coin(tmp_path, monkeypatch):
    """Half of the minibatches of validation take the expected context, and all generated captions do."""
    made = halves.write(tmp_path / "data", splits=(8, 2, 2))
    given_captions, generated = [], []
    monkeypatch.setattr(training, "evaluate", lambda *given, **named: {})
    teacher_forced, generate = training.teacher_forced, training.generate
    for name, function, calls, part in (
        ("teacher_forced", teacher_forced, given_captions, slice(-2, None)),
        ("generate", generate, generated, 4),
    ):
        record = lambda *given, f=function, c=calls, p=part: c.append(given[p]) or f(*given)  # noqa: E731
        monkeypatch.setattr(training, name, record)
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
    assert given_captions == [("sample", 0.4), ("expected", 0.0)] and generated == ["expected", "expected"]


def test_a_minibatch_of_validation_is_sampled_or_not_as_a_whole():
    captioner = lambda features, words, lengths, policy, shown: policy  # noqa: E731
    captioner.attention = SimpleNamespace(look="learned")
    model = SimpleNamespace(
        config=settings(), captioner=captioner, autocast=nullcontext, features=lambda inputs: inputs
    )

    def policy(first, semi):
        words, lengths = torch.zeros(3, 2, 4, dtype=torch.long), torch.full((3, 2), 4)
        batch = bed.batch(torch.zeros(3, bed.LOCATIONS, bed.FEATURES), words, lengths)
        return _unrolled(model, dataclasses.replace(batch, rows=torch.arange(first, first + 3)), "sample", semi)

    drawn = [policy(n, 0.5) for n in range(200)]
    assert all(one.soft is None or (one.soft.shape == one.noise.shape and one.soft.all()) for one in drawn)
    coins = [one.soft is not None for one in drawn]
    assert sum(coins) / 200 == pytest.approx(0.5, abs=0.12)
    assert all(policy(n, 0.0).soft is None for n in range(50))
    agree = sum(coin == bool(one.noise[0, 0, 0] < 0.5) for coin, one in zip(coins, drawn, strict=True))
    assert agree / 200 == pytest.approx(0.5, abs=0.12), "the coin is a number of its own"


def test_its_temperature_multiplies_where_ours_divides():
    """Both agree at 1. Any other temperature is refused."""
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
    assert PAPER_HARD.objective.doubly_stochastic == 0 and CODE_HARD.objective.doubly_stochastic == 16 / 196
