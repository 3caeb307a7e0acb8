"""Samples and captions side by side in a padded minibatch: each is a run of its own, in loss and in every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attend.captioner.captioner import Noise
from attend.config.catalogue import FACTS
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.training.glimpses import rollout_costs, taken
from attend.training.objective import objective
from tests import bed


def noise_for(rule, seed: int = 0, shape=(2, 2, 3)) -> Noise:
    drawn = Noise.draw(rule, shape, seed, 0)
    return Noise(
        **{n: v.double() if torch.is_floating_point(v) else v for n, v in vars(drawn).items() if v is not None}
    )


def test_samples_of_a_batch_are_passes_of_their_own():
    """K rows a caption give what K passes give, one after another; dropout is shared, glimpses are not."""
    rule = bed.settings(
        attention={"select": "sample"},
        estimator={"samples": 3, "semi": 0.4},
        decoder={"dropout": 0.3, "dropout_words": 0.2},
    )
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2], [6, 2]], [[5, 4, 2], [2]]])
    noise = noise_for(rule)
    together = model(a, words, lengths, select="sample", noise=noise, samples=3)
    for k in range(3):
        alone = model(
            a, words, lengths, select="sample",
            noise=Noise(
                glimpse=noise.glimpse[:, k::3], soft=noise.soft[:, k::3], drop_hidden=noise.drop_hidden,
                drop_deep=noise.drop_deep, drop_words=noise.drop_words,
            ),
        )  # fmt: skip
        for name in ("weights", "glimpses", "log_probs", "gates", "real"):
            assert torch.allclose(getattr(together, name)[:, k::3], getattr(alone, name)), name
        assert torch.allclose(bed.costs_of(together)[:, k::3], bed.costs_of(alone))
    assert len({tuple(together.glimpses[n, k].tolist()) for n in range(2) for k in range(3)}) > 2


def test_equal_samples_cost_what_one_costs():
    rule, one = bed.hard(samples=3, baseline="average"), bed.hard(baseline="average")
    model, a = bed.captioner(rule), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2], [6, 2]], [[5, 4, 2], [2]]])
    path = torch.randint(bed.LOCATIONS, (2, 2, 3), generator=torch.Generator().manual_seed(0))
    once = objective(model(a, words, lengths, path=path), one, MovingAverage(value=1.0))
    thrice = objective(
        model(a, words, lengths, path=path.repeat_interleave(3, 1), samples=3), rule, MovingAverage(value=1.0)
    )
    assert once.terms.keys() == thrice.terms.keys()
    for name, term in once.terms.items():
        assert torch.isclose(term, thrice.terms[name]), name
    assert bed.distance(bed.gradient(model, thrice.total), bed.gradient(model, once.total)) < 1e-12


RULES = [
    *({"name": name} for name in ESTIMATORS if name != "xu2015-code"),
    *({"baseline": name} for name in BASELINES),
    *({"baseline": name, "rollout": "prefix"} for name, entry in BASELINES.items() if entry.rollout),
    *({"name": name, "baseline": "learned"} for name in ("rebar", "relax", "variational")),
    *({"baseline": name, "cost": "sentence"} for name in ("average-per-word", "learned")),  # not 0 at padding
]
"""But for the released code's, which averages over the padded length (test_released)."""


@bed.either_feed
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule.values()))
def test_two_captions_of_one_batch_are_two_runs_for_every_rule(feed, rule):
    """Likelihood, score part, entropy bonus, penalty and what helpers learn from: a padded batch's are the sums of
    those of the captions alone, and so are the gradients of the model and of every helper."""
    if feed == "expected" and "rollout" in rule:
        pytest.skip("no state has read a prefix there")
    exact = FACTS[rule.get("name", "reinforce")].select == "all"
    rule = bed.settings(
        attention={"select": "sample", "feed": feed},
        estimator={"entropy": 0.3, "samples": 1 if exact else 2} | rule,
        objective={"doubly_stochastic": 0.7},
    )
    model, helpers, a, k = bed.captioner(rule), bed.helpers(rule), bed.features(), rule.samples
    if helpers.control is not None and helpers.control.network is not None:
        nn.init.normal_(helpers.control.network["out"].weight)  # it begins with zeros
    rows = [[4, 5, 6, 2], [5, 2]]
    noise = Noise(
        glimpse=bed.uniform(1, 2 * k, 4), soft=torch.zeros(1, 2 * k, dtype=torch.bool),
        places=bed.uniform(1, 2 * k, 4, 3, seed=1),
    )  # fmt: skip

    def terms(rows, first=0):
        words, lengths = bed.captions([rows])
        mine, length = slice(first * k, (first + len(rows)) * k), words.shape[-1]
        glimpse, places = noise.glimpse[:, mine, :length], noise.places[:, mine, :length]
        drawn = Noise(glimpse=glimpse, soft=noise.soft[:, mine], places=places)
        trace = taken(model, a, words, lengths, noise=drawn, helpers=helpers)
        rollout = rollout_costs(model, a, words, lengths, trace, drawn)
        average = MovingAverage(value=2.0, places=[3.0, 2.0])
        return objective(trace, rule, average, words=1, rollout=rollout, helpers=helpers).terms

    together, alone = terms(rows), [terms([row], n) for n, row in enumerate(rows)]
    assert all(together.keys() == one.keys() for one in alone)
    every = nn.ModuleDict({"model": model, "helpers": helpers})
    for name, term in together.items():
        parts = sum(one[name] for one in alone)
        assert torch.isclose(term, parts, atol=1e-12), name
        if not term.requires_grad:
            continue
        found, truth = bed.gradient(every, term), bed.gradient(every, parts)
        for parameter in truth:
            assert torch.allclose(found[parameter], truth[parameter], rtol=1e-9, atol=1e-11), (name, parameter)
    learnt = bed.gradient(every, sum(together.values()))
    assert any(g.any() for name, g in learnt.items() if name.startswith("model.attention"))
    for name, helper in helpers.named_children():
        assert all(learnt[f"helpers.{name}.{one}"].any() for one, _ in helper.named_parameters()), name
