"""Files as they are found in the world: what can be read is read right, the rest is one sentence or a counted skip."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import pytest
from attend.experiments.cli.main import main
from PIL import Image

from attend.data.images import MAXIMUM_PIXELS, check_image, gather_images, open_image, to_square
from attend.data.prepared import Prepared, write_prepared
from attend.data.sources.readers import CAPTIONLESS, UNREADABLE, WORDLESS, read_source

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
GREY = PIXELS[..., 0]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


def png(width: int, height: int, rows: bytes = b"", *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of grey pixels from its chunks."""
    header = (b"IHDR", struct.pack(">II5B", width, height, 8, 0, 0, 0, 0))
    chunks = (header, *more, (b"IDAT", compress(rows)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    return encoded(PICTURE, exif=exif)


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 12), colour) for colour in ("red", "lime", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)


def cmyk() -> np.ndarray:
    return np.repeat(np.repeat(RNG.integers(0, 256, (2, 3, 4), dtype=np.uint8), 8, 0), 8, 1)


def transparent(mode: str) -> bytes:
    alpha = np.linspace(0, 255, 20).astype(np.uint8)[None].repeat(12, 0)
    channels = GREY[..., None] if mode == "LA" else PIXELS
    return encoded(Image.fromarray(np.concatenate([channels, alpha[..., None]], 2)))


def on_white(channels: np.ndarray) -> np.ndarray:
    alpha = np.linspace(0, 255, 20).astype(np.uint8)[None, :, None] / 255
    return channels * alpha + 255 * (1 - alpha)


def see_through_palette(kind: str) -> bytes:
    image = Image.fromarray((np.arange(240).reshape(12, 20) % 2).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    return encoded(image, kind, transparency=1)


CMYK = cmyk()
STRIPES = np.array([[10, 20, 30], [255, 255, 255]])[np.arange(240).reshape(12, 20) % 2]
RED = np.broadcast_to([255, 0, 0], (12, 20, 3))
WIDE = RNG.integers(0, 256, (1, 30_000, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (12, 20)).astype(np.uint16)

READABLE = {  # file, its pixels as RGB by another way, how far they may be from it
    "grey": (encoded(Image.fromarray(GREY)), GREY[..., None].repeat(3, 2), 0),
    "one bit": (encoded(Image.fromarray(GREY > 99)), 255 * (GREY > 99)[..., None].repeat(3, 2), 0),
    "16 bits": (encoded(Image.fromarray(DEEP)), (DEEP // 256)[..., None].repeat(3, 2), 0),
    "16 bits, TIFF": (encoded(Image.fromarray(DEEP), "TIFF"), (DEEP // 256)[..., None].repeat(3, 2), 0),
    "16 bits, PGM": (b"P5 20 12 65535\n" + DEEP.astype(">u2").tobytes(), (DEEP // 256)[..., None].repeat(3, 2), 0),
    "palette": (encoded(PICTURE.quantize(256)), PIXELS, 40),
    "palette with a transparent colour": (see_through_palette("PNG"), STRIPES, 0),
    "GIF with a transparent colour": (see_through_palette("GIF"), STRIPES, 0),
    "CMYK, TIFF": (
        encoded(Image.fromarray(CMYK, "CMYK"), "TIFF"),
        (255 - CMYK[..., :3].astype(float)) * (255 - CMYK[..., 3:]) / 255,
        1,
    ),
    "CMYK, JPEG": (
        encoded(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100),
        (255 - CMYK[..., :3].astype(float)) * (255 - CMYK[..., 3:]) / 255,
        4,
    ),
    "alpha": (transparent("RGBA"), on_white(PIXELS), 1),
    "grey with alpha": (transparent("LA"), on_white(GREY[..., None].repeat(3, 2)), 1),
    "animated GIF": (animated("GIF"), RED, 0),
    "animated PNG": (animated("PNG"), RED, 0),
    "animated WebP": (animated("WEBP"), RED, 0),
    "EXIF-rotated": (turned(), np.rot90(PIXELS, -1), 0),
    "1 x 1": (encoded(PICTURE.crop((0, 0, 1, 1))), PIXELS[:1, :1], 0),
    "very wide": (encoded(Image.fromarray(WIDE)), WIDE, 0),
    "very high": (encoded(Image.fromarray(WIDE.transpose(1, 0, 2).copy())), WIDE.transpose(1, 0, 2), 0),
    "wrong suffix": (encoded(PICTURE, "BMP"), PIXELS, 0),
}

UNREADABLE_FILES = {
    "zero bytes": b"",
    "text": b"<html>404</html>",
    "truncated JPEG": encoded(PICTURE, "JPEG")[:-40],
    "truncated PNG": encoded(PICTURE)[:-40],
    "corrupt PNG": encoded(PICTURE).replace(b"IDAT", b"IDAT\x00", 1),
    "bomb of 3.6 gigapixels": png(60_000, 60_000),
    "bomb that Pillow only warns of": png(10_000, 9_000, bytes(10_001) * 9_000),
    "bomb of text": png(4, 4, bytes(20), (b"zTXt", b"Comment\0\0" + compress(bytes(100_000_000)))),
    "32 bits of no range": encoded(Image.fromarray(RNG.random((4, 4), dtype=np.float32)), "TIFF"),
    "no pixels": png(0, 0),
}


@pytest.mark.parametrize("kind", READABLE)
def test_what_can_be_read_is_read_right(tmp_path, kind):
    content, truth, tolerance = READABLE[kind]
    path = tmp_path / "image.png"
    path.write_bytes(content)
    check_image(path)
    found = open_image(path)
    assert found.mode == "RGB" and found.size == truth.shape[1::-1]
    assert np.abs(np.asarray(found, dtype=float) - truth).max() <= tolerance
    for transform in ("squash", "crop"):
        assert to_square(found, 32, transform, "bicubic").shape == (3, 32, 32)
    if kind == "1 x 1":
        assert (to_square(found, 8, "crop", "bilinear") == PIXELS[0, 0][:, None, None]).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", UNREADABLE_FILES)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path, kind):
    path = tmp_path / "image.png"
    path.write_bytes(UNREADABLE_FILES[kind])
    for read in (open_image, check_image):
        with pytest.raises(ValueError, match=rf"{path} .*leave it out") as refused:
            read(path)
        assert "\n" not in str(refused.value)


GROWTH = """
import json, re, sys
from pathlib import Path
from attend.data.images import check_image, open_image

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

grown = {}
for path in [Path(sys.argv[1]), *Path(sys.argv[1]).parent.iterdir()]:
    before = peak()
    for read in (open_image, check_image):
        try:
            read(path)
        except ValueError:
            pass
    grown[path.stem] = peak() - before
print(json.dumps(grown))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say the peak of a process")
def test_what_cannot_be_read_is_refused_before_it_takes_memory(tmp_path):
    """Kibibytes that the process grows by; the smaller bomb has 88000 of pixels. The first file loads Pillow."""
    for kind, content in UNREADABLE_FILES.items():
        (tmp_path / f"{kind}.png").write_bytes(content)
    first = tmp_path / "truncated PNG.png"
    ran = subprocess.run([sys.executable, "-c", GROWTH, str(first)], capture_output=True, text=True, check=True)
    grown = json.loads(ran.stdout)
    assert grown.keys() == UNREADABLE_FILES.keys() and max(grown.values()) < 20_000, grown


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_is_large_where_it_takes_a_quarter_of_a_gigabyte(tmp_path):
    assert 0.24e9 < 3 * MAXIMUM_PIXELS < 0.27e9
    (tmp_path / "image.png").write_bytes(UNREADABLE_FILES["bomb that Pillow only warns of"])
    with pytest.raises(ValueError, match="it has 90 million pixels, and up to 89 are read"):
        open_image(tmp_path / "image.png")


def test_four_images_are_decoded_at_once(tmp_path, monkeypatch):
    meeting = threading.Barrier(4, timeout=10)  # that four are let through together
    inside, most = [], []

    def decode(path: Path) -> None:
        inside.append(path)
        most.append(len(inside))
        meeting.wait()
        time.sleep(0.02)
        inside.remove(path)

    monkeypatch.setattr("attend.data.sources.readers.check_image", decode)
    monkeypatch.setattr("os.cpu_count", lambda: 32)
    folder = dataset(tmp_path, {f"{i}.png": ["A dog"] for i in range(8)})
    assert len(read_source(folder).examples) == 8 and max(most) == 4


def dataset(folder: Path, captions: dict[str, list[str]]) -> Path:
    """A JSON of one's own, with an image for every name."""
    folder.mkdir(exist_ok=True)
    for name in captions:
        PICTURE.save(folder / name)
    records = [{"image": name, "captions": raws, "split": "train"} for name, raws in captions.items()]
    (folder / "captions.json").write_text(json.dumps(records))
    return folder


@pytest.fixture()
def fails(fails):
    """The sentence is all that is said."""
    return partial(fails, alone=True)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_prepare_counts_and_names_what_it_left_out(tmp_path, capsys, fails):
    folder = dataset(tmp_path / "in", {f"{i}.png": ["A dog"] for i in range(len(UNREADABLE_FILES) + 1)})
    for i, content in enumerate(UNREADABLE_FILES.values()):
        (folder / f"{i}.png").write_bytes(content)
    main(["prepare", str(folder), "--out", str(tmp_path / "out"), "--minimum-count", "1"])
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out'}\n"
    assert f"skipped {len(UNREADABLE_FILES)}: {UNREADABLE} (0.png, 1.png, 2.png, ...)" in said.err.splitlines()
    assert Prepared(tmp_path / "out").about["splits"] == {"train": 1, "val": 0, "test": 0}
    sentence = fails("prepare", folder, "--out", tmp_path / "strict", "--strict")
    assert f"{UNREADABLE}: {len(UNREADABLE_FILES)}, as 0.png" in sentence and not (tmp_path / "strict").exists()


# Captions

TRICKY = {  # caption -> tokens, by hand
    "two words": ("two", "words"),
    "A DOG!!!  (brown),/white;": ("a", "dog", "brown", "white"),
    "tabs\tand\x0bother \x85 spaces\u2028here": ("tabs", "and", "other", "spaces", "here"),
    "bell\x07 null\x00 escape\x1b[31m": ("bell", "null", "escape", "31m"),
    "a 🐶 dog 👨‍👩‍👧 family": ("a", "dog", "family"),
    "Ünïcödé İstanbul naïve": ("ünïcödé", "i̇stanbul", "naïve"),
    "日本語の犬": ("日本語の犬",),
    "o'clock the dog's isn’t": ("o'clock", "the", "dog", "'s", "is", "n't"),
    "half \ud83d of an emoji": ("half", "of", "an", "emoji"),
    " ".join(f"w{i}" for i in range(500)): tuple(f"w{i}" for i in range(500)),
}
WITHOUT = ["", " ", "...", "🐶🐶", "\t", "-- !", "\x00", "\ud800"]


def test_captions_of_every_kind_are_words(tmp_path):
    folder = dataset(tmp_path / "in", {"a.png": [*TRICKY], "b.png": [*WITHOUT, "A dog"], "c.png": ["!"]})
    source = read_source(folder)
    first, second = source.examples
    assert [c.tokens for c in first.captions] == [*TRICKY.values()]
    assert [c.tokens for c in second.captions] == [("a", "dog")]
    assert source.skipped == {WORDLESS: [f"b.png#{i}" for i in range(8)] + ["c.png#0"], CAPTIONLESS: ["c.png"]}
    written = write_prepared(source, tmp_path / "out", 1)
    assert list(written.examples) == source.examples


TWO = {"raw": "Two dogs"}
KAGGLE = "image,caption\na.png,Été: a dog\na.png,Two dogs\n"
FILES = {  # file -> text, which holds no other character beyond ASCII than those of Été
    "dataset_toy.json": json.dumps(
        {"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": "Été: a dog"}, TWO]}]},
        ensure_ascii=False, indent=1,
    ),
    "toy.token.txt": "a.png#0\tÉté: a dog\na.png#1\tTwo dogs\n",
    "captions.txt": KAGGLE,
    "results.csv": "image_name| comment_number| comment\na.png| 0| Été: a dog\na.png| 1| Two dogs\n",
    "captions_toy.json": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"image_id": 1, "caption": raw} for raw in ("Été: a dog", "Two dogs")],
        },
        ensure_ascii=False, indent=1,
    ),
    "mine.csv": KAGGLE,
    "mine.json": json.dumps([{"image": "a.png", "captions": ["Été: a dog", "Two dogs"]}], ensure_ascii=False),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_line_ends_marks_and_encodings(tmp_path, fails, name):
    for folder in (tmp_path, tmp_path / "toy"):
        folder.mkdir(exist_ok=True)
        PICTURE.save(folder / "a.png")
    text, file = FILES[name], tmp_path / name
    crlf = text.replace("\n", "\r\n")
    for content in (text.encode(), crlf.encode(), text.encode("utf-8-sig"), crlf.encode("utf-8-sig")):
        file.write_bytes(content)
        (example,) = read_source(tmp_path).examples
        assert [(c.raw, c.tokens) for c in example.captions] == [
            ("Été: a dog", ("été", "a", "dog")), ("Two dogs", ("two", "dogs")),
        ]  # fmt: skip
    line = text[: text.index("É")].count("\n") + 1
    file.write_bytes(text.encode("latin-1"))
    sentence = fails("prepare", tmp_path, "--out", tmp_path / "out")
    assert f"{file} is not UTF-8 text in line {line}; save it as UTF-8" in sentence
    file.write_bytes(text.encode("utf-16"))
    assert "is not UTF-8 text in line 1" in fails("prepare", tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("../a.png", "leads out of the image folder: name a file inside it"),
        ("b/../../a.png", "leads out of the image folder: name a file inside it"),
        ("..\\\\a.png", "leads out of the image folder: name a file inside it"),
        ("/etc/a.png", "leads out of the image folder: name a file inside it"),
    ],
)
def test_names_that_climb_out_of_the_folder(tmp_path, fails, name, image, says):
    (tmp_path / "a.png").write_bytes(encoded(PICTURE))
    text = FILES[name].replace("a.png", image if name.endswith("json") else image.replace("\\\\", "\\"))
    (tmp_path / name).write_text(text)
    sentence = fails("prepare", tmp_path, "--out", tmp_path / "out")
    assert says in sentence and str(tmp_path / name) in sentence and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("json")])
@pytest.mark.parametrize("stored", ["{", "null", "3", '{"a": 1}', "[[]]", '["a"]', "[" * 100_000, "1" * 5000, "NaN"])
def test_json_of_another_schema(tmp_path, fails, name, stored):
    (tmp_path / name).write_text(stored)
    assert str(tmp_path / name) in fails("prepare", tmp_path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_dataset_is_not_written_over(tmp_path, fails):
    first = dataset(tmp_path / "first", {"a.png": ["A dog"]})
    write_prepared(read_source(first), tmp_path / "out", 1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    second = dataset(tmp_path / "second", {"a.png": ["A cat"]})
    sentence = fails("prepare", second, "--out", tmp_path / "out", "--minimum-count", "1")
    assert "holds another prepared dataset, " in sentence
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


# A folder of images, to be captioned


def test_a_folder_stands_for_the_images_below_it(tmp_path):
    folder = tmp_path / "photos"
    for name in ("b.png", "a/z.JPG", "a/c.webp", ".trash/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(folder / name, "JPEG" if name.endswith("JPG") else None)
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"")
    PICTURE.save(tmp_path / "one.png")
    chosen, skipped = gather_images([tmp_path / "one.png", folder])
    assert chosen == [tmp_path / "one.png", *(folder / name for name in ("a/c.webp", "a/z.JPG", "b.png"))]
    assert skipped == [folder / "broken.png"]
    with pytest.raises(ValueError, match=r"broken\.png is an empty file"):
        gather_images([folder, folder / "broken.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no readable image"):
        gather_images([tmp_path / "empty"])
