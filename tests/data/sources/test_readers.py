"""Both layouts of one small dataset give the same record, and everything unusable is named."""

import json
import random
import struct
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from attend.data.examples import Examples, write_examples
from attend.data.sources.readers import (
    CAPTIONLESS,
    MISSING,
    RESTVAL,
    STRAY,
    UNLISTED,
    UNREADABLE,
    WORDLESS,
    Reading,
    check_image,
    read_source,
)

DATA = {
    "train": {"12_a.jpg": ["A dog 's ball .", "Two dogs run ."], "03_b.jpg": ["A cat ."]},
    "val": {"07_c.jpg": ["A bird , flying"]},
    "test": {"05_d.jpg": ["Snow"], "01_e.jpg": ["Été !"]},
}
LAYOUTS = ("karpathy", "flickr8k")
BOTH = pytest.mark.parametrize("layout", LAYOUTS)


def draw(path: Path, size=(48, 32), **options) -> None:
    """Always the same noise: of one JPEG in twenty the last byte is not missed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path, **options)


def karpathy(data, name="toy") -> dict:
    return {
        "dataset": name,
        "images": [
            {"filename": image, "split": split, "sentences": [{"raw": f"{raw}\n"} for raw in raws]}
            for split, images in data.items()
            for image, raws in images.items()
        ],
    }


def write(folder: Path, layout: str, data=DATA) -> Path:
    """Write the caption files and the images, and return the caption file."""
    for images in data.values():
        for image in images:
            draw(folder / "Images" / image)
    if layout == "karpathy":
        file = folder / "dataset_toy.json"
        file.write_text(json.dumps(karpathy(data)))
        return file
    lines = [
        f"{image}#{i}\t{raw}\n"
        for images in data.values()
        for image, raws in images.items()
        for i, raw in enumerate(raws)
    ]
    (folder / "Toy.token.txt").write_text("".join(lines), encoding="utf-8")
    for split, word in (("train", "train"), ("val", "dev"), ("test", "test")):
        (folder / f"Toy.{word}Images.txt").write_text("".join(f"{i}\n" for i in data.get(split, ())))
    return folder / "Toy.token.txt"


def with_train(extra):
    return DATA | {"train": DATA["train"] | extra}


@BOTH
def test_a_layout_is_read_to_examples_in_the_order_of_splits_and_names(tmp_path, layout):
    write(tmp_path, layout)
    source = read_source(tmp_path)
    assert source.name == "toy"
    assert source.root == tmp_path / "Images"
    assert source.skipped == {}
    assert source.notes == []
    assert [(e.split, e.image) for e in source.examples] == [
        *(("train", "03_b.jpg"), ("train", "12_a.jpg"), ("val", "07_c.jpg")),
        *(("test", "01_e.jpg"), ("test", "05_d.jpg")),
    ]
    dog, _ = source.examples[1].captions
    assert (dog.raw, dog.tokens, dog.boxes) == ("A dog 's ball .", ("a", "dog", "'s", "ball"), None)


def test_both_layouts_give_the_same_source_and_its_file_gives_it_back(tmp_path):
    sources = []
    for layout in LAYOUTS:
        folder = tmp_path / layout
        folder.mkdir()
        sources.append(read_source(write(folder, layout)))
    first, second = sources
    assert first.examples == second.examples
    assert replace(first, root=second.root) == second
    write_examples(tmp_path / "examples.jsonl", first.examples)
    assert list(Examples(tmp_path / "examples.jsonl")) == first.examples


def test_karpathys_file_is_preferred_and_that_is_said(tmp_path):
    write(tmp_path, "flickr8k")
    write(tmp_path, "karpathy", {"train": DATA["train"]})
    preferred = read_source(tmp_path)
    assert len(preferred.examples) == 2
    assert preferred.notes == [
        "dataset_toy.json was read and Toy.token.txt was not; --layout flickr8k does the reverse"
    ]
    assert len(read_source(tmp_path, Reading(layout="flickr8k")).examples) == 5
    assert len(read_source(tmp_path / "Toy.token.txt").examples) == 5


def test_lemmas_are_no_captions(tmp_path):
    write(tmp_path, "flickr8k")
    (tmp_path / "Toy.lemma.token.txt").write_text("12_a.jpg#0\tdog\n")
    assert len(read_source(tmp_path).examples[1].captions) == 2


@pytest.mark.parametrize("name", ["Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "."])
@BOTH
def test_the_image_folder_is_found(tmp_path, layout, name):
    text = tmp_path / "text"
    text.mkdir()
    write(text, layout)
    (tmp_path / "Images").mkdir()  # an empty folder is not taken
    (text / "Images").rename(tmp_path / "elsewhere")
    for image in (tmp_path / "elsewhere").iterdir():
        (tmp_path / name).mkdir(exist_ok=True)
        image.rename(tmp_path / name / image.name)
    found = read_source(tmp_path)
    assert found.root.resolve() == (tmp_path / name).resolve()
    assert len(found.examples) == 5
    assert read_source(text, Reading(images=tmp_path / name)).examples == found.examples


def test_cocos_folders_and_restval(tmp_path):
    stored = karpathy({"train": {"1.jpg": ["a"]}, "restval": {"2.jpg": ["b"]}, "val": {"3.jpg": ["c"]}}, "coco")
    for image, folder in zip(stored["images"], ("train2014", "val2014", "val2014"), strict=True):
        image["filepath"] = folder
        draw(tmp_path / folder / image["filename"])
    (tmp_path / "dataset_coco.json").write_text(json.dumps(stored))

    joined = read_source(tmp_path)
    assert [(e.split, e.image) for e in joined.examples] == [
        *(("train", "train2014/1.jpg"), ("train", "val2014/2.jpg"), ("val", "val2014/3.jpg")),
    ]
    assert joined.notes == ["the 1 images of COCO's restval were joined to train; --no-restval keeps them out"]

    kept_out = read_source(tmp_path, Reading(restval=False, strict=True))
    assert [e.image for e in kept_out.examples] == ["train2014/1.jpg", "val2014/3.jpg"]
    assert kept_out.skipped == {RESTVAL: ["val2014/2.jpg"]}
    assert kept_out.notes == []


# What cannot be used


def broken(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"no image", "half": data[: len(data) // 2]}.get(how, data[:-1]))


@pytest.mark.parametrize("how", ["missing", "empty", "text", "half", "without its last byte"])
@BOTH
def test_broken_images_are_named_and_skipped(tmp_path, layout, how):
    write(tmp_path, layout)
    broken(tmp_path / "Images" / "12_a.jpg", how)
    source = read_source(tmp_path)
    assert source.skipped == {MISSING if how == "missing" else UNREADABLE: ["12_a.jpg"]}
    assert len(source.examples) == 4
    assert len(read_source(tmp_path, Reading(check_images=False)).examples) == (4 if how == "missing" else 5)
    with pytest.raises(ValueError, match=r"12_a\.jpg.*leave --strict out"):
        read_source(tmp_path, Reading(strict=True))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(7, 5), (224, 224), (300, 500)])
def test_a_jpeg_cut_anywhere_is_found(tmp_path, size, progressive):
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    draw(whole, size, progressive=progressive)
    check_image(whole)
    data = whole.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 100, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.jpg"):
            check_image(cut)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize(("side", "chunk"), [(8, b"pHYs"), (60_000, b"IDAT")])
def test_what_pillow_refuses_in_its_own_ways_is_refused(tmp_path, side, chunk):
    """A PNG of 8 pixels with a malformed chunk, and one whose size alone is a bomb."""
    header = (b"IHDR", struct.pack(">II5B", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "image.png").write_bytes(png(header, (chunk, b"")))
    with pytest.raises(ValueError, match=r"image\.png is not a readable image"):
        check_image(tmp_path / "image.png")


@BOTH
def test_stray_entries_and_captions_without_words_are_named_and_skipped(tmp_path, layout):
    file = write(tmp_path, layout, with_train({"08_f.jpg": ["...", "A frog", " - "], "09_g.jpg": ["!"]}))
    if layout == "karpathy":
        stored = json.loads(file.read_text())
        stored["images"].append(stored["images"][0] | {"filename": "12_a.jpg.1"})
        file.write_text(json.dumps(stored))
    else:
        file.write_text(file.read_text() + "12_a.jpg.1#0\tA dog\n")
    source = read_source(tmp_path)
    assert source.skipped == {
        STRAY: ["12_a.jpg.1"],
        WORDLESS: ["08_f.jpg#0", "08_f.jpg#2", "09_g.jpg#0"],
        CAPTIONLESS: ["09_g.jpg"],
    }
    (frog,) = (e for e in source.examples if e.image == "08_f.jpg")
    assert [c.raw for c in frog.captions] == ["A frog"]
    with pytest.raises(ValueError, match=r"stray entry.*1, as 12_a\.jpg\.1;.*3, as 08_f\.jpg#0;.*leave --strict out"):
        read_source(tmp_path, Reading(strict=True))


def test_images_that_no_list_names_and_names_without_captions(tmp_path):
    file = write(tmp_path, "flickr8k")
    file.write_text(file.read_text() + "20_x.jpg#0\tA horse\n\n21_y.jpg#0\tA cow\n")
    assert read_source(tmp_path, Reading(strict=True)).skipped == {UNLISTED: ["20_x.jpg", "21_y.jpg"]}
    with open(tmp_path / "Toy.devImages.txt", "a") as listed:
        listed.write("22_z.jpg\n\n")
    assert read_source(tmp_path).skipped == {UNLISTED: ["20_x.jpg", "21_y.jpg"], CAPTIONLESS: ["22_z.jpg"]}


# Wrong input


def refused(error, says, path, **reading):
    with pytest.raises(error, match=says) as caught:
        read_source(path, Reading(**reading))
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_refused_in_one_sentence(tmp_path):
    refused(FileNotFoundError, "no dataset at", tmp_path / "missing")
    refused(ValueError, "no captions in", tmp_path)
    write(tmp_path, "karpathy")
    refused(ValueError, "no captions in .* Flickr8k.token.txt", tmp_path, layout="flickr8k")
    refused(ValueError, "known are karpathy, flickr8k", tmp_path, layout="kagle")
    refused(FileNotFoundError, "no image folder at", tmp_path, images=tmp_path / "missing")
    (tmp_path / "other").mkdir()
    refused(FileNotFoundError, "none of the 5 images is in", tmp_path, images=tmp_path / "other")
    (tmp_path / "Images").rename(tmp_path / "photographs")
    refused(FileNotFoundError, "none of the 5 images .* with --images", tmp_path)
    assert read_source(tmp_path, Reading(images=tmp_path / "photographs")).examples
    (tmp_path / "captions.xml").write_text("{}")
    refused(ValueError, r"--layout karpathy\|flickr8k", tmp_path / "captions.xml")
    (tmp_path / "dataset_more.json").write_text("{}")
    refused(ValueError, "holds both dataset_more.json and dataset_toy.json", tmp_path)


@BOTH
def test_an_empty_training_split_is_refused(tmp_path, layout):
    write(tmp_path, layout, {"val": DATA["val"], "test": DATA["test"]})
    refused(ValueError, "the training split of .* is empty", tmp_path)


@BOTH
def test_a_training_split_of_broken_images_is_refused(tmp_path, layout):
    write(tmp_path, layout)
    for image in DATA["train"]:
        broken(tmp_path / "Images" / image, "half")
    refused(ValueError, "the training split of .* is empty", tmp_path)


@BOTH
def test_files_that_are_not_utf8_are_refused(tmp_path, layout):
    write(tmp_path, layout).write_bytes(b"12_a.jpg#0\tcaf\xe9\n")
    refused(ValueError, "is not UTF-8", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "3", "{}", '{"images": {}}', '{"images": 3}'])
def test_malformed_json_is_refused(tmp_path, text):
    (tmp_path / "dataset_toy.json").write_text(text)
    refused(ValueError, r"dataset_toy\.json (is not JSON|has no list of images)", tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split": "training"}, "split 'training'; known are train, val, test, restval"),
        ({"split": None}, "image 0 of"),
        ({"sentences": [{"tokens": ["a"]}]}, "image 0 of"),
        ({"sentences": "raw"}, "image 0 of"),
        ({"filename": "../a.jpg"}, "leads out of the image folder"),
        ({"filename": "/etc/a.jpg"}, "leads out of the image folder"),
        ({"filepath": ".."}, "leads out of the image folder"),
        ({"filename": "03_b.jpg"}, "2 entries for the image '03_b.jpg'"),
    ],
)
def test_malformed_entries_of_json_are_refused(tmp_path, change, says):
    file = write(tmp_path, "karpathy")
    stored = json.loads(file.read_text())
    stored["images"][0] |= change
    file.write_text(json.dumps(stored))
    refused(ValueError, says, tmp_path)


@pytest.mark.parametrize(
    "line", ["12_a.jpg", "12_a.jpg#0", "12_a.jpg#0 A dog", "12_a.jpg\tA dog", "12_a.jpg#x\tA dog", "#0\tA dog"]
)
def test_malformed_lines_are_refused(tmp_path, line):
    file = write(tmp_path, "flickr8k")
    file.write_text(f"{line}\n")
    refused(ValueError, "line 1 of .*Toy.token.txt", tmp_path)


def test_wrong_split_lists_are_refused(tmp_path):
    write(tmp_path, "flickr8k")
    test_list = tmp_path / "Toy.testImages.txt"
    listed = test_list.read_text()
    test_list.write_text("12_a.jpg\n")
    refused(ValueError, r"12_a\.jpg is listed in train and in test", tmp_path)
    test_list.unlink()
    refused(ValueError, r"0 files .* \*testImages.txt", tmp_path)
    test_list.write_text(listed)
    (tmp_path / "More.testImages.txt").write_text(listed)
    refused(ValueError, r"2 files .* \*testImages.txt", tmp_path)


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    file = write(tmp_path, "flickr8k")
    plain = read_source(tmp_path)
    for path in (file, *tmp_path.glob("*Images.txt")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_source(tmp_path) == plain


def test_any_json_at_all_is_read_or_refused(tmp_path):
    file = write(tmp_path, "karpathy")
    rng = random.Random(0)
    junk = [
        None,
        0,
        1.5,
        True,
        "",
        "x",
        "a/b.jpg",
        "\ud800.jpg",
        "\x00.jpg",
        "x" * 5000 + ".jpg",
        [],
        [3],
        {},
        {"raw": 1},
    ]
    refusals = 0
    for _ in range(400):
        stored = json.loads(json.dumps(karpathy(DATA)))
        image = rng.choice(stored["images"])
        place = rng.choice(["top", "image", "key", "drop", "sentence"])
        if place == "top":
            stored[rng.choice(list(stored))] = rng.choice(junk)
        elif place == "image":
            stored["images"][0] = rng.choice(junk)
        elif place == "key":
            image[rng.choice(["filename", "split", "sentences", "filepath"])] = rng.choice(junk)
        elif place == "drop":
            del image[rng.choice(list(image))]
        else:
            image["sentences"][0] = rng.choice([*junk, {"raw": rng.choice(junk)}])
        file.write_text(json.dumps(stored))
        try:
            read_source(tmp_path, Reading(check_images=False))
        except ValueError:
            refusals += 1
    assert 100 < refusals < 400


def test_any_bytes_at_all_are_read_or_refused(tmp_path):
    rng = random.Random(0)
    for layout in LAYOUTS:
        folder = tmp_path / layout
        folder.mkdir()
        file = write(folder, layout)
        sound = file.read_bytes()
        for _ in range(100):
            data = bytearray(sound)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + rng.randint(0, 3)] = bytes(rng.choices(b'\t\n#"{}[],:.\x00\xff a', k=rng.randint(0, 3)))
            file.write_bytes(data)
            try:
                read_source(folder, Reading(check_images=False))
            except ValueError as error:
                assert "\n" not in str(error)
