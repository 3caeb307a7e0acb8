"""Search against enumeration of every caption, a greedy loop, hand-worked beams and a teacher-forced pass."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import one_hot

from attend.attention.select import Expected, Forced, Sample
from attend.captioner.captioner import decoding
from attend.captioner.search import Hypotheses, ancestral, beam_search
from tests import bed
from tests.oracles import plain_logits

NEVER, END, WORDS = [0, 1, 3], 2, [4, 5, 6]
LONGEST = 3
EVERYTHING = 100
CAPTIONS = [
    [*words, *end]
    for length in range(LONGEST + 1)
    for words in itertools.product(WORDS, repeat=length)
    for end in ([[END]] if length < LONGEST else [[]])
]
"""All there are: ended captions, and those that fill the whole length without an end mark."""


def search(model, features, beam=3, longest=LONGEST, policy=None, power=1.0) -> Hypotheses:
    return beam_search(model, features, policy or Expected(), beam=beam, max_length=longest, length_power=power)


def sampled(images, beam, longest, seed=0) -> Sample:
    return Sample(torch.rand(images, beam, longest, generator=torch.Generator().manual_seed(seed)))


def spoken(found, n=0):
    return found.words[n, : found.lengths[n]].tolist()


@torch.no_grad()
def log_probs(model, features, captions, select="expected", renormalised=False):
    """log p of every word of captions of one image, in one teacher-forced pass: (C, T), 0 at padding."""
    words, lengths = bed.captions([captions])
    u = model(features, words, lengths, decoding(select))
    logits = u.logits
    if renormalised:
        logits = logits.index_fill(1, torch.tensor(NEVER), -torch.inf)
    chosen = torch.log_softmax(logits, -1).gather(1, u.targets[:, None]).squeeze(1)
    return u.spread(chosen)[0], lengths[0]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("select", ["expected", "argmax"])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_wide_enough_for_everything_is_enumeration(seed, select, power):
    model, a = bed.captioner(bed.settings(), seed), bed.features(seed=seed)
    words, lengths = log_probs(model, a, CAPTIONS, select)
    scores = words.sum(1) / lengths**power
    found = search(model, a, EVERYTHING, policy=decoding(select), power=power)
    assert spoken(found) == CAPTIONS[scores.argmax()]
    assert torch.isclose(found.score[0], scores.max(), atol=1e-12)


def test_the_power_of_the_length_decides_between_short_and_long():
    """Else a power that is not read would pass."""
    a = bed.features(seed=0)
    found = {
        p: [spoken(search(bed.captioner(bed.settings(), s), a, 50, power=p)) for s in range(8)] for p in (0.0, 1.0)
    }
    assert sum(map(len, found[0.0])) < sum(map(len, found[1.0]))


def test_enumeration_finds_what_a_narrow_beam_misses():
    """Else the test above would be empty."""
    models = [(bed.captioner(bed.settings(), seed), bed.features(seed=seed)) for seed in range(5)]
    scores = [[float(search(model, a, beam).score) for beam in (1, 3, EVERYTHING)] for model, a in models]
    assert any(greedy < best - 1e-6 for greedy, _, best in scores)
    assert all(narrow <= best + 1e-12 for *narrower, best in scores for narrow in narrower)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_a_greedy_loop(seed):
    model, a = bed.captioner(bed.settings(), seed), bed.features(seed=seed)
    said = []
    while END not in said and len(said) < 5:
        logits, _ = plain_logits(model, a[0], [*said, END])
        logits[-1, NEVER] = -torch.inf
        said.append(int(logits[-1].argmax()))
    assert spoken(search(model, a, beam=1, longest=5)) == said


@pytest.mark.parametrize("beam", [1, 3, 20])
def test_images_do_not_see_each_other(beam):
    model, a = bed.captioner(bed.settings(), 2), bed.features(6)
    together = search(model, a, beam, longest=6)
    assert len({len(spoken(together, n)) for n in range(6)}) > 1
    for n in range(6):
        alone, length = search(model, a[n : n + 1], beam, longest=6), together.lengths[n]
        assert spoken(alone) == spoken(together, n)
        assert torch.isclose(alone.score[0], together.score[n], atol=1e-12)
        assert torch.allclose(alone.weights[0, :length], together.weights[n, :length], atol=1e-12)


@pytest.mark.parametrize("decode", ["expected", "argmax", "sample"])
@pytest.mark.parametrize("beam", [1, 4])
def test_a_hypothesis_has_the_attention_of_a_teacher_forced_pass_over_it(beam, decode):
    """Weights, glimpses and gates are those of its own beam, and the score is its mean log-probability."""
    model, a = bed.captioner(bed.settings(), 3), bed.features(6)
    found = search(model, a, beam, 5, sampled(6, beam, 5) if decode == "sample" else decoding(decode))
    words, lengths = found.words[:, None], found.lengths[:, None]
    policy = Forced(found.glimpses.clamp(min=0)[:, None]) if decode == "sample" else decoding(decode)
    u = model(a, words, lengths, policy)
    real = u.real
    ours = {name: getattr(found, name)[:, None][real] for name in ("weights", "glimpses", "gates")}
    assert torch.allclose(ours["weights"], u.weights[real], atol=1e-12)
    assert torch.equal(ours["glimpses"], u.glimpses[real])
    assert torch.allclose(ours["gates"], u.gates[real], atol=1e-12)
    chosen = torch.log_softmax(u.logits, -1).gather(1, u.targets[:, None]).squeeze(1)
    assert torch.allclose(found.score, u.spread(chosen).sum((1, 2)) / found.lengths, atol=1e-12)
    padding = ~real[:, 0]
    assert not found.words[padding].any() and not found.weights[padding].any() and not found.gates[padding].any()
    assert (found.glimpses[padding] == -1).all()


@pytest.mark.parametrize("feed", bed.FEEDS)
@pytest.mark.parametrize("decode", ["expected", "top-k", "argmax", "sample", "marginal"])
@pytest.mark.parametrize("cell", [*bed.BLIND.values(), bed.SHARED])
def test_so_it_has_with_every_decoder(cell, decode, feed):
    """State by state in search, all words at once in the pass over its caption."""
    attention = {"select": "sample", "feed": feed}
    if decode == "marginal" and feed == "glimpse":
        pytest.skip("of a decoder that is fed the expected context")
    model, a = bed.captioner(bed.settings(attention=attention, decoder=cell)), bed.features(3)
    noise = bed.uniform(3, 4, 6)
    found = beam_search(model, a, decoding(decode, 4, noise[:, :1].expand(3, 4, 6)), beam=4, max_length=6)
    bed.search_agrees(model, a, decode, noise[:, :1].expand(3, 4, 6), found)


@pytest.mark.parametrize("decode", ["expected", "argmax"])
def test_so_it_has_if_every_block_looks(decode):
    attention = {"select": "sample", "feed": "expected"} if decode == "argmax" else {}
    model, a = bed.captioner(bed.settings(attention=attention, decoder=bed.EVERY)), bed.features(3)
    found = beam_search(model, a, decoding(decode), beam=4, max_length=6)
    bed.search_agrees(model, a, decode, bed.uniform(3, 4, 6), found)


@pytest.mark.parametrize("beam", [1, 3, 50])
@pytest.mark.parametrize(("bias", "length"), [(-1e9, 4), (1e3, 1)])
def test_nothing_ends_or_everything_ends_at_once(beam, bias, length):
    model, a = bed.captioner(bed.settings()), bed.features(2)
    with torch.no_grad():
        model.decoder.logits.bias[END] = bias
    found = search(model, a, beam, longest=4)
    assert found.lengths.tolist() == [length, length] and found.score.isfinite().all()
    for n in range(2):
        assert (spoken(found, n) == [END]) if bias > 0 else (END not in spoken(found, n))
    drawn = ancestral(model, a, Expected(), torch.rand(2, 4), max_length=4)
    assert drawn.lengths.tolist() == [length, length]


@pytest.mark.parametrize("beam", [1, 3, EVERYTHING])
def test_padding_start_and_unknown_are_never_generated(beam):
    model, a = bed.captioner(bed.settings()), bed.features(4)
    with torch.no_grad():
        model.decoder.logits.bias[NEVER] = 20.0
    noise = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    drawn = ancestral(model, a, Expected(), noise, max_length=4)
    for found in (search(model, a, beam, longest=4), drawn):
        assert all(set(spoken(found, n)) <= {END, *WORDS} for n in range(4))


class Scripted:
    """A captioner with a table: words so far -> probability of each next word. It attends to the last word."""

    replays = None

    def __init__(self, book):
        self.book = book

    def start(self, features, words=0):
        return None, (torch.zeros(len(features), 1, 1),)

    def step(self, memory, state, words, policy, t=0, shown=None):
        said = state[0] * 10 + words[..., None]  # the words so far, as decimal digits
        odds = torch.full((*words.shape, 7), 1e-9)
        for n, r in itertools.product(*map(range, words.shape)):
            for word, probability in self.book.get(str(int(said[n, r]))[1:], {}).items():
                odds[n, r, word] = probability
        odds[..., 0] = (1 - odds.sum(-1)).clamp(min=1e-9)  # the rest goes to padding, which is never generated
        images, rows = words.shape
        readout = SimpleNamespace(
            logits=odds.log().flatten(0, 1),
            layout=SimpleNamespace(images=images, rows=rows),
            weights=one_hot(words, 7).float()[:, :, None],
            glimpses=words[..., None],
            gates=words[..., None] / 10,
        )
        return (said,), readout


FEATURES = torch.zeros(1, 1, 1)


def test_a_finished_hypothesis_is_remembered_when_it_loses_its_place():
    """The end at once, log 0.3 = -1.2, is pushed out by "4 4" and "4 5", log 0.2 / 2 = -0.8, which then get worse."""
    book = {"": {4: 0.4, END: 0.3}, "4": {4: 0.5, 5: 0.5}}
    found = beam_search(Scripted(book), FEATURES, Expected(), beam=2, max_length=4)
    assert spoken(found) == [END] and float(found.score) == pytest.approx(math.log(0.3))
    assert not found.words[0, 1:].any()
    early = {"": {4: 0.4, 5: 0.35}, "4": {END: 0.2, 4: 0.8}, "5": {6: 0.9}, "44": {5: 0.5, 6: 0.5}, "56": {4: 0.8}}
    found = beam_search(Scripted(early), FEATURES, Expected(), beam=3, max_length=4)
    assert spoken(found) == [4, END] and float(found.score) == pytest.approx(math.log(0.4 * 0.2) / 2)
    assert found.glimpses[0].tolist() == [1, 4, -1, -1]


def test_a_longer_hypothesis_wins_by_its_mean():
    """By their sums "end", -1.05, and "4 end", -1.59, would leave no place for "4 5", -1.62; by its mean it has one."""
    book = {"": {4: 0.6, END: 0.35}, "4": {END: 0.34, 5: 0.33}, "45": {END: 0.9}}
    found = beam_search(Scripted(book), FEATURES, Expected(), beam=2, max_length=4)
    assert spoken(found) == [4, 5, END] and float(found.score) == pytest.approx(math.log(0.6 * 0.33 * 0.9) / 3)


def test_weights_follow_hypotheses_that_change_places():
    """ "5 6" overtakes what begins with 4: its second word attends to 5, not to the 4 of the first row."""
    book = {"": {4: 0.55, 5: 0.45}, "4": {4: 0.1, 6: 0.1}, "5": {6: 0.9}, "56": {END: 0.9}}
    found = beam_search(Scripted(book), FEATURES, Expected(), beam=2, max_length=4)
    assert spoken(found) == [5, 6, END]
    assert found.glimpses[0, :3].tolist() == found.weights[0, :3].argmax(-1).tolist() == [1, 5, 6]
    assert torch.allclose(found.gates[0, :3], torch.tensor([0.1, 0.5, 0.6]))


def draw(model, seed=0, images=20_000):
    noise = torch.rand(images, LONGEST, generator=torch.Generator().manual_seed(seed))
    return ancestral(model, bed.features().expand(images, -1, -1), Expected(), noise, max_length=LONGEST)


def largest_z(found, probabilities):
    """How far the count of some caption is from its probability, in standard deviations."""
    counts, images = Counter(tuple(spoken(found, n)) for n in range(len(found.words))), len(found.words)
    assert set(counts) <= set(map(tuple, CAPTIONS))
    return max(
        abs(counts[tuple(caption)] - images * p) / math.sqrt(images * p * (1 - p))
        for caption, p in zip(CAPTIONS, probabilities.tolist(), strict=True)
        if images * p > 5
    )


def test_ancestral_captions_come_as_often_as_they_are_probable():
    model = bed.captioner(bed.settings())
    words, lengths = log_probs(model, bed.features(), CAPTIONS, renormalised=True)
    probabilities = words.sum(1).exp()
    assert float(probabilities.sum()) == pytest.approx(1)
    found = draw(model)
    assert largest_z(found, probabilities) < 4
    truth = {tuple(caption): score for caption, score in zip(CAPTIONS, words.sum(1) / lengths, strict=True)}
    assert all(torch.isclose(found.score[n], truth[tuple(spoken(found, n))], atol=1e-12) for n in range(50))
    step = model.step

    def sharper(*arguments):
        state, word = step(*arguments)
        return state, SimpleNamespace(
            logits=word.logits.log_softmax(-1) * 1.3,
            layout=word.layout,
            weights=word.weights,
            glimpses=word.glimpses,
            gates=word.gates,
        )

    model.step = sharper
    assert largest_z(draw(model), probabilities) > 5


def test_ancestral_captions_depend_on_their_generator_alone():
    model = bed.captioner(bed.settings())
    one, again, other = (draw(model, seed, images=50).words for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
