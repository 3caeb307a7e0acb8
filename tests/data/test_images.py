"""Images and embeddings from files, sound and damaged."""

from __future__ import annotations

import io
import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from attend.data.embeddings import read_embeddings
from attend.data.images import IMAGE_SUFFIXES, check_image, images_below, open_image, to_square
from attend.data.text import SPECIALS, Vocabulary
from attend.geometry import Geometry

VOCABULARY = Vocabulary((*SPECIALS, "at", "dog", "of"))


def picture(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_what_is_no_image_is_refused_in_one_sentence(tmp_path):
    whole = io.BytesIO()
    picture(200, 200).save(whole, "JPEG")
    files = {
        "empty.jpg": (b"", "is an empty file"),
        "text.jpg": (b"no image at all", "is not a readable image"),
        "cut.jpg": (whole.getvalue()[:4000], "is not a readable image"),
        "corrupt.ppm": (b"P6\n2\xb0 2 255\n" + bytes(12), "is not a readable image"),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    says = {name: sentence for name, (_, sentence) in files.items()}
    for name, sentence in {**says, "missing.jpg": "does not exist", ".": "is a folder"}.items():
        with pytest.raises(ValueError, match=f"{tmp_path / name} {sentence}") as refused:
            open_image(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_a_damaged_exif_is_nothing_to_speak_of(tmp_path):
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x010E], exif[0x0112] = "a dog on a sofa", 6
    picture().save(stream, "JPEG", exif=exif)
    path = tmp_path / "x.jpg"
    path.write_bytes(stream.getvalue().replace(b"MM\0*\0\0\0\x08\0\x02", b"MM\0*\0\0\0\x08\0\xff"))
    program = "import sys; from attend.data.images import open_image; print(open_image(sys.argv[1]).size)"
    ran = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("(16, 24)\n", "")


def test_a_file_is_read_as_what_the_suffixes_promise_and_by_no_other_program(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript was asked"))
    picture().save(tmp_path / "x.jpg", "EPS")
    for read in (open_image, check_image):
        with pytest.raises(ValueError, match=r"x\.jpg .*cannot identify image file"):
            read(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").unlink()
    for suffix in IMAGE_SUFFIXES:
        picture().save(tmp_path / f"x{suffix}")
    assert [path.suffix for path in images_below(tmp_path)] == sorted(IMAGE_SUFFIXES)
    assert all(open_image(path).size == (24, 16) for path in images_below(tmp_path))


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_damaged_file_is_read_or_refused_with_its_name(tmp_path, kind):
    stream, chance, path = io.BytesIO(), random.Random(0), tmp_path / "image"
    picture().save(stream, kind)
    for _ in range(60):
        content = bytearray(stream.getvalue())
        for _ in range(5):
            content[chance.randrange(min(len(content), 100))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(1, len(content))])])
        try:
            open_image(path)
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb_of_the_same_look(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (8, 1))
    image = Image.fromarray(ramp)
    image = (
        Image.fromarray(ramp.astype(np.uint16) * 257)
        if mode == "I;16"
        else image.convert("L" if mode == "P" else "RGB").convert(mode)
    )
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    found = open_image(path)
    assert found.mode == "RGB" and found.size == (32, 8)
    truth = np.asarray(image.convert("L")) if mode == "1" else ramp
    assert np.abs(np.asarray(found).astype(int) - truth[..., None]).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_upright(tmp_path, orientation):
    upright = picture()
    back = {  # how a camera stores what, turned as the tag says, is upright
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "x.png")), np.asarray(upright))


@pytest.mark.parametrize("transform", ["squash", "crop"])
@pytest.mark.parametrize("size", [(96, 64), (50, 120), (64, 64), (301, 97)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_mark_lands_in_the_cell_the_affine_map_says(transform, size, interpolation):
    grid, side = (4, 4), 32
    geometry = Geometry.of(transform, size, grid)
    sx, sy, tx, ty = geometry.affine
    chance, landed = np.random.default_rng(0), 0
    for _ in range(20):
        x, y = (int(chance.integers(2, end - 2)) for end in size)
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255, 0, 0
        square = to_square(Image.fromarray(pixels), side, transform, interpolation)
        assert square.shape == (3, side, side) and square.dtype == np.uint8 and not square[1:].any()
        column, row = sx * (x + 0.5) + tx, sy * (y + 0.5) + ty
        if not (0.3 < column < 3.7 and 0.3 < row < 3.7):
            continue  # cut off by the crop, or at its edge
        red = square[0].astype(float)
        centre = [(red.sum(axis) * (np.arange(side) + 0.5)).sum() / red.sum() * 4 / side for axis in (0, 1)]
        assert centre == pytest.approx([column, row], abs=0.15)
        landed += 1
    assert landed >= 3


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_embeddings_are_read_by_word(tmp_path, header):
    path = tmp_path / "glove.txt"
    path.write_text(header + "dog 1 -2.5e0\ncat 9 9\nat 0.5 3 \n")
    table, known = read_embeddings(path, VOCABULARY, 2)
    assert known.tolist() == [False] * 4 + [True, True, False]
    assert table[4:].tolist() == [[0.5, 3], [1, -2.5], [0, 0]]


def test_words_with_spaces_and_odd_bytes_are_no_words_of_ours(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(b"at name@domain.com 1 2\nd\xffg 1 2\nof 3 4\n")
    table, known = read_embeddings(path, VOCABULARY, 2)
    assert known.tolist() == [False] * 6 + [True] and table[6].tolist() == [3, 4]


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"dog 1 2 3\n", "line 1: 3 numbers, but decoder.embedding is 2"),
        (b"cat 1 2\ndog 1\n", "line 2: 1 numbers, but decoder.embedding is 2"),
        (b"dog 1 x\n", "line 1: not a word and its numbers"),
        (b"dog 1 nan\n", "line 1: not a word and its numbers"),
        (b"cat 1 2\n", "knows no word of the vocabulary"),
        (b"", "knows no word of the vocabulary"),
        (bytes(range(256)), "knows no word of the vocabulary"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_embeddings(tmp_path / "x.txt", VOCABULARY, 2)
