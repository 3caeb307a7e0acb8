"""The classic input files: a worked example by hand, written and read back in any order of words."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from attend.experiments.cli.main import main
from PIL import Image

from attend.data.examples import Caption, Example, Source
from attend.data.images import open_image
from attend.data.prepared import Prepared, write_prepared
from attend.data.sources.classic import Classic, number_words, write_classic
from attend.data.sources.readers import Reading, read_source
from attend.data.text import SPECIALS, tokenise

CAPTIONS = {
    "1.png": ["A cat.", "Black cat.", "Cat on mat."],
    "2.png": ["A dog.", "Brown dog."],
    "3.png": ["A bird.", "Blue bird.", "Bird flies."],
    "4.png": ["A fish."],
}
SPLITS = {"1.png": "train", "2.png": "train", "3.png": "train", "4.png": "test"}
LABEL = "toy_2_cap_per_img_1_min_word_freq"
WORDS = {"a": 1, "cat": 2, "dog": 3, "bird": 4, "<start>": 5, "<end>": 6, "<unk>": 7, "<pad>": 0}
ENCODED = {  # by hand
    "1.png": [[5, 1, 2, 6], [5, 7, 2, 6]],
    "2.png": [[5, 1, 3, 6], [5, 7, 3, 6]],
    "3.png": [[5, 1, 4, 6], [5, 7, 4, 6], [5, 4, 7, 6]],
    "4.png": [[5, 1, 7, 6], [5, 1, 7, 6]],
}


def made(root: Path, captions=CAPTIONS, splits=SPLITS) -> Source:
    """Images of one colour each, 10 times their number."""
    root.mkdir(exist_ok=True)
    for number, image in enumerate(captions, 1):
        Image.new("RGB", (40, 20 + number), (10 * number, 0, 255)).save(root / image)
    examples = [
        Example(
            image=image, split=splits[image], captions=tuple(Caption(raw=raw, tokens=tokenise(raw)) for raw in raws)
        )
        for image, raws in captions.items()
    ]
    return Source(name="toy", root=root, examples=examples)


def write(source: Source, folder: Path, **options) -> list[Path]:
    settings = {"name": "toy", "captions_per_image": 2, "minimum_count": 1, "maximum_length": 4}
    return write_classic(source, folder, Classic(**settings | options))


def stored(folder: Path, name: str, label: str = LABEL):
    return json.loads((folder / f"{name}_{label}.json").read_text())


@pytest.fixture()
def written(tmp_path) -> Path:
    write(made(tmp_path / "images"), tmp_path / "out")
    return tmp_path / "out"


def test_the_worked_example(written):
    names = [f"{split}_{what}" for split in ("TRAIN", "VAL", "TEST") for what in ("IMAGES", "CAPTIONS", "CAPLENS")]
    files = {f"{name}_{LABEL}.{'hdf5' if 'IMAGES' in name else 'json'}" for name in (*names, "WORDMAP")}
    assert {path.name for path in written.iterdir()} == files
    assert stored(written, "WORDMAP") == WORDS
    with h5py.File(written / f"TRAIN_IMAGES_{LABEL}.hdf5") as file:
        assert file["images"].shape == (3, 3, 256, 256) and file["images"].dtype == np.uint8
        assert file.attrs["captions_per_image"] == 2
        for number, image in enumerate(file["images"], 1):
            assert np.array_equal(image, np.broadcast_to(np.array([10 * number, 0, 255])[:, None, None], image.shape))
    captions = stored(written, "TRAIN_CAPTIONS")
    assert stored(written, "TRAIN_CAPLENS") == [4] * 6 and len(captions) == 6
    assert captions[:4] == ENCODED["1.png"] + ENCODED["2.png"]  # "Cat on mat." is too long, and there are others
    assert len({*map(tuple, captions[4:])}) == 2 and all(ids in ENCODED["3.png"] for ids in captions[4:])
    assert stored(written, "TEST_CAPTIONS") == ENCODED["4.png"]  # its one caption twice
    assert stored(written, "VAL_CAPTIONS") == stored(written, "VAL_CAPLENS") == []


def test_all_three_birds_are_drawn_by_some_seed(tmp_path):
    source, seen = made(tmp_path / "images"), set()
    for seed in range(8):
        write(source, tmp_path, caption_seed=seed)
        assert stored(tmp_path, "TRAIN_CAPTIONS")[:2] == ENCODED["1.png"]  # never "Cat on mat."
        seen |= {*map(tuple, stored(tmp_path, "TRAIN_CAPTIONS")[4:])}
    assert seen == {*map(tuple, ENCODED["3.png"])}
    write(source, tmp_path / "again", caption_seed=7)
    assert stored(tmp_path / "again", "TRAIN_CAPTIONS") == stored(tmp_path, "TRAIN_CAPTIONS")


def test_a_caption_is_cut_where_an_image_has_no_short_one_and_padded_where_it_is_short(tmp_path):
    captions = {"1.png": ["A cat and a cat.", "The cat on the mat."], "2.png": ["Cat."]}
    write(made(tmp_path / "images", captions), tmp_path, minimum_count=0)
    label = LABEL.replace("img_1", "img_0")
    words = stored(tmp_path, "WORDMAP", label)
    assert [*words] == ["a", "cat", "and", "the", "on", "mat", "<start>", "<end>", "<unk>", "<pad>"]
    assert stored(tmp_path, "TRAIN_CAPTIONS", label) == [[7, 1, 2, 8], [7, 4, 2, 8], [7, 2, 8, 0], [7, 2, 8, 0]]
    assert stored(tmp_path, "TRAIN_CAPLENS", label) == [4, 4, 3, 3]


def test_words_are_counted_in_all_captions_or_in_those_of_train(tmp_path):
    examples = made(tmp_path, splits=SPLITS | {"3.png": "val"}).examples
    assert [*number_words(examples, 1)] == ["a", "cat", "dog", "bird", *SPECIALS[1:], "<pad>"]
    assert [*number_words(examples, 1, "train")] == ["a", "cat", "dog", *SPECIALS[1:], "<pad>"]
    assert [*number_words(examples, 2)][:3] == ["a", "cat", "bird"]  # four, three and three times
    with pytest.raises(ValueError, match="no word occurs more than 4 times"):
        number_words(examples, 4)


@pytest.mark.parametrize("order", ["as written", "reversed", "with gaps"])
def test_it_is_read_back_in_any_order_of_words(written, tmp_path, order):
    renumber = {"as written": lambda i: i, "reversed": lambda i: 7 - i, "with gaps": lambda i: 1000 - 13 * i}[order]
    words = {word: renumber(i) for word, i in WORDS.items()}
    (written / f"WORDMAP_{LABEL}.json").write_text(json.dumps(words))
    before = {split: stored(written, f"{split}_CAPTIONS") for split in ("TRAIN", "TEST")}
    for split in before:
        captions = [[renumber(i) for i in ids] for ids in before[split]]
        (written / f"{split}_CAPTIONS_{LABEL}.json").write_text(json.dumps(captions))
    source = read_source(written, unpack=tmp_path / "data")
    assert source.name == "toy" and source.skipped == {}
    assert source.words == tuple(sorted(("a", "cat", "dog", "bird"), key=words.get))
    assert [(e.image, e.split) for e in source.examples] == [
        *((f"train/00000{i}.png", "train") for i in range(3)), ("test/000000.png", "test"),
    ]  # fmt: skip
    first, second, *_, last = [[c.tokens for c in e.captions] for e in source.examples]
    assert first == [("a", "cat"), ("<unk>", "cat")] and second == [("a", "dog"), ("<unk>", "dog")]
    assert last == [("a", "<unk>")] * 2
    for number, example in enumerate(source.examples, 1):
        image = open_image(source.root / example.image)
        assert image.size == (256, 256) and image.getcolors() == [(256 * 256, (10 * number, 0, 255))]
    dataset = write_prepared(source, tmp_path / "data", 5)
    assert Prepared(tmp_path / "data").vocabulary.words == SPECIALS + source.words
    assert dataset.vocabulary.encode(("a", "<unk>")) == [dataset.vocabulary.ids["a"], dataset.vocabulary.unk]
    assert dataset.about["images"] == source.root.name  # below the prepared folder
    unknown = sum(ids.count(7) for split in ("TRAIN", "TEST") for ids in before[split])
    assert source.notes[-1].startswith(f"{unknown} words of the captions are <unk>")


def test_a_set_that_was_read_is_written_as_it_was(written, tmp_path):
    source = read_source(written, Reading(in_order=False), unpack=tmp_path / "data")
    write(source, tmp_path / "again", minimum_count=0)
    again, label = tmp_path / "again", LABEL.replace("img_1", "img_0")
    numbers = stored(again, "WORDMAP", label)
    back = {i: word for word, i in numbers.items()}
    before = {i: word for word, i in WORDS.items()}
    for split in ("TRAIN", "TEST"):
        captions = stored(again, f"{split}_CAPTIONS", label)
        assert [[back[i] for i in ids] for ids in captions] == [
            [before[i] for i in ids] for ids in stored(written, f"{split}_CAPTIONS")
        ]
        with (
            h5py.File(written / f"{split}_IMAGES_{LABEL}.hdf5") as old,
            h5py.File(again / f"{split}_IMAGES_{label}.hdf5") as new,
        ):
            assert np.array_equal(old["images"], new["images"])


def test_the_program_writes_and_reads_it(tmp_path, capsys):
    made(tmp_path / "in")
    records = [{"image": image, "captions": raws, "split": SPLITS[image]} for image, raws in CAPTIONS.items()]
    (tmp_path / "in/mine.json").write_text(json.dumps(records))
    options = ["--captions-per-image", "2", "--minimum-count", "1", "--maximum-length", "4", "--classic", "toy"]
    main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *options])
    said = capsys.readouterr()
    assert stored(tmp_path / "out", "WORDMAP") == WORDS and len(said.out.split()) == 10
    assert "words seen more than 1 times: 4 in all captions, 4 in those of train alone" in said.err
    main(["prepare", str(tmp_path / "out"), "--out", str(tmp_path / "data")])
    assert "toy: 3 train, 0 val, 1 test images, 8 captions, 8 words" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "no"), "--classic", "toy"])
    assert stop.value.code == 2 and "--captions-per-image" in capsys.readouterr().err


def test_the_program_never_reads_its_own_classic_files_for_the_dataset(tmp_path, capsys):
    made(tmp_path / "in")
    records = [{"image": image, "captions": raws, "split": SPLITS[image]} for image, raws in CAPTIONS.items()]
    (tmp_path / "in/mine.json").write_text(json.dumps(records))
    options = ["--captions-per-image", "2", "--minimum-count", "0", "--classic", "toy"]
    for _ in range(2):  # 0 keeps every word, a second time too
        main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "in/classic"), *options])
        assert "words seen more than 0 times: 11 in all captions, 10 in those of train" in capsys.readouterr().err
    for source in ("in", "in/mine.json"):
        with pytest.raises(SystemExit):
            main(["prepare", str(tmp_path / source), "--out", str(tmp_path / "in"), *options])
        assert "choose another --out" in capsys.readouterr().err


def test_words_that_train_alone_has_too_seldom_are_counted_all_the_same(tmp_path, capsys):
    captions = {"1.png": ["a dog"], "2.png": ["a dog"], "3.png": ["a cat"]}
    made(tmp_path / "in", captions, dict(zip(captions, ("train", "val", "test"), strict=True)))
    splits = zip(captions.items(), ("train", "val", "test"), strict=True)
    records = [{"image": image, "captions": raws, "split": split} for (image, raws), split in splits]
    (tmp_path / "in/mine.json").write_text(json.dumps(records))
    options = ["--captions-per-image", "1", "--minimum-count", "1", "--classic", "toy"]
    main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *options])
    assert "2 in all captions, 0 in those of train alone" in capsys.readouterr().err


def test_half_written_images_of_a_killed_process_are_swept_away(written, tmp_path):
    root = read_source(written, unpack=tmp_path / "data").root
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    partial = root / f"train/000000.png.{process.pid}@{socket.gethostname()}.partial"
    partial.touch()
    read_source(written, unpack=tmp_path / "data")
    assert not partial.exists()


def test_sets_of_other_captions_do_not_share_images(written, tmp_path):
    first = read_source(written, unpack=tmp_path / "data").root
    write(made(tmp_path / "images", CAPTIONS | {"1.png": ["A dog."]}), tmp_path / "other")
    assert read_source(tmp_path / "other", unpack=tmp_path / "data").root != first
    change(written / f"TRAIN_IMAGES_{LABEL}.hdf5", images=np.zeros((3, 3, 256, 256), np.uint8))
    assert read_source(written, unpack=tmp_path / "data").root != first
    with pytest.raises(ValueError, match="packed images; name a folder"):
        read_source(written)


def change(path: Path, **values) -> None:
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            if name == "captions_per_image":
                file.attrs[name] = value
            else:
                del file["images"]
                file["images"] = value


def declare(path: Path, shape: tuple[int, ...]) -> None:
    """Images of this shape that were never written, so the file stays small."""
    with h5py.File(path, "r+") as file:
        del file["images"]
        file.create_dataset("images", shape, dtype="uint8", chunks=(1, 1, 64, 64) if shape[2] else None)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("TRAIN_IMAGES", cut, "TRAIN_IMAGES_.* is truncated or no HDF5 file"),
        ("TRAIN_IMAGES", lambda path: path.write_text("text"), "TRAIN_IMAGES_.* is truncated or no HDF5 file"),
        ("TRAIN_IMAGES", lambda path: path.write_bytes(b""), "TRAIN_IMAGES_.* is truncated or no HDF5 file"),
        ("TRAIN_IMAGES", lambda path: change(path, images=np.zeros((3, 196, 512), "f2")), "features of an encoder"),
        ("TRAIN_IMAGES", lambda path: change(path, images=np.zeros((3, 3, 8, 8), "f4")), "features of an encoder"),
        ("TRAIN_IMAGES", lambda path: declare(path, (3, 3, 10**6, 10**6)), "declares 9,000,000,000,000 bytes"),
        ("TRAIN_IMAGES", lambda path: declare(path, (3, 3, 0, 256)), "of another version"),
        ("TRAIN_IMAGES", lambda path: change(path, captions_per_image=0), "of another version"),
        ("TRAIN_IMAGES", lambda path: change(path, captions_per_image="five"), "of another version"),
        ("TRAIN_IMAGES", lambda path: change(path, captions_per_image=[2, 2]), "of another version"),
        ("TRAIN_IMAGES", lambda path: change(path, captions_per_image=3), "not of one set"),
        ("TEST_CAPLENS", lambda path: path.write_text("[4]"), "TEST_CAPTIONS.* 2 captions and 1 lengths for 1 images"),
        ("TEST_CAPLENS", lambda path: path.write_text("[4, 9]"), "caption 1 of .*TEST_CAPTIONS"),
        ("TEST_CAPLENS", lambda path: path.write_text("[4, 3]"), "caption 1 of .* does not fit its word map"),
        ("TEST_CAPLENS", lambda path: path.write_text("{}"), "TEST_CAPLENS.* is no list"),
        ("TEST_CAPTIONS", lambda path: path.write_text("[[5, 1, 9, 6], [5, 6]]"), "caption 0 of .* does not fit"),
        ("TEST_CAPTIONS", lambda path: path.write_text("[[5, [1], 4, 6], [5, 6]]"), "caption 0 of .* does not fit"),
        ("TEST_CAPTIONS", lambda path: path.write_text("[3, 4]"), "caption 0 of .* is no list"),
        ("TEST_CAPTIONS", lambda path: path.write_text("[[5, 1"), "TEST_CAPTIONS.* is not readable as JSON"),
        ("TEST_CAPTIONS", lambda path: path.write_text("[" * 100000), "TEST_CAPTIONS.* is not readable as JSON"),
        ("TEST_CAPTIONS", Path.unlink, "TEST_CAPTIONS_.* is missing beside WORDMAP_"),
        ("WORDMAP", lambda path: path.write_text("[]"), "WORDMAP_.* is no word map"),
        ("WORDMAP", lambda path: path.write_text('{"a": 1, "b": 1}'), "WORDMAP_.* is no word map"),
        ("WORDMAP", lambda path: path.write_text('{"a": 1, "b": 2}'), "has no <pad>: it is of another version"),
        ("WORDMAP", lambda path: path.write_text(json.dumps(WORDS | {"x y": 9})), "holds 'x y'"),
        ("WORDMAP", lambda path: path.write_text(json.dumps(WORDS | {"\ud800": 9})), "holds "),
    ],
)
def test_a_damaged_set_is_refused(written, tmp_path, name, damage, says):
    damage(written / f"{name}_{LABEL}.{'hdf5' if 'IMAGES' in name else 'json'}")
    with pytest.raises((ValueError, FileNotFoundError), match=says) as refused:
        read_source(written, unpack=tmp_path / "data")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ".."}, "name of the classic files is '..'"),
        ({"name": "a/b"}, "name of the classic files is 'a/b'"),
        ({"name": ""}, "name of the classic files is ''"),
        ({"captions_per_image": 0}, "captions_per_image is 0"),
        ({"minimum_count": -1}, "minimum_count is -1"),
        ({"maximum_length": 2}, "maximum_length is 2"),
        ({"minimum_count": 9}, "no word occurs more than 9 times"),
    ],
)
def test_settings_that_make_no_files_are_refused(tmp_path, options, says):
    source = made(tmp_path / "images")
    with pytest.raises(ValueError, match=says):
        write(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_before_the_first_image(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    monkeypatch.setattr("attend.data.sources.classic.open_image", None)
    with pytest.raises(OSError, match="No space left") as full:
        write(made(tmp_path / "images"), tmp_path / "out")
    assert "TRAIN_IMAGES" in full.value.filename
    assert list((tmp_path / "out").iterdir()) == []


KILLED = """
import sys
import tracemalloc
from pathlib import Path
from attend.data.sources import classic
from tests.data.sources.test_classic import made, write

images = 0
def last_words(path):
    global images
    images += 1
    if images == int(sys.argv[2]):
        __import__("os").kill(__import__("os").getpid(), 9)
    return open_image(path)

open_image, classic.open_image = classic.open_image, last_words
write(made(Path(sys.argv[1]) / "images"), Path(sys.argv[1]) / "out")
"""


@pytest.mark.parametrize("image", [2, 4])
def test_a_kill_leaves_no_set_and_the_same_command_makes_it(written, tmp_path, image):
    whole = {path.name: path.read_bytes() for path in written.iterdir()}
    (written / f"TEST_CAPTIONS_{LABEL}.json").write_text("[]")  # an old set, of something else
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(image)]
    root = Path(__file__).parents[3]
    assert subprocess.run(command, cwd=root).returncode == -signal.SIGKILL
    assert not (written / f"WORDMAP_{LABEL}.json").exists() and list(written.glob("*.partial"))
    with pytest.raises(ValueError, match="no captions in"):
        read_source(written, unpack=tmp_path / "data")
    write(made(tmp_path / "images"), written)
    assert {path.name for path in written.iterdir()} == whole.keys()
    for name, content in whole.items():
        if name.endswith("json"):
            assert (written / name).read_bytes() == content
        else:
            with h5py.File(written / name) as file:
                assert len(file["images"]) == name.startswith("TRAIN") * 3 + name.startswith("TEST")


def test_memory_does_not_grow_with_the_images(tmp_path):
    """400 images are 79 MB: while they are written, little more than two chunks of 13 MB are held."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    for i in range(1, 400):
        os.link(tmp_path / "0.png", tmp_path / f"{i}.png")
    captions = (Caption(raw="a", tokens=("a",)),)
    examples = [Example(image=f"{i}.png", split="train", captions=captions) for i in range(400)]
    tracemalloc.start()
    write(Source(name="toy", root=tmp_path, examples=examples), tmp_path / "out", captions_per_image=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
