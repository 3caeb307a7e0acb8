"""Captioners that come with the package: made of a finished run, small, found by name, and their cards."""

from __future__ import annotations

import re

import numpy as np
import pytest
from attend.experiments import ship as shipping
from attend.experiments.cli.main import main
from PIL import Image

from attend import shipped
from attend.config.text import from_dict
from attend.data.text import SPECIALS
from attend.evaluation.caption import caption_images
from attend.evaluation.novelty import Novelty
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.training.loop import train
from tests import halves

KNOWN = shipped.names()
LARGEST = 6.0
"""MB."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("ship")
    data = halves.write(root / "data")
    settings = halves.SMALL | {"data": str(data), "attention": {"select": "sample", "width": 16}}
    train(from_dict(settings | {"train": halves.SMALL["train"] | {"epochs": 4}}), root / "runs/halves/hard/seed0")
    return root / "runs/halves/hard/seed0"


def test_a_small_captioner_says_what_its_run_says_in_the_words_that_it_keeps(run, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    images = sorted((run.parents[3] / "data/images").glob("3*.png"))
    whole = [one.text for one in caption_images(run, images)]
    shipping.ship(run, "all-words", 1000, tmp_path)
    assert [one.text for one in caption_images("all-words", images)] == whole
    assert (tmp_path / "all-words/novelty.json").read_text() == (run / "novelty.json").read_text()
    folder = shipping.ship(run, "few-words", 4, tmp_path)
    small = Model.read(RunFolder(folder))
    assert len(small.vocabulary) == len(SPECIALS) + 4 and len(small.captioner.decoder.logits.weight) == len(
        small.vocabulary
    )
    assert {*small.vocabulary.words[len(SPECIALS) :]} <= {"a", "half", "and", "then", "red", "green", "blue", "yellow"}
    said = " ".join(one.text for one in caption_images("few-words", images)).split()
    assert {*said} <= {*small.vocabulary.words} and shipped.names() == ("all-words", "few-words")
    card = (folder / "README.md").read_text()
    assert re.search(r"an LSTM of\s\d+, 4 words, 0\.\d MB in fp16", card) and re.search(r"BLEU-4 \d+\.\d", card)


def test_a_run_that_is_there_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    (tmp_path / "shipped/flickr8k-soft").mkdir(parents=True)
    (tmp_path / "shipped/flickr8k-soft/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert shipped.found("flickr8k-soft") == tmp_path / "shipped/flickr8k-soft"
    (tmp_path / "flickr8k-soft").mkdir()
    assert shipped.found("flickr8k-soft").resolve() == tmp_path / "flickr8k-soft"
    with pytest.raises(ValueError, match=r"there is no run nowhere: .*flickr8k-soft come with attend"):
        shipped.found("nowhere")


def test_the_program_names_those_that_there_are(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["caption", "flickr9k-soft", str(tmp_path)])
    assert "there is no run flickr9k-soft: name a run folder, below runs/" in capsys.readouterr().err


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_shipped_knows_what_is_new_to_it(name, tmp_path):
    """Noise is no photograph: its novelty is beyond the limit, and the caption says so."""
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    (one,) = caption_images(name, [tmp_path / "noise.png"])
    assert one.novelty > Novelty.read(shipped.FOLDER / name).limit and "noise.png is unlike" in one.warnings[0]


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_shipped_is_small_and_captions(name, tmp_path, capsys):
    folder = shipped.FOLDER / name
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 1e6 * LARGEST
    card = (folder / "README.md").read_text()
    assert f"attend caption {name} photo.jpg" in card and "**What it cannot do.**" in card and "research" in card
    images = halves.write(tmp_path / "data", (1, 1, 0)) / "images"
    main(["caption", name, str(images / "00.png"), "--out", str(tmp_path / "out")])
    assert re.search(r"00\.png: \w+ \w+", capsys.readouterr().out) and (tmp_path / "out/00-maps.png").exists()
