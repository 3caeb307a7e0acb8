"""Whatever is in a file or a setting, it is read or refused in one sentence: no other exception, and no hang."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attend.config import Config
from attend.config.text import fields, from_dict, replace, to_dict
from attend.data.sources.layouts import READERS
from attend.data.sources.readers import Reading, read_source

WORDS = st.sampled_from(
    [
        *("a.png", "b.png", "../a.png", "image", "caption", "train", "val", "restval", "A dog", "", "\x00"),
        *("\ud800.png", "a\x07.png", "half \ud83d of an emoji"),
    ]
)
TEXT = WORDS | st.text(max_size=8) | st.text(st.characters(), max_size=4)  # halves of characters too
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXT
KEYS = st.sampled_from(
    [
        *("images", "annotations", "image", "id", "file_name", "image_id", "caption", "captions", "split"),
        *("filename", "sentences", "raw", "filepath"),
    ]
) | st.text(max_size=3)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)

SOUND = {  # a sound file of each layout, to be damaged
    "karpathy": ("dataset_x.json", {"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": "A"}]}]}),
    "flickr8k": ("x.token.txt", "a.png#0\tA dog\nb.png#0\tA cat\n"),
    "kaggle": ("captions.txt", 'image,caption\na.png,"A dog, asleep"\nb.png,A cat\n'),
    "coco": (
        "captions_x.json",
        {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "A"}]},
    ),
    "classic": ("WORDMAP_x.json", {"a": 1, "<start>": 2, "<end>": 3, "<unk>": 4, "<pad>": 0}),
    "csv": ("mine.csv", 'image,caption,split\na.png,"A dog, asleep",train\nb.png,A cat,val\n'),
    "json": (
        "mine.json",
        [{"image": "a.png", "captions": ["A"], "split": "train"}, {"image": "b.png", "caption": "B"}],
    ),
}
IN_JSON = [layout for layout, (_, content) in SOUND.items() if not isinstance(content, str)]


def test_every_layout_is_there_to_be_damaged():
    assert SOUND.keys() == READERS.keys()


@pytest.fixture(scope="module")
def folder():
    """Sound files of every layout, each in a folder of its own with two images."""
    with tempfile.TemporaryDirectory() as root:
        for layout, (name, content) in SOUND.items():
            here = Path(root) / layout
            for place in (here, here / "x"):
                place.mkdir()
                for image in ("a.png", "b.png"):
                    Image.new("RGB", (4, 4)).save(place / image)
            (here / name).write_text(content if isinstance(content, str) else json.dumps(content))
        classic = Path(root) / "classic"
        with h5py.File(classic / "TRAIN_IMAGES_x.hdf5", "w") as file:
            file["images"], file.attrs["captions_per_image"] = np.zeros((2, 3, 4, 4), np.uint8), 1
        (classic / "TRAIN_CAPTIONS_x.json").write_text("[[2, 1, 3, 0], [2, 1, 4, 3]]")
        (classic / "TRAIN_CAPLENS_x.json").write_text("[3, 4]")
        yield Path(root)


def read(folder: Path, layout: str) -> bool:
    """Whether it was read; True or False, nothing else may happen."""
    try:
        source = read_source(
            folder / layout, Reading(layout=layout, check_images=False), unpack=folder / layout / "out"
        )
    except (ValueError, FileNotFoundError) as error:
        said = str(error)
        assert "\n" not in said and str(folder) in said and not isinstance(error, UnicodeError)
        said.encode()
        return False
    finally:
        shutil.rmtree(folder / layout / "out", ignore_errors=True)
    for example in source.examples:  # what is read can be written
        assert example.captions and json.dumps(repr(example), ensure_ascii=False).encode()
        for caption in example.captions:
            (caption.raw + "".join(caption.tokens)).encode()
    return True


@pytest.mark.parametrize("layout", SOUND)
def test_the_sound_files_are_read(folder, layout):
    assert read(folder, layout)


@pytest.mark.parametrize("layout", IN_JSON)
@given(content=JSON)
def test_any_json(folder, layout, content):
    write_and_read(folder, layout, json.dumps(content).encode())


@pytest.mark.parametrize("layout", IN_JSON)
@given(data=st.data())
def test_sound_json_with_one_value_replaced(folder, layout, data):
    content = json.loads(json.dumps(SOUND[layout][1]))
    places = [(content, key) for key in (content if isinstance(content, dict) else range(len(content)))]
    for holder, key in places:
        inner = holder[key]
        if isinstance(inner, dict | list):
            places += [(inner, key) for key in (inner if isinstance(inner, dict) else range(len(inner)))]
    holder, key = data.draw(st.sampled_from(places))
    if isinstance(holder, dict) and data.draw(st.booleans()):
        holder[data.draw(KEYS)] = holder.pop(key)
    else:
        holder[key] = data.draw(JSON)
    write_and_read(folder, layout, json.dumps(content).encode())


@pytest.mark.parametrize("layout", SOUND)
@given(data=st.data())
def test_sound_bytes_with_some_replaced(folder, layout, data):
    content = SOUND[layout][1]
    content = bytearray((content if isinstance(content, str) else json.dumps(content)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, len(content)))
        content[start:stop] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b",", b"\n", b"\r", b"|", b"#", b"\t"])
        )
    write_and_read(folder, layout, bytes(content))


NUMBERS = st.integers(-1, 5) | st.lists(st.integers(0, 5), max_size=1) | SCALARS
TWO = {"min_size": 2, "max_size": 2}


@given(
    captions=st.lists(st.lists(NUMBERS, max_size=5) | st.just([2, 1, 3]) | JSON, **TWO) | JSON,
    lengths=st.just([3, 3]) | st.lists(NUMBERS, **TWO) | JSON,
)
def test_any_captions_of_the_classic_files(folder, captions, lengths):
    file = folder / "classic/TRAIN_CAPLENS_x.json"
    before = file.read_text()
    try:
        file.write_text(json.dumps(lengths))
        write_and_read(folder, "classic", json.dumps(captions).encode(), "TRAIN_CAPTIONS_x.json")
    finally:
        file.write_text(before)


@given(data=st.data())
def test_classic_images_with_some_bytes_replaced(folder, data):
    content = bytearray((folder / "classic/TRAIN_IMAGES_x.hdf5").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    write_and_read(folder, "classic", bytes(content[: data.draw(st.integers(1, len(content)))]), "TRAIN_IMAGES_x.hdf5")


def write_and_read(folder: Path, layout: str, content: bytes, name: str | None = None) -> None:
    file = folder / layout / (name or SOUND[layout][0])
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        read(folder, layout)
    finally:
        file.write_bytes(before)


# The configuration

VALUES = st.recursive(
    SCALARS | st.sampled_from(["3", "true", "none", "1e999", "nan", "7 7", "hard", "sample", "expected", "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*fields(), "train", "encoder", "", ".", "train.", "train.epoch", "a.b.c"]) | st.text(
    max_size=9
)


def configured(build) -> None:
    """A configuration that can be written and read back, or one sentence."""
    try:
        config = build()
    except ValueError as error:
        assert "\n" not in str(error) and str(error)
        return
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@settings(max_examples=3 * settings().max_examples)
@given(changes=st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_setting(changes):
    configured(lambda: replace(Config(), changes))


@settings(max_examples=3 * settings().max_examples)
@given(data=st.data())
def test_any_configuration(data):
    values = to_dict(Config())
    for _ in range(data.draw(st.integers(1, 3))):
        section = values
        while True:
            name = data.draw(st.sampled_from([*section]) if data.draw(st.integers(0, 9)) else st.text(max_size=5))
            if not isinstance(section.get(name), dict) or data.draw(st.integers(0, 4)) == 0:
                break
            section = section[name] or {"x": 1}
        section[name] = data.draw(VALUES)
    configured(lambda: from_dict(values))
    configured(lambda: from_dict(data.draw(VALUES)))
