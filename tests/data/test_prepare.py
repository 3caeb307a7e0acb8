"""What `attend prepare` makes of a source: all of it or nothing, and what a user should know of it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from attend.experiments.cli.main import main

from attend.data.prepared import Prepared
from attend.data.sources.readers import read_source
from tests.data.sources.test_classic import CAPTIONS, LABEL, made, stored, write

OPTIONS = ("--minimum-count", "1")


def prepare(source: Path, out: Path, *options: str) -> None:
    main(["prepare", str(source), "--out", str(out), *OPTIONS, *options])


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def own(folder: Path, text: str, name: str = "mine.csv") -> Path:
    """A CSV of one's own beside 1.png to 4.png."""
    made(folder)
    (folder / name).write_text(text)
    return folder


# The classic files, whose images are unpacked


@pytest.fixture()
def classic(tmp_path) -> Path:
    write(made(tmp_path / "images"), tmp_path / "classic")
    return tmp_path / "classic"


def other(tmp_path: Path, captions: dict) -> Path:
    write(made(tmp_path / "images", captions), tmp_path / "other")
    return tmp_path / "other"


def test_a_classic_set_never_enters_the_folder_of_another(classic, tmp_path, fails, capsys):
    prepare(classic, tmp_path / "out")
    capsys.readouterr()
    before = listing(tmp_path / "out")
    second = other(tmp_path, CAPTIONS | {"1.png": ["A dog."]})
    for source, options in ((second, ()), (classic, ("--captions-per-image", "1"))):  # other images, and the same ones
        says = fails("prepare", source, "--out", tmp_path / "out", *options)
        assert "holds another prepared dataset, " in says
        assert listing(tmp_path / "out") == before


def test_a_fault_is_told_before_a_classic_set_is_unpacked(classic, tmp_path, fails, monkeypatch):
    captions = json.loads((classic / f"TEST_CAPTIONS_{LABEL}.json").read_text())
    (classic / f"TEST_CAPTIONS_{LABEL}.json").write_text(json.dumps([[5, 6, 0, 0], captions[1]]))
    (classic / f"TEST_CAPLENS_{LABEL}.json").write_text("[2, 4]")
    monkeypatch.setattr("attend.data.sources.classic.write_bytes", None)
    sentence = fails("prepare", classic, "--out", tmp_path / "out", "--strict")
    assert "caption without a word: 1, as test/000000.png#0" in sentence and not (tmp_path / "out").exists()
    assert "--images has no effect" in fails("prepare", classic, "--out", tmp_path / "out", "--images", tmp_path)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("check", ["compression", "fletcher32"])
def test_images_unpacked_before_a_damaged_one_are_removed(classic, tmp_path, fails, check, there):
    path, out = classic / f"TEST_IMAGES_{LABEL}.hdf5", tmp_path / "out"
    with h5py.File(path, "r+") as file:
        pixels = np.random.default_rng(0).integers(0, 256, file["images"].shape, dtype=np.uint8)
        del file["images"]
        options = {"compression": "gzip"} if check == "compression" else {"fletcher32": True}
        chunk = file.create_dataset("images", data=pixels, chunks=pixels.shape, **options).id.get_chunk_info(0)
    with open(path, "rb+") as file:
        file.seek(chunk.byte_offset + 1000)
        file.write(bytes(100))
    if there:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    assert f"{path} is damaged" in fails("prepare", classic, "--out", out)
    assert listing(tmp_path / "out") == ({"notes.txt": b"mine"} if there else {}) and out.exists() == there
    with pytest.raises(ValueError, match="is damaged"):
        read_source(classic, unpack=out)
    assert listing(tmp_path / "out") == ({"notes.txt": b"mine"} if there else {})


def test_a_classic_set_written_anew_leaves_no_unpacked_images(classic, tmp_path):
    prepare(classic, tmp_path / "out", "--classic", "again", "--captions-per-image", "2")
    assert len(list((tmp_path / "out").iterdir())) == 10


# What is said


def test_captions_that_are_read_in_part_are_counted(tmp_path, capsys):
    words = " ".join(f"w{i}" for i in range(51))
    rows = [f"1.png,{words},train", f"1.png,{words} more,train", f"1.png,{words[:-4]},train", f"2.png,{words},val"]
    folder = own(tmp_path / "in", "\n".join(["image,caption,split", *rows]))
    prepare(folder, tmp_path / "out")
    assert "3 captions have more than 50 words and are read up to there" in capsys.readouterr().err
    prepare(folder, tmp_path / "classic", "--classic", "toy", "--captions-per-image", "1")
    told = "captions of more than 50 words: 2 passed over, and 1 of images without a shorter one cut"
    assert told in capsys.readouterr().err.splitlines()
    label = LABEL.replace("toy_2", "toy_1")
    assert stored(tmp_path / "classic", "TRAIN_CAPLENS", label) == stored(tmp_path / "classic", "VAL_CAPLENS", label)


def test_an_empty_split_is_said_with_what_needs_it(tmp_path, capsys):
    folder = own(tmp_path / "in", "image,caption,split\n1.png,A dog,train\n2.png,A dog,val\n3.png,A dog,test\n")
    prepare(folder, tmp_path / "whole")
    assert "is empty" not in capsys.readouterr().err
    (folder / "mine.csv").write_text("image,caption,split\n1.png,A dog,train\n")
    prepare(folder, tmp_path / "out")
    val, test = Prepared(tmp_path / "out").about["notes"]
    assert val == "the val split is empty, and `attend train` needs it to choose the best epoch: give it some images"
    assert test == "the test split is empty, so `attend train` scores its runs on val"
    assert {val, test} <= {*capsys.readouterr().err.splitlines()}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("image,caption\n", "it names no image of train"),
        ("image,caption,split\n1.png,A dog,val\n", "it names no image of train"),
        (
            "image,caption\n1.png,...\n1.png,!\n",
            "caption without a word: 2, as 1.png#0; image without a caption: 1, as 1.png",
        ),
        ("image,caption,split\n1.png,A dog,val\n8.png,A cat,train\n", "image missing on disk: 1, as 8.png"),
    ],
)
def test_an_empty_training_split_says_why(tmp_path, fails, text, why):
    folder = own(tmp_path / "in", text)
    sentence = fails("prepare", folder, "--out", tmp_path / "out")
    assert f"mine.csv is empty ({why}); correct its captions, splits or images" in sentence


def test_shares_are_fractions_too(tmp_path, fails, capsys):
    folder = own(tmp_path / "in", "image,caption\n" + "".join(f"{i}.png,A dog\n" for i in range(1, 5)))
    for number, shares in enumerate((("0.5", "0.25", "0.25"), ("2", "1", "1"))):
        prepare(folder, tmp_path / str(number), "--split", *shares)
        assert f"2 train, 1 val, 1 test images were drawn, in shares of {' '.join(shares)}" in capsys.readouterr().err
    assert [*Prepared(tmp_path / "0").examples] == [*Prepared(tmp_path / "1").examples]
    for shares in (("0", "1", "1"), ("nan", "1", "1"), ("inf", "1", "1"), ("0.8", "-0.1", "0.3")):
        sentence = fails("prepare", folder, "--out", tmp_path / "out", "--split", *shares)
        assert "give shares of train, val and test, as 80 10 10" in sentence
