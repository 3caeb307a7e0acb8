"""All words at once equal a loop over single steps, in value and gradient, for decoders that need no loop over time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attend.attention.select import Argmax, Expected, Forced, Policy, Sample
from attend.captioner.captioner import Captioner
from attend.data.text import SPECIALS, START
from attend.decoder.protocol import Dropout
from tests import bed

ROWS = [[[4, 5, 6, 3, 2], [5, 6, 2]], [[6, 4, 2], [4, 2]]]
DECODERS = bed.BLIND | {"every block looks": bed.EVERY, "blocks share a look": bed.SHARED}
PROBED = {
    "gru": ("decoder.hidden_gates.weight",),
    "adaptive": ("decoder.lstm.weight_hh_l0", "decoder.sentinel_hidden.weight", "decoder.sentinel_image.weight"),
    "transformer": ("decoder.blocks.0.mix.weight", "decoder.blocks.1.mix.weight"),
    "every block looks": ("decoder.blocks.0.context.weight", "decoder.blocks.1.query.weight"),
    "blocks share a look": ("decoder.blocks.0.context.weight", "decoder.blocks.0.query.weight"),
}


def policy_of(name: str, samples: int) -> Policy:
    """A policy for K rows per caption: soft, hard, semi-sampled, forced, or forced up to a word."""
    noise = bed.uniform(2, 2 * samples, 5)
    soft = torch.tensor([[True], [False]])[..., None].expand(noise.shape)
    path = (bed.uniform(*noise.shape, seed=5) * bed.LOCATIONS).long()
    return {
        "soft": Expected(),
        "hard": Sample(noise),
        "semi-sampled": Sample(noise, soft),
        "forced": Forced(path),
        "prefix, then soft": Forced(path, 2, Expected()),
        "prefix, then hard": Forced(path, 2, Sample(noise)),
        "prefix, then likeliest": Forced(path, 1, Argmax()),
    }[name]


def by_steps(
    model: Captioner, a: Tensor, words: Tensor, policy: Policy, samples: int, drop: Dropout | None
) -> tuple[Tensor, ...]:
    """Costs, log-probabilities, weights and glimpses of every word, padding too, from single steps of all rows."""
    words = words.repeat_interleave(samples, 1)
    memory, _ = model.start(a)
    state = model.decoder.start(memory, words.shape[1])
    previous = torch.full_like(words[..., 0], SPECIALS.index(START))
    inputs, found = model.decoder.inputs, []
    for t in range(words.shape[2]):
        factors = Dropout()
        if drop is not None:
            factors = Dropout(*(part[:, :, t].repeat_interleave(samples, 1).flatten(0, 1) for part in drop))
        model.decoder.inputs = lambda last, place, factors=factors: inputs(last, place, factors)
        state, word = model.step(memory, state, previous, policy, t)
        previous = words[..., t]
        log_p = torch.log_softmax(word.spread(word.logits).squeeze(2), -1)
        cost = -log_p.gather(-1, previous[..., None]).squeeze(-1)
        found.append((cost, word.log_probs[:, :, 0], word.weights[:, :, 0], word.glimpses[:, :, 0]))
    model.decoder.inputs = inputs
    return tuple(torch.stack(parts, 2) for parts in zip(*found, strict=True))


@pytest.mark.thin
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])
@pytest.mark.parametrize("dropout", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    "name",
    ["soft", "hard", "semi-sampled", "forced", "prefix, then soft", "prefix, then hard", "prefix, then likeliest"],
)
def test_all_words_at_once_equal_a_loop_over_steps(name, samples, dropout, padded, decoder):
    model, a = bed.captioner(bed.settings(decoder=DECODERS[decoder])), bed.features(2)
    (words, lengths), policy, drop = bed.captions(ROWS), policy_of(name, samples), None
    if dropout:
        drop = Dropout(*(2 * bed.uniform(2, 2, 5, width, seed=width + 7).round() for width in (4, 5, 4)))
    model.padded = padded
    u = model(a, words, lengths, policy, samples=samples, drop=drop)
    alone = isinstance(policy, Expected) or decoder != "blocks share a look"
    assert (len(u.seen) == 1) == alone, "one batched call of attention, unless states depend on glimpses"
    truth = by_steps(model, a, words, policy, samples, drop)
    slopes, total = bed.uniform(*u.real.shape, seed=9), []
    assert u.layout.padded == padded
    for cost, log_prob, weights in ((u.costs, u.log_probs, u.weights), truth[:3]):
        mapped = (weights.square().sum(-1) * slopes * u.real).sum()
        total.append((cost * slopes * u.real).sum() + (log_prob * u.real).sum() + mapped)
    assert torch.equal(u.glimpses[u.real], truth[3][u.real])
    for ours, loops in zip((u.costs, u.log_probs, u.weights), truth[:3], strict=True):
        assert torch.allclose(ours[u.real], loops[u.real], rtol=0, atol=1e-12)
    ours, loops = (bed.gradient(model, value) for value in total)
    for parameter in loops:
        assert torch.allclose(ours[parameter], loops[parameter], rtol=1e-12, atol=1e-12), parameter
    assert all(loops[name].any() for name in (*PROBED[decoder], "attention.score.query.weight"))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_captioner_that_may_not_go_at_once_takes_the_same_steps(monkeypatch, decoder):
    """The loop of the captioner itself, for the same decoder; frozen at its first glimpse it always loops."""
    model, a = bed.captioner(bed.settings(decoder=DECODERS[decoder])), bed.features(2)
    words, lengths = bed.captions(ROWS)
    at_once = model(a, words, lengths)
    monkeypatch.setattr(model.decoder, "at_once", ())
    loop = model(a, words, lengths)
    assert (len(at_once.seen), len(loop.seen)) == (1, 5)
    assert torch.allclose(at_once.logits, loop.logits, rtol=0, atol=1e-12)
    monkeypatch.undo()
    model.attention.look = "first"
    assert len(model(a, words, lengths).seen) == 5


@pytest.mark.parametrize("look", ["uniform", "centre"])
def test_an_evaluation_control_leaves_the_gate_of_the_sentinel(look):
    """It replaces where the model looks, and nothing else."""
    model, a = bed.captioner(bed.settings(decoder=bed.ADAPTIVE), grid=(1, bed.LOCATIONS)), bed.features(2)
    words, lengths = bed.captions(ROWS)
    with torch.no_grad():
        own = model(a, words, lengths)
        model.attention.look = look
        shown = model(a, words, lengths)
        gates, other = own.gates, shown.gates
    assert torch.equal(gates, other) and not torch.allclose(own.weights, shown.weights)
    assert float(own.gates[own.real].min()) > 0 and float(own.gates.max()) < 1


def test_frozen_at_the_first_word_every_block_keeps_its_own_query():
    """With one word the first glimpse is the word's own, in all blocks."""
    model, a = bed.captioner(bed.settings(decoder=bed.EVERY)), bed.features(2)
    words, lengths = bed.captions([[[4, 5, 2]], [[6, 4, 2]]])
    own = model(a, words, lengths)
    model.attention.look = "first"
    frozen = model(a, words, lengths)
    first = own.layout.place == 0
    assert torch.allclose(frozen.logits[first], own.logits[first], atol=1e-12)
    assert not torch.allclose(frozen.logits[~first], own.logits[~first], atol=1e-3)
    assert torch.allclose(
        frozen.weights, own.weights[:, :, :1].expand_as(own.weights) * own.real[..., None], atol=1e-12
    )
