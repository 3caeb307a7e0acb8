"""One's own files under any name, images in one folder, and what is said of slips in them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from attend.data.sources.layouts import LACKING, TWICE
from attend.data.sources.readers import STRAY, Reading, read_source
from tests.data.sources.test_layouts import CAPTIONS, EXPECTED, SPLITS, coco, draw_images, own_csv, own_json, said


@pytest.mark.parametrize("name", ["captions.txt", "results.csv", "data.csv"])
@pytest.mark.parametrize("separator", ",|;")
def test_a_csv_of_ones_own_keeps_its_splits_under_any_name(tmp_path, name, separator):
    draw_images(tmp_path)
    own_csv(tmp_path, separator)
    (tmp_path / "mine.csv").rename(tmp_path / name)
    source = read_source(tmp_path, Reading(strict=True))
    assert said(source) == EXPECTED and source.notes == []
    assert {e.image: e.split for e in source.examples} == SPLITS


@pytest.mark.parametrize("name", ["captions_mine.json", "captions_train2017.json", "dataset.json", "data.json"])
def test_a_list_of_ones_own_is_read_under_any_name(tmp_path, name):
    draw_images(tmp_path)
    own_json(tmp_path)
    (tmp_path / "mine.json").rename(tmp_path / name)
    source = read_source(tmp_path, Reading(strict=True))
    assert said(source) == EXPECTED and source.notes == []
    assert {e.image: e.split for e in source.examples} == SPLITS


@pytest.mark.parametrize("name", ["captions_mine.json", "dataset.json", "data.json"])
def test_json_of_another_form_names_the_form_that_is_read(tmp_path, name):
    (tmp_path / name).write_text(json.dumps({"a.png": ["A dog"]}))
    with pytest.raises(ValueError, match=rf'{name} .*a list of {{"image", "captions"}} as in docs/your-own-data\.md'):
        read_source(tmp_path)


@pytest.mark.parametrize("name", ["mine.tsv", "mine.jsonl"])
def test_captions_in_a_form_that_is_not_read_are_told_from_none(tmp_path, name):
    draw_images(tmp_path)
    (tmp_path / name).write_text("image\tcaption\n1_a.jpg\tA dog\n")
    with pytest.raises(ValueError, match=r"no captions that can be read.*one CSV of image, caption or one JSON"):
        read_source(tmp_path)


def test_a_caption_and_captions_of_one_entry_are_refused(tmp_path):
    draw_images(tmp_path)
    records = [{"image": "1_a.jpg", "captions": ["A dog"], "caption": "A cat"}]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    with pytest.raises(ValueError, match=r"entry 0 of .*mine\.json has both caption and captions; join them"):
        read_source(tmp_path)


def test_a_quoted_caption_of_two_lines_is_one_in_kaggles_file(tmp_path):
    draw_images(tmp_path)
    with open(tmp_path / "captions.txt", "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), ("1_a.jpg", "A dog,\nasleep"), ("2_b.jpg", 'A "cat"')])
    source = read_source(tmp_path, Reading(strict=True))
    assert said(source) == {"1_a.jpg": ["A dog, asleep"], "2_b.jpg": ['A "cat"']}


def test_where_csv_rules_do_not_hold_both_halves_of_a_quoted_caption_are_counted(tmp_path):
    draw_images(tmp_path)
    text = 'image,caption\n1_a.jpg,"A dog,\nasleep"\n1_a.jpg,Two dogs\n2_b.jpg,A cat, here\n2_b.jpg,"A cat" and more\n'
    (tmp_path / "captions.txt").write_text(text)
    source = read_source(tmp_path)
    assert said(source) == {"1_a.jpg": ["Two dogs"], "2_b.jpg": ["A cat, here", '"A cat" and more']}
    assert source.skipped == {LACKING: ["line 2 of captions.txt: 1_a.jpg", 'line 3 of captions.txt: asleep"']}


def test_the_second_caption_of_a_number_is_counted_and_named(tmp_path):
    draw_images(tmp_path)
    text = "1_a.jpg#0\tA dog\n2_b.jpg#0\tA cat\n1_a.jpg#1\tTwo dogs\n1_a.jpg#0\tA dog\n1_a.jpg#1\tThree\n"
    (tmp_path / "x.token.txt").write_text(text)
    source = read_source(tmp_path)
    assert said(source) == {"1_a.jpg": ["A dog", "Two dogs"], "2_b.jpg": ["A cat"]}
    assert source.skipped == {TWICE: [f"line {i} of x.token.txt: 1_a.jpg#{i - 4}" for i in (4, 5)]}
    with pytest.raises(ValueError, match=r"2, as line 4 of x\.token\.txt: 1_a\.jpg#0.*leave --strict out"):
        read_source(tmp_path, Reading(strict=True))


# Images


def flatten(folder: Path, into: Path) -> None:
    into.mkdir(exist_ok=True)
    for split in ("train2014", "val2014"):
        for image in (folder / split).iterdir():
            image.rename(into / image.name)
        (folder / split).rmdir()


@pytest.mark.parametrize("where", ["photos", "images", "annotations", "."])
def test_cocos_images_may_lie_in_one_folder(tmp_path, where):
    coco(tmp_path)
    flatten(tmp_path, tmp_path / where)
    source = read_source(tmp_path, Reading(images=tmp_path / where if where == "photos" else None, strict=True))
    assert [(e.split, e.image) for e in source.examples] == [
        ("train", "1_a.jpg"), ("val", "2_b.jpg"), ("val", "3_c.jpg"),
    ]  # fmt: skip
    assert source.root.resolve() == (tmp_path / where).resolve()


def test_karpathys_coco_may_lie_in_one_folder_and_one_name_is_never_two_images(tmp_path):
    draw_images(tmp_path / "photos")
    images = [
        {"filename": name, "filepath": "val2014", "split": SPLITS[name], "sentences": [{"raw": CAPTIONS[name][0]}]}
        for name in CAPTIONS
    ]
    file = tmp_path / "dataset_coco.json"
    file.write_text(json.dumps({"dataset": "coco", "images": images}))
    assert {e.image: e.split for e in read_source(tmp_path, Reading(images=tmp_path / "photos")).examples} == SPLITS
    file.write_text(json.dumps({"dataset": "coco", "images": [*images, images[0] | {"filepath": "train2014"}]}))
    with pytest.raises(FileNotFoundError, match="none of the 4 images is in"):
        read_source(tmp_path, Reading(images=tmp_path / "photos"))


def test_an_absolute_name_in_cocos_file_is_refused(tmp_path):
    coco(tmp_path, ("train2014",))
    file = tmp_path / "annotations/captions_train2014.json"
    file.write_text(file.read_text().replace("1_a.jpg", "/etc/1_a.jpg"))
    with pytest.raises(ValueError, match="leads out of the image folder"):
        read_source(tmp_path)


@pytest.mark.parametrize("image", ["sub\\1.png", "a\\b\\1.png"])
def test_a_backslash_between_folders_is_said(tmp_path, image):
    draw_images(tmp_path)
    (tmp_path / "mine.csv").write_text(f"image,caption\n1_a.jpg,A dog\n{image},A cat\n")
    with pytest.raises(ValueError, match="write / between folders, from the image folder on"):
        read_source(tmp_path)


def test_a_format_that_is_not_read_is_said(tmp_path):
    draw_images(tmp_path)
    (tmp_path / "4.heic").write_bytes(b"heic")
    (tmp_path / "1_a.jpg").rename(tmp_path / "5.jfif")
    (tmp_path / "mine.csv").write_text("image,caption\n5.jfif,A dog\n4.heic,A cat\n")
    source = read_source(tmp_path)
    assert [e.image for e in source.examples] == ["5.jfif"] and source.skipped == {STRAY: ["4.heic"]}
    assert "of a format that is not read (jpg, png, webp, bmp, gif and tiff are)" in STRAY
