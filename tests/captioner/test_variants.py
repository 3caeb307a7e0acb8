"""Other scores, heads, cells and readouts: each against a plain second implementation or another library."""

from __future__ import annotations

import itertools

import pytest
import torch

from attend.attention.attention import Attention
from attend.attention.score import BilinearScore, DotScore, dot
from attend.attention.select import Expected, Sample
from attend.captioner.captioner import Captioner, Looking, decoding
from attend.captioner.layout import Step
from attend.captioner.search import beam_search, log_probs
from attend.data.text import SPECIALS
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.estimators.take import Given
from tests import bed, oracles

ROWS = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [4, 4, 5, 2]]]
WORDS = torch.tensor([[[4, 5, 2]]])


def residual(heads: int = 1, **attention) -> Captioner:
    """A captioner of the GRU kind; its features (4) divide into 1, 2 or 4 heads."""
    return bed.captioner(
        bed.settings(
            attention={"score": "dot", "width": 4, "heads": heads, **attention},
            decoder={
                "embedding": 4,
                "hidden": 5,
                "dropout": 0.0,
                "cell": "gru-residual",
                "gate": "none",
                "readout": "linear",
            },
        )
    )


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("hard", [False, True])
def test_the_residual_gru_is_the_plain_one(heads, hard):
    model, a = residual(heads), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, (*words.shape, heads), generator=torch.Generator().manual_seed(0))
    forced = (path if heads > 1 else path[..., 0]) if hard else None
    u = bed.along(model, a, words, lengths, forced)
    logits = u.spread(u.logits)
    for n, c in itertools.product(range(2), range(2)):
        plain = oracles.plain_residual_logits(model, a[n], ROWS[n][c], path[n, c] if hard else None)
        assert torch.allclose(logits[n, c, : len(plain)], plain, atol=1e-12)


@pytest.mark.parametrize("hard", [False, True])
def test_adaptive_attention_is_the_plain_one(hard):
    agrees_with(oracles.plain_adaptive_logits, bed.ADAPTIVE, hard, "decoder.sentinel_hidden.weight")


@pytest.mark.parametrize(
    ("looks", "hard"), [("last", False), ("last", True), ("every", False), ("shared", False), ("shared", True)]
)
@pytest.mark.parametrize(("blocks", "heads"), [(1, 1), (3, 5)])
def test_the_transformer_is_the_plain_one(blocks, heads, looks, hard):
    """A caption's word from its prefix alone is the word in the whole caption."""
    decoder = bed.TRANSFORMER | {"blocks": blocks, "heads": heads, "looks": looks}
    agrees_with(oracles.plain_transformer_logits, decoder, hard, "decoder.blocks.0.mix.weight")


def agrees_with(plain, decoder: dict, hard: bool, moved: str) -> None:
    """Logits of every caption, and the gradients of one, are those of the ``plain`` implementation."""
    model, a = bed.captioner(bed.settings(decoder=decoder)), bed.features(2)
    words, lengths = bed.captions(ROWS)
    path = torch.randint(bed.LOCATIONS, words.shape, generator=torch.Generator().manual_seed(0))
    u = bed.along(model, a, words, lengths, path if hard else None)
    logits = u.spread(u.logits)
    for n, c in itertools.product(range(2), range(2)):
        truth = plain(model, a[n], ROWS[n][c], path[n, c] if hard else None)
        assert torch.allclose(logits[n, c, : len(truth)], truth, atol=1e-12)
    ours, truth = (
        bed.gradient(model, (one * bed.uniform(*truth.shape)).sum()) for one in (logits[1, 1, : len(truth)], truth)
    )
    for name in truth:
        assert torch.allclose(ours[name], truth[name], rtol=1e-10, atol=1e-12), name
    assert truth[moved].any()


@pytest.mark.parametrize("hard", [False, True])
def test_the_gradient_of_the_residual_gru_is_the_plain_ones(hard):
    model, a = residual(2), bed.features()
    words, lengths = bed.captions([[[4, 5, 6, 2]]])
    path = torch.tensor([[[[2, 0], [0, 1], [1, 1], [0, 2]]]]) if hard else None
    ours = bed.gradient(model, bed.summed(bed.along(model, a, words, lengths, path)))
    plain = oracles.plain_residual_logits(model, a[0], words[0, 0].tolist(), path[0, 0] if hard else None)
    truth = bed.gradient(model, -torch.log_softmax(plain, -1)[torch.arange(4), words[0, 0]].sum())
    for name in truth:
        assert torch.allclose(ours[name], truth[name], rtol=1e-10, atol=1e-12), name


def test_the_gru_is_torchs():
    model = residual()
    cell = torch.nn.GRUCell(4, 5).double()
    with torch.no_grad():
        for ours, theirs in ((model.decoder.word_gates, "ih"), (model.decoder.hidden_gates, "hh")):
            getattr(cell, f"weight_{theirs}").copy_(ours.weight)
            getattr(cell, f"bias_{theirs}").copy_(ours.bias)
    memory = model.attention.memory(bed.features(2))
    look = Looking(model.attention, memory, Expected(), Step(0, 2, 3))
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    (hidden,) = model.decoder.start(memory, 3)
    assert not hidden.any()
    for _ in range(2):
        truth = cell(x.flatten(0, 1), hidden.flatten(0, 1))
        (hidden,), word = model.decoder.step((hidden,), model.decoder.word_gates(x), look)
        assert torch.allclose(hidden.flatten(0, 1), truth, atol=1e-12) and word.hidden is hidden


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_heads_are_those_of_torchs_multihead_attention(heads, masked):
    """Keys, values and queries of one width, and no projection after the heads."""
    torch.manual_seed(0)
    ours = Attention(DotScore(8, 8, width=8, heads=heads), 8, heads=heads).double()
    theirs = torch.nn.MultiheadAttention(8, heads, batch_first=True).double()
    value = ours.value or torch.nn.Linear(8, 8).double()
    with torch.no_grad():
        if heads == 1:  # one head reads the features as they are
            value.weight.copy_(torch.eye(8))
            value.bias.zero_()
        zero = torch.zeros(8).double()
        theirs.in_proj_weight.copy_(torch.cat([ours.score.query.weight, ours.score.key.weight, value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.score.query.bias, zero, value.bias]))
        theirs.out_proj.weight.copy_(torch.eye(8))
        theirs.out_proj.bias.zero_()
    a, hidden = torch.randn(2, 5, 8).double(), torch.randn(2, 3, 8).double()
    mask = torch.tensor([[True, True, False, True, True], [True, False, True, False, True]]) if masked else None
    found = ours(ours.memory(a, mask), hidden, Expected())
    context, alpha = theirs(hidden, a, a, key_padding_mask=None if mask is None else ~mask)
    assert torch.allclose(found.context, context, atol=1e-12) and torch.allclose(found.weights, alpha, atol=1e-12)


def test_the_dot_product_by_hand():
    keys, query = torch.tensor([[[1.0, 2.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0]]]), torch.tensor([[[1.0, 1.0, 1.0, 0.5]]])
    assert dot(keys, query).tolist() == [[[2.0, 1.5]]]


@pytest.mark.parametrize("heads", [1, 2])
def test_reinforce_is_the_gradient_of_the_bound_for_every_head(heads):
    """All (L^K)^T paths of K heads: the log-probability of a word's glimpses is the sum over its heads."""
    model, a, words = residual(heads), bed.features(), WORDS[..., :2]
    learner = bed.learner(bed.settings(attention={"select": "sample"}))
    ours, truth, whole = 0.0, 0.0, 0.0
    for way in itertools.product(range(bed.LOCATIONS), repeat=2 * heads):
        path = torch.tensor(way).view(1, 1, 2, heads)
        u = bed.along(model, a, words, bed.one_caption(words), path if heads > 1 else path[..., 0])
        probability = u.log_probs.sum().exp()
        ours = ours + probability.detach() * bed.loss(model, u, learner, Average.of([2.5]), words=1).total
        truth = truth + probability * bed.summed(u)
        whole = whole + probability
    assert torch.isclose(whole, torch.ones(()).double())
    truth = bed.gradient(model, truth)
    assert bed.distance(bed.gradient(model, ours), truth) < 1e-10
    assert sum(float(truth[f"attention.score.{part}.weight"].abs().sum()) for part in ("key", "query")) > 1e-3


def test_each_head_samples_in_proportion_to_its_own_weights():
    """Frequencies of both heads over many draws against alpha, and no dependence between them."""
    model, a, draws = residual(2, select="sample"), bed.features(), 4000
    words, lengths = torch.full((1, draws, 1), 4), torch.ones(1, draws, dtype=torch.long)
    glimpse = torch.rand(1, draws, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = []
    gathered = model.attention._together
    model.attention._together = lambda weights, chosen: (
        seen.append((weights, chosen.glimpse)) or gathered(weights, chosen)
    )
    model(a, words, lengths, Sample(glimpse))
    ((weights, glimpses),) = seen
    pairs = torch.zeros(3, 3)
    pairs.index_put_((glimpses[0], glimpses[1]), torch.ones(()), accumulate=True)
    truth = weights[0, 0][:, None] * weights[1, 0]
    assert not torch.allclose(weights[0], weights[1], atol=0.05)
    off = (pairs / draws - truth) / (truth * (1 - truth) / draws).sqrt()
    assert off.abs().max() < 4


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("decode", ["expected", "argmax", "sample"])
def test_search_scores_its_caption_as_a_teacher_forced_pass_does(heads, decode):
    """The score of the best hypothesis is the log-likelihood that a teacher-forced pass gives the same words."""
    model, a = residual(heads), bed.features(3)
    noise = torch.rand((3, 6, 4, heads), generator=torch.Generator().manual_seed(1))
    noise = noise[:, None, :, 0].expand(3, 4, 6, heads)  # every hypothesis draws the same, so the path can be forced
    noise = noise if heads > 1 else noise[..., 0]
    found = beam_search(model, a, decoding(decode, noise=noise), beam=4, max_length=6)
    bed.search_agrees(model, a, decode, noise, found)


def test_padding_never_changes_a_loss_of_the_residual_gru():
    model, a = residual(2), bed.features(2)
    words, lengths = bed.captions(ROWS)
    longer = model(a, torch.nn.functional.pad(words, (0, 3)), lengths)
    assert torch.allclose(longer.cost, model(a, words, lengths).cost)


def test_a_linear_readout_reads_the_state_alone():
    model, a = (
        bed.captioner(bed.settings(decoder={"embedding": 4, "hidden": 5, "dropout": 0.0, "readout": "linear"})),
        bed.features(),
    )
    u = model(a, WORDS, bed.one_caption(WORDS))
    memory, state = model.start(a)
    for t, previous in enumerate([SPECIALS.index("<start>"), 4, 5]):
        state, word = model.step(memory, state, torch.tensor([[previous]]), Expected(), t)
        by_hand = state[0][0, 0] @ model.decoder.logits.weight.T + model.decoder.logits.bias
        assert torch.allclose(u.logits[t], by_hand)
        assert torch.allclose(by_hand.log_softmax(-1), log_probs(word)[0, 0])
    assert not [name for name, _ in model.named_parameters() if "readout" in name]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attention": {"heads": 2}}, "only the learned score 'dot' has"),
        ({"attention": {"score": "dot", "heads": 3, "width": 8}}, "does not divide into 3 heads"),
        ({"decoder": {"cell": "gru-residual"}}, "set decoder.gate none and decoder.readout linear"),
    ],
)
def test_combinations_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words):
        bed.settings(**settings)


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ValueError, match="heads is 3, which does not divide the 4 features"):
        residual(3, width=6)


def test_the_bilinear_score_is_a_loop():
    """e_i = sum over h of h_k (W a_i)_k."""
    attention = Attention(BilinearScore(bed.FEATURES, 5), bed.FEATURES).double()
    a, hidden = bed.features(2), torch.randn(2, 3, 5, dtype=torch.float64)
    scores = attention.score(attention.memory(a).keys, hidden)
    weight = attention.score.key.weight
    for n, r, i in itertools.product(range(2), range(3), range(bed.LOCATIONS)):
        by_hand = sum(hidden[n, r, k] * (weight[k] * a[n, i]).sum() for k in range(5))
        assert torch.isclose(scores[n, r, i], by_hand)


@pytest.mark.thin
@pytest.mark.parametrize("name", ["reinforce", "enumeration", "marginal"])
@pytest.mark.parametrize("cell", [*bed.BLIND, "shared"])
def test_estimators_are_exact_with_every_decoder_that_is_fed_its_glimpses(cell, name):
    """REINFORCE in expectation over all paths, and the two exact ones, against the bound and the marginal."""
    rule = bed.settings(
        attention={"select": "sample"}, estimator={"name": name}, decoder=(bed.BLIND | {"shared": bed.SHARED})[cell]
    )
    model, a, words = bed.captioner(rule), bed.features(), torch.tensor([[[4, 5, 2]]])
    learner, lengths = bed.learner(rule), bed.one_caption(words)
    if name == "reinforce":
        ours = bed.expectation(model, a, words, lambda u: bed.loss(model, u, learner, words=1).total)
    else:
        u = learner.take(model, Given(a, words, lengths), Noise(glimpse=torch.zeros(1, 1, 3)))
        ours = bed.gradient(model, bed.loss(model, u, learner, words=1).total)
    truth = bed.gradient(model, (bed.marginal if name == "marginal" else bed.bound)(model, a, words))
    assert bed.distance(ours, truth) < 1e-10 and truth["attention.score.key.weight"].any()
