"""Interventions on attention: each word alone by a plain second implementation, weights by hand, files that add up."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from attend.analysis.cause import MOVED, WAYS, numbers, read_cause, table
from attend.analysis.records import read_runs
from attend.experiments.cli.main import main

import attend
from attend.captioner.captioner import decoding
from attend.config.text import from_dict
from attend.data.examples import Phrase
from attend.data.phrases import read_phrases
from attend.data.prepare import prepare_scenes
from attend.evaluation import cause
from attend.evaluation.caption import caption_images
from attend.evaluation.cause import Due, due_words, elsewhere, into, without
from attend.geometry import Geometry
from attend.runs.files import read_json
from attend.training.loop import train
from tests import bed, halves
from tests.forks import no_java
from tests.oracles import plain_logits

ROWS = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2], [4, 4, 5, 2]]]
GEOMETRY = Geometry.of("squash", (40, 40), (4, 4))


@pytest.mark.parametrize("decode", ["expected", "argmax"])
def test_a_word_under_other_weights_has_all_before_it_as_it_was(decode):
    model, a = bed.captioner(bed.settings(decoder={"dropout": 0.0})), bed.features(2)
    words, lengths = bed.captions(ROWS)
    u = model(a, words, lengths, decoding(decode))
    other = torch.softmax(torch.randn(*words.shape, bed.LOCATIONS, dtype=a.dtype), -1)
    if decode == "argmax":
        other = torch.nn.functional.one_hot(other.argmax(-1), bed.LOCATIONS).to(a.dtype)
    logits = u.spread(u.under(other))
    for n, image in enumerate(ROWS):
        for c, caption in enumerate(image):
            path = u.glimpses[n, c, : len(caption)].tolist() if decode == "argmax" else None
            for t in range(len(caption)):
                if path is None:
                    truth, _ = plain_logits(model, a[n], caption, moved={t: other[n, c, t]})
                else:
                    moved = [*path[:t], int(other[n, c, t].argmax()), *path[t + 1 :]]
                    truth, _ = plain_logits(model, a[n], caption, moved)
                assert torch.allclose(logits[n, c, t], truth[t], atol=1e-12)


def test_the_other_object_is_another_with_another_word_at_the_same_distance_from_the_end():
    red, blue, box = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0), (0.0, 0.5, 0.5, 1.0)
    tokens = [["a", "big", "red", "star", "by", "a", "blue", "star"], ["the", "moon"]]
    captions = (
        (Phrase("1", ("a",), 1, 4, (red,)), Phrase("2", ("b",), 6, 8, (blue,))),
        (Phrase("3", ("a",), 0, 2, (box,)),),
    )
    for row in range(8):
        found = {(one.caption, one.place): one for one in due_words(row, captions, tokens)}
        assert {*found} == {(0, 2), (0, 3), (0, 6), (0, 7), (1, 0), (1, 1)}, (
            "nobody else has a word as far from the end"
        )
        assert found[0, 3].other == "moon" and found[0, 3].others == (box,), "the other star is a star too"
        assert found[0, 2].boxes == (red,) and (found[0, 2].other, found[0, 2].others) in {
            ("blue", (blue,)), ("the", (box,)),
        }  # fmt: skip
        assert found[1, 1].other == "star"
    drawn = {next(iter(due_words(row, captions, tokens))).other for row in range(20)}
    assert drawn == {"blue", "the"}, "chance chooses among several"


def test_a_random_box_is_as_large_and_inside():
    boxes, seen = ((0.1, 0.2, 0.3, 0.3), (0.2, 0.25, 0.5, 0.6)), []
    for row in range(200):
        moved = np.array(elsewhere(boxes, Due(row, 0, 0, (), boxes, "")))
        assert np.allclose(moved - moved[0, [0, 1, 0, 1]], np.array(boxes) - [0.1, 0.2, 0.1, 0.2])
        assert moved.min() >= 0 and moved.max() <= 1 + 1e-12
        seen.append(moved[0, 0])
    assert np.min(seen) < 0.05 and np.max(seen) > 0.55, "anywhere from 0 to 0.6"


def test_weights_in_a_box_by_hand():
    box = (0.25, 0.0, 0.75, 0.375)  # cells 1 and 2 whole, half of 5 and 6
    assert into((box,), GEOMETRY, False) == pytest.approx(np.eye(16)[[1, 2]].sum(0) / 3 + np.eye(16)[[5, 6]].sum(0) / 6)
    assert int(into((box,), GEOMETRY, True).argmax()) in (1, 2) and into((box,), GEOMETRY, True).sum() == 1
    assert int(into(((0.0, 0.0, 0.75, 0.75),), GEOMETRY, True).argmax()) == 5, "the middle of nine"
    assert into(((1.5, 0.0, 2.0, 1.0),), GEOMETRY, False) is None


def test_cells_that_hold_half_are_removed_by_hand():
    weights = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.7, 0.1, 0.1, 0.1], [1.0, 0.0, 0.0, 0.0]])
    gone = without(weights, (-weights).argsort(-1), False)
    assert torch.allclose(gone[:2], torch.tensor([[1 / 3, 0, 0, 2 / 3], [0, 1 / 3, 1 / 3, 1 / 3]]))
    assert torch.allclose(gone[2], torch.tensor([0, 1 / 3, 1 / 3, 1 / 3])), "where the rest has no weight it is even"
    least = without(weights, weights.argsort(-1), False)
    assert torch.allclose(least[0], torch.tensor([0, 4 / 7, 3 / 7, 0])) and least[1, 0] > 0.7
    assert without(weights, (-weights).argsort(-1), True)[0].tolist() == [0, 0, 0, 1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cause")
    prepare_scenes(folder / "data", minimum_count=1, train=12, val=4, test=4)
    return folder


@pytest.fixture(scope="module")
def runs(world):
    """Soft and hard models of two decoders, hardly trained, and evaluated without Java."""
    gru = {"cell": "gru-residual", "gate": "none", "readout": "linear"}
    kinds = {
        "soft": {"encoder": {"normalise": "layer"}},
        "hard": {"attention": {"select": "sample"}},
        "gru": {"decoder": gru},
        "uniform": {"attention": {"weights": "uniform"}},
    }
    for name, changes in kinds.items():
        values = {"data": str(world / "data")} | halves.SMALL
        for section, some in changes.items():
            values = values | {section: values.get(section, {}) | some}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("attend.metrics.captions.find_java", no_java)
            train(from_dict(values | {"train": values["train"] | {"epochs": 1}}), world / "runs/made" / name / "seed0")
    return world / "runs/made"


@pytest.mark.thin
@pytest.mark.parametrize("intervention", WAYS)
@pytest.mark.parametrize("kind", ["soft", "hard", "gru", "uniform"])
def test_the_program_intervenes_and_its_files_add_up(runs, kind, intervention, capsys):
    run = runs / kind / "seed0"
    main(["evaluate", str(run), "--look", intervention])
    said = capsys.readouterr().out
    decode = "argmax" if kind == "hard" else "expected"
    folder = run / f"evaluations/test-{decode}-{intervention}"
    scores = read_json(folder / "scores.json", dict)
    assert said.startswith(f"{folder}: test, {scores['words']} words with another object beside theirs, {decode}")
    with open(folder / "images.csv") as file:
        rows = list(csv.DictReader(file))
    words = sum(float(row["words"]) for row in rows)
    assert words == scores["words"] > 20 and len(rows) == 4
    for name, mean in scores["means"].items():
        assert sum(float(row[name]) for row in rows) / words == pytest.approx(mean)
    means = scores["means"]
    assert {name.partition(", ")[0] for name in means} == {*WAYS[intervention]}
    if kind == "uniform" and intervention == "without":
        assert means["itself, log p"] != means["attended, log p"], "half of the cells are another mean"


@torch.no_grad()
def test_the_word_s_own_look_is_that_of_given_captions(runs, world):
    """log p under the model's own weights, summed by hand over the words that are due."""
    main(["evaluate", str(runs / "hard/seed0"), "--look", "redirect"])
    with cause_of(runs / "hard/seed0") as (model, batches):
        dataset = batches.dataset
        phrases = read_phrases(dataset.folder)
        total = 0.0
        for row in dataset.rows("test"):
            example = dataset.examples[row]
            due = list(due_words(row, phrases[example.image], [c.tokens for c in example.captions]))
            features = model.features(torch.as_tensor(batches.store.read("inputs", [row])))[0].double()
            for c in {one.caption for one in due}:
                words = [*dataset.vocabulary.encode(example.captions[c].tokens), dataset.vocabulary.end]
                captioner = model.captioner.double()
                path = greedy(captioner, features, words)
                logits, _ = plain_logits(captioner, features, words, path)
                log_p = torch.log_softmax(logits, -1)
                total += sum(float(log_p[one.place, words[one.place]]) for one in due if one.caption == c)
    scores = read_json(runs / "hard/seed0/evaluations/test-argmax-redirect/scores.json", dict)
    assert total / scores["words"] == pytest.approx(scores["means"]["itself, log p"], abs=1e-4)


def greedy(captioner, features, words) -> list[int]:
    """The largest weight of each word, one after the other."""
    captioner.settings = bed.settings(decoder={"dropout": 0.0})
    path: list[int] = []
    for t in range(len(words)):
        _, maps = plain_logits(captioner, features, words[: t + 1], [*path, 0])
        path.append(int(maps[t].argmax()))
    return path


class cause_of:
    """The model and the data of a run."""

    def __init__(self, run):
        from attend.data.batches import Batches
        from attend.data.prepared import Prepared
        from attend.encoder.features import ensure_store
        from attend.model import Model
        from attend.runs.folder import RunFolder

        self.model = Model.read(RunFolder(run))
        dataset = Prepared(self.model.config.data)
        self.batches = Batches(dataset, ensure_store(dataset, self.model.encoder, torch.device("cpu")))

    def __enter__(self):
        self.model.captioner.eval()
        return self.model, self.batches

    def __exit__(self, *_):
        return None


def test_models_are_compared_and_drawn(runs, tmp_path, capsys):
    for kind in ("soft", "hard"):
        for intervention in WAYS:
            main(["evaluate", str(runs / kind / "seed0"), "--look", intervention])
    records = read_runs([runs / "soft", runs / "hard"])
    rows = read_cause(records)
    assert {(row.variant, row.intervention) for row in rows} == {(v, i) for v in ("soft", "hard") for i in WAYS}
    for row in rows:
        moved, beside = MOVED[row.intervention]
        for measure, change in row.change.items():
            means = [row.means[way, measure].value for way in (moved, beside)]
            assert change.value == pytest.approx(means[0] - means[1])
    assert "## Redirect" in table(rows) and "In the other's box less in a random box" in table(rows)
    assert len(numbers(rows)) == 1 + 4 * (16 + 4)
    assert "**" not in table(rows) and {line[-1] for line in numbers(rows)[1:]} == {""}  # one seed each
    main(["plot", "cause", str(runs / "soft"), str(runs / "hard"), "--out", str(tmp_path), "--formats", "png"])
    assert {path.name for path in tmp_path.iterdir()} == {"cause.png", "cause.csv", "cause.md"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--look", "redirect", "--beam", "3"], "--beam has no effect with --look redirect"),
        (["--look", "without", "--decode", "sample"], "under decode 'expected' or 'argmax', and this is 'sample'"),
        (["--look", "elsewhere"], "must be one of"),
    ],
)
def test_what_cannot_be_is_said(runs, capsys, arguments, says):
    with pytest.raises(SystemExit):
        main(["evaluate", str(runs / "hard/seed0"), *arguments])
    assert says in capsys.readouterr().err


def test_data_without_phrases_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)
    data = halves.write(tmp_path / "data")
    run = tmp_path / "runs/made/soft/seed0"
    train(from_dict(halves.SMALL | {"data": str(data), "train": halves.SMALL["train"] | {"epochs": 1}}), run)
    with pytest.raises(SystemExit):
        main(["evaluate", str(run), "--look", "redirect"])
    assert "has no phrases.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plot", "cause", str(run), "--out", str(tmp_path / "out")])
    assert "no intervention was evaluated on these runs" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_caption_can_be_made_to_look_at_a_box(runs, world, kind):
    """All its words have the weights of the box; and without a box the caption is that of the evaluation."""
    run = runs / kind / "seed0"
    (folder,) = (run / "evaluations").glob("test-*-beam*")
    said = {one["image_id"]: one["caption"] for one in json.loads((folder / "captions.json").read_text())}
    name = next(iter(said))
    (one,) = caption_images(run, [world / "data/images" / name])
    assert one.text == said[name]
    model = attend.load(run)
    again, (first, second) = (
        model.caption(world / "data/images" / name),
        model.caption([world / "data/images" / other for other in (name, [*said][1])]),
    )
    assert again.text == first.text == said[name] and second.text == said[[*said][1]]
    assert f"text={again.text!r}" in repr(again) and "\n" not in repr(again)  # print(caption) shows no arrays
    box = (0.0, 0.0, 0.5, 1.0)
    moved = one.look_at(box)
    rows, columns = moved.geometry.grid
    assert moved.weights.shape == (len(moved.words), rows, columns)
    assert np.allclose(moved.attention.weights, into((box,), moved.geometry, kind == "hard"), atol=1e-6)
    assert len(moved.words) == len(moved.weights) > 0 and moved.image.size == one.image.size
    for wrong in ((2.0, 2.0, 3.0, 3.0), (0, 0, 40, 40), (0.5, 0.0, 0.2, 1.0), (-0.1, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match="is not in the image"):
            one.look_at(wrong)


def test_ways_and_measures_are_those_that_the_analysis_reads():
    assert cause.WAYS == WAYS and set(cause.INTERVENED) == {measure for _, measure in _columns()}


def _columns():
    return [(way, measure) for way in WAYS["redirect"] for measure in ("log p", "said", "other log p", "said other")]
