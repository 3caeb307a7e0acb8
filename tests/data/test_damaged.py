"""What was prepared, damaged since: refused in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from attend.data.prepared import Prepared, write_prepared
from attend.data.sources.readers import read_source
from attend.data.stores import Store, fill_store
from tests.data.test_bad_files import dataset

ABOUT = {"name": "x", "images": "in", "splits": {"train": 1, "val": 0, "test": 0}, "words": 5, "fingerprint": "0"}
ABOUT |= {"vocabulary": "0"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("dataset.json", "[]", "dataset.json is damaged or of another version"),
        ("dataset.json", '{"name": "x"}', "dataset.json is damaged or of another version"),
        ("dataset.json", json.dumps(ABOUT | {"splits": []}), "dataset.json is damaged or of another version"),
        ("dataset.json", json.dumps(ABOUT | {"splits": {"train": 1}}), "dataset.json is damaged or of another version"),
        ("dataset.json", json.dumps(ABOUT | {"images": 3}), "dataset.json is damaged or of another version"),
        ("dataset.json", "{", "dataset.json is not readable as JSON"),
        ("examples.jsonl", '{"image": 3, "split": "train", "captions": []}\n', "line 1 of .*examples.jsonl is damaged"),
        ("examples.jsonl", '{"image": "a", "split": 1, "captions": []}\n', "line 1 of .*examples.jsonl is damaged"),
        ("examples.jsonl", '{"image": "a.png"}\n', "line 1 of .*examples.jsonl is damaged"),
        ("examples.jsonl", "null\n", "line 1 of .*examples.jsonl is damaged"),
        ("examples.jsonl", "\udcff\n", "line 1 of .*examples.jsonl is damaged"),
        ("vocabulary.json", "{}", "vocabulary.json is JSON but not a vocabulary"),
        ("dataset.json", json.dumps(ABOUT | {"images": "../in"}), "the image folder of .* leads out of .*out"),
        *(
            (
                "examples.jsonl",
                json.dumps({"image": name, "split": "train", "captions": []}),
                "line 1 of .* leads out of",
            )
            for name in ("../../secret.png", "/etc/secret.png", "a/../../b.png", "..\\\\b.png", "a\0.png", "")
        ),
    ],
)
def test_a_damaged_prepared_folder_is_refused(tmp_path, name, content, says):
    source = read_source(dataset(tmp_path / "in", {"a.png": ["A dog"]}))
    write_prepared(source, tmp_path / "out", 1)
    (tmp_path / "out" / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=says):
        Prepared(tmp_path / "out").rows("train")


@pytest.mark.parametrize("plan", [[], {}, {"count": 2, "shard": 0, "provenance": {}}, {"count": "2", "shard": 1}])
def test_a_store_of_another_version_is_refused(tmp_path, plan):
    (tmp_path / "store.json").write_text(json.dumps(plan))
    for use in (lambda: Store(tmp_path), lambda: [*fill_store(tmp_path, 2, {}, None)]):
        with pytest.raises(ValueError, match=r"store\.json is damaged or of another version: remove"):
            use()


def test_a_store_of_another_encoder_and_a_truncated_shard_are_refused(tmp_path):
    def produce(rows: range) -> dict[str, np.ndarray]:
        return {"inputs": np.zeros((len(rows), 4, 8), np.float16)}

    list(fill_store(tmp_path, 2, {"encoder": "resnet50"}, produce))
    with pytest.raises(ValueError, match="store made from something else"):
        list(fill_store(tmp_path, 2, {"encoder": "vgg16"}, produce))
    shard = tmp_path / "00000.h5"
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"{shard} is damaged .*remove it"):
        Store(tmp_path).read("inputs", [0])


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", ".."])
def test_a_picture_outside_the_folder_is_not_looked_for(tmp_path, name):
    """As attention.h5 or a caller may name it."""
    source = read_source(dataset(tmp_path / "in", {"a.png": ["A dog"]}))
    prepared = write_prepared(source, tmp_path / "out", 1)
    assert prepared.file("a.png").exists() and prepared.root.is_absolute()  # its images lie elsewhere
    with pytest.raises(ValueError, match=r"an image of .*out is named .* leads out of .*in: name a file inside it"):
        prepared.file(name)


def test_images_that_are_links_are_read(tmp_path):
    source = read_source(dataset(tmp_path / "in", {"a.png": ["A dog"]}))
    (tmp_path / "in/a.png").rename(tmp_path / "b.png")
    (tmp_path / "in/a.png").symlink_to(tmp_path / "b.png")
    assert write_prepared(source, tmp_path / "out", 1).image(0).read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_count_that_no_folder_holds_is_refused_at_once(tmp_path):
    (tmp_path / "store.json").write_text(json.dumps({"count": 2**52, "shard": 1, "provenance": {}}))
    with pytest.raises(ValueError, match=rf"lacks {2**52} of its shards"):
        Store(tmp_path)
