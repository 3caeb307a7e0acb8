"""The classic input files of many captioning pipelines, written and read.

``{TRAIN,VAL,TEST}_IMAGES_<label>.hdf5`` holds ``images`` (N, 3, 256, 256) uint8 and the attribute captions_per_image,
``..._CAPTIONS_<label>.json`` the captions as padded numbers, those of an image in a row, ``..._CAPLENS_<label>.json``
their lengths with both marks, and ``WORDMAP_<label>.json`` the numbers of the words; <label> is
``<name>_<c>_cap_per_img_<m>_min_word_freq``.

Differs from a prepared dataset: a word is kept if it is seen *more* than m times, and in *all* captions, those of val
and test too, as these pipelines count; ``count="train"`` looks at the training captions only.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import h5py
import numpy as np
from PIL import Image

from attend.bars import bar, through
from attend.config import section
from attend.data.examples import SPLITS, Caption, Entry, Example, Listing, Source
from attend.data.images import MAXIMUM_PIXELS, open_image, to_square
from attend.data.prepared import refuse_other
from attend.data.sources.sampling import draw
from attend.data.text import END, PAD, SPECIALS, START, UNK, UNWRITABLE
from attend.paths import regular
from attend.runs import hdf5
from attend.runs.files import read_json, sweep, whole, write_bytes, write_text

SIDE = 256
CHUNK = 64
"""Images that are in memory at once."""
AGAIN = "write it again"

Count = Literal["all", "train"]


@dataclass(frozen=True, kw_only=True)
class Classic:
    """What is written. Raises ValueError for settings that make no such files."""

    name: str
    captions_per_image: section.Positive
    """drawn where an image has more, repeated where it has fewer"""
    caption_seed: int = 0
    """seed of that draw"""
    minimum_count: section.Count = 5
    """the word map has the words that occur more often than this"""
    count: Count = "all"
    """in all captions, or in those of train"""
    maximum_length: section.Tokens = 52
    """tokens of a caption, with the two marks. A longer one is passed over while its image has others, and cut where it
    has not"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"the name of the classic files is {self.name!r}; use letters, digits, dots, dashes")
        hints = get_type_hints(Classic, include_extras=True)
        for name in ("captions_per_image", "minimum_count", "maximum_length"):
            section.within(getattr(self, name), hints[name], name)

    @property
    def label(self) -> str:
        return f"{self.name}_{self.captions_per_image}_cap_per_img_{self.minimum_count}_min_word_freq"


def write_classic(source: Source, folder: Path, classic: Classic) -> list[Path]:
    """Write the ten files of a source, the word map last: with it the set is whole. Returns their paths.

    Images are squashed to 256 x 256. Raises OSError before the first image where the disk has no room for all of them.
    """
    words = number_words(source.examples, classic.minimum_count, classic.count)
    word_map = folder / f"WORDMAP_{classic.label}.json"
    word_map.unlink(missing_ok=True)  # until all is written, this is no set
    sweep(folder, f"*_{classic.label}.*.partial")
    files = []
    for split in SPLITS:
        examples = [example for example in source.examples if example.split == split]
        images, captions, lengths = (_file(word_map, split, what) for what in ("IMAGES", "CAPTIONS", "CAPLENS"))
        _write_images(images, [source.root / e.image for e in examples], classic.captions_per_image)
        with whole(captions) as partial, open(partial, "w", encoding="ascii") as file:
            counted = []
            for example in examples:
                for caption in choose(example, classic):
                    ids, length = encode(caption.tokens, words, classic.maximum_length)
                    file.write(("," if counted else "[") + json.dumps(ids))
                    counted.append(length)
            file.write("]" if counted else "[]")
        write_text(lengths, json.dumps(counted))
        files += [images, captions, lengths]
    write_text(word_map, json.dumps(words))
    return [*files, word_map]


def frequent_words(examples: Iterable[Example], minimum_count: int, count: Count = "all") -> list[str]:
    """The words seen more than ``minimum_count`` times, by first appearance."""
    counts = Counter(
        token for example in examples if count == "all" or example.split == "train"
        for caption in example.captions for token in caption.tokens if token not in SPECIALS
    )  # fmt: skip
    return [word for word, times in counts.items() if times > minimum_count]


def number_words(examples: Iterable[Example], minimum_count: int, count: Count = "all") -> dict[str, int]:
    """The word map: the frequent words from 1 on, then the marks. Raises ValueError if there are no such words."""
    kept = frequent_words(examples, minimum_count, count)
    if not kept:
        raise ValueError(f"no word occurs more than {minimum_count} times in the captions; lower the minimum count")
    return {word: i for i, word in enumerate((*kept, START, END, UNK), 1)} | {PAD: 0}


def choose(example: Example, classic: Classic) -> list[Caption]:
    """The captions of an image: drawn of those short enough, or, where there is none, of all."""
    fitting = [caption for caption in example.captions if len(caption.tokens) + 2 <= classic.maximum_length]
    return draw(fitting or example.captions, classic.captions_per_image, classic.caption_seed, example.image)


def count_long(examples: Iterable[Example], maximum_length: int) -> tuple[int, int]:
    """Captions that are too long: those of images that have others too, and those of images that have not."""
    passed, cut = 0, 0
    for example in examples:
        long = sum(len(caption.tokens) + 2 > maximum_length for caption in example.captions)
        if long < len(example.captions):
            passed += long
        else:
            cut += long
    return passed, cut


def encode(tokens: Sequence[str], words: dict[str, int], maximum_length: int) -> tuple[list[int], int]:
    """A caption as ``maximum_length`` numbers, <start> and <end> among them, then padding; and its length so far."""
    ids = [words.get(token, words[UNK]) for token in tokens[: maximum_length - 2]]
    ids = [words[START], *ids, words[END]]
    return ids + [words[PAD]] * (maximum_length - len(ids)), len(ids)


def _write_images(path: Path, images: Sequence[Path], captions_per_image: int) -> None:
    """Squares of all images, a few at a time in memory."""

    def square(image: Path) -> np.ndarray:
        return to_square(open_image(image), SIDE, "squash", "bilinear")

    shape = (len(images), 3, SIDE, SIDE)
    with whole(path) as partial, h5py.File(partial, "w") as file, ThreadPoolExecutor(2) as pool:
        file.attrs["captions_per_image"] = captions_per_image
        rows = file.create_dataset("images", shape, dtype="uint8")
        file.flush()
        _reserve(partial, len(images) * 3 * SIDE * SIDE)
        with bar(len(images), path.name, "image") as progress:
            for start in range(0, len(images), CHUNK):
                chunk = images[start : start + CHUNK]
                rows[start : start + len(chunk)] = np.stack([*pool.map(square, chunk)])
                progress.update(len(chunk))


def _reserve(path: Path, size: int) -> None:
    """Take the room on the disk now: HDF5 on a disk that runs full takes the process down."""
    if size and hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not every file system knows how
                    raise


def _file(word_map: Path, split: str, what: str) -> Path:
    label = word_map.stem.removeprefix("WORDMAP_")
    return word_map.with_name(f"{split.upper()}_{what}_{label}.{'hdf5' if what == 'IMAGES' else 'json'}")


def read_captions(files: Sequence[Path]) -> Listing:
    """The captions of a set of files, found by their word map, whatever numbers it gives; words in their order.

    Images are named as ``unpack_images`` writes them. Raises FileNotFoundError if a file of the set is missing
    and ValueError if they are damaged or do not belong together.
    """
    (word_map,) = files
    names = _read_words(word_map)
    entries, unknown = [], 0
    for split in _splits(word_map):
        count, each = _open_images(_file(word_map, split, "IMAGES"))
        path, beside = (_file(word_map, split, what) for what in ("CAPTIONS", "CAPLENS"))
        captions, lengths = (read_json(one, list, "is no list", AGAIN) for one in (path, beside))
        if not len(captions) == len(lengths) == count * each:
            raise ValueError(
                f"{path} has {len(captions)} captions and {len(lengths)} lengths for {count} images of {each} "
                "captions: the files are not of one set; write them again"
            )
        texts = [_decode(path, i, *pair, names) for i, pair in enumerate(zip(captions, lengths, strict=True))]
        unknown += sum(text.split().count(UNK) for text in texts)
        groups = (tuple(texts[i * each : (i + 1) * each]) for i in range(count))
        entries += [Entry(image=_image(split, i), split=split, captions=group) for i, group in enumerate(groups)]
    words = tuple(names[i] for i in sorted(names) if names[i] not in SPECIALS)
    notes = [f"the {len(words)} words are those of {word_map.name}, and the minimum count is not used"]
    if unknown:
        notes.append(f"{unknown} words of the captions are {UNK}, for these files do not hold them")
    label = word_map.stem.removeprefix("WORDMAP_")
    return Listing(name=re.sub(r"_\d+_cap_per_img_.*", "", label), entries=entries, words=words, notes=notes)


@contextlib.contextmanager
def unpacking(folder: Path, keep: bool = True) -> Iterator[None]:
    """Where the block fails, what it unpacked below ``folder`` is removed; without ``keep``, also where it ends."""
    there, before, done = folder.exists(), {*folder.glob("images-*")}, False
    try:
        yield
        done = keep
    finally:
        if not done:
            for unpacked in {*folder.glob("images-*")} - before:
                shutil.rmtree(unpacked)
            if not there and folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def unpack_images(word_map: Path, folder: Path) -> Path:
    """Write the images as PNG into a folder below ``folder``, named by what the set says, and return it.

    Raises ValueError if ``folder`` holds a prepared dataset of other images, and leaves nothing where it fails.
    """
    digest = hashlib.sha256(regular(word_map).read_bytes())
    for split in _splits(word_map):
        for what in ("IMAGES", "CAPTIONS"):
            with open(regular(_file(word_map, split, what)), "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    out = folder / f"images-{digest.hexdigest()[:10]}"  # another set never overwrites the images of this one
    refuse_other(folder, images=out.name)
    with unpacking(folder):
        for split in _splits(word_map):
            _unpack(_file(word_map, split, "IMAGES"), out, split)
    return out


def _unpack(path: Path, out: Path, split: str) -> None:
    count, _ = _open_images(path)
    sweep(out / split)
    with hdf5.opened(path, "is damaged", AGAIN) as file:
        images = file.array("images")
        for i in through(range(count), count, path.name, "image"):
            memory = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(images[i].transpose(1, 2, 0))).save(memory, "PNG", compress_level=1)
            write_bytes(out / _image(split, i), memory.getvalue())


def _image(split: str, number: int) -> str:
    return f"{split}/{number:06d}.png"


def _splits(word_map: Path) -> list[str]:
    """The splits that have a file; all three files of such a split must be there, and those of train."""
    splits = []
    for split in SPLITS:
        files = [_file(word_map, split, what) for what in ("IMAGES", "CAPTIONS", "CAPLENS")]
        missing = [file for file in files if not file.is_file()]
        if missing and (split == "train" or len(missing) < len(files)):
            raise FileNotFoundError(f"{missing[0]} is missing beside {word_map.name}: copy it there")
        if not missing:
            splits.append(split)
    return splits


def _read_words(word_map: Path) -> dict[int, str]:
    """Number -> word, with the marks."""
    rule = "it must give every word a number of its own"
    stored = read_json(word_map, dict[str, int], "is no word map", rule)
    if len(set(stored.values())) < len(stored):
        raise ValueError(f"{word_map} is no word map: {rule}")
    for mark in SPECIALS:
        if mark not in stored:
            raise ValueError(f"{word_map} has no {mark}: it is of another version of these files; write them again")
    for word in stored:
        if word.split() != [word] or UNWRITABLE.search(word):
            raise ValueError(f"{word_map} holds {word!r}, which is not one word; correct it")
    return {number: word for word, number in stored.items()}


def _open_images(path: Path) -> tuple[int, int]:
    """How many images, and how many captions each."""
    with hdf5.opened(path, "is truncated or no HDF5 file of images", AGAIN) as file:
        images, each = file.array("images"), file.attribute("captions_per_image")
        fits = images.ndim == 4 and images.shape[1] == 3 and images.dtype == np.uint8
        fits = fits and 1 <= images.shape[2] * images.shape[3] <= MAXIMUM_PIXELS
        if not fits or not (isinstance(each, np.integer) and each >= 1):
            raise ValueError(
                f"it has no images (N, 3, {SIDE}, {SIDE}) of bytes with captions_per_image, so it is of another "
                "version, or holds features of an encoder"
            )
        return len(images), int(each)


def _decode(path: Path, number: int, ids: Any, length: Any, names: dict[int, str]) -> str:
    if not (isinstance(ids, list) and type(length) is int and 2 <= length <= len(ids)):
        raise ValueError(f"caption {number} of {path} is no list of as many numbers as its length; write it again")
    words = [names.get(i) if type(i) is int else None for i in ids[:length]]
    inside = words[1:-1]
    if words[0] != START or words[-1] != END or not {None, START, END, PAD}.isdisjoint(inside):
        raise ValueError(f"caption {number} of {path} does not fit its word map: are both of one set?")
    return " ".join(inside)
