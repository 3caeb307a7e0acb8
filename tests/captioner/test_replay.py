"""Beam search whose words are captured and replayed: the same captions, and nothing of the host read in a word.

On a CPU a recorded word is the same function called again on the same buffers, so all but the capture itself is here.
"""

from __future__ import annotations

import copy
from dataclasses import fields

import pytest
import torch

from attend.captioner import replay
from attend.captioner.captioner import decoding
from attend.captioner.replay import Replays
from attend.captioner.search import _Extending, beam_search
from attend.kernels.capture import CudaGraphs
from tests import bed
from tests.recorded import Recorded

STEADY = [
    ("expected", {}, {}),
    ("argmax", {"select": "sample"}, {}),
    ("top-k", {"select": "top-k", "top": 2}, {}),
    ("marginal", {"select": "sample", "feed": "expected"}, {}),
    ("argmax", {"select": "sample", "feed": "expected"}, {}),
    ("expected", {}, bed.GRU),
    ("expected", {}, bed.ADAPTIVE),
    ("marginal", {"select": "sample", "feed": "expected"}, bed.GRU),
    ("expected", {"weights": "uniform"}, {}),
]
LONGEST = 9


def captioner(attention: dict, decoder: dict, **options):
    return bed.captioner(bed.settings(attention=attention, decoder=decoder), **options)


def searched(model, policy, *, images=(2, 2, 3, 1, 2), beam=3):
    """Several searches, of several shapes, in turn."""
    return [
        beam_search(model, bed.features(number, seed=seed), policy, beam=beam, max_length=LONGEST, length_power=0.7)
        for seed, number in enumerate(images)
    ]


def same(some, others) -> None:
    for one, other in zip(some, others, strict=True):
        longest = min(
            one.words.shape[1], other.words.shape[1]
        )  # a replayed search reads whether all have ended less often
        for field in fields(one):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            if ours.ndim > 1:
                assert not ours[:, longest:].gt(0).any() and not theirs[:, longest:].gt(0).any()
                ours, theirs = ours[:, :longest], theirs[:, :longest]
            assert torch.equal(ours, theirs), field.name


@pytest.mark.thin
@pytest.mark.parametrize(("decode", "attention", "decoder"), STEADY)
@pytest.mark.parametrize("beam", [1, 3])
def test_captions_are_those_of_eager_words(decode, attention, decoder, beam):
    eager = captioner(attention, decoder)
    replayed = copy.deepcopy(eager)
    replayed.replays, policy = Replays(Recorded()), decoding(decode, 2)
    same(searched(replayed, policy, beam=beam), searched(eager, policy, beam=beam))
    capture = replayed.replays.capture
    assert 1 < len(replayed.replays.captured) == capture.recorded <= 3 < capture.replayed


def test_what_is_given_for_each_word_is_not_captured():
    """Noise, the input of a control, a decoder with positions, and weights that are those of the first word."""
    noise = bed.uniform(2, 3, LONGEST)
    cases = [
        (captioner({"select": "sample"}, {}), decoding("sample", noise=noise), None),
        (captioner({"weights": "random"}, {}), decoding("expected"), bed.uniform(2, 3, LONGEST, bed.LOCATIONS)),
        (captioner({}, bed.TRANSFORMER), decoding("expected"), None),
        (captioner({"weights": "first"}, {}), decoding("expected"), None),
    ]
    for model, policy, shown in cases:
        found = []
        for replays in (None, Replays(Recorded())):
            model.replays = replays
            found.append(beam_search(model, bed.features(2), policy, beam=3, max_length=LONGEST, shown=shown))
        same(found[:1], found[1:])
        assert not replays.captured and not replays.capture.warmed


def test_policies_and_beams_are_captured_apart():
    model, capture = captioner({"select": "sample"}, {}), Recorded()
    expected = [
        searched(model, decoding(way), images=(2, 2), beam=beam) for way in ("expected", "argmax") for beam in (2, 3)
    ]
    model.replays = Replays(capture)
    for _ in range(2):
        found = [
            searched(model, decoding(way), images=(2, 2), beam=beam)
            for way in ("expected", "argmax")
            for beam in (2, 3)
        ]
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    assert capture.recorded == 4


def test_a_captured_word_reads_nothing_of_the_host():
    """Tensors without data raise where the host reads them."""
    model = captioner({}, {}).to("meta")
    memory, state = model.start(bed.features(2).to("meta"))
    words = torch.zeros(2, 1, dtype=torch.long, device="meta")
    going = replay.Going(state, words, words.double(), words, words.bool())
    extend = _Extending(model, decoding("expected"), 3, 0.7, None)
    replays = Replays(Recorded())
    for t in range(5):
        take = lambda memory, going, t=t: extend(memory, going, t)  # noqa: E731
        going, seen = replays(("a word",), take, memory, going) if t else take(memory, going)
        assert seen.words.shape == going.words.shape == (2, 3)
    assert replays.capture.replayed == 3


def test_a_word_that_cannot_be_captured_is_said_once(capsys):
    class Refusing(Recorded):
        def record(self, work):
            super().record(work)
            raise RuntimeError("an operation is not permitted\nwhen stream is capturing")

    model, policy = captioner({}, {}), decoding("expected")
    expected = searched(model, policy)
    model.replays = Replays(Refusing())
    same(searched(model, policy), expected)
    assert model.replays.capture.recorded == 1
    said = capsys.readouterr().err
    assert said.count("cannot be captured") == 1 and "not permitted)" in said


def test_so_many_kinds_and_no_more():
    model = captioner({}, {})
    model.replays = Replays(Recorded())
    searched(model, decoding("expected"), images=range(1, replay.MOST + 4))
    assert len(model.replays.captured) == replay.MOST


def test_words_are_captured_on_a_gpu_alone_and_by_one_capture(monkeypatch):
    monkeypatch.setattr(replay, "CudaGraphs", Recorded)
    model = captioner({}, {})
    replay.capture_words(model, torch.device("cpu"))
    assert model.replays is None
    replay.capture_words(model, torch.device("cuda"))
    kept = model.replays
    replay.capture_words(model, torch.device("cuda"))
    assert model.replays is kept and isinstance(kept.capture, Recorded)
    assert copy.deepcopy(model).replays is not kept


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("decode", "attention", "decoder"), STEADY)
def test_captions_of_cuda_graphs(decode, attention, decoder):
    eager = captioner(attention, decoder).to("cuda")
    replayed = copy.deepcopy(eager)
    replayed.replays = Replays(CudaGraphs())
    for number in (2, 2, 3):
        a = bed.features(number).to("cuda")
        found = [beam_search(model, a, decoding(decode, 2), beam=3, max_length=LONGEST) for model in (eager, replayed)]
        for one, other in zip(*(search.words for search in found), strict=True):
            assert one.tolist()[: len(other)] == other.tolist()[: len(one)]
