"""Captioners that come with the package or that are shared: made of a finished run, found by name, and their cards."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attend.experiments import ship as shipping
from attend.experiments.cli.main import main
from attend.experiments.share import share
from PIL import Image

from attend import shipped
from attend.config.text import from_dict
from attend.data.text import SPECIALS
from attend.evaluation.caption import caption_images
from attend.evaluation.novelty import Novelty
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.shipped import hub
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
    spoken = " ".join(one.text for one in caption_images("few-words", images)).split()
    assert {*spoken} <= {*small.vocabulary.words} and shipped.names() == ("all-words", "few-words")
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


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def said(run: Path | str, images) -> list[tuple]:
    return [(one.words, one.weights.tolist()) for one in caption_images(run, images)]


@pytest.fixture(scope="module")
def shared(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "small-hard"
    main(["share", str(run), "--out", str(folder)])
    return folder


def test_a_shared_folder_says_what_its_run_says_and_names_no_file_of_this_machine(run, shared, monkeypatch, tmp_path):
    images = sorted((run.parents[3] / "data/images").glob("3*.png"))
    whole = said(run, images)
    monkeypatch.chdir(tmp_path)
    known = {name for name in hub.FILES if (run / name).exists()}  # those that the run has
    assert files_of(shared) == {*hub.NEEDED, "README.md"} | known
    assert said(shared, images) == whole
    here = str(run.parents[3])
    for name in files_of(shared):
        assert here.encode() not in (shared / name).read_bytes()
    hub.check_contained(shared, "it")


def test_the_card_has_the_scores_and_asks_for_what_it_cannot_know(run, shared):
    from huggingface_hub import ModelCard

    card, scores = ModelCard.load(shared / "README.md"), RunFolder(run).scores()
    about = card.data
    assert (about.license, about.library_name, about.pipeline_tag) == ("unknown", "attend", "image-to-text")
    (cider,) = [one for one in about.eval_results if one.metric_type == "cider"]
    assert cider.metric_value == round(scores["captions"]["cider"], 4) and cider.dataset_split == "test"
    assert f"| CIDEr | {scores['captions']['cider']:.3f} |" in card.text
    assert f"| BLEU-4 | {100 * scores['captions']['bleu4']:.1f} |" in card.text
    assert "No licence is stated: **choose one.**" in card.text and 'attend.load("small-hard")' in card.text


def test_weights_of_the_encoder_from_a_file_are_added(run, tmp_path, monkeypatch):
    """As safetensors, whatever they were; the file itself may then go."""
    model = Model.read(RunFolder(run))
    file, other = tmp_path / "encoder.pth", tmp_path / "run"
    torch.save(model.encoder.backbone.state_dict(), file)
    shutil.copytree(run, other)
    config = json.loads((other / "config.json").read_text())
    config["encoder"]["weights"] = str(file)
    (other / "config.json").write_text(json.dumps(config))
    share(other, tmp_path / "given", licence="mit")
    file.unlink()
    assert json.loads((tmp_path / "given/config.json").read_text())["encoder"]["weights"] == "encoder.safetensors"
    images = sorted((run.parents[3] / "data/images").glob("3*.png"))
    monkeypatch.chdir(tmp_path / "given")
    assert said(tmp_path / "given", images) == said(run, images)
    hub.check_contained(tmp_path / "given", "it")
    assert "license: mit\n" in (tmp_path / "given/README.md").read_text()


def test_what_cannot_be_shared_is_one_sentence(run, shared, tmp_path, fails):
    assert f"{shared} is not empty: choose another --out" in fails("share", run, "--out", shared)
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/scores.json").unlink()
    assert "is not finished (it has no scores.json)" in fails("share", tmp_path / "run", "--out", tmp_path / "new")


@pytest.fixture()
def a_hub(monkeypatch, tmp_path):
    """A hub that has folders by name: none at first. Answers are kept for one test alone."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    models: dict[str, Path | Exception] = {}

    class Api:
        def model_info(self, name, timeout):
            if isinstance(models.get(name), Exception):
                raise models[name]
            return SimpleNamespace(sha="abc")

    def snapshot_download(name, allow_patterns, revision=None, local_files_only=False):
        assert set(allow_patterns) == set(hub.FILES)
        if local_files_only:
            raise LocalEntryNotFoundError("it is not kept")
        assert revision == "abc"
        return str(models[name])

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    hub.downloaded.cache_clear()
    yield models
    hub.downloaded.cache_clear()


def test_a_captioner_on_the_hub_is_read_by_its_name(run, shared, a_hub):
    images = sorted((run.parents[3] / "data/images").glob("3*.png"))[:2]
    a_hub["somebody/small-hard"] = shared
    assert said("somebody/small-hard", images) == said(run, images)


def test_a_folder_comes_before_the_hub_and_a_mistyped_run_is_not_asked_for(a_hub, tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="there is no run runs/sotf: name a run folder"):
        shipped.found("runs/sotf")
    assert not hub.is_name("/tmp/x") and not hub.is_name("a/b/c") and not hub.is_name("../x") and hub.is_name("a/b-1.0")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"start": "runs/other"}, "start is 'runs/other'"),
        ({"encoder": {"weights": "/etc/passwd"}}, "encoder.weights is '/etc/passwd'"),
        ({"encoder": {"weights": "encoder.safetensors"}}, "encoder.weights is 'encoder.safetensors'"),
        ({"decoder": {"embeddings": "../glove.txt"}}, "decoder.embeddings is '../glove.txt'"),
    ],
)
def test_a_configuration_that_names_a_file_outside_is_refused(shared, a_hub, tmp_path, changes, says):
    shutil.copytree(shared, tmp_path / "evil")
    (tmp_path / "evil/config.json").write_text(json.dumps(changes))
    a_hub["some/evil"] = tmp_path / "evil"
    with pytest.raises(ValueError, match=f"some/evil names a file outside of its folder: {re.escape(says)}"):
        shipped.found("some/evil")


def test_a_hub_without_it_or_without_an_answer_is_one_sentence(a_hub, tmp_path, monkeypatch, fails):
    a_hub["some/thing"] = tmp_path
    assert "some/thing is no captioner of attend: it has no config.json" in fails("caption", "some/thing", tmp_path)
    a_hub["some/gone"] = ConnectionError("no route to host\nmore")
    sentence = fails("caption", "some/gone", tmp_path)
    assert "some/gone is no folder here, and the Hugging Face Hub was not reached (no route to host)" in sentence
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    a_hub["some/none"] = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    assert "there is no captioner some/none on the Hugging Face Hub" in fails("caption", "some/none", tmp_path)
    waiting = threading.Event()
    monkeypatch.setattr(hub, "SECONDS", 0.05)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=lambda *_, **__: waiting.wait(60)))
    assert "was not reached (no answer in 0 seconds)" in fails("caption", "some/slow", tmp_path)
    waiting.set()
