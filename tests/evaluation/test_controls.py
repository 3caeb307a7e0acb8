"""Evaluation controls, through the program and in its pieces."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from attend.analysis.records import read_run, read_runs
from attend.analysis.tables.comparison import comparison, render
from attend.experiments.cli.main import main

from attend.attention.controls import CONTROLS, centre
from attend.config import Attention, Look
from attend.config.setting import Setting
from attend.config.text import from_dict
from attend.data.batches import Batch, Batches
from attend.data.prepared import Prepared
from attend.encoder.features import ensure_store
from attend.evaluation import generate as generation
from attend.evaluation import teacher_forced as evaluation
from attend.evaluation.controls import check_look, last_goes_on, of_partners, partners
from attend.evaluation.evaluate import evaluate
from attend.evaluation.generate import generate
from attend.evaluation.saved import evaluate_run
from attend.evaluation.teacher_forced import teacher_forced
from attend.metrics.java import JavaError
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease
from attend.training.loop import train
from tests import halves
from tests.made_runs import make_run, scores

CPU = Accelerator(cpu=True)


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """To save time."""

    def missing():
        raise JavaError("no Java in this test")

    monkeypatch.setattr("attend.metrics.captions.find_java", missing)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of two rows and three columns of cells, with boxes."""
    return halves.write(tmp_path_factory.mktemp("looks") / "data", boxes=True)


def trained(folder, data, **attention):
    """A run of some steps, trained and evaluated on six images."""
    sections = {
        "encoder": halves.CLEARER | {"grid": [2, 3]},
        "attention": {"width": 16} | attention,
        "train": halves.SMALL["train"] | {"epochs": 6, "monitor": "nll"},
    }
    train(from_dict(halves.SMALL | {"data": str(data)} | sections), folder)
    return folder


@pytest.fixture(scope="module")
def soft(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attend.metrics.captions.find_java", lambda: (_ for _ in ()).throw(JavaError("none")))
        return trained(tmp_path_factory.mktemp("runs") / "made/soft/seed0", data)


@pytest.fixture(scope="module")
def pieces(soft):
    """The run's model, and its test images with their boxes."""
    model = Model.read(RunFolder(soft))
    dataset = Prepared(model.config.data)
    return model, Batches(dataset, ensure_store(dataset, model.encoder), boxes=True), dataset.rows("test")


def given(model, batches, rows, **how):
    """The weights (T, L) of each given caption by row and place."""
    found = {}
    for batch, u in teacher_forced(model, batches, rows, CPU, how.pop("decode", "expected"), **how):
        for n, row in enumerate(batch.rows.tolist()):
            for c, place in enumerate(batch.order[n].tolist()):
                found[row, place] = u.weights[n, c, : int(batch.lengths[n, c])]
    return found


def test_every_look_has_weights():
    assert set(get_args(Look)) == {*CONTROLS, "first"}


@pytest.mark.parametrize("look", get_args(Look))
def test_the_program_evaluates_a_run_looking_otherwise(soft, capsys, look):
    """A folder of its own that says so; the ordinary one stays as it is, and so does the headline."""
    ordinary = soft / "evaluations/test-expected-beam2"
    before = {path: path.read_bytes() for path in (*ordinary.iterdir(), soft / "scores.json")}
    main(["evaluate", str(soft), "--look", look])
    assert f"test, expected, beam 2, looking {look}: " in capsys.readouterr().out
    folder = soft / f"evaluations/test-expected-beam2-look-{look}"
    found = json.loads((folder / "scores.json").read_text())
    own = json.loads((ordinary / "scores.json").read_text())
    assert (found["look"], found["decode"], found["beam"], found["images"]) == (look, "expected", 2, 6)
    assert "look" not in own and found["given"]["nll"] != own["given"]["nll"] and not found["collapsed"]
    captions = {"captions.json", "attention.h5"} if look != "oracle" else set()
    assert {path.name for path in folder.iterdir()} == {"given.h5", "images.csv", "scores.json", *captions}
    assert ("bleu4" in found["captions"]) == (look != "oracle") == ("captions" not in found["missing"])
    if look == "oracle":
        assert found["grounding"]["mass"] == pytest.approx((1 + 0.5 * 0.5) / 1.5), (
            "half of the middle column is in each half"
        )
    assert before == {path: path.read_bytes() for path in before}
    assert {one.look for one in read_run(soft).evaluations} >= {None, look}


def test_uniform_and_centre_are_what_they_say_at_every_word(pieces):
    model, batches, rows = pieces
    even, middle = (given(model.looking(look), batches, rows) for look in ("uniform", "centre"))
    for key in even:
        assert torch.allclose(even[key], torch.full((6,), 1 / 6)) and torch.allclose(middle[key], centre((2, 3)))


def test_the_model_itself_is_left_as_it_was(pieces):
    model, *_ = pieces
    assert model.looking("uniform").captioner.attention.look == "uniform"
    assert model.captioner.attention.look == "learned"


def test_a_frozen_glimpse_is_the_models_own_first(pieces):
    model, batches, rows = pieces
    own, frozen = given(model, batches, rows), given(model.looking("first"), batches, rows)
    for key in own:
        assert torch.allclose(frozen[key], own[key][:1].expand_as(own[key]), atol=1e-6)
    assert any(not torch.allclose(own[key], frozen[key], atol=1e-3) for key in own)


def test_random_weights_differ_between_words_and_seeds_and_depend_on_no_neighbour(pieces, monkeypatch):
    model, batches, rows = pieces
    random = model.looking("random")
    one = given(random, batches, rows)
    monkeypatch.setattr(evaluation, "IMAGES", 2)
    pairs = given(random, batches, rows)
    assert all(torch.allclose(one[key], pairs[key]) for key in one)
    weights = torch.cat(list(one.values()))
    assert len(weights.unique(dim=0)) == len(weights)
    other = replace(random, config=replace(random.config, seed=1))
    assert not torch.allclose(torch.cat(list(given(other, batches, rows).values())), weights)


def test_shuffled_weights_are_those_of_another_image_at_the_same_word(pieces):
    """Each of the given captions of an image is shown what the caption as long in turn of its partner looks at."""
    model, batches, rows = pieces
    own, partner = given(model, batches, rows), partners(rows, model.config.seed)
    found = given(model.looking("shuffled"), batches, rows, learned=model)
    for row in rows:
        for place in (0, 1):  # the long caption and the short one, in every image
            assert torch.allclose(found[row, place], own[partner[row], place], atol=1e-6)
            assert not torch.allclose(found[row, place], own[row, place], atol=1e-4)


def test_a_generated_caption_is_shown_what_the_other_images_own_caption_looks_at(pieces, tmp_path):
    model, batches, rows = pieces
    run = RunFolder(tmp_path)
    with Lease(run.path) as lease:
        evaluate(model, batches, run, lease, CPU, Setting(look="shuffled"))
    partner, decode = partners(rows, model.config.seed), ("expected", 2)
    own = {one.row: one for one in generate(model, batches, rows, CPU, *decode)}
    import h5py

    with h5py.File(tmp_path / "evaluations/test-expected-beam2-look-shuffled/attention.h5") as file:
        for number, row in enumerate(rows):
            alpha, theirs = file[str(number)]["alpha"][:], own[partner[row]].weights
            assert len(alpha) and len(theirs)
            for t, weights in enumerate(alpha):
                assert np.allclose(weights, theirs[min(t, len(theirs) - 1)], atol=1e-6)


@pytest.mark.parametrize("look", ["random", "shuffled", "first"])
@pytest.mark.parametrize(("decode", "beam"), [("expected", 2), ("sample", 2), ("expected", 0)])
def test_the_size_of_minibatches_changes_nothing(pieces, monkeypatch, tmp_path, look, decode, beam):
    model, batches, _ = pieces
    found = []
    for images in (32, 2):
        for module in (evaluation, generation):
            monkeypatch.setattr(module, "IMAGES", images)
        run = RunFolder(tmp_path / str(images))
        with Lease(run.path) as lease:
            found.append(evaluate(model, batches, run, lease, CPU, Setting(decode, beam, look=look)))
    for part in ("captions", "given", "health", "grounding"):
        assert found[0][part] == pytest.approx(found[1][part], rel=1e-4, abs=1e-7), part


def test_draws_of_random_weights_differ(soft):
    _, found = evaluate_run(soft, Setting(look="random", draws=8))
    assert found["draws"]["n"] == 8 and max(found["draws"]["std"].values()) > 0
    with pytest.raises(ValueError, match="is not random"):
        evaluate_run(soft, Setting(look="shuffled", draws=3))


def test_partners_are_one_circle():
    rows = [3, 5, 8, 13, 21]
    other = partners(rows, 0)
    way = [rows[0]]
    while len(way) < 5:
        way.append(other[way[-1]])
    assert sorted(way) == rows and other[way[-1]] == way[0]
    assert other == partners(rows, 0) and any(partners(rows, seed) != other for seed in range(1, 5))


def test_the_last_look_goes_on():
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert last_goes_on(weights, 3).tolist() == [[1, 0], [0.5, 0.5], [0.5, 0.5]]
    assert last_goes_on(weights, 1).tolist() == [[1, 0]]
    assert last_goes_on(weights[:0], 2).tolist() == [[0, 0], [0, 0]]


def test_captions_of_the_other_image_are_taken_in_turn():
    """Row 7 has three captions and its partner 9 has two, of two words and of one; 9 looks at 7's first two."""

    def batch(rows, lengths):
        lengths = torch.tensor(lengths)
        empty = torch.zeros(*lengths.shape, 3, dtype=torch.long)
        return Batch(rows=torch.tensor(rows), inputs=empty, words=empty, lengths=lengths, order=lengths, whole=lengths)

    both = batch([7, 9], [[3, 2, 1], [2, 1, 0]])
    shown = of_partners(both, both, torch.arange(18.0).view(2, 3, 3, 1), {7: 9, 9: 7})[..., 0]
    assert shown[0].tolist() == [[9, 10, 10], [12, 12, 12], [9, 10, 10]]
    assert shown[1].tolist() == [[0, 1, 2], [3, 4, 4], [6, 6, 6]]


@pytest.mark.parametrize(
    ("weights", "look", "decode", "boxes", "images", "words"),
    [
        ("learned", "oracle", "expected", False, 6, "the oracle needs boxes"),
        ("uniform", "first", "expected", True, 6, "'uniform' has learned nothing"),
        ("oracle", "shuffled", "expected", True, 6, "'oracle' has learned nothing"),
        ("learned", "shuffled", "expected", True, 1, "one image only"),
        ("learned", "uniform", "argmax", True, 6, "of 'uniform' weights many are: use decode 'expected' or 'sample'"),
        ("learned", "oracle", "top-k", True, 6, "of 'oracle' weights many are"),
        ("uniform", None, "argmax", True, 6, "of 'uniform' weights many are"),
    ],
)
def test_looks_that_cannot_be(weights, look, decode, boxes, images, words):
    with pytest.raises(ValueError, match=words):
        check_look(Attention(weights=weights), look, decode, boxes, images)


def test_what_cannot_be_is_said_before_the_model_is_read(soft, monkeypatch, fails):
    monkeypatch.setattr(Model, "read", None)
    assert "decode 'argmax' looks where weights are largest" in fails(
        "evaluate", soft, "--look", "uniform", "--decode", "argmax"
    )


@pytest.mark.parametrize("what", [{"objective.supervised": 1.0}, {"attention.weights": "oracle"}])
def test_data_without_boxes_are_refused_at_the_start_of_training(tmp_path, what):
    from attend.config.text import replace as changed

    plain = halves.write(tmp_path / "plain", splits=(4, 2, 2))
    settings = from_dict(halves.SMALL | {"data": str(plain), "train": {"monitor": "nll"}})
    ((name, _),) = what.items()
    with pytest.raises(ValueError, match=f"{name}.* needs boxes, and .*plain has none: use scenes"):
        train(changed(settings, what), tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()


SMALL = "--encoder.name test_resnet --encoder.weights random --encoder.size 32 --encoder.grid 2 3 --encoder.stride 8"
SMALL += " --attention.width 16 --decoder.embedding 16 --decoder.hidden 24 --search.max-length 6 --train.epochs 1"
TRAINED = [
    *(("soft", f"--attention.weights {name}") for name in ("centre", "random", "first")),
    ("soft", "--attention.select top-k --attention.top 2"),
    ("soft", "--objective.supervised 1 --attention.simplex sparsemax"),
    ("hard", "--objective.supervised 1 --estimator.samples 3"),
    ("hard", "--attention.weights first"),
    ("hard", "--attention.weights first --attention.score dot --attention.heads 2"),
]


@pytest.mark.thin
@pytest.mark.parametrize(("preset", "options"), TRAINED)
def test_the_program_trains_evaluates_and_captions_each(data, tmp_path, capsys, preset, options):
    run = tmp_path / "run"
    arguments = ["train", preset, "--data", str(data), "--out", str(run), *SMALL.split(), *options.split()]
    main([*arguments, "--train.log-every", "2"])
    found = json.loads((run / "scores.json").read_text())
    decode = "argmax" if preset == "hard" else "top-k" if "top-k" in options else "expected"
    assert found["decode"] == decode and "bleu4" in found["captions"]
    assert not (found["collapsed"] and "--attention.weights" in options), "a control has nothing that could collapse"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("supervised" in line for line in lines) == ("supervised" in options)
    steps = [line for line in lines if line["split"] == "train"]
    learned = not any(name in options for name in ("centre", "random"))
    assert steps and all((line["attention_gradient"] > 0) == learned for line in steps)
    main(["evaluate", str(run), "--look", "centre", "--split", "val"])
    assert (run / f"evaluations/val-{decode}-beam3-look-centre/scores.json").exists()
    main(["caption", str(run), str(data / "images/00.png"), "--out", str(tmp_path / "captions")])
    assert ("there is no gaze to draw" in capsys.readouterr().err) == ("--attention.weights" in options)


def test_heads_are_evaluated_under_controls_and_shown_their_mean(data, tmp_path):
    run = trained(tmp_path / "run", data, score="dot", heads=2, select="sample")
    model = Model.read(RunFolder(run))
    dataset = Prepared(model.config.data)
    batches = Batches(dataset, ensure_store(dataset, model.encoder))
    rows = dataset.rows("test")
    own, partner = given(model, batches, rows, decode="argmax"), partners(rows, model.config.seed)
    found = given(model.looking("shuffled"), batches, rows, decode="argmax", learned=model)
    assert all(torch.allclose(found[row, 0], own[partner[row], 0], atol=1e-6) for row in rows)
    for look in ("first", "random"):
        assert evaluate_run(run, Setting(look=look))[1]["captions"]


def test_a_look_is_a_row_of_its_own_in_a_table(tmp_path):
    looking = scores(bleu4=0.05) | {"look": "uniform"}
    make_run(tmp_path, headline=scores(), evaluations=[scores(), looking])
    table = comparison(read_runs([tmp_path]), columns=("bleu4",))
    text = render(table)
    assert "| soft | expected, beam 3 | 1 | 20.0 |" in text
    assert "| soft | expected, beam 3, looks uniform | 1 | 5.0 |" in text
    assert render(table, "csv").splitlines()[0].startswith("Variant,Split,Decode,Beam,Look,n,")
    assert render(table, "csv").splitlines()[2].startswith("soft,test,expected,3,uniform,1,")
