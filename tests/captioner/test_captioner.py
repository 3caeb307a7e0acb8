"""The captioner against a plain second implementation, and the identities it must keep."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

from attend.attention import select as selections
from attend.captioner.captioner import Noise
from attend.captioner.traces import negative_log_likelihood
from attend.training.objective import doubly_stochastic, objective
from tests import bed
from tests.oracles import plain_logits

ROWS = [[[4, 5, 6, 3, 2], [5, 6, 2]], [[6, 4, 2], [4, 2]]]
DECODERS = [
    {"gate": gate, "readout_word": word, "readout_hidden": hidden, "readout_context": context}
    for gate, (word, hidden, context) in itertools.product(
        ["none", "scalar", "vector"], [(True, True, True), (False, True, False), (True, False, True)]
    )
]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("attention", [{}, {"activation": "relu", "temperature": 0.5}])
@pytest.mark.parametrize("hard", [False, True])
def test_logits_equal_a_plain_second_implementation(decoder, attention, hard):
    settings = bed.settings(
        decoder={"embedding": 4, "hidden": 5, "dropout": 0.0} | decoder, attention={"width": 5} | attention
    )
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, words.shape, generator=torch.Generator().manual_seed(3)) if hard else None
    trace = model(a, words, lengths, path=path)
    logits = [trace.spread(column) for column in trace.logits.T]
    for n, image in enumerate(ROWS):
        for c, caption in enumerate(image):
            way = path[n, c].tolist() if hard else None
            truth, maps = plain_logits(model, a[n], caption, way)
            ours = torch.stack([column[n, c, : len(caption)] for column in logits], dim=-1)
            assert torch.allclose(ours, truth, atol=1e-12)
            assert torch.allclose(trace.weights[n, c, : len(caption)], maps, atol=1e-12)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("hard", [False, True])
def test_gradients_equal_those_of_the_plain_second_implementation(decoder, hard):
    """Of the words' cost and, hard, of log alpha on the path too, for every parameter: no path back is cut."""
    model, a = bed.captioner(bed.settings(decoder=decoder)), bed.features()
    words, lengths = bed.captions([[[4, 5, 6, 2]]])
    path = torch.tensor([[[2, 0, 1, 0]]]) if hard else None
    trace = model(a, words, lengths, path=path)
    ours = bed.gradient(model, negative_log_likelihood(trace).sum() + trace.log_probs.sum())
    logits, maps = plain_logits(model, a[0], words[0, 0].tolist(), path[0, 0].tolist() if hard else None)
    cost = -torch.log_softmax(logits, -1)[torch.arange(4), words[0, 0]].sum()
    truth = bed.gradient(model, cost + (maps[torch.arange(4), path[0, 0]].log().sum() if hard else 0.0))
    for name in truth:
        assert torch.allclose(ours[name], truth[name], rtol=1e-10, atol=1e-12), name


GRU = {"cell": "gru-residual", "gate": "none", "readout": "linear"}


@pytest.mark.parametrize("decoder", [*DECODERS, {"readout": "linear"}, GRU])
@pytest.mark.parametrize("hard", [False, True])
def test_maps_of_the_context_may_be_taken_of_the_features_instead(decoder, hard, monkeypatch):
    """Loss and every gradient, with dropout and half the rows soft; a vector gate stands between and forbids it."""
    settings = bed.settings(
        decoder={"dropout": 0.5} | decoder,
        attention={"select": "sample" if hard else "expected"},
        estimator={"semi": 0.5},
    )
    model, (words, lengths) = bed.captioner(settings), bed.captions(ROWS)
    noise = Noise.draw(settings, tuple(words.shape), 0, 0)
    noise = replace(noise, drop_hidden=noise.drop_hidden.double(), drop_deep=noise.drop_deep.double())
    found, projected = [], []
    for places in ("features", "context"):
        if places == "context":
            monkeypatch.setattr(type(model), "_project", lambda self, memory, words: memory)
        else:
            memory = model._project(model.attention.memory(bed.features(2)), int(lengths.sum()))
            projected.append(memory.projected)
        trace = model(bed.features(2), words, lengths, select=settings.attention.select, noise=noise)
        cost = negative_log_likelihood(trace).sum() + (trace.log_probs * trace.real).sum()
        found.append({"cost": cost} | bed.gradient(model, cost))
    assert projected == [decoder.get("gate") != "vector"]
    for name, ours in found[0].items():
        assert torch.allclose(ours, found[1][name], rtol=1e-10, atol=1e-12), name


def test_maps_are_taken_of_the_features_only_where_that_is_less_work():
    """2 products a location against 3 a word; a tuned encoder needs the gradient of its features: 3 against 3."""
    model = bed.captioner(bed.settings())

    def projected(words: int, tuned: bool = False) -> bool:
        a = bed.features(2, locations=6).requires_grad_(tuned)
        return model._project(model.attention.memory(a), words).projected

    assert projected(9) and not projected(8)
    assert projected(13, tuned=True) and not projected(12, tuned=True)


def test_step_says_what_the_trace_says():
    """Search's single steps and the unrolled pass are the same model."""
    model, a = bed.captioner(bed.settings()), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2]], [[6, 3, 2]]])
    trace = model(a, words, lengths)
    memory = model.attention.memory(a)
    state, previous = model.decoder.start(memory, 1), torch.ones(2, 1, dtype=torch.long)
    truth = torch.log_softmax(trace.logits, -1).view(3, 2, -1)
    for t in range(3):
        state, glance = model.step(memory, state, previous, selections.expected)
        assert torch.allclose(glance.log_probs[:, 0], truth[t], atol=1e-12)
        assert torch.allclose(glance.gate[:, 0], trace.gates[:, 0, t])
        previous = words[:, :, t]


def test_soft_is_hard_when_alpha_is_one_hot():
    model, a = bed.captioner(bed.settings(attention={"temperature": 1e-4})), bed.features(2)
    words, lengths = bed.captions(ROWS)
    soft, hard = (model(a, words, lengths, select=name) for name in ("expected", "argmax"))
    assert torch.allclose(soft.weights.amax(-1)[soft.real], torch.ones(1).double())
    assert torch.allclose(soft.logits, hard.logits, atol=1e-12)
    assert torch.equal(hard.glimpses[hard.real], soft.weights.argmax(-1)[soft.real])


def test_soft_and_hard_differ_otherwise():
    model, a = bed.captioner(bed.settings()), bed.features(2)
    words, lengths = bed.captions(ROWS)
    soft, hard = (model(a, words, lengths, select=name) for name in ("expected", "argmax"))
    assert not torch.allclose(soft.logits, hard.logits, atol=1e-3)


@pytest.mark.parametrize("select", ["expected", "argmax"])
def test_masking_is_dropping_locations(select):
    model, a = bed.captioner(bed.settings()), bed.features(2, locations=6)
    words, lengths = bed.captions(ROWS)
    mask = torch.tensor([[True, False, True, True, False, False]]).expand(2, -1)
    masked = model(a, words, lengths, select=select, mask=mask)
    dropped = model(a[:, mask[0]], words, lengths, select=select)
    assert torch.allclose(masked.logits, dropped.logits, atol=1e-12)
    assert torch.allclose(masked.weights[..., mask[0]], dropped.weights)
    assert not masked.weights[..., ~mask[0]].any()


@pytest.mark.parametrize("hard", [False, True])
def test_padding_never_changes_a_loss(hard):
    """More padding, captions in another order and images in another order: the same loss and gradient."""
    settings = bed.settings(
        attention={"select": "sample" if hard else "expected"}, objective={"doubly_stochastic": 1.0}
    )
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, words.shape, generator=torch.Generator().manual_seed(3)) if hard else None

    def loss(a, words, lengths, path):
        return objective(model(a, words, lengths, path=path), settings, None).total

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


def test_hoisted_keys_are_keys_computed_at_each_word():
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
    assert near.keys.data_ptr() == memory.keys.data_ptr() and near.features.data_ptr() == a.data_ptr()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("target", ["one", "length"])
def test_doubly_stochastic_penalty_by_loops(reduce, target):
    settings = bed.settings(objective={"reduce": reduce, "target": target})
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    trace = model(a, words, lengths)
    by_hand, count = 0.0, 0
    for n, c in itertools.product(range(2), range(2)):
        length = int(lengths[n, c])
        goal = 1.0 if target == "one" else length / bed.LOCATIONS
        for i in range(bed.LOCATIONS):
            by_hand += (goal - trace.weights[n, c, :length, i].sum().item()) ** 2
            count += 1
    if reduce == "mean":
        by_hand = by_hand / count * int(lengths.sum())
    assert float(doubly_stochastic(trace, settings.objective).detach()) == pytest.approx(by_hand)


def test_dropout_noise_is_keyed_by_seed_and_step():
    settings = bed.settings(decoder={"embedding": 4, "hidden": 5, "dropout": 0.5}, attention={"select": "sample"})
    draw = partial(Noise.draw, settings, (2, 2, 5))
    one, again, other = draw(0, 7), draw(0, 7), draw(0, 8)
    assert not torch.equal(one.glimpse, draw(1, 7).glimpse)
    assert torch.equal(one.drop_hidden, again.drop_hidden) and not torch.equal(one.drop_hidden, other.drop_hidden)
    assert set(one.drop_deep.unique().tolist()) == {0.0, 2.0}
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    traces = [model(a, words, lengths, select="sample", noise=noise) for noise in (one, again, other)]
    assert torch.equal(traces[0].logits, traces[1].logits) and not torch.equal(traces[0].logits, traces[2].logits)


@pytest.mark.parametrize("cell", [{}, {"cell": "gru-residual", "gate": "none", "readout": "linear"}])
def test_a_dropped_word_is_one_without_an_embedding(cell):
    """It reaches neither the gates nor the readout; dropout of the state and the deep output is another."""
    settings = bed.settings(decoder={"embedding": 4, "hidden": 5, "dropout": 0.0, "dropout_words": 0.5} | cell)
    model, a = bed.captioner(settings), bed.features(2)
    words, lengths = bed.captions(ROWS)
    noise = Noise.draw(settings, tuple(words.shape), 0, 0)
    assert noise.drop_hidden is None and set(noise.drop_words.unique().tolist()) == {0.0, 2.0}
    said = {
        factor: model(a, words, lengths, noise=replace(noise, drop_words=torch.full_like(noise.drop_words, factor)))
        for factor in (0.0, 1.0)
    }
    assert torch.equal(said[1.0].logits, model(a, words, lengths).logits)
    torch.nn.init.zeros_(model.decoder.embedding.weight)
    assert torch.equal(said[0.0].logits, model(a, words, lengths).logits)


def test_the_start_follows_the_paper():
    """U(-0.1, 0.1) for embeddings and LSTM weights, zero gate biases."""
    from attend.captioner.captioner import Captioner

    decoder = Captioner(bed.settings(), 50, 400).decoder
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
        trace = model(a, words, lengths, shares=shares)
        flat = torch.full((bed.LOCATIONS,), 1 / bed.LOCATIONS).double()
        looked = torch.tensor([0.0, 0.25, 0.75]).double() if weights == "oracle" else flat
        assert torch.allclose(trace.weights[0, 0, 1], looked) and torch.allclose(trace.weights[0, 0, 0], flat)
