"""What is fuzzed: a file of a reader, sound contents of it to start from, and the call that reads it.

HDF5 files are not: their bytes are read by the HDF5 library, which libFuzzer cannot look into, and which loops for ever
on some damaged files. What they declare is tested in tests/runs/test_hdf5.py, and docs/reliability.md says what is not
promised.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from attend.analysis.gaze.human_gaze import read_people
from attend.analysis.human_judgement import read_captions as read_judged
from attend.analysis.human_judgement import read_crowd, read_expert
from attend.analysis.records import read_run
from attend.analysis.scoring import files as scoring
from PIL import Image

from attend.config import Config
from attend.config.text import to_dict
from attend.data.embeddings import read_embeddings
from attend.data.images import open_image
from attend.data.prepared import Prepared
from attend.data.sources.entities import join_entities
from attend.data.sources.readers import Reading, read_source
from attend.data.stores import Store, fill_store
from attend.data.text import Vocabulary
from attend.geometry import Geometry
from attend.metrics.captions import DocumentFrequencies
from attend.runs.checkpoint import read_checkpoint, write_checkpoint
from attend.runs.evaluations import read_images
from attend.runs.folder import RunFolder
from attend.runs.lease import held
from attend.runs.settings import with_file
from tests import halves
from tests.made_runs import images_of, make_metrics, make_run, make_scored, scores
from tests.runs.test_fuzz import SOUND


@dataclass(frozen=True)
class Target:
    """``read`` reads the file at ``path``, whose contents are made from ``seeds``."""

    path: Path
    seeds: tuple[bytes, ...]
    read: Callable[[], object]


TARGETS: dict[str, Callable[[Path], Target]] = {}
"""By name, what makes a target in an empty folder."""


def target(make: Callable[[Path], Target]) -> Callable[[Path], Target]:
    TARGETS[make.__name__] = make
    return make


def of_file(path: Path, read: Callable[[], object], *more: bytes) -> Target:
    """A target whose file is there already."""
    return Target(path, (path.read_bytes(), *more), read)


def _layout(layout: str) -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        name, content = SOUND[layout]
        for image in ("a.png", "b.png"):
            Image.new("RGB", (4, 4)).save(folder / image)
        text = content if isinstance(content, str) else json.dumps(content)
        reading = Reading(layout=layout, check_images=False)
        return Target(folder / name, (text.encode(),), lambda: read_source(folder, reading))

    return make


TARGETS |= {f"layout_{layout}": _layout(layout) for layout in SOUND if layout != "classic"}


def _prepared(folder: Path) -> Path:
    return halves.write(folder / "data", splits=(2, 1, 1), boxes=True)


def _dataset(name: str) -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        data = _prepared(folder)

        def read() -> None:
            dataset = Prepared(data)
            for row in range(len(dataset.examples)):
                dataset.image(row)

        return of_file(data / name, read)

    return make


TARGETS |= {name.partition(".")[0]: _dataset(name) for name in ("dataset.json", "vocabulary.json", "examples.jsonl")}


def _store(name: str) -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        for _ in fill_store(folder, 2, {"grid": [1, 2]}, lambda rows: {"inputs": np.ones((len(rows), 2, 3))}, 2):
            pass
        return of_file(folder / name, lambda: Store(folder).read("inputs", [0, 1]))

    return make


TARGETS["store"] = _store("store.json")


@target
def config(folder: Path) -> Target:
    run = make_run(folder, headline=scores(), evaluations=[scores()])
    whole = json.dumps(to_dict(Config())).encode()
    return of_file(run / "config.json", lambda: (RunFolder(run).config(), read_run(run)), whole)


@target
def settings(folder: Path) -> Target:
    seeds = (b"train: {epochs: 20}\nencoder.name: resnet50\n", b"--train.learning-rate: 1e-3\nseed: 3\n")
    return Target(folder / "mine.yaml", seeds, lambda: with_file(Config(), folder / "mine.yaml"))


@target
def metrics(folder: Path) -> Target:
    run = make_run(folder, headline=scores(), evaluations=[scores()], metrics=make_metrics(1))
    return of_file(run / "metrics.jsonl", lambda: read_run(run).series("nll", "train"))


@target
def results(folder: Path) -> Target:
    run = make_run(folder, headline=scores(), evaluations=[scores()])
    return of_file(run / "scores.json", lambda: read_run(run))


@target
def environment(folder: Path) -> Target:
    run = make_run(folder, headline=scores(), evaluations=[scores()])
    return of_file(run / "environment.json", lambda: read_run(run), b'{"commit": "abc", "processes": 2}')


@target
def images(folder: Path) -> Target:
    table = images_of(make_scored(folder, "made/soft/seed1", images=3))
    return of_file(table, lambda: read_images(table.parent, 3))


@target
def checkpoint(folder: Path) -> Target:
    path = folder / "last.safetensors"
    state = {"vocabulary": "v", "encoder": None, "progress": {"epoch": 1, "step": 4}, "groups": [{"lr": 0.1}]}
    write_checkpoint(path, {"weight": torch.ones(2, 2)}, state)
    return of_file(path, lambda: read_checkpoint(path))


@target
def lease(folder: Path) -> Target:
    return Target(
        folder / "lease.json",
        (b'{"owner": "a", "pid": 1, "host": "here", "renewed": 1.5}',),
        lambda: held(folder),
    )


@target
def frequencies(folder: Path) -> Target:
    path = folder / "frequencies-simple.json"
    DocumentFrequencies.of([[["a", "dog"]], [["a", "cat"]]], name="x").save(path)
    return of_file(path, lambda: DocumentFrequencies.load(path))


@target
def embeddings(folder: Path) -> Target:
    path, words = folder / "vectors.txt", Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "a", "dog"))
    return Target(path, (b"2 2\na 0.5 1\ndog -1 2e-3\n",), lambda: read_embeddings(path, words, 2))


def _scored(name: str, *seeds: bytes) -> Callable[[Path], Target]:
    return lambda folder: Target(folder / name, seeds, lambda: scoring.read(folder / name, "captions"))


TARGETS["captions_json"] = _scored(
    "captions.json",
    b'[{"image_id": 1, "caption": "a dog"}, {"image_id": "2.jpg", "caption": "a cat"}]',
    b'{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}',
    b'{"1.jpg": ["a dog", "the dog"]}',
)
TARGETS["captions_csv"] = _scored("captions.csv", b'image,caption\n1.jpg,"a dog, asleep"\n2.jpg,a cat\n')


@target
def expert(folder: Path) -> Target:
    captions = {"1.jpg": {"0": "a dog"}, "2.jpg": {"2": "a cat"}}
    path = folder / "ExpertAnnotations.txt"
    return Target(path, (b"1.jpg\t2.jpg#2\t1\t1\t2\n",), lambda: read_expert(path, captions))


@target
def crowd(folder: Path) -> Target:
    captions = {"1.jpg": {"0": "a dog"}, "2.jpg": {"2": "a cat"}}
    path = folder / "CrowdFlowerAnnotations.txt"
    return Target(path, (b"1.jpg\t2.jpg#2\t0.5\t1\t2\n",), lambda: read_crowd(path, captions))


@target
def tokens(folder: Path) -> Target:
    path = folder / "Flickr8k.token.txt"
    return Target(path, (b"1.jpg#0\tA dog\n1.jpg#1\tthe dog\n",), lambda: read_judged(path))


@target
def people(folder: Path) -> Target:
    path, geometries = folder / "fixations.csv", {"1.jpg": Geometry.of("squash", (64, 48), (7, 7))}
    rows = b"image,subject,x,y,duration,onset\n1.jpg,a,3,4,200,0\n1.jpg,a,30,40,150,200\n"
    return Target(path, (rows,), lambda: read_people(path, geometries))


def _entities(name: str, seed: bytes) -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        Image.new("RGB", (8, 8)).save(folder / "1.jpg")
        (folder / "x.token.txt").write_text("1.jpg#0\tA dog runs\n")
        for inner in ("Sentences", "Annotations"):
            (folder / "boxes" / inner).mkdir(parents=True)
        (folder / "boxes/Sentences/1.txt").write_text("[/EN#7/animals A dog] runs\n")
        (folder / "boxes/Annotations/1.xml").write_text("<annotation></annotation>")
        source = read_source(folder, Reading(check_images=False))
        return Target(folder / "boxes" / name, (seed,), lambda: join_entities(source, folder / "boxes"))

    return make


TARGETS["sentences"] = _entities("Sentences/1.txt", b"[/EN#7/animals A dog] runs\n")
TARGETS["boxes"] = _entities(
    "Annotations/1.xml",
    b"<annotation><size><width>8</width><height>8</height></size><object><name>7</name><bndbox><xmin>1</xmin>"
    b"<ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>",
)


@target
def image(folder: Path) -> Target:
    seeds = []
    for kind in ("png", "jpg", "gif", "webp", "bmp"):
        Image.new("RGB", (3, 2), (200, 30, 30)).save(folder / f"seed.{kind}")
        seeds.append((folder / f"seed.{kind}").read_bytes())
    return Target(folder / "photo.jpg", tuple(seeds), lambda: open_image(folder / "photo.jpg"))
