"""Presets: the shapes their sources state, and each of them trained for some steps through the program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from attend.experiments.cli.main import main

from attend.config.presets import PRESETS, SOFT
from attend.data.prepared import Prepared
from attend.encoder.encoder import Encoder
from attend.metrics.java import JavaError
from attend.model import Model, build_captioner
from attend.runs.checkpoint import read_checkpoint
from attend.runs.folder import RunFolder
from attend.training import loop as training
from tests import halves
from tests.made_runs import scores

SHAPES = {  # rows, columns and D of the features
    "xu2015-paper": (14, 14, 512),
    "vgg": (14, 14, 512),
    "tutorial": (14, 14, 1792),
    "resnet50": (7, 7, 2048),
    "gru-residual": (8, 8, 1536),
    "scratch": (8, 8, 256),
    "soft": (7, 7, 1280),
}
SAME = {
    "adaptive",
    "transformer",
    "xu2015-paper-soft",
    "xu2015-code",
    "xu2015-code-soft",
    "hard",
    "uniform",
    "oracle",
}  # as one of those


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("presets") / "data", splits=(8, 2, 2))


def random(name: str, **settings) -> Encoder:
    return Encoder(replace(PRESETS[name].config.encoder, weights="random", **settings))


@pytest.mark.parametrize("name", SHAPES)
def test_the_features_have_the_shape_that_is_stated(headless, name):
    encoder = random(name)
    *grid, width = SHAPES[name]
    images = torch.randint(0, 256, (1, 3, encoder.size, encoder.size), dtype=torch.uint8)
    with torch.no_grad():
        assert encoder(images).shape == (1, grid[0] * grid[1], width)
    assert encoder.grid == tuple(grid) and encoder.width == width


def test_every_preset_has_a_shape():
    assert SHAPES.keys() | SAME == PRESETS.keys()
    known = [PRESETS[name].config.encoder for name in SHAPES]
    assert all(replace(PRESETS[name].config.encoder) in known for name in SAME)


def test_vgg_is_read_before_its_last_pooling(headless):
    encoder = random("vgg")
    seen = []
    *_, last = (m for m in encoder.backbone.features if isinstance(m, torch.nn.MaxPool2d))
    last.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    with torch.no_grad():
        encoder.backbone.forward_features((images - encoder.mean) / encoder.std)
        assert torch.equal(encoder(images), seen[0].flatten(2).transpose(1, 2))


def test_inception_reads_pixels_in_unit_range():
    encoder = random("gru-residual", size=96)
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        truth = encoder.backbone.forward_features(images / 255).flatten(2).transpose(1, 2)
        assert torch.allclose(encoder(images), truth, atol=1e-6)
        assert not torch.allclose(random("gru-residual", size=96, pixels="backbone")(images), truth, atol=1e-4)


def test_the_tutorial_unfreezes_its_last_three_convolutional_blocks():
    encoder = random("tutorial", size=64, tune_blocks=3)
    tuned = {name for name, p in encoder.backbone.named_parameters() if p.requires_grad}
    blocks = {".".join(name.split(".")[:3]) if name.startswith("blocks") else name.split(".")[0] for name in tuned}
    assert blocks == {"blocks.5.7", "blocks.6.0", "blocks.6.1", "conv_head", "bn2"}  # the head goes with the last
    assert not random("tutorial", size=64).tuned()


def test_the_tutorial_is_arranged_as_stated():
    tutorial = PRESETS["tutorial"].config
    captioner = build_captioner(tutorial, 1792, 9)
    assert captioner.attention.score.key.weight.shape == (512, 1792) and captioner.attention.score.activation == "relu"
    assert captioner.decoder.gate_score.weight.shape == (1792, 512)
    assert captioner.decoder.hidden_gates.weight.shape == (4 * 512, 512)
    assert captioner.decoder.logits.weight.shape == (9, 512) and captioner.decoder.readout_hidden is None
    assert tutorial.encoder.tune_blocks == 0


def test_the_small_network_starts_from_the_seed_of_its_run():
    settings = PRESETS["scratch"].config.encoder
    one, same, other = (Encoder(settings, seed).fingerprint() for seed in (1, 1, 2))
    assert one == same != other
    assert len(Encoder(settings).tuned()) == len(list(Encoder(settings).backbone.parameters()))
    with pytest.raises(ValueError, match="'pretrained', but small_cnn has none: use 'random' or a file"):
        Encoder(replace(settings, weights="pretrained"))


TRAINED = [(name, ()) for name in PRESETS if name != "oracle"]  # halves has no boxes
SLIM = ("--encoder.name", "resnet10t")  # where the encoder is not what is asked about
HEADS = ("--attention.heads", "4")
SAMPLED = ("--attention.select", "sample")
TRAINED += [("gru-residual", SLIM + more) for more in (SAMPLED, HEADS, HEADS + SAMPLED)]
TRAINED += [(name, SAMPLED) for name in ("adaptive", "transformer")]
TRAINED += [("tutorial", ("--encoder.tune-blocks", "3"))]
SLOW = [one for one in TRAINED if one[1] or one[0] == "gru-residual"]
TRAINED = [pytest.param(*one, marks=pytest.mark.slow) if one in SLOW else one for one in TRAINED]


@pytest.fixture()
def headless(monkeypatch):
    """VGG without the layers of its classifier: they have nine tenths of its weights, and no features pass them."""
    monkeypatch.setattr("timm.models.vgg.ConvMlp", lambda *_, **__: torch.nn.Identity())


SMALL = "--encoder.weights random --train.epochs 2 --train.images 4 --train.log-every 1 --decoder.hidden 32"
SMALL += " --decoder.embedding 16 --attention.width 16 --search.max-length 4 --encoder.size "


def small(name: str) -> list[str]:
    """Options that make a preset small."""
    options = SMALL + ("160" if name == "gru-residual" else "64")
    if "vgg" in PRESETS[name].config.encoder.name:
        options += " --encoder.name vgg11"  # the same stages with fewer layers
    return options.split()


@pytest.mark.parametrize(("name", "more"), TRAINED)
def test_every_preset_trains(headless, data, tmp_path, monkeypatch, name, more):
    """Two epochs of two steps on small images: the loss is finite and everything that should learn moves, alone."""
    monkeypatch.setattr(training, "evaluate", lambda *_, **__: scores(grounding=None))
    run = tmp_path / "run"
    main(["train", name, "--data", str(data), "--out", str(run), *small(name), *more])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["split"] == "train"]
    assert len(steps) == 4 and all(0 < line["nll"] < 10 for line in steps)
    learned = PRESETS[name].config.attention.weights == "learned"
    assert all((line["attention_gradient"] > 0) == learned for line in steps)
    began = Model.build(RunFolder(run).config(), Prepared(data).vocabulary)
    ended, _ = read_checkpoint(RunFolder(run).last)
    moved = {name for name, tensor in began.tensors().items() if not torch.equal(tensor, ended[name])}
    parts = {"captioner": began.captioner, "encoder": began.encoder}
    learn = {f"{part}.{n}" for part, one in parts.items() for n, p in one.named_parameters() if p.requires_grad}
    assert moved == {n for n in learn if learned or not n.startswith("captioner.attention.")}


CELLS = [
    ("soft", ()),
    ("gru-residual", ()),
    pytest.param("gru-residual", SLIM + HEADS + SAMPLED, marks=pytest.mark.slow),
    ("adaptive", SAMPLED),
    ("transformer", SAMPLED),
    ("transformer", ("--decoder.looks", "every")),
]


@pytest.mark.parametrize(("name", "more"), CELLS)
def test_every_cell_is_evaluated_and_captions(data, tmp_path, monkeypatch, capsys, name, more):
    """Through the program, with all that it writes."""

    def missing():
        raise JavaError("no Java in this test")

    monkeypatch.setattr("attend.metrics.captions.find_java", missing)
    run = tmp_path / "run"
    main(["train", name, "--data", str(data), "--out", str(run), *small(name), "--train.epochs", "1", *more])
    scores = json.loads((run / "scores.json").read_text())
    decode = "argmax" if set(SAMPLED) <= set(more) else "expected"
    assert (scores["decode"], scores["images"]) == (decode, 2) and 0 <= scores["captions"]["bleu1"] <= 1
    assert 0 < scores["given"]["nll"] < 10 and (run / f"evaluations/test-{decode}-beam3/attention.h5").exists()
    main(["evaluate", str(run), "--split", "val", "--decode", "sample" if more else "expected", "--beam", "1"])
    capsys.readouterr()
    main(["caption", str(run), str(data / "images/00.png"), "--out", str(tmp_path / "captions")])
    first, *files = capsys.readouterr().out.splitlines()
    words = set(Prepared(data).vocabulary.words)
    assert set(first.partition(": ")[2].removesuffix("(no words)").split()) <= words
    assert all(Path(file.strip()).exists() for file in files)


def test_the_help_says_how_presets_differ(capsys):
    main(["train", "--help-all"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f" {name} " in shown for name in PRESETS)
    assert "encoder.name 'vgg16' (was 'tf_efficientnet_lite0')" in shown
    assert not PRESETS["soft"].differences and all(PRESETS[name].differences for name in PRESETS if name != "soft")
    assert PRESETS["soft"].config == SOFT
