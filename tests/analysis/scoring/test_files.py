"""Captions are read from every layout that people have them in, and each wrong file is one sentence."""

from __future__ import annotations

import json
import os

import pytest
from attend.analysis.scoring.files import read
from attend.analysis.scoring.pairing import pair

ANNOTATIONS = {
    "images": [{"id": 7, "file_name": "dog.jpg"}, {"id": 9, "file_name": "cat.jpg"}],
    "annotations": [
        {"image_id": 7, "caption": "a dog", "id": 1},
        {"image_id": 9, "caption": "a cat", "id": 2},
        {"image_id": 7, "caption": "the dog", "id": 3},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "dog.jpg", "cocoid": 7, "split": "test", "sentences": [{"raw": "a dog"}, {"raw": "the dog"}]},
        {"filename": "cat.jpg", "cocoid": 9, "split": "test", "sentences": [{"raw": "a cat"}]},
        {"filename": "cow.jpg", "cocoid": 8, "split": "train", "sentences": [{"raw": "a cow"}]},
    ]
}
EXPECTED = {"dog.jpg": ("a dog", "the dog"), "cat.jpg": ("a cat",)}
LAYOUTS = {
    "coco.json": json.dumps(ANNOTATIONS),
    "map.json": json.dumps({"dog.jpg": ["a dog", "the dog"], "cat.jpg": "a cat"}),
    "pycocoevalcap.json": json.dumps({"dog.jpg": [{"caption": "a dog"}, {"caption": "the dog"}], "cat.jpg": ["a cat"]}),
    "list.json": json.dumps(
        [{"image": "dog.jpg", "captions": ["a dog", "the dog"]}, {"image_id": "cat.jpg", "caption": "a cat"}]
    ),
    "marked.json": "\ufeff" + json.dumps({"dog.jpg": ["a dog", "the dog"], "cat.jpg": "a cat"}),
    "a.csv": "image,caption\ndog.jpg,a dog\ncat.jpg,a cat\ndog.jpg,the dog\n",
    "b.csv": "image_id;score;caption\ndog.jpg;1;a dog\ncat.jpg;2;a cat\ndog.jpg;3;the dog\n",
    "c.tsv": "caption\timage\na dog\tdog.jpg\nthe dog\tdog.jpg\na cat\tcat.jpg\n",
    "captions.txt": "image,caption\ndog.jpg,a dog\ndog.jpg,the dog\ncat.jpg,a cat\n",
    "x.token.txt": "dog.jpg#0\ta dog\ndog.jpg#1\tthe dog\ncat.jpg#0\ta cat\n",
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_captions(tmp_path, name):
    (tmp_path / name).write_text(LAYOUTS[name], encoding="utf-8")
    found = read(tmp_path / name, "captions")
    assert found.captions == EXPECTED and found.label == name and found.name == str(tmp_path / name)
    assert read({"dog.jpg": ("a dog", "the dog"), "cat.jpg": "a cat"}, "captions").captions == EXPECTED


def test_images_are_matched_by_number_by_name_and_by_the_name_without_folders(tmp_path):
    for references in (ANNOTATIONS, KARPATHY):
        (tmp_path / "r.json").write_text(json.dumps(references))
        people = read(tmp_path / "r.json", "references")
        for images in ((7, 9), ("dog.jpg", "cat.jpg"), ("test/dog.jpg", "test/cat.jpg"), ("7", "cat.jpg")):
            (captions,), targets, _ = pair([read(dict(zip(images, ("x", "y"), strict=True)), "captions")], people)
            assert captions == {str(images[0]): "x", str(images[1]): "y"}
            assert targets == {str(images[0]): ["a dog", "the dog"], str(images[1]): ["a cat"]}


def test_only_the_splits_of_the_captions_count(tmp_path):
    """The training image of Karpathy's file needs no caption, unless another training image has one."""
    (tmp_path / "r.json").write_text(json.dumps(KARPATHY))
    people = read(tmp_path / "r.json", "references")
    with pytest.raises(ValueError, match=r"1 of the 2 images of .*r.json have no caption in captions, as 'cat.jpg'"):
        pair([read({"dog.jpg": "x"}, "captions")], people)
    with pytest.raises(ValueError, match=r"1 of the 3 images of .*r.json have no caption in captions, as 'cat.jpg'"):
        pair([read({"cow.jpg": "x", "dog.jpg": "x"}, "captions")], people)
    assert len(pair([read({"dog.jpg": "x", "cat.jpg": "y"}, "captions")], people).references) == 2


def test_with_partial_the_common_images_are_left(tmp_path):
    a, b = read({"1": "x", "2": "y", "3": "z"}, "a"), read({"2": "v", "3": "w", "4": "u"}, "b")
    people = read({"3": "r", "2": ["s", "t"], "1": "q", "9": "p"}, "references")
    captions, targets, left_out = pair([a, b], people, partial=True)
    assert captions == [{"2": "y", "3": "z"}, {"2": "v", "3": "w"}] and targets == {"2": ["s", "t"], "3": ["r"]}
    assert left_out == 3  # 1 has no caption of b, 9 no caption at all, and 4 no references
    with pytest.raises(ValueError, match="a and b have no image in common"):
        pair([read({"1": "x"}, "a"), b], read({"1": "r", "2": "r", "3": "r"}, "references"), partial=True)


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        (
            {"1": ["x", "y"], "2": "z"},
            "1 of the 2 images of captions have several captions, as '1' with 2: give one caption per image; only "
            "references may have several",
        ),
        ({"5": "x", "6": "y"}, "no image of captions is in references: its images are named as '5', those of the ref"),
        ({"1": "x", "9": "y"}, "1 of the 2 images of captions are not in references, as '9': add their references"),
        ({"1": "x"}, "1 of the 2 images of references have no caption in captions, as '2': add their captions"),
        ({"1": "x", "a/1": "y", "2": "z"}, "captions names the image '1' twice, once as 'a/1': keep one caption"),
    ],
)
def test_captions_that_do_not_fit_are_one_sentence(captions, says):
    with pytest.raises(ValueError) as error:
        pair([read(captions, "captions")], read({"1": ["r"], "2": ["s", "t"]}, "references"))
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_a_name_that_several_images_share_is_no_name():
    people = read({"a/1.jpg": "x", "b/1.jpg": "y", "b/2.jpg": "z"}, "references")
    assert people.find("1.jpg") is None and people.find("2.jpg") == "b/2.jpg" and people.find("a/1.jpg") == "a/1.jpg"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "", "is empty: write the captions again"),
        ("a.json", "{", "is not readable as JSON"),
        ("a.json", "[]", "has no captions: give captions by image"),
        ("a.json", "{}", "has no captions: give captions by image"),
        ("a.json", "3", "cannot be read as captions (it is 3, but must be an object): name a JSON list of"),
        ("a.json", "[3]", "([0] is 3, but must be an object)"),
        ("a.json", '[{"image_id": 1}]', "entry 0 of"),
        ("a.json", '[{"caption": "x"}]', "has no image_id: name a JSON list"),
        ("a.json", '[{"image_id": true, "caption": "x"}]', "image_id is True, but must be a whole number or text"),
        ("a.json", '[{"image_id": 1, "caption": null}]', "caption is None, but must be text"),
        ("a.json", '{"annotations": [{"image_id": 1, "category_id": 2}]}', "annotations[0].caption is missing"),
        ("a.json", '{"annotations": []}', "has no captions"),
        ("a.json", '{"images": [{"filename": "a", "sentences": [{"tokens": ["a"]}]}]}', "sentences[0].raw is missing"),
        ("a.json", '{"a": {"b": 1}}', "a is {'b': 1}, but must be text or a list"),
        ("a.csv", "image,captions\n1,x\n", "its first line must name the columns image, caption"),
        ("a.csv", "image,caption,score\n1,a dog, asleep,3\n", "write a caption with separators in"),
        ("a.csv", "image,caption\n", "has no captions"),
        ("a.token", "a dog\n", "is not IMAGE#NUMBER, a tab and a caption"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read(path, "captions")
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_file_is_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder").mkdir()
    for path, says in (
        ("pipe.json", "is a pipe or a device, not a file: write its content into a file, and name that"),
        ("folder", "is a folder without captions: name a JSON list"),
        ("nothing.json", "there is no file"),
    ):
        with pytest.raises(ValueError, match=says):
            read(tmp_path / path, "captions")
    with pytest.raises(ValueError, match="captions is of type list: give a dictionary of captions by image, or a path"):
        read(["a dog"], "captions")
    with pytest.raises(ValueError, match="1 is 3, but must be text or a list"):
        read({1: 3}, "captions")
