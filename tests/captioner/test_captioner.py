"""The captioner against a plain second implementation, and the identities it must keep."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch

from attend.attention.select import Argmax, Expected, Sample
from attend.captioner.captioner import decoding
from attend.captioner.search import log_probs
from attend.decoder.protocol import Dropout
from attend.estimators.noise import Noise
from attend.model import build_captioner
from attend.training.objective import doubly_stochastic
from tests import bed
from tests.oracles import plain_logits

ROWS = [[[4, 5, 6, 3, 2], [5, 6, 2]], [[6, 4, 2], [4, 2]]]
DECODERS = [
    {"gate": gate, "readout_word": word, "readout_hidden": hidden, "readout_context": context}
    for gate, (word, hidden, context) in itertools.product(
        ["none", "scalar", "vector"], [(True, True, True), (False, True, False), (True, False, True)]
    )
]


@pytest.mark.parametrize("decoder", [*DECODERS, {"initial": "linear"}, {"initial": "zeros"}])
@pytest.mark.parametrize("attention", [{}, {"activation": "relu", "temperature": 0.5}])
@pytest.mark.parametrize("hard", [False, True])
def test_logits_equal_a_plain_second_implementation(decoder, attention, hard):
    settings = bed.settings(
        decoder={"embedding": 4, "hidden": 5, "dropout": 0.0} | decoder, attention={"width": 5} | attention
    )
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, words.shape, generator=torch.Generator().manual_seed(3)) if hard else None
    u = bed.along(model, a, words, lengths, path)
    logits = u.spread(u.logits)
    for n, image in enumerate(ROWS):
        for c, caption in enumerate(image):
            way = path[n, c].tolist() if hard else None
            truth, maps = plain_logits(model, a[n], caption, way)
            assert torch.allclose(logits[n, c, : len(caption)], truth, atol=1e-12)
            assert torch.allclose(u.weights[n, c, : len(caption)], maps, atol=1e-12)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("hard", [False, True])
def test_gradients_equal_those_of_the_plain_second_implementation(decoder, hard):
    """The gradient of cost and log alpha(path) reaches every parameter by every way."""
    model, a = bed.captioner(bed.settings(decoder=decoder)), bed.features()
    words, lengths = bed.captions([[[4, 5, 6, 2]]])
    path = torch.tensor([[[2, 0, 1, 0]]]) if hard else None
    u = bed.along(model, a, words, lengths, path)
    ours = bed.gradient(model, bed.summed(u) + u.log_probs.sum())
    logits, maps = plain_logits(model, a[0], words[0, 0].tolist(), path[0, 0].tolist() if hard else None)
    cost = -torch.log_softmax(logits, -1)[torch.arange(4), words[0, 0]].sum()
    truth = bed.gradient(model, cost + (maps[torch.arange(4), path[0, 0]].log().sum() if hard else 0.0))
    for name in truth:
        assert torch.allclose(ours[name], truth[name], rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("decoder", [*DECODERS, {"readout": "linear"}, *bed.BLIND.values()])
@pytest.mark.parametrize("hard", [False, True])
def test_the_maps_of_the_context_may_be_applied_to_the_features(decoder, hard, monkeypatch):
    """Loss and every gradient, with dropout and half the rows soft; with a vector gate the two do not commute."""
    settings = bed.settings(
        decoder={"dropout": 0.5} | decoder,
        attention={"select": "sample" if hard else "expected"},
        estimator={"semi": 0.5},
    )
    model, (words, lengths) = bed.captioner(settings), bed.captions(ROWS)
    noise = bed.double(Noise.draw(settings, tuple(words.shape), 0, 0))
    policy = Sample(noise.glimpse, noise.mixed) if hard else Expected()
    found, projected = [], []
    for places in ("features", "context"):
        if places == "context":
            monkeypatch.setattr(type(model.decoder), "memory", lambda self, memory, words=0: memory)
        u = model(bed.features(2), words, lengths, policy, drop=noise.drop)
        projected.append(u.memory.projected)
        cost = bed.summed(u) + (u.log_probs * u.real).sum()
        found.append({"cost": cost} | bed.gradient(model, cost))
    assert projected == [decoder.get("gate") != "vector", False]
    for name, ours in found[0].items():
        assert torch.allclose(ours, found[1][name], rtol=1e-10, atol=1e-12), name


def test_the_maps_are_applied_to_the_features_only_if_that_is_less_work():
    """Two products per location against three per word; three per location if features need a gradient."""
    model = bed.captioner(bed.settings())

    def projected(words: int, tuned: bool = False) -> bool:
        a = bed.features(2, locations=6).requires_grad_(tuned)
        return model.decoder.memory(model.attention.memory(a), words).projected

    assert projected(9) and not projected(8)
    assert projected(13, tuned=True) and not projected(12, tuned=True)


def test_a_step_equals_a_word_of_the_unrolled_pass():
    """Search takes single steps of the same model."""
    model, a = bed.captioner(bed.settings()), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2]], [[6, 3, 2]]])
    u = model(a, words, lengths)
    memory, state = model.start(a)
    previous = torch.ones(2, 1, dtype=torch.long)
    truth = torch.log_softmax(u.logits, -1).view(3, 2, -1)
    for t in range(3):
        state, word = model.step(memory, state, previous, Expected(), t)
        assert torch.allclose(log_probs(word)[:, 0], truth[t], atol=1e-12)
        assert torch.allclose(word.gates[:, 0, 0], u.gates[:, 0, t])
        previous = words[:, :, t]


def test_soft_is_hard_when_alpha_is_one_hot():
    model, a = bed.captioner(bed.settings(attention={"temperature": 1e-4})), bed.features(2)
    words, lengths = bed.captions(ROWS)
    soft, hard = (model(a, words, lengths, policy) for policy in (Expected(), Argmax()))
    assert torch.allclose(soft.weights.amax(-1)[soft.real], torch.ones(1).double())
    assert torch.allclose(soft.logits, hard.logits, atol=1e-12)
    assert torch.equal(hard.glimpses[hard.real], soft.weights.argmax(-1)[soft.real])


def test_soft_and_hard_differ_otherwise():
    model, a = bed.captioner(bed.settings()), bed.features(2)
    words, lengths = bed.captions(ROWS)
    soft, hard = (model(a, words, lengths, policy) for policy in (Expected(), Argmax()))
    assert not torch.allclose(soft.logits, hard.logits, atol=1e-3)


@pytest.mark.parametrize("select", ["expected", "argmax"])
def test_masking_is_dropping_locations(select):
    model, a = bed.captioner(bed.settings()), bed.features(2, locations=6)
    words, lengths = bed.captions(ROWS)
    mask = torch.tensor([[True, False, True, True, False, False]]).expand(2, -1)
    masked = model(a, words, lengths, decoding(select), mask=mask)
    dropped = model(a[:, mask[0]], words, lengths, decoding(select))
    assert torch.allclose(masked.logits, dropped.logits, atol=1e-12)
    assert torch.allclose(masked.weights[..., mask[0]], dropped.weights)
    assert not masked.weights[..., ~mask[0]].any()


@pytest.mark.parametrize("hard", [False, True])
def test_padding_never_changes_a_loss(hard):
    """More padding, captions in another order and images in another order: the same loss and gradient."""
    settings = bed.settings(
        attention={"select": "sample" if hard else "expected"}, objective={"doubly_stochastic": 1.0}
    )
    model, learner, a = bed.captioner(settings), bed.learner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, words.shape, generator=torch.Generator().manual_seed(3)) if hard else None

    def loss(a, words, lengths, path):
        return bed.loss(model, bed.along(model, a, words, lengths, path), learner, hard=False).total

    first = loss(a, words, lengths, path)
    padded = torch.nn.functional.pad(words, (0, 4, 0, 1))
    longer = torch.nn.functional.pad(lengths, (0, 1))
    wider = None if path is None else torch.nn.functional.pad(path, (0, 4, 0, 1))
    second = loss(a, padded, longer, wider)
    flip = lambda x: None if x is None else x.flip(0).flip(1)  # noqa: E731
    third = loss(a.flip(0), flip(words), flip(lengths), flip(path))
    truth = bed.gradient(model, first)
    for other in (second, third):
        assert torch.isclose(first, other, atol=1e-12)
        assert bed.distance(bed.gradient(model, other), truth) < 1e-12


def test_keys_per_image_equal_keys_computed_at_each_word():
    model, a = bed.captioner(bed.settings()), bed.features(2)
    words, lengths = bed.captions(ROWS)
    hoisted = model(a, words, lengths)
    score = model.attention.score
    forward = type(score).forward
    score.forward = lambda keys, hidden: forward(score, score.keys(a[: len(hidden)]), hidden)
    assert torch.allclose(model(a, words, lengths).logits, hoisted.logits, atol=1e-12)


def test_rows_share_features_and_keys_by_view():
    model, a = bed.captioner(bed.settings()), bed.features(2)
    memory = model.attention.memory(a)
    near = memory.first(1)
    for part in ("plain", "falling"):
        assert getattr(near.keys, part).data_ptr() == getattr(memory.keys, part).data_ptr()
    assert near.features.data_ptr() == a.data_ptr()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("target", ["one", "length"])
def test_doubly_stochastic_penalty_by_loops(reduce, target):
    settings = bed.settings(objective={"reduce": reduce, "target": target})
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    u = model(a, words, lengths)
    by_hand, count = 0.0, 0
    for n, c in itertools.product(range(2), range(2)):
        length = int(lengths[n, c])
        goal = 1.0 if target == "one" else length / bed.LOCATIONS
        for i in range(bed.LOCATIONS):
            by_hand += (goal - u.weights[n, c, :length, i].sum().item()) ** 2
            count += 1
    if reduce == "mean":
        by_hand = by_hand / count * int(lengths.sum())
    assert float(doubly_stochastic(u, settings.objective).detach()) == pytest.approx(by_hand)


def test_dropout_noise_is_keyed_by_seed_and_step():
    settings = bed.settings(decoder={"embedding": 4, "hidden": 5, "dropout": 0.5}, attention={"select": "sample"})
    draw = partial(Noise.draw, settings, (2, 2, 5))
    one, again, other = draw(0, 7), draw(0, 7), draw(0, 8)
    assert not torch.equal(one.glimpse, draw(1, 7).glimpse)
    assert torch.equal(one.drop.hidden, again.drop.hidden) and not torch.equal(one.drop.hidden, other.drop.hidden)
    assert set(one.drop.deep.unique().tolist()) == {0.0, 2.0}
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    logits = [
        model(a, words, lengths, Sample(noise.glimpse, noise.mixed), drop=noise.drop).logits
        for noise in (one, again, other)
    ]
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("cell", [{}, *bed.BLIND.values()])
def test_a_dropped_word_is_one_without_an_embedding(cell):
    """It reaches neither the gates nor the readout; dropout of the state and the deep output is another."""
    settings = bed.settings(decoder={"embedding": 4, "hidden": 5, "dropout": 0.0, "dropout_words": 0.5} | cell)
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    drop = Noise.draw(settings, tuple(words.shape), 0, 0).drop
    assert drop.hidden is None and set(drop.words.unique().tolist()) == {0.0, 2.0}
    logits = {
        factor: model(a, words, lengths, drop=Dropout(words=torch.full_like(drop.words, factor))).logits
        for factor in (0.0, 1.0)
    }
    assert torch.equal(logits[1.0], model(a, words, lengths).logits)
    torch.nn.init.zeros_(model.decoder.embedding.weight)
    assert torch.equal(logits[0.0], model(a, words, lengths).logits)


def test_the_start_follows_the_paper():
    """U(-0.1, 0.1) for embeddings and LSTM weights, zero gate biases."""
    decoder = build_captioner(bed.settings(), 50, 400).decoder
    for layer in (decoder.embedding, decoder.word_gates, decoder.context_gates, decoder.hidden_gates):
        assert 0.08 < float(layer.weight.detach().abs().max()) <= 0.1
    assert not decoder.word_gates.bias.any()


def test_controls_have_no_attention_parameters():
    for weights in ("uniform", "oracle"):
        settings = bed.settings(attention={"weights": weights}, train={"monitor": "nll"})
        model, a = bed.captioner(settings), bed.features(2)
        assert not list(model.attention.parameters())
        words, lengths = bed.captions(ROWS)
        shares = torch.zeros(2, 2, 5, bed.LOCATIONS).double()
        shares[0, 0, 1] = torch.tensor([0.0, 0.5, 1.5])
        u = model(a, words, lengths, shown=shares)
        flat = torch.full((bed.LOCATIONS,), 1 / bed.LOCATIONS).double()
        boxed = torch.tensor([0.0, 0.25, 0.75]).double() if weights == "oracle" else flat
        assert torch.allclose(u.weights[0, 0, 1], boxed) and torch.allclose(u.weights[0, 0, 0], flat)
