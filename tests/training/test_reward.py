"""Self-critical training of words and glimpses, against the enumeration of every caption along every path."""

from __future__ import annotations

import itertools
import json
import shutil
from copy import copy
from dataclasses import replace as with_fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attend.attention.select import Expected, Forced
from attend.captioner.captioner import Captioner
from attend.captioner.unrolled import Readout
from attend.config import Config
from attend.config.text import from_dict, replace
from attend.data.batches import Batch
from attend.data.prepared import Prepared
from attend.estimators.noise import Noise
from attend.metrics.captions import DocumentFrequencies, score_captions
from attend.runs.checkpoint import read_checkpoint
from attend.training.loop import train
from attend.training.reward import CaptionScore, SelfCritical, allowed, mass_in_boxes
from tests import bed, halves
from tests.forks import no_java

END, A, B, ABSENT = 2, 4, 5, 6
LOCATIONS, LENGTH = 2, 2
TWO = bed.features(locations=LOCATIONS)
CAPTIONS = [(END,), *((one, two) for one in (A, B) for two in (END, A, B))]
"""Every caption of at most two words; a third word is never said."""
SCORES = dict(zip(CAPTIONS, bed.uniform(len(CAPTIONS), seed=8).tolist(), strict=True))
KINDS = {
    "soft": {},
    "hard": {"select": "sample"},
    "hard, fed the expected context": {"select": "sample", "feed": "expected"},
}


def settings(kind: str, **train: object) -> Config:
    return bed.settings(
        attention=KINDS[kind],
        estimator={"entropy": 0.0} if kind != "soft" else {},
        train={"reward": "cider", "reward_samples": 2} | train,
        search={"max_length": LENGTH},
    )


def model_of(given: Config) -> Captioner:
    model = bed.captioner(given)
    with torch.no_grad():
        model.decoder.logits.bias[ABSENT] = -1e4
    return model


def score(rows, captions) -> np.ndarray:
    return np.array([[SCORES[tuple(caption)] for caption in some] for some in captions])


def passed(model: Captioner, captions, paths) -> tuple[Tensor, Readout]:
    """Words (1, S, T) of captions, and the pass along their paths."""
    words, lengths = bed.captions([[list(caption) for caption in captions]])
    if paths[0] is None:
        return words, model(TWO, words, lengths, Expected())
    path = torch.tensor([[list(path) + [0] * (words.shape[2] - len(path)) for path in paths]])
    return words, model(TWO, words, lengths, Forced(path))


def outcomes(kind: str) -> list[tuple]:
    """Every caption along every path."""
    if kind == "soft":
        return [(caption, None) for caption in CAPTIONS]
    return [(c, path) for c in CAPTIONS for path in itertools.product(range(LOCATIONS), repeat=len(c))]


def log_p(u: Readout) -> Tensor:
    """log p of words and glimpses, (N, S)."""
    return u.spread(allowed(u)).sum(-1) + u.log_probs.sum(-1)


def boxes() -> Batch:
    """A minibatch whose one given caption has a box for the word A, the second location."""
    shares = torch.zeros(1, 1, 2, LOCATIONS, dtype=torch.float64)
    shares[0, 0, 0, 1] = 1.0
    return bed.batch(TWO, torch.tensor([[[A, END]]]), torch.tensor([[2]]), shares)


def estimate(task: SelfCritical, model: Captioner, captions, paths, level) -> Tensor:
    words, u = passed(model, captions, paths)
    rewards = task.scores(boxes(), words, torch.from_numpy(u.layout.lengths), u.weights)
    return changed(task, len(captions)).surrogate(u, rewards, level, 1).total


def changed(task: SelfCritical, samples: int) -> SelfCritical:
    """The same with another number of samples."""
    other = copy(task)
    other.samples = samples
    return other


@pytest.mark.parametrize(
    ("kind", "mass"),
    [
        ("soft", False),
        pytest.param("soft", True, marks=pytest.mark.slow),
        pytest.param("hard", True, marks=pytest.mark.slow),
        ("hard, fed the expected context", False),
    ],
)
def test_its_expectation_is_the_gradient_of_the_expected_score(kind, mass):
    """Leave-one-out over all pairs of outcomes, and any constant level over all outcomes."""
    given = settings(kind, **({"reward": "cider+mass", "reward_mass": 0.7} if mass else {}))
    model, task = model_of(given), SelfCritical(given, score)
    every, value, truth = outcomes(kind), 0.0, 0.0
    probabilities = []
    for caption, path in every:
        words, u = passed(model, [caption], [path])
        probability = log_p(u).exp().squeeze()
        inside = mass_in_boxes(u.weights, words, torch.tensor([[len(caption)]]), boxes()).squeeze()
        reward = SCORES[caption] + (0.7 * inside if mass else 0.0)
        truth = truth - probability * reward
        value = value + probability.detach()
        probabilities.append(probability.detach())
    assert torch.isclose(value, torch.ones(()).double(), atol=1e-12), "these are all outcomes"
    truth = bed.gradient(model, truth)
    pairs, alone = 0.0, 0.0
    for (one, p), (two, q) in itertools.product(zip(every, probabilities, strict=True), repeat=2):
        pairs = pairs + p * q * estimate(task, model, [one[0], two[0]], [one[1], two[1]], None)
    for (caption, path), p in zip(every, probabilities, strict=True):
        alone = alone + p * estimate(task, model, [caption], [path], torch.tensor([[0.3]]))
    for ours in (pairs, alone):
        assert bed.distance(bed.gradient(model, ours), truth) < 1e-10
    assert truth["attention.score.key.weight"].abs().sum() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_captions_and_glimpses_are_drawn_as_often_as_they_are_likely(kind):
    given = settings(kind, reward_samples=100)
    model, task = model_of(given), SelfCritical(given, score)
    noise = bed.double(Noise.draw(given, (40, 100, LENGTH), 3, 0))
    _, found = task.sample(model, TWO.expand(40, -1, -1), noise)
    counts: dict[tuple, int] = {}
    for words, length, glimpses in zip(
        found.words.tolist(), found.lengths.tolist(), found.glimpses.tolist(), strict=True
    ):
        path = None if kind == "soft" else tuple(glimpses[:length])
        counts[tuple(words[:length]), path] = counts.get((tuple(words[:length]), path), 0) + 1
    assert counts.keys() <= set(outcomes(kind))
    for caption, path in outcomes(kind):
        p = float(log_p(passed(model, [caption], [path])[1]).exp().detach())
        assert abs(counts.get((caption, path), 0) - 4000 * p) < 5 * (4000 * p * (1 - p)) ** 0.5 + 1, (caption, path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("baseline", ["leave-one-out", "greedy"])
def test_a_step_over_parts_of_a_minibatch_is_a_step_over_all_of_it(kind, baseline):
    """As two processes share it. And captions, scores and level of the loss are those of the pass."""
    given = settings(kind, reward_samples=3, reward_baseline=baseline)
    model, learner = model_of(given), bed.learner(settings(kind))
    a = bed.features(3, locations=LOCATIONS)
    words, lengths = bed.captions([[[A, END]], [[B, END]], [[A, B]]])
    batch = bed.batch(a, words, lengths)
    task = SelfCritical(given, score)
    noise = bed.double(Noise.draw(given, task.shape(batch), 0, 1))
    whole = task.loss(model, a, batch, noise, learner, learner.start())[1]
    parts = 0.0
    for part in (slice(0, 1), slice(1, 3), slice(3, 3)):
        some = with_fields(batch, rows=batch.rows[part], words=words[part], lengths=lengths[part])
        parts = parts + task.loss(model, a[part], some, noise.part(part), learner, learner.start())[1].total
    ours, truth = bed.gradient(model, parts), bed.gradient(model, whole.total)
    assert bed.distance(ours, truth) < 1e-12 and truth["decoder.logits.weight"].any()
    assert 0 < float(whole.terms["reward"]) < 1


def test_mass_is_that_of_the_words_that_are_named():
    """Weights by hand: the first caption says A twice with 0.9 and 0.5 in its box, and B, which has none."""
    words, lengths = torch.tensor([[[A, B, A], [B, B, END], [A, END, A]]]), torch.tensor([[3, 3, 2]])
    weights = torch.tensor([[[[0.1, 0.9], [0.5, 0.5], [0.5, 0.5]]] * 3]).double()
    assert mass_in_boxes(weights, words, lengths, boxes()).tolist() == [[pytest.approx(0.7), 0.0, pytest.approx(0.9)]]


def test_scores_are_those_of_each_caption_alone_with_its_end_mark(tmp_path):
    """Against the metrics on captions whose end mark is spelled as a word. One that breaks off scores less."""
    dataset = Prepared(halves.write(tmp_path / "data"))
    rows = dataset.rows("train")[:3]
    said = [
        ["a red half and a red half END", "red then blue"],
        ["blue END", "END"],
        ["a white half END", "red then END"],
    ]
    spelled = [[one.replace("END", "<end>").split() for one in some] for some in said]
    words = [[[dataset.vocabulary.words.index(word) for word in one] for one in some] for some in spelled]
    training = [
        [f"{caption.raw} END".split() for caption in example.captions]
        for example in dataset.examples
        if example.split == "train"
    ]
    lower = [[[word.lower() for word in caption] for caption in image] for image in training]
    for metric, name in (("cider", "cider_frozen"), ("bleu4", "bleu4")):
        found = CaptionScore(dataset, metric)(rows, words)
        for n, row in enumerate(rows):
            references = [f"{caption.raw} END" for caption in dataset.examples[row].captions]
            for s, text in enumerate(said[n]):
                truth = score_captions(
                    {"x": text}, {"x": references}, metrics=("bleu", "cider"), tokeniser="simple",
                    frequencies=DocumentFrequencies.of(lower, name="with ends"),
                ).images[name][0]  # fmt: skip
                assert found[n, s] == pytest.approx(truth, abs=1e-5)
    whole, broken = (
        [dataset.vocabulary.words.index(w) for w in text.split()] for text in ("red then red <end>", "red then red")
    )
    score = CaptionScore(dataset, "cider")
    assert score(rows[:1], [[whole]]) > score(rows[:1], [[broken]])


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A dataset with boxes, and finished runs of soft and hard attention on it."""
    folder = tmp_path_factory.mktemp("rewarded")
    data = halves.write(folder / "data", (16, 4, 2), boxes=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attend.metrics.captions.find_java", no_java)
        for kind in ("expected", "sample"):
            train(configured(data, kind), folder / kind)
    return data, folder


def configured(data: Path, kind: str, **settings: object) -> Config:
    rest = {"data": str(data), "encoder": halves.CLEARER, "attention": {"select": kind, "width": 16}}
    small = from_dict(halves.SMALL | rest | {"train": halves.SMALL["train"] | {"epochs": 2, "monitor": "cider"}})
    return replace(small, settings)


@pytest.mark.parametrize(
    ("kind", "reward"),
    [
        ("sample", "cider+mass"),
        pytest.param("expected", "cider", marks=pytest.mark.slow),
        pytest.param("sample", "bleu4", marks=pytest.mark.slow),
    ],
)
def test_a_run_is_trained_and_resumed(begun, tmp_path, monkeypatch, kind, reward):
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)
    data, folder = begun
    wanted = configured(
        data,
        kind,
        **{"train.reward": reward, "train.reward_samples": 2, "start": str(folder / kind), "train.epochs": 2},
    )
    scores = train(wanted, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert all("reward" in line and "surrogate" in line for line in lines if line["split"] == "train")
    assert scores["epochs_before"] == 2

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(wanted, tmp_path / "broken", after_epoch=stop)
    train(wanted, tmp_path / "broken")
    ours, theirs = (
        read_checkpoint(tmp_path / f"{name}/checkpoint/last.safetensors")[0] for name in ("whole", "broken")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    began = read_checkpoint(folder / kind / "checkpoint/best.safetensors")[0]
    assert any(not torch.equal(ours[name], began[name]) for name in began)


def test_it_raises_the_score_that_it_is_told_to_raise(begun, tmp_path, monkeypatch):
    """Trained briefly from a run that writes badly: sampled captions score better than before."""
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)
    data, folder = begun
    wanted = configured(data, "expected", **{
        "train.reward": "cider", "start": str(folder / "expected"), "train.epochs": 16, "train.learning_rate": 0.01,
        "train.log_every": 4, "train.patience": 0, "train.lower_after": 0, "train.monitor": "nll",
    })  # fmt: skip
    train(wanted, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward"] for line in lines if line["split"] == "train"]
    assert np.mean(rewards[-3:]) > 1.3 * np.mean(rewards[:3])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["soft", "--train.reward", "cider"], "needs a model that writes captions: give --from RUN"),
        (["hard", "--train.reward", "cider", "--estimator.baseline", "soft"], "leave estimator.name"),
        (["soft", "--train.reward", "cider", "--objective.supervised", "1"], "reward the mass"),
        (["soft", "--train.reward", "rouge"], "rouge"),
        (["soft", "--train.reward-samples", "3"], "has no effect with train.reward 'likelihood'"),
        (["soft", "--train.reward", "cider", "--train.reward-mass", "2"], "has no effect with train.reward 'cider'"),
        (["soft", "--train.reward-samples", "1"], "2 to 100"),
    ],
)
def test_what_does_not_go_together_is_said(fails, begun, tmp_path, options, says):
    assert says in fails("train", *options, "--data", begun[0], "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_mass_needs_boxes(fails, begun, tmp_path):
    bare = halves.write(tmp_path / "bare", (4, 2, 2))
    run = Path(shutil.copytree(begun[1] / "expected", tmp_path / "source"))
    sentence = fails(
        "train", "soft", "--data", bare, "--from", run, "--train.reward", "cider+mass", "--out", tmp_path / "x"
    )
    assert "train.reward 'cider+mass' needs boxes" in sentence


@pytest.mark.parametrize("kind", KINDS)
def test_captions_that_score_alike_teach_nothing(kind):
    """The level of leave-one-out is the mean score of the others."""
    given = settings(kind)
    model = model_of(given)
    captions, paths = zip(*outcomes(kind)[:3], strict=True)
    _, u = passed(model, captions, paths)
    loss = SelfCritical(given, score).surrogate(u, torch.full((1, 3), 0.4).double(), None, 1)
    assert not any(gradient.abs().max() > 1e-12 for gradient in bed.gradient(model, loss.total).values())
