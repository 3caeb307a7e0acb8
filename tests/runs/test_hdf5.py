"""HDF5 files from elsewhere: nothing outside of them is read, and nothing larger than they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from attend.data.sources.readers import Reading, read_source
from attend.data.stores import Store, fill_store
from attend.runs import hdf5
from attend.runs.evaluations import read_all, read_attention, read_given
from tests.made_runs import make_attention

LARGE = 3 * 10**9
"""Numbers that no file here has room for: 12 GB."""


def external(file: h5py.File, name: str, secret: Path) -> None:
    file[name] = h5py.ExternalLink(secret, "x")


def soft(file: h5py.File, name: str, _: Path) -> None:
    file.move(name, "moved") if name in file else file.create_dataset("moved", data=[1.0])
    file[name] = h5py.SoftLink("moved")


def virtual(file: h5py.File, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout(shape=(4, 6), dtype="f4")
    layout[:] = h5py.VirtualSource(secret, "x", shape=(4, 6))
    file.create_virtual_dataset(name, layout)


def endless(file: h5py.File, name: str, secret: Path) -> None:
    """A virtual array of no fixed shape, which HDF5 finds in the other file."""
    source = h5py.VirtualSource(secret, "x", shape=(4, 6), maxshape=(None, 6))
    layout = h5py.VirtualLayout(shape=(4, 6), maxshape=(None, 6), dtype="f4")
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset(name, layout)


def stored_elsewhere(file: h5py.File, name: str, secret: Path) -> None:
    file.create_dataset(name, (4, 6), "u1", external=[(str(secret), 0, 24)])


def made(**options: object) -> Callable[[h5py.File, str, Path], None]:
    return lambda file, name, _: file.create_dataset(name, **options)


def packed_twice(file: h5py.File, name: str, _: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1, 6))
    plan.set_deflate(9)
    plan.set_deflate(9)
    space = h5py.h5s.create_simple((4, 6))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, space, dcpl=plan)


POINTS = np.dtype([("x", "f4"), ("y", "f4")])
HOSTILE = {
    "an external link": (external, "is a link"),
    "a soft link": (soft, "is a link"),
    "a virtual array": (virtual, "lies in another file"),
    "a virtual array of no fixed shape": (endless, "lies in another file"),
    "external storage": (stored_elsewhere, "lies in another file"),
    "a group": (lambda file, name, _: file.create_group(name), "is no array"),
    "a type": (lambda file, name, _: file.__setitem__(name, POINTS), "is no array"),
    "points": (made(data=np.zeros((4, 6), POINTS)), "neither numbers nor text"),
    "references": (made(shape=(4, 6), dtype=h5py.ref_dtype), "neither numbers nor text"),
    "lists": (made(shape=(4, 6), dtype=h5py.vlen_dtype(np.float32)), "neither numbers nor text"),
    "12 GB of a fill value": (made(shape=(LARGE // 6, 6), dtype="f4", fillvalue=1.0), "declares 12,000,000,000 bytes"),
    "12 GB in pieces": (made(shape=(4, LARGE // 4), dtype="f4", chunks=(1, 100)), "declares 12,000,000,000 bytes"),
    "12 GB, packed": (
        made(shape=(4, LARGE // 4), dtype="f4", chunks=(1, 9), compression="gzip"),
        "declares 12,000,000,000 bytes",
    ),
    "a piece of 400 MB": (
        made(shape=(4, 6), dtype="f4", chunks=(10**4, 10**4), maxshape=(None, None)),
        "declares 400,000,000 bytes",
    ),
    "packed twice": (packed_twice, "is packed in a way"),
    "packed to no bits": (made(shape=(4, 6), dtype="i4", chunks=(1, 6), scaleoffset=0), "is packed in a way"),
}


@pytest.fixture
def secret(tmp_path):
    """Another file of this machine."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.full((4, 6), 7, np.float32)
    return path


def hostile(path: Path, name: str, kind: str, secret: Path) -> str:
    """Put one of HOSTILE in the place of an array; returns what is said of it."""
    change, said = HOSTILE[kind]
    where, _, leaf = name.rpartition("/")
    with h5py.File(path, "r+") as file:
        group = file[where or "/"]
        if leaf in group and kind != "a soft link":
            del group[leaf]
        change(group, leaf, secret)
    return said


def refused(path: Path, said: str, read: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=rf"{path} [\w ]+ \(.*{said}.*\): ") as error:
        read()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["alpha", "words", "gate", "glimpse"])
def test_attention(tmp_path, secret, name, kind):
    path = make_attention(tmp_path / "attention.h5", ["a", "dog", "runs"], sampled=True)
    said = hostile(path, f"0/{name}", kind, secret)
    for read in (lambda: read_attention(path, 0), lambda: read_attention(path, "a.jpg"), lambda: [*read_all(path)]):
        refused(path, said, read)


@pytest.mark.parametrize("link", [h5py.SoftLink("/moved"), h5py.ExternalLink("secret.h5", "/")])
def test_a_caption_that_is_a_link(tmp_path, secret, link):
    path = make_attention(tmp_path / "attention.h5", ["a", "dog"])
    with h5py.File(path, "r+") as file:
        file.move("0", "moved")
        file["0"] = link
        del file["moved"]
    refused(path, "is a link", lambda: read_attention(path, 0))


@pytest.mark.parametrize("kind", HOSTILE)
def test_given_words(tmp_path, secret, kind):
    path = tmp_path / "given.h5"
    with h5py.File(path, "w") as file:
        file.attrs["grid"] = (2, 3)
        file["size"], file["affine"], file["images"] = np.ones((1, 2), int), np.ones((1, 4)), ["a.png"]
        file["image"] = file["caption"] = file["word"] = np.zeros(4, int)
        file["alpha"] = np.ones((4, 6), np.float16)
    assert read_given(path).weights.shape == (4, 6)
    refused(path, hostile(path, "alpha", kind, secret), lambda: read_given(path))


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["inputs", "more"])
def test_stores(tmp_path, secret, name, kind):
    for _ in fill_store(tmp_path / "store", 4, {}, lambda rows: {"inputs": np.ones((4, 6), np.float32)}):
        pass
    said = hostile(tmp_path / "store/00000.h5", name, kind, secret)
    refused(tmp_path / "store/00000.h5", said, lambda: Store(tmp_path / "store").read("inputs", [0]))
    refused(tmp_path / "store/00000.h5", said, lambda: Store(tmp_path / "store").read("inputs", []))


@pytest.mark.parametrize("kind", HOSTILE)
def test_classic_images(tmp_path, secret, kind):
    """No picture of another file is written."""
    (tmp_path / "WORDMAP_x.json").write_text('{"a": 1, "<start>": 2, "<end>": 3, "<unk>": 4, "<pad>": 0}')
    (tmp_path / "TRAIN_CAPTIONS_x.json").write_text("[[2, 1, 3]]")
    (tmp_path / "TRAIN_CAPLENS_x.json").write_text("[3]")
    path = tmp_path / "TRAIN_IMAGES_x.hdf5"
    with h5py.File(path, "w") as file:
        file["images"], file.attrs["captions_per_image"] = np.zeros((1, 3, 4, 4), np.uint8), 1
    said = hostile(path, "images", kind, secret)
    refused(path, said, lambda: read_source(tmp_path, Reading(layout="classic"), unpack=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_one_text_many_times_over(tmp_path):
    """A list of many references to one long text would be far larger than its file."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("words", (20_000,), h5py.string_dtype(), chunks=(20_000,))
        file["words"][0] = "x" * 60_000
    content = path.read_bytes()
    with h5py.File(path) as file:
        start = file["words"].id.get_chunk_info(0).byte_offset
    path.write_bytes(content[:start] + content[start : start + 16] * 20_000 + content[start + 16 * 20_000 :])
    with h5py.File(path) as file:
        assert len(file["words"][19_999]) == 60_000
    with pytest.raises(ValueError, match="'words' is larger than the file"), hdf5.opened(path, "is wrong", "x") as part:
        part.texts("words")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "is no text"),
        (["a.jpg"], "is no text"),
        (np.zeros(3, POINTS), "is no text"),
        (["x"] * 17, "has too many values"),
        (h5py.Empty("f"), "is no text"),
    ],
)
def test_attributes(tmp_path, value, said):
    path = make_attention(tmp_path / "attention.h5", ["a", "dog"])
    with h5py.File(path, "r+") as file:
        file["0"].attrs["image"] = value
    refused(path, said, lambda: read_attention(path, 0))


@pytest.mark.parametrize("grid", [3, (2,), (2, 3, 4), "22", (np.nan, 2.0), ("a", "b")])
def test_a_grid_is_two_numbers(tmp_path, grid):
    path = make_attention(tmp_path / "attention.h5", ["a", "dog"])
    with h5py.File(path, "r+") as file:
        file["0"].attrs["grid"] = grid
    refused(path, "'grid' is not 2 numbers", lambda: read_attention(path, 0))


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (1, 60)}, {"chunks": True, "compression": "gzip"}, {"shuffle": True}]
)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_what_is_in_the_file_is_read(tmp_path, rows, options):
    """Zeros, which pack best, in each of the ways that others write them."""
    values = np.zeros((rows, 60), np.float32)
    options = options if rows else {}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, fletcher32=bool(options), **options)
        file.create_dataset("words", data=["a", "ü" * 99] * rows, dtype=h5py.string_dtype())
        file.create_dataset("fixed", data=np.array([b"a", b"bc"]))
    with hdf5.opened(tmp_path / "a.h5", "is wrong", "write it again") as part:
        assert np.array_equal(part.values("x"), values) and part.texts("words") == ("a", "ü" * 99) * rows
        assert part.texts("fixed") == ("a", "bc") and {*part} == {"x", "words", "fixed"} and len(part) == 3


def test_zeros_pack_no_better_than_is_allowed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "x", data=np.zeros(10**7, np.uint8), chunks=(10**7,), compression="gzip", compression_opts=9
        )
    with hdf5.opened(tmp_path / "a.h5", "is wrong", "write it again") as part:
        assert part.values("x").size / (tmp_path / "a.h5").stat().st_size > 500
