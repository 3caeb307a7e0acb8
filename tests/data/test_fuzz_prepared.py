"""Whatever is in a file that a run reads, or that a split list or Entities add: read, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from attend.analysis.records import read_run
from attend.experiments.cli.main import main
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attend.data.embeddings import read_embeddings
from attend.data.prepared import Prepared
from attend.data.sources.entities import join_entities
from attend.data.sources.readers import Reading, read_source
from attend.data.stores import Store, fill_store
from attend.data.text import Vocabulary
from attend.metrics.captions import DocumentFrequencies
from tests import halves
from tests.made_runs import make_metrics, make_run, scores
from tests.runs.test_fuzz import JSON

VOCABULARY = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", "a", "dog"))


def edits(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with some bytes replaced, or cut."""

    def edited(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = bytearray(content)
        for start, length, value in changes:
            changed[start : start + length] = value
        return bytes(changed)

    piece = st.binary(max_size=4) | st.sampled_from(
        [b'"', b",", b"\n", b"\r", b"#", b"\t", b" ", b"/", b"..", b"1e999"]
    )
    change = st.tuples(st.integers(0, len(content)), st.integers(0, 6) | st.just(len(content)), piece)
    return st.lists(change, min_size=1, max_size=3).map(edited)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """JSON with one value replaced or taken away, any JSON, or some bytes replaced."""

    @st.composite
    def replaced(draw) -> bytes:
        value = json.loads(content)
        places = [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
        for holder, key in places:
            inner = holder[key]
            if isinstance(inner, dict | list):
                places += [(inner, key) for key in (inner if isinstance(inner, dict) else range(len(inner)))]
        holder, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = draw(JSON)
        return json.dumps(value).encode()

    return replaced() | JSON.map(lambda value: json.dumps(value).encode()) | edits(content)


def sound_or_said(path: Path, content: bytes, read: Callable[[], object]) -> None:
    """With this content, it is read or one sentence names the file."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        read()
    except ValueError as error:
        said = str(error)
        assert path.stem in said and "\n" not in said and not isinstance(error, UnicodeError), said
        said.encode()
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared dataset with a store."""
    folder = halves.write(tmp_path_factory.mktemp("fuzz") / "data", splits=(2, 1, 1))
    for _ in fill_store(folder / "store", 4, {"grid": [1, 2]}, lambda rows: {"inputs": np.ones((len(rows), 2, 3))}, 2):
        pass
    return folder


@pytest.mark.parametrize("name", ["dataset.json", "vocabulary.json", "examples.jsonl"])
@given(data=st.data())
def test_prepared_files(prepared, name, data):
    path = prepared / name
    first, _, rest = path.read_bytes().partition(b"\n") if name.endswith("l") else (path.read_bytes(), b"", b"")

    def read() -> None:
        dataset = Prepared(prepared)
        assert all(dataset.image(row) for row in range(len(dataset.examples))) and dataset.boxes in (True, False)

    sound_or_said(path, data.draw(damaged(first)) + b"\n" + rest, read)


@pytest.mark.parametrize("name", ["store.json", "00001.h5"])
@given(data=st.data())
def test_stores(prepared, name, data):
    path = prepared / "store" / name
    change = damaged if name.endswith("json") else edits
    sound_or_said(path, data.draw(change(path.read_bytes())), lambda: Store(prepared / "store").read("inputs", [0, 3]))


@given(data=st.data())
def test_embeddings(tmp_path, data):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content := b"2 2\na 0.5 1\ndog -1 2e-3\nat name@x.com 1 2\n")
    sound_or_said(path, data.draw(edits(content) | st.binary()), lambda: read_embeddings(path, VOCABULARY, 2))


@given(data=st.data())
def test_frequencies(tmp_path, data):
    path = tmp_path / "frequencies-simple.json"
    DocumentFrequencies.of([[["a", "dog"]], [["a", "cat"]]], name="x").save(path)
    sound_or_said(path, data.draw(damaged(path.read_bytes())), lambda: DocumentFrequencies.load(path))


RUN_FILES = ["config.json", "scores.json", "evaluations/test-expected-beam3/scores.json"]


@pytest.mark.parametrize("name", [*RUN_FILES, "metrics.jsonl"])
@given(data=st.data())
def test_files_of_a_run(tmp_path, capsys, name, data):
    shutil.rmtree(tmp_path / "made", ignore_errors=True)
    run = make_run(tmp_path, headline=scores(), evaluations=[scores()], metrics=make_metrics(1))
    path = run / name
    first, _, rest = path.read_bytes().partition(b"\n") if name.endswith("l") else (path.read_bytes(), b"", b"")

    def read() -> None:
        record = read_run(run)
        for series in ("nll", "entropy"):
            assert len(record.series(series, "train")) == 2
        main(["table", str(run), "--split", "test"])

    try:
        sound_or_said(path, data.draw(damaged(first)) + b"\n" + rest, read)
    except SystemExit as stop:
        said = capsys.readouterr().err
        assert stop.code == 2 and said.startswith("attend: ") and said.count("\n") == 1, said


@pytest.fixture(scope="module")
def flickr(tmp_path_factory):
    """Flickr8k's own files, with its split lists and the boxes of one image."""
    root = tmp_path_factory.mktemp("flickr")
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        Image.new("RGB", (8, 8)).save(root / name)
    (root / "x.token.txt").write_text("1.jpg#0\tA dog runs\n2.jpg#0\tA cat\n3.jpg#0\tA bird\n")
    for split, name in (("train", "1.jpg"), ("dev", "2.jpg"), ("test", "3.jpg")):
        (root / f"x.{split}Images.txt").write_text(f"{name}\n")
    for folder in ("Sentences", "Annotations"):
        (root / "boxes" / folder).mkdir(parents=True)
    (root / "boxes/Sentences/1.txt").write_text("[/EN#7/animals A dog] runs\n")
    (root / "boxes/Annotations/1.xml").write_text(
        "<annotation><size><width>8</width><height>8</height></size><object><name>7</name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"
    )
    return root


@pytest.mark.parametrize("name", ["x.trainImages.txt", "x.devImages.txt", "x.token.txt"])
@given(data=st.data())
def test_split_lists_through_the_program(flickr, tmp_path, capsys, name, data):
    """`attend prepare` leaves a whole folder, or none."""
    path = flickr / name
    before = path.read_bytes()
    path.write_bytes(data.draw(edits(before)))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    try:
        main(["prepare", str(flickr), "--out", str(tmp_path / "out"), "--minimum-count", "1"])
    except SystemExit as stop:
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("attend: ")]
        assert stop.code == 2 and len(said) == 1 and not (tmp_path / "out").exists()
    else:
        assert Prepared(tmp_path / "out").rows("train")
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["Sentences/1.txt", "Annotations/1.xml"])
@given(data=st.data())
def test_entities(flickr, name, data):
    path = flickr / "boxes" / name
    source = read_source(flickr, Reading(check_images=False))
    sound_or_said(path, data.draw(edits(path.read_bytes())), lambda: join_entities(source, flickr / "boxes"))


def test_the_sound_ones_are_read(flickr, prepared):
    joined = join_entities(read_source(flickr, Reading(check_images=False)), flickr / "boxes")
    assert joined.examples[0].captions[0].boxes and len(joined.examples) == 3
    assert len(Prepared(prepared).examples) == 4 and Store(prepared / "store").read("inputs", [3]).shape == (1, 2, 3)
    with h5py.File(prepared / "store/00001.h5") as file:
        assert file.attrs["grid"] == "[1, 2]"
