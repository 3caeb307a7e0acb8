"""Pipes and devices in the place of files: every verb says so at once, and waits for nobody."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from attend.experiments.cli.main import main

from attend.config import Encoder
from attend.encoder.encoder import Encoder as Backbone
from attend.runs.lease import Lease, held
from tests import halves, made_gallery
from tests.forks import no_java
from tests.made_runs import make_study


@contextlib.contextmanager
def pipe(path: Path, device: str | None = None) -> Iterator[None]:
    """A pipe, or a device, in the place of a file. A reader that opens the pipe is let go, and fails the test."""
    aside = path.with_name(f"{path.name}.aside")
    if path.exists():
        path.rename(aside)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(device, path) if device else os.mkfifo(path)
    opened, over = [], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            with contextlib.suppress(OSError):  # nobody reads
                file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                opened.extend([path] if stat.S_ISFIFO(os.fstat(file).st_mode) else [])
                os.close(file)

    watcher = threading.Thread(target=watch)
    if not device:
        watcher.start()
    try:
        yield
    finally:
        over.set()
        if not device:
            watcher.join()
        path.unlink(missing_ok=True)
        if aside.exists():
            aside.rename(path)
    assert not opened, f"{path} was opened"


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Runs of soft and hard attention with their dataset, Flickr8k's own files, and lists of captions."""
    root = tmp_path_factory.mktemp("pipes")
    data, runs = made_gallery.make(root, seeds=(0,))
    for run in runs.glob("made/*/seed0"):
        shutil.copy(data / "vocabulary.json", run)
        (evaluation,) = (run / "evaluations").iterdir()
        captions = dict(zip(made_gallery.names(data), made_gallery.CAPTIONS, strict=True))
        (evaluation / "captions.json").write_text(json.dumps(captions))
        with h5py.File(evaluation / "given.h5", "w") as file:
            file.attrs["grid"] = made_gallery.GRID
            file["alpha"] = np.ones((1, 6), np.float16)
    hard = {"data": str(data), "attention": {"select": "sample"}}
    (runs / "made/hard/seed0/config.json").write_text(json.dumps(hard))
    (data / "phrases.jsonl").write_text('{"image": "a.png", "boxes": {}, "captions": []}')
    halves.write(root / "halves", (4, 1, 1))
    make_study(runs, "made", study="x", trials=1)
    flickr = root / "flickr"
    shutil.copytree(data / "images", flickr / "images")
    (flickr / "x.token.txt").write_text("00.png#0\tA dog runs\n01.png#0\tA cat\n02.png#0\tA bird\n")
    for split, name in (("train", "00.png"), ("dev", "01.png"), ("test", "02.png")):
        (flickr / f"x.{split}Images.txt").write_text(f"{name}\n")
    for folder in ("Sentences", "Annotations"):
        (flickr / "boxes" / folder).mkdir(parents=True)
    (flickr / "boxes/Sentences/00.txt").write_text("A dog runs")
    size = "<size><width>8</width><height>8</height></size>"
    (flickr / "boxes/Annotations/00.xml").write_text(f"<annotation>{size}</annotation>")
    (root / "given.json").write_text('{"a": "a dog"}')
    (root / "settings.yaml").write_text("seed: 1")
    return root


RUN, OTHER = "runs/made/soft/seed0", "runs/made/hard/seed0"
EVALUATION = f"{RUN}/evaluations/test-expected-beam3"
PREPARE = "prepare flickr --out out/data --minimum-count 1"
TRAIN = "train soft --out out/run --data halves --encoder.name test_resnet --encoder.size 32 --encoder.grid 2 2"
SCORE = "--metrics bleu --tokeniser simple"
REFUSED = [  # a file, and the verb that cannot do without it
    ("flickr/x.token.txt", "prepare flickr/x.token.txt --layout flickr8k --out out/data"),
    ("flickr/x.devImages.txt", PREPARE),
    ("flickr/boxes/Sentences/00.txt", f"{PREPARE} --entities flickr/boxes"),
    ("flickr/boxes/Annotations/00.xml", f"{PREPARE} --entities flickr/boxes"),
    *((f"halves/{name}", TRAIN) for name in ("dataset.json", "examples.jsonl", "vocabulary.json")),
    ("data/dataset.json", "prepare scenes --out data"),
    ("settings.yaml", "train soft --config settings.yaml"),
    ("settings.json", "train soft --config settings.json"),
    ("weights.safetensors", f"{TRAIN} --encoder.weights weights.safetensors"),
    ("weights.pth", f"{TRAIN} --encoder.weights weights.pth"),
    ("words.txt", f"{TRAIN} --encoder.weights random --decoder.embeddings words.txt"),
    *((f"{RUN}/{name}", f"evaluate {RUN}") for name in ("config.json", "vocabulary.json")),
    (f"{RUN}/checkpoint/best.safetensors", f"evaluate {RUN}"),
    (f"{RUN}/checkpoint/best.safetensors", f"caption {RUN} data/images/00.png --out out"),
    (f"{RUN}/checkpoint/best.safetensors", f"share {RUN} --out out/shared"),
    (f"{RUN}/checkpoint/best.safetensors", f"{TRAIN} --encoder.weights random --from {RUN}"),
    ("picture.png", f"caption {RUN} picture.png --out out"),
    (f"{OTHER}/checkpoint/best.safetensors", f"estimators --run {OTHER} --out out"),
    *((f"{RUN}/{name}", f"table {RUN}") for name in ("config.json", "scores.json")),
    ("runs/made/study.json", f"table {RUN}"),
    (f"{RUN}/metrics.jsonl", f"export {RUN} --to csv --out out"),
    (f"{RUN}/config.json", f"export {RUN} --to csv --out out"),
    ("given.json", f"score given.json --references given.json {SCORE}"),
    ("given.csv", f"score {EVALUATION} --references given.csv {SCORE}"),
    ("x.token.txt", f"score {EVALUATION} --references x.token.txt {SCORE}"),
    ("given.json", f"score {EVALUATION} --references data --base given.json {SCORE}"),
    (f"{EVALUATION}/captions.json", f"score {EVALUATION} --references data {SCORE}"),
    ("data/examples.jsonl", f"score {EVALUATION} --references data {SCORE}"),
    ("people.csv", f"plot gaze {RUN} --people people.csv --out out"),
]
NOTED = [  # a file, and a verb that goes on without it, or with what is left
    (f"{EVALUATION}/attention.h5", f"plot saccades {RUN} {OTHER} --out out --images 1"),
    (f"{EVALUATION}/attention.h5", f"plot gaze {RUN} {OTHER} --formats png --out out"),
    (f"{EVALUATION}/images.csv", f"plot metrics {RUN} {OTHER} --formats png --out out"),
    (f"{EVALUATION}/given.h5", f"plot grounding {RUN} --formats png --out out"),
    ("data/phrases.jsonl", f"plot grounding {RUN} --formats png --out out"),
    (f"{RUN}/metrics.jsonl", f"plot curves {RUN} {OTHER} --formats png --out out"),
    ("runs/estimators.csv", "plot estimators runs --formats png --out out"),
    (f"{EVALUATION}/attention.h5", f"report {RUN} {OTHER} --out out/report.html"),
    (f"{EVALUATION}/images.csv", f"report {RUN} --out out/report.html"),
    (f"{RUN}/metrics.jsonl", f"report {RUN} --out out/report.html"),
    (f"{RUN}/scores.json", f"report {RUN} {OTHER} --out out/report.html"),
    ("data/dataset.json", f"report {RUN} --out out/report.html"),
    ("data/images/02.png", f"report {RUN} --out out/report.html"),
]
IDS = [f"{file}-{line.partition(' ')[0]}" for file, line in REFUSED]


@pytest.mark.parametrize(("file", "line"), REFUSED, ids=IDS)
def test_a_verb_that_needs_the_file_says_so(here, fails, monkeypatch, file, line):
    monkeypatch.chdir(here)
    with pipe(here / file):
        said = fails(*line.split())
    assert f"{Path(file).name} is a pipe or a device, not a file: write its content into a file" in said


@pytest.mark.parametrize(("file", "line"), NOTED)
def test_a_verb_that_goes_on_without_it_says_so(here, capsys, monkeypatch, file, line):
    monkeypatch.chdir(here)
    with pipe(here / file), contextlib.suppress(SystemExit):
        main(line.split())
    said = capsys.readouterr().err
    page = (here / "out/report.html").read_text() if "report" in line else ""
    assert f"{Path(file).name} is a pipe or a device" in said + page and "Traceback" not in said, said


@pytest.mark.parametrize("file", ["given.json", "given.csv"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin"])
def test_captions_from_a_device(here, fails, monkeypatch, file, device):
    """/dev/zero never ends, and whoever writes into /dev/stdin may never begin."""
    monkeypatch.chdir(here)
    with pipe(here / file, device), open(os.devnull) as nothing, contextlib.ExitStack() as stack:
        kept = os.dup(0)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 0)
        os.dup2(nothing.fileno(), 0)
        said = fails("score", file, "--references", file, *SCORE.split())
    assert f"{file} is a pipe or a device, not a file" in said


def test_a_shard_of_a_store(here, monkeypatch):
    """The store that training reads, in the place that its name is found by."""
    from attend.data.prepared import Prepared
    from attend.encoder.features import ensure_store

    dataset = Prepared(here / "data")
    backbone = Backbone(Encoder(name="test_resnet", weights="random", size=32, grid=(2, 2), stride=8), 0)
    store = ensure_store(dataset, backbone)
    for name in ("00000.h5", "store.json"):
        with (
            pipe(store.folder / name),
            pytest.raises(ValueError, match=f"{name}.* is a pipe or a device, not a file"),
        ):
            ensure_store(dataset, backbone).read("inputs", [0])


def test_a_lease_that_is_a_pipe_holds_nobody_off(tmp_path):
    with pipe(tmp_path / "lease.json"):
        assert not held(tmp_path)
        with Lease(tmp_path) as lease:
            lease.check()
