"""Every layout of the same captions gives the same examples; what has no splits is split by a seed."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from attend.experiments.cli.main import main
from PIL import Image

from attend.data.prepared import Prepared
from attend.data.sources.layouts import LACKING, READERS
from attend.data.sources.readers import STRAY, UNLISTED, Reading, read_source
from attend.data.sources.sampling import draw, draw_captions, split_images

CAPTIONS = {
    "1_a.jpg": ["A dog , asleep , on a sofa .", 'A "dog"', "Two dogs"],
    "2_b.jpg": ["A cat;|", "A cat\ton a mat"],
    "3_c.jpg": ["Été , 3 birds 🐦"],
}
SPLITS = {"1_a.jpg": "train", "2_b.jpg": "val", "3_c.jpg": "test"}


def draw_images(folder: Path, names=CAPTIONS) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((24, 16), 60).convert("RGB").save(folder / name)


def karpathy(folder: Path) -> None:
    images = [{"filename": i, "split": SPLITS[i], "sentences": [{"raw": raw} for raw in CAPTIONS[i]]} for i in CAPTIONS]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"dataset": "flickr30k", "images": images}))


def own_csv(folder: Path, separator: str = ",") -> None:
    with open(folder / "mine.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["split", "Image", "caption"])
        writer.writerows([SPLITS[image], image, raw] for image, raws in CAPTIONS.items() for raw in raws)


def own_json(folder: Path) -> None:
    first, *others = CAPTIONS
    records = [{"image": first, "caption": raw, "split": SPLITS[first]} for raw in CAPTIONS[first]]
    records += [{"image": image, "captions": CAPTIONS[image], "split": SPLITS[image]} for image in others]
    (folder / "mine.json").write_text(json.dumps(records))


def kaggle_comma(folder: Path) -> None:
    """As pandas writes it: quoted where there is a comma or a quote."""
    with open(folder / "captions.txt", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "caption"), *((i, raw) for i in CAPTIONS for raw in CAPTIONS[i])])


def kaggle_bare(folder: Path) -> None:
    """As others write it: nothing is quoted."""
    lines = [f"{image},{raw}\n" for image in CAPTIONS for raw in CAPTIONS[image]]
    (folder / "captions.txt").write_text("image,caption\n" + "".join(lines), encoding="utf-8")


def kaggle_pipes(folder: Path) -> None:
    lines = [f"{image}| {i}| {raw}\n" for image in CAPTIONS for i, raw in enumerate(CAPTIONS[image])]
    (folder / "results.csv").write_text("image_name| comment_number| comment\n" + "".join(lines), encoding="utf-8")


def tokens(folder: Path) -> None:
    lines = [f"{image}#{i}\t{raw}\n" for image in CAPTIONS for i, raw in enumerate(CAPTIONS[image])]
    (folder / "results_20130124.token").write_text("".join(lines), encoding="utf-8")


def coco(folder: Path, files=("train2014", "val2014")) -> None:
    """Image 1 in the first file, the others in the second; ids are not in the order of the captions."""
    (folder / "annotations").mkdir()
    first, *others = CAPTIONS
    for file, names in zip(files, ([first], others), strict=False):
        images = [{"id": 900 - i, "file_name": name} for i, name in enumerate(names)]
        annotations = [{"image_id": 900 - i, "caption": raw} for i, name in enumerate(names) for raw in CAPTIONS[name]]
        stored = {"info": {}, "images": images, "annotations": annotations}
        (folder / "annotations" / f"captions_{file}.json").write_text(json.dumps(stored))
        (folder / "annotations" / f"instances_{file}.json").write_text("{}")
        draw_images(folder / file, names)


def said(source) -> dict:
    return {Path(e.image).name: [c.raw.replace("\t", " ") for c in e.captions] for e in source.examples}


EXPECTED = {image: [raw.replace("\t", " ") for raw in raws] for image, raws in CAPTIONS.items()}


@pytest.mark.parametrize(
    ("write", "splits"),
    [
        *((karpathy, True), (own_csv, True), (own_json, True)),
        *((kaggle_comma, False), (kaggle_bare, False), (kaggle_pipes, False), (tokens, False)),
    ],
)
def test_every_layout_gives_the_same_captions(tmp_path, write, splits):
    draw_images(tmp_path / "flickr30k_images")
    write(tmp_path)
    source = read_source(tmp_path, Reading(strict=True))
    assert said(source) == EXPECTED
    assert source.root == tmp_path / "flickr30k_images"
    if splits:
        assert {e.image: e.split for e in source.examples} == SPLITS and source.notes == []
    else:  # three images: at least one of each split
        assert sorted(e.split for e in source.examples) == ["test", "train", "val"]
        assert "names no splits: 1 train, 1 val, 1 test images were drawn" in source.notes[0]
        assert "in shares of 80 10 10 with split seed 0" in source.notes[0]


@pytest.mark.parametrize("separator", ";\t|")
def test_a_csv_of_another_country_is_read(tmp_path, separator):
    draw_images(tmp_path)
    own_csv(tmp_path, separator)
    assert said(read_source(tmp_path)) == EXPECTED


def test_the_choices_of_the_program_are_the_layouts():
    from attend.experiments.cli.prepare import Prepare

    assert get_args(get_args(get_type_hints(Prepare)["layout"])[0]) == (*READERS, "images")


# Kaggle


def test_the_broken_row_of_flickr30k_is_counted_and_named(tmp_path):
    draw_images(tmp_path)
    kaggle_pipes(tmp_path)
    with open(tmp_path / "results.csv", "a") as file:
        file.write("1_a.jpg| 4   A dog runs across the grass .\n")
    source = read_source(tmp_path)
    assert source.skipped == {LACKING: ["line 8 of results.csv: 1_a.jpg"]}
    assert said(source) == EXPECTED
    with pytest.raises(ValueError, match=r"line 8 of results\.csv: 1_a\.jpg.*leave --strict out"):
        read_source(tmp_path, Reading(strict=True))


def test_a_numbered_file_with_commas_is_read(tmp_path):
    draw_images(tmp_path)
    lines = [f"{i},{n},{raw}\n" for i in CAPTIONS for n, raw in enumerate(CAPTIONS[i])]
    (tmp_path / "captions.txt").write_text("image_name,comment_number,comment\n" + "".join(lines), encoding="utf-8")
    assert said(read_source(tmp_path)) == EXPECTED


@pytest.mark.parametrize("text", ["", "\n", "1_a.jpg,A dog\n", "image,n,comment\n", "a|b|c\n"])
def test_another_first_line_is_refused(tmp_path, text):
    (tmp_path / "captions.txt").write_text(text)
    with pytest.raises(ValueError, match=r"captions\.txt .* first line must name the columns image.* caption"):
        read_source(tmp_path)


# COCO


@pytest.mark.parametrize("where", [".", "images"])
def test_coco_has_a_file_a_split_and_no_test_split(tmp_path, where):
    coco(tmp_path)
    (tmp_path / where).mkdir(exist_ok=True)
    for folder in ("train2014", "val2014"):
        (tmp_path / folder).rename(tmp_path / where / folder)
    for given in (tmp_path, tmp_path / "annotations"):
        source = read_source(given, Reading(strict=True))
        assert [(e.split, e.image) for e in source.examples] == [
            ("train", "train2014/1_a.jpg"), ("val", "val2014/2_b.jpg"), ("val", "val2014/3_c.jpg"),
        ]  # fmt: skip
        assert (source.name, source.notes, said(source)) == ("coco", [], EXPECTED)


def test_one_file_of_coco_is_split_by_the_seed(tmp_path):
    coco(tmp_path)
    file = tmp_path / "annotations/captions_val2014.json"
    for images in (None, tmp_path, tmp_path / "val2014"):
        source = read_source(file, Reading(images=images))
        assert {e.image for e in source.examples} == {"val2014/2_b.jpg", "val2014/3_c.jpg"}
        assert Counter(e.split for e in source.examples) == {"train": 1, "val": 1}
    (tmp_path / "annotations/captions_train2014.json").unlink()
    assert read_source(tmp_path).examples == source.examples


def test_files_of_two_years_are_not_mixed(tmp_path):
    """Images of val2017 are in train2014."""
    coco(tmp_path, ("train2014", "val2017"))
    with pytest.raises(ValueError, match=r"captions_train2014\.json, captions_val2017\.json .* move the others away"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": None}, "no lists of images and annotations"),
        ({"annotations": {}}, "no lists of images and annotations"),
        ({"images": [{"id": 1}]}, "image 0 of .* lacks an id or a file_name"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}]}, "image 0 of .* lacks an id or a file_name"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "two images with the id 1"),
        ({"images": [{"id": i, "file_name": "a.jpg"} for i in (1, 2)]}, "several ids for the image 'a.jpg'"),
        ({"annotations": [{"image_id": 900, "bbox": []}]}, "annotation 0 of .* no caption.*not instances"),
        ({"annotations": [{"image_id": 3, "caption": "A dog"}]}, "annotation 0 of .* is of no image"),
        ({"annotations": [3]}, "annotation 0 of"),
        ({"images": [{"id": 900, "file_name": "../a.jpg"}]}, "leads out of the image folder"),
    ],
)
def test_malformed_files_of_coco_are_refused(tmp_path, change, says):
    coco(tmp_path, ("train2014",))
    file = tmp_path / "annotations/captions_train2014.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=says) as refused:
        read_source(tmp_path)
    assert "\n" not in str(refused.value)


# One's own


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("name,caption\n", "must name the columns image, caption"),
        ("image,caption,image\n", "must name the columns image, caption"),
        ("image,caption\na.jpg,A dog, asleep\n", 'line 2 of .* has 3 columns, and the first line 2; .*"quotes"'),
        ("image,caption\na.jpg\n", "line 2 of .* has 1 columns"),
        ('image,caption\na.jpg,"A dog\n', "line 2 of .* is not CSV"),
        ('image,caption\na.jpg,"A" dog\n', "line 2 of .* is not CSV"),
        ("image,caption\n,A dog\n", "line 2 of .* names no image"),
        ("image,caption,split\na.jpg,A dog,training\n", "split 'training'; known are train, val, test"),
        (
            "image,caption,split\na.jpg,A,train\na.jpg,B,val\n",
            "line 3 of .* puts a.jpg into val, and before into train",
        ),
        ("image,caption\n../a.jpg,A dog\n", "leads out of the image folder"),
        ("image,caption\n..\\a.jpg,A dog\n", "leads out of the image folder"),
        ("image,caption\na.jpg,A dog\n./a.jpg,A dog\n", "2 entries for the image 'a.jpg'"),
        ("image,caption\na\x07.jpg,A dog\n", "no name of a file"),
    ],
)
def test_malformed_csv_is_refused(tmp_path, text, says):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ValueError, match=says) as refused:
        read_source(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ({"a.jpg": ["A dog"]}, "is no list"),
        ([3], "entry 0 of"),
        ([{"caption": "A dog"}], "entry 0 of"),
        ([{"image": "a.jpg", "captions": [1]}], "entry 0 of"),
        ([{"image": "a.jpg", "captions": {"raw": "A"}}], "entry 0 of"),
        ([{"image": "a.jpg", "caption": "A dog", "split": 1}], "entry 0 of"),
        ([{"image": "", "caption": "A dog"}], "entry 0 of .* names no image"),
        ([{"image": "a.jpg", "caption": "A", "split": s} for s in ("val", None)], "entry 1 of .* before into val"),
        ([{"image": "\ud800.jpg", "caption": "A dog"}], "no name of a file"),
    ],
)
def test_malformed_json_is_refused(tmp_path, stored, says):
    (tmp_path / "mine.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=says) as refused:
        read_source(tmp_path)
    str(refused.value).encode()


def test_rows_without_a_split_among_others_are_named(tmp_path):
    draw_images(tmp_path)
    own_csv(tmp_path)
    text = (tmp_path / "mine.csv").read_text().replace("val,2_b", ",2_b").replace("test,3_c.jpg", "test,notes.txt")
    (tmp_path / "mine.csv").write_text(text)
    assert read_source(tmp_path).skipped == {UNLISTED: ["2_b.jpg"], STRAY: ["notes.txt"]}


def test_a_caption_of_several_lines_is_one(tmp_path):
    draw_images(tmp_path)
    (tmp_path / "mine.csv").write_text('image,caption\n\n1_a.jpg,"A dog\n\nasleep"\n , \n')
    (example,) = read_source(tmp_path).examples
    assert [(c.raw, c.tokens) for c in example.captions] == [("A dog asleep", ("a", "dog", "asleep"))]


def test_a_known_layout_goes_before_files_of_any_name(tmp_path):
    draw_images(tmp_path)
    karpathy(tmp_path)
    for name in ("a.csv", "b.csv", "c.json"):
        (tmp_path / name).write_text("something else")
    source = read_source(tmp_path)
    assert said(source) == EXPECTED and source.notes == []
    (tmp_path / "dataset_flickr30k.json").unlink()
    with pytest.raises(ValueError, match=r"holds both a\.csv and b\.csv; give the file itself"):
        read_source(tmp_path)


def test_of_two_files_of_any_name_the_csv_is_read_and_that_is_said(tmp_path):
    draw_images(tmp_path)
    own_csv(tmp_path)
    (tmp_path / "captions.json").write_text("[]")
    source = read_source(tmp_path)
    assert said(source) == EXPECTED
    assert source.notes == ["mine.csv was read and captions.json was not; --layout json does the reverse"]


@pytest.mark.parametrize("out", [".", "prepared"])
def test_what_was_prepared_beside_the_captions_is_no_source(tmp_path, out):
    """The same command again reads the same captions."""
    draw_images(tmp_path)
    own_json(tmp_path)
    command = ["prepare", str(tmp_path), "--out", str(tmp_path / out), "--minimum-count", "1"]
    main(command)
    before = (tmp_path / out / "dataset.json").read_bytes()
    (tmp_path / out / "frequencies-simple.json").write_text("{}")
    main(command)
    assert (tmp_path / out / "dataset.json").read_bytes() == before


def test_images_alone_are_for_captioning(tmp_path):
    draw_images(tmp_path, ["a.jpg", "more/b.PNG", ".hidden/c.jpg"])
    (tmp_path / "readme.md").touch()
    with pytest.raises(ValueError, match=rf"holds 2 images and no captions.*`attend caption RUN {tmp_path}`"):
        read_source(tmp_path)


# Splits and captions drawn by a seed


@pytest.mark.parametrize(
    ("number", "shares", "counts"),
    [
        (100, (80, 10, 10), (80, 10, 10)),
        (8091, (80, 10, 10), (6473, 809, 809)),
        (20, (8, 1, 1), (16, 2, 2)),
        (20, (1, 1, 0), (10, 10, 0)),
        (20, (1, 0, 0), (20, 0, 0)),
        (5, (80, 10, 10), (3, 1, 1)),
        (2, (80, 10, 10), (1, 1, 0)),
        (1, (80, 10, 10), (1, 0, 0)),
        (3, (1, 98, 1), (1, 2, 0)),
    ],
)
def test_a_split_has_its_shares(number, shares, counts):
    drawn = split_images([f"{i}.jpg" for i in range(number)], shares, 0)
    assert len(drawn) == number
    assert tuple(Counter(drawn.values())[split] for split in ("train", "val", "test")) == counts


def test_a_split_is_of_the_seed_and_not_of_the_order(tmp_path):
    names = [f"{i}.jpg" for i in range(400)]
    drawn = split_images(names, (80, 10, 10), 0)
    shuffled = random.Random(1).sample(names, len(names))
    assert split_images(shuffled, (80, 10, 10), 0) == drawn
    other = split_images(names, (80, 10, 10), 1)
    agree = sum(drawn[name] == other[name] for name in names) / len(names)
    assert abs(agree - (0.8**2 + 2 * 0.1**2)) < 0.08  # as two independent draws do
    draw_images(tmp_path, names[:30])
    sources = []
    for order in (names[:30], names[29::-1]):
        lines = [f"{name},A dog {i}\n" for name in order for i in range(2)]
        (tmp_path / "captions.txt").write_text("image,caption\n" + "".join(lines))
        sources.append(read_source(tmp_path))
    assert sources[0] == sources[1]
    assert Counter(e.split for e in sources[0].examples) == {"train": 24, "val": 3, "test": 3}
    assert read_source(tmp_path, Reading(split_seed=1)).examples != sources[0].examples


def test_the_program_takes_shares_and_seeds(tmp_path, capsys):
    draw_images(tmp_path / "in", [f"{i}.png" for i in range(10)])
    lines = [f"{i}.png,A dog {word}\n" for i in range(10) for word in ("runs", "sits", "barks")]
    (tmp_path / "in/mine.csv").write_text("image,caption\n" + "".join(lines))
    options = ["--split", "5", "5", "0", "--split-seed", "3", "--captions-per-image", "2", "--minimum-count", "1"]
    main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *options])
    assert "in: 5 train, 5 val, 0 test images, 20 captions" in capsys.readouterr().err
    drawn = split_images([f"{i}.png" for i in range(10)], (5, 5, 0), 3)
    assert {e.image: e.split for e in Prepared(tmp_path / "out").examples} == drawn


def test_shares_that_are_none_are_refused_and_unused_ones_are_said(tmp_path):
    for shares in ((0, 1, 1), (80, -10, 30), (0, 0, 0), (80, 20)):
        with pytest.raises(ValueError, match="give shares of train, val and test"):
            split_images(["a.jpg"], shares, 0)
    draw_images(tmp_path)
    karpathy(tmp_path)
    (note,) = read_source(tmp_path, Reading(shares=(1, 1, 1))).notes
    assert "has splits of its own, which were kept" in note


def test_captions_are_drawn_without_repetition_or_repeated_whole():
    for seed in range(20):
        few = draw("abcde", 3, seed, "x")
        assert len(set(few)) == 3 and few == sorted(few)
        many = Counter(draw("abc", 8, seed, "x"))
        assert sorted(many.values()) == [2, 3, 3]
    assert draw("abcde", 5, 0, "x") == list("abcde") and draw("a", 3, 0, "x") == list("aaa")
    chosen = Counter(letter for seed in range(1000) for letter in draw("abcde", 2, seed, "x"))
    assert all(abs(chosen[letter] - 400) < 80 for letter in "abcde")  # five standard deviations are 77


def test_every_image_contributes_as_many_captions(tmp_path):
    draw_images(tmp_path)
    karpathy(tmp_path)
    source = read_source(tmp_path)
    drawn = draw_captions(source, 2, 0)
    assert {e.image: len(e.captions) for e in drawn.examples} == dict.fromkeys(CAPTIONS, 2)
    assert said(drawn)["2_b.jpg"] == EXPECTED["2_b.jpg"] and said(drawn)["3_c.jpg"] == EXPECTED["3_c.jpg"] * 2
    assert set(said(drawn)["1_a.jpg"]) < set(EXPECTED["1_a.jpg"])
    assert draw_captions(source, 2, 0) == drawn
    assert len({tuple(said(draw_captions(source, 1, seed))["1_a.jpg"]) for seed in range(20)}) == 3
    assert "of 1 images they were drawn from more, of 1 they repeat" in drawn.notes[-1]
    with pytest.raises(ValueError, match="captions_per_image is 0"):
        draw_captions(source, 0, 0)
