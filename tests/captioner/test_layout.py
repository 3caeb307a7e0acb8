"""Packed and padded layouts: their index numbers by hand, and equal values and gradients in every mode of the pass."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from torch import Tensor

from attend.attention.select import (
    Argmax,
    Expected,
    Forced,
    GumbelStraightThrough,
    Policy,
    Relaxed,
    Sample,
    StraightThrough,
    TopK,
)  # fmt: skip
from attend.captioner.captioner import Captioner
from attend.captioner.layout import Layout, OnDevice
from attend.captioner.unrolled import EveryLocation, Marginal, Readout
from attend.data.batches import wider
from attend.decoder.protocol import Dropout
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES
from attend.estimators.noise import Noise
from attend.estimators.take import Given, every_path
from attend.evaluation.health import health_sums
from attend.training.objective import loss_of
from tests import bed

SMALL = torch.tensor([[3, 1], [2, 2]])
ROWS = [[[4, 5, 6, 3, 2], [6, 2], []], [[5, 4, 2], [6, 3, 2], [2]], [[3, 2], [], []]]
WORDS, LENGTHS = bed.captions(ROWS)
SHAPE = tuple(WORDS.shape)
either_layout = pytest.mark.parametrize("bucket", [0, 4], ids=["packed", "padded"])


def test_the_packed_index_by_hand():
    """Rows of 3, 1, 2 and 2 words start at positions 0, 3, 6 and 9. Step 2 is the first row of the first image."""
    layout = Layout.of(SMALL, 3)
    assert layout.index.tolist() == [0, 3, 6, 9, 1, 7, 10, 2]
    assert layout.place.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert [(step.t, step.images, step.rows) for step in layout.steps] == [(0, 2, 2), (1, 2, 2), (2, 1, 1)]
    assert layout.live.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]  # of 4, 4 and 1 words, the second of step 1 does not exist
    assert (layout.words, layout.extent) == (8, 3)
    assert layout.mask is None


def test_the_padded_index_by_hand():
    """Every row has 4 positions, since 3 is rounded up to 4, and every step has all rows."""
    layout = Layout.of(SMALL, 3, bucket=4)
    assert layout.index.tolist() == [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]
    assert layout.place.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert [(step.t, step.images, step.rows) for step in layout.steps] == [(t, 2, 2) for t in range(4)]
    assert layout.live is None and (layout.words, layout.extent) == (8, 4)
    assert layout.mask.tolist() == [True] * 5 + [False, True, True, True] + [False] * 7
    assert layout.real.tolist() == [[[True] * 3, [True, False, False]], [[True, True, False]] * 2]


@either_layout
def test_samples_are_adjacent_rows(bucket):
    """A layout that is sampled later is the layout with K rows per caption from the start."""
    layout = Layout.of(SMALL, 3, bucket=bucket)
    sampled, direct = layout.sampled(2), Layout.of(SMALL, 3, 2, bucket=bucket)
    if not bucket:
        assert sampled.index.tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 1, 4, 13, 16, 19, 22, 2, 5]
    for name in ("index", "place", "real"):
        assert torch.equal(getattr(sampled, name), getattr(direct, name)), name
    values = torch.arange(len(layout.index))
    rows = layout.unpack(values).repeat_interleave(2, 1)
    assert torch.equal(sampled.unpack(layout.repeat(values, 2)), rows)


def inverse(layout: Layout) -> None:
    """``unpack`` is the inverse of ``pack`` at real words, and 0 at padding; ``join`` is the inverse of ``spread``."""
    values = torch.arange(1, 1 + layout.real.numel() * 2).view(*layout.real.shape, 2)
    real = values * layout.real[..., None]
    packed = layout.pack(values)
    assert torch.equal(layout.unpack(packed), real)
    assert torch.equal(layout.pack(layout.unpack(packed)), layout.pack(real))
    assert torch.equal(layout.join(layout.spread(packed)), packed)
    for step, part in zip(layout.steps, layout.spread(packed), strict=True):
        if step.t < layout.length:
            assert torch.equal(part, step.cut(values if layout.padded else real))


@either_layout
def test_pack_and_unpack_are_inverse(bucket):
    inverse(Layout.of(SMALL, 3, bucket=bucket))
    inverse(Layout.of(LENGTHS, 5, 3, bucket=bucket))


@pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])
@pytest.mark.parametrize("samples", [1, 3])
def test_what_drives_the_state_is_freed_once_the_state_has_read_it(monkeypatch, padded, samples):
    """It is the largest of the inputs (4 H numbers per word). Neither the pass nor the gradient keeps it; asked again,
    it is the same."""
    model, driving, kept = bed.captioner(bed.settings()), [], []
    model.padded, inputs = padded, model.decoder.inputs

    def recorded(*given):
        found = inputs(*given)
        driving.append(found.drive)
        return found

    monkeypatch.setattr(model.decoder, "inputs", recorded)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved) or saved, lambda saved: saved):
        u = model.unroll(bed.features(3), WORDS, LENGTHS, Expected(), samples=samples)
        u.ready()
    (drive,) = driving
    owner = drive.untyped_storage().data_ptr()
    assert owner not in {tensor.untyped_storage().data_ptr() for tensor in kept} and u.inputs.drive is None
    assert torch.equal(u.drive(), drive.repeat_interleave(samples, 0))


def test_the_words_of_each_image_by_hand():
    """Image 0 has the packed words 0, 1, 4 and 7. At most 3 are read at a time."""
    pieces, order = Layout.of(SMALL, 3).by_image(3)
    assert [(image, words.tolist()) for image, words in pieces] == [(0, [0, 1, 4]), (0, [7]), (1, [2, 3, 5]), (1, [6])]
    assert torch.cat([words for _, words in pieces])[order].tolist() == list(range(8))
    pieces, order = Layout.of(SMALL, 3, bucket=4).by_image(100)
    assert [(image, len(words)) for image, words in pieces] == [(0, 8), (1, 8)]
    assert pieces[0][1].tolist() == [0, 1, 4, 5, 8, 9, 12, 13]
    assert torch.cat([words for _, words in pieces])[order].tolist() == list(range(16))
    pieces, order = Layout.of(torch.zeros(2, 2, dtype=torch.long), 3).by_image(3)
    assert [(image, words.tolist()) for image, words in pieces] == [(0, [])] and order.tolist() == []


def test_sequences_are_those_of_the_captions():
    """Rows in order of length are 0, 2, 3 and 1. A recurrent layer has the outputs of the captions one by one."""
    layout = Layout.of(SMALL, 3)
    packed, ours = layout.sequences(torch.arange(8.0)[:, None])
    assert packed.batch_sizes.tolist() == [4, 3, 1]
    assert packed.data.flatten().tolist() == [0, 2, 3, 1, 4, 5, 6, 7]
    assert packed.data[ours].flatten().tolist() == list(range(8))
    torch.manual_seed(0)
    network, values = torch.nn.GRU(2, 3).double(), torch.randn(2, 2, 3, 2, dtype=torch.float64)
    truth = torch.zeros(2, 2, 3, 3, dtype=torch.float64)
    for n, r in torch.cartesian_prod(torch.arange(2), torch.arange(2)).tolist():
        truth[n, r, : SMALL[n, r]] = network(values[n, r, : SMALL[n, r]])[0]
    packed, ours = layout.sequences(layout.pack(values))
    assert torch.allclose(layout.unpack(network(packed)[0].data[ours]), truth, atol=1e-12)
    padded = Layout.of(SMALL, 3, bucket=4)
    whole, ours = padded.sequences(padded.pack(values))
    assert ours is None and whole.shape == (4, 4, 2)
    assert torch.allclose(padded.unpack(network(whole)[0].flatten(0, 1)), truth, atol=1e-12)


def close(ours: Tensor, truth: Tensor, name: object) -> None:
    assert ours.shape == truth.shape, name
    assert torch.allclose(ours, truth, rtol=1e-12, atol=1e-12), (name, float((ours - truth).abs().max()))


def values(u: Readout, again: Tensor | None = None) -> dict[str, Tensor]:
    """All that a pass may be asked for, at the places of its words."""
    found = {name: getattr(u, name).double() for name in ("costs", "weights", "gates", "glimpses", "log_probs", "real")}
    found["ranks"] = u.spread(u.ranks + 1).double() if u.logits is not None else u.costs
    found["query"], found["health"] = u.maps.spread(u.maps.query), health_sums(u).double()
    if u.proposal is not None:
        found["proposal"] = u.spread(u.proposal)
    stateless = u.maps.seen[0][1] is None and Policy not in u.maps.decoder.at_once  # a soft pass without a loop
    if again is not None and not (stateless and u is u.maps):
        found["again"] = u.again(again) * u.real
    return found


def agree(model: Captioner, unroll, again: Tensor | None = None, learned: torch.nn.Module | None = None) -> Tensor:
    """Both layouts have equal values, and equal gradients in all parameters and the features. Returns the costs."""
    every = torch.nn.ModuleList([model, *([] if learned is None else [learned])])
    found = []
    for padded in (False, True):
        model.padded, a = padded, bed.features(len(unroll.lengths)).requires_grad_()
        u = unroll(a)
        assert u.layout.padded is padded
        parts, total = values(u, again), a.sum() * 0
        for name in parts:
            total = total + (parts[name] * bed.uniform(*parts[name].shape, seed=len(name))).sum()
        (of_features,) = torch.autograd.grad(total, a, retain_graph=True)
        found.append(parts | {"features": of_features} | bed.gradient(every, total))
    packed, padded = found
    assert packed.keys() == padded.keys()
    for name in packed:
        assert torch.isfinite(packed[name]).all(), (unroll.policy, name)
        close(padded[name], packed[name], name)
    return packed["costs"]


class Unroll:
    """The pass over given captions, of features alone."""

    def __init__(self, model: Captioner, policy, words: Tensor = WORDS, lengths: Tensor = LENGTHS, **more) -> None:
        self.model, self.policy, self.words, self.lengths, self.more = model, policy, words, lengths, more

    def __call__(self, a: Tensor) -> Readout:
        return self.model(a, self.words, self.lengths, self.policy, **self.more)


DECODERS = {
    "plain": {"gate": "none", "readout_word": False},
    "scalar": {"gate": "scalar"},
    "vector": {"gate": "vector", "readout_hidden": False},
    "linear": {"readout": "linear"},
    **bed.BLIND,
    "shared": bed.SHARED,
}
ATTENTIONS = {
    "additive": {},
    "sparse": {"score": "bilinear", "simplex": "sparsemax"},
    "heads": {"score": "dot", "heads": 2, "width": 4},
    "first": {"weights": "first"},
    **{name: {"weights": name, "select": "expected"} for name in ("uniform", "centre", "random", "oracle")},
}


def policies(samples: int, heads: int, learned: torch.nn.Module | None, feed: str) -> dict:
    """Every policy, with noise for ``samples`` rows of each caption."""
    images, captions, length = SHAPE
    rows = (images, captions * samples, length)
    noise, places = bed.uniform(*rows, *([heads] if heads > 1 else [])), bed.uniform(*rows, bed.LOCATIONS, seed=1)
    soft = torch.zeros(rows, dtype=torch.bool)
    soft[0] = True
    path = (bed.uniform(*rows, seed=2) * bed.LOCATIONS).long()
    some = {
        "expected": Expected(), "argmax": Argmax(), "top-k": TopK(2), "sample": Sample(noise),
        "mixed": Sample(noise, soft),
        "forced": Forced(path), "then-argmax": Forced(path, 2, Argmax()), "then-soft": Forced(path, 2, Expected()),
    }  # fmt: skip
    if heads == 1:
        some |= {
            "relaxed": Relaxed(places, 0.7), "straight": StraightThrough(noise),
            "gumbel-straight": GumbelStraightThrough(places, 0.7),
        }  # fmt: skip
    if learned is not None:
        proposal = learned(Given(bed.features(images), WORDS, LENGTHS), samples)
        some["proposal"] = Sample(noise, soft, proposal)
    if feed == "expected" and samples == 1:
        some |= {"marginal": Marginal(), "all": EveryLocation()}
    return some


def modes():
    """Every mode; `make test` has one and three samples of the paper's decoder, and three of the others."""
    for decoder, (attention, chosen), samples in itertools.product(DECODERS, ATTENTIONS.items(), [1, 3]):
        if (decoder, attention) == ("adaptive", "heads"):
            continue
        marks = [pytest.mark.slow] if samples == 1 and decoder != "scalar" else []
        yield pytest.param(decoder, attention, "glimpse", samples, marks=marks)
        if "select" not in chosen and attention != "heads" and decoder != "linear":
            yield pytest.param(decoder, attention, "expected", samples, marks=marks)


@pytest.mark.thin
@pytest.mark.parametrize(("decoder", "attention", "feed", "samples"), list(modes()))
def test_packed_and_padded_are_equal_in_every_mode(decoder, attention, feed, samples):
    """Under dropout and with locations that do not exist, for every policy."""
    chosen = {"select": "sample", "feed": feed} | ({} if attention == "first" else ATTENTIONS[attention])
    rule = bed.settings(attention=chosen, decoder=DECODERS[decoder], train={"monitor": "nll"})
    model, grid = bed.captioner(rule, grid=(1, bed.LOCATIONS)), (*SHAPE, bed.LOCATIONS)
    model.attention.look = ATTENTIONS[attention].get("weights", "learned")
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])
    drop = Dropout(bed.uniform(*SHAPE, 4), bed.uniform(*SHAPE, 5, seed=1), bed.uniform(*SHAPE, 4, seed=2))
    shown = bed.uniform(*grid, seed=3) if attention in ("random", "oracle") else None
    heads, learned = rule.attention.heads, None
    if heads == 1 and attention != "first":
        learned = bed.learner(bed.hard(feed, name="variational")).learned
    for name, policy in policies(samples, heads, learned, feed).items():
        if feed == "expected" and not policy.picks and samples > 1:
            continue  # soft attention has no samples to read
        again = None
        if heads == 1 and attention != "first" and name not in ("marginal", "all"):
            rows = (SHAPE[0], SHAPE[1] * samples, SHAPE[2], bed.LOCATIONS)
            again = torch.softmax(bed.uniform(*rows, seed=4), -1)
        unroll = Unroll(model, policy, samples=samples, drop=drop, shown=shown, mask=mask)
        assert agree(model, unroll, again, learned).any(), name


RULES = [
    *({"name": name} for name in ESTIMATORS),
    *({"baseline": name} for name in BASELINES),
    *({"baseline": name, "rollout": "prefix"} for name, one in BASELINES.items() if one.rollout),
    *({"name": name, "baseline": "learned"} for name in ("rebar", "relax", "variational")),
    *({"baseline": name, "cost": "sentence"} for name in ("average-per-word", "learned")),
]


def losses_agree(rule, words: Tensor, lengths: Tensor) -> Tensor:
    """The whole loss of a minibatch is equal in both layouts, with all terms and gradients, and as well if only the
    device knows the lengths. Returns the total."""
    model, learner = bed.captioner(rule), bed.learner(rule)
    every, found = torch.nn.ModuleList([model, learner]), []
    noise = bed.double(Noise.draw(rule, tuple(words.shape), 0, 0, bed.LOCATIONS))
    shares = bed.uniform(*words.shape, bed.LOCATIONS, seed=1)
    a = bed.features(len(words))
    known = bed.batch(a, words, lengths, shares)
    unknown = replace(known.widened(8), lengths=OnDevice(lengths), whole=OnDevice(lengths))
    enumerated = learner.rule.take is every_path and not model.apart  # every word more has L times as many paths
    forms = [(False, known, noise), (True, known, noise), (True, unknown, noise.widened(8))]
    for model.padded, batch, drawn in forms[: 3 if learner.rule.static and not enumerated else 2]:
        u, loss = loss_of(model, a, batch, drawn, learner, learner.start())
        observed = {} if loss.observed is None else {"observed": wider(loss.observed[None], 8)}
        found.append(loss.terms | observed | {"health": health_sums(u)} | bed.gradient(every, loss.total))
    packed, *others = found
    for other in others:
        assert packed.keys() == other.keys()
        for name in packed:  # the sums of health are in fp32, and of as many more zeros
            close(other[name], packed[name], name) if name != "health" else torch.testing.assert_close(
                other[name], packed[name]
            )
    assert all(torch.isfinite(value).all() for value in packed.values())
    return loss.total


def hard(feed: str, rule: dict):
    fewer = {"samples": 3} if rule.get("name") in ("sum-and-sample", "unordered-set") else {}
    return bed.settings(
        attention={"select": "sample", "feed": feed},
        estimator={"entropy": 0.3, "semi": None} | fewer | rule,
        objective={"doubly_stochastic": 0.7, "supervised": 0.4},
        decoder={"dropout": 0.3, "dropout_words": 0.2},
    )


@pytest.mark.thin
@bed.either_feed
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule.values()))
def test_whole_losses_are_equal_for_every_rule(feed, rule):
    if feed == "expected" and ("rollout" in rule or rule.get("name") == "xu2015-code"):
        pytest.skip("this rule needs a state that has read the glimpses")
    assert losses_agree(hard(feed, rule), WORDS, LENGTHS) > 0


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("select", ["expected", "sample"])
def test_a_minibatch_without_any_word(decoder, select):
    """Its costs are 0. Its gradient is 0, and exists for every parameter that has one in a minibatch of one word."""
    words, none = torch.zeros(2, 2, 3, dtype=torch.long), torch.zeros(2, 2, dtype=torch.long)
    rule = bed.settings(attention={"select": select}, decoder=DECODERS[decoder])
    model = bed.captioner(rule)
    assert losses_agree(rule, words, none) == 0
    model.padded = False
    model(bed.features(1), *bed.captions([[[2]]])).costs.sum().backward()
    used = [p for p in model.parameters() if p.grad is not None]
    for model.padded in (False, True):
        model.zero_grad()
        model(bed.features(2), words, none).costs.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in used)
    inverse(Layout.of(none, 3))
    inverse(Layout.of(none, 3, bucket=4))


@st.composite
def lengths(draw) -> Tensor:
    images, rows = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return torch.tensor(
        draw(st.lists(st.lists(st.integers(0, 6), min_size=rows, max_size=rows), min_size=images, max_size=images))
    )


@either_layout
@tries(max_examples=60, deadline=None)
@given(lengths=lengths(), samples=st.integers(1, 3), longer=st.integers(0, 3))
def test_pack_and_unpack_are_inverse_for_any_lengths(bucket, lengths, samples, longer):
    layout = Layout.of(lengths, max(1, int(lengths.max())) + longer, samples, bucket=bucket)
    inverse(layout)
    pieces, order = layout.by_image(2)
    moved = torch.cat([words for _, words in pieces])
    assert all(len(words) <= 2 for _, words in pieces)
    assert torch.equal(moved[order], torch.arange(len(layout.index)))


@bed.either_feed
@pytest.mark.parametrize("decoder", ["scalar", "gru"])
@tries(max_examples=15, deadline=None)
@given(lengths=lengths(), samples=st.integers(1, 2), longer=st.integers(0, 2))
def test_packed_and_padded_are_equal_for_any_lengths(feed, decoder, lengths, samples, longer):
    rule = bed.settings(attention={"select": "sample", "feed": feed}, decoder=DECODERS[decoder])
    model, length = bed.captioner(rule), max(1, int(lengths.max())) + longer
    images, captions = lengths.shape
    words = (bed.uniform(images, captions, length, seed=5) * (bed.WORDS - 1)).long() + 1
    words = words * (torch.arange(length) < lengths[..., None])
    policy = Sample(bed.uniform(images, captions * samples, length))
    agree(model, Unroll(model, policy, words, lengths, samples=samples))
