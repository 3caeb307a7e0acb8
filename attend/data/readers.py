"""Datasets as their users have them on disk, each layout read into the same records.

A reader turns one caption file into entries: image, split and raw captions. All the rest, from tokens to
unreadable images, is done once for every layout, in ``read_source``. So a new layout is a function and an
entry of READERS.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from attend.data.examples import SPLITS, Caption, Example, Source
from attend.data.text import tokenise

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_FOLDERS = (
    *(".", "Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset"),
    *("flickr8k_images", "flickr30k_images", "flickr30k-images"),
)

STRAY = "stray entry, not the name of an image"
MISSING = "image missing on disk"
UNREADABLE = "image empty, truncated or otherwise unreadable"
WORDLESS = "caption without a word"
CAPTIONLESS = "image without a caption"
UNLISTED = "image named by no split list"
RESTVAL = "image of restval, kept out"
FAULTS = (STRAY, MISSING, UNREADABLE, WORDLESS, CAPTIONLESS)  # what ``strict`` does not forgive


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a caption file says of one image; ``split`` is None where no split names it."""

    image: str
    split: str | None
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One layout: what it is, how its caption file is named, and what reads it to (name, entries)."""

    about: str
    recognises: re.Pattern[str]
    read: Callable[[Path], tuple[str, list[Entry]]]


def read_source(
    path: Path,
    *,
    images: Path | None = None,
    layout: str | None = None,
    strict: bool = False,
    restval: bool = True,
    check_images: bool = True,
) -> Source:
    """Read a dataset: a folder, or the caption file itself.

    The layout is told by the name of the caption file, in the folder or one level below it, unless ``layout``
    (a key of READERS) says it. Images are found in IMAGE_FOLDERS beside and above the caption file unless
    ``images`` names their folder. ``restval=False`` keeps COCO's restval out of train. Each image is decoded
    once, at an eighth of its size, which finds empty, truncated and foreign files (not flipped bytes inside a
    JPEG); ``check_images=False`` only asks that the file is there.

    Returns examples in the order of SPLITS, then of image names, so two layouts of the same data are equal.
    Entries that cannot be used are left out and named in ``skipped``; with ``strict``, FAULTS are an error.
    Raises FileNotFoundError where a file or folder is missing and ValueError for anything wrong in them.
    """
    skipped: dict[str, list[str]] = defaultdict(list)
    notes: list[str] = []
    file, layout = _caption_file(Path(path), layout, notes)
    name, entries = READERS[layout].read(file)
    entries = _placed(entries, file, restval, skipped, notes)
    examples = _worded(entries, skipped)
    root = _image_folder(file, examples, images)
    examples = _readable(examples, root, check_images, skipped)
    if strict:
        _forgive_nothing(file, skipped)
    if not any(example.split == "train" for example in examples):
        raise ValueError(f"the training split of {file} is empty; check its splits and the images in {root}")
    examples.sort(key=lambda example: (SPLITS.index(example.split), example.image))
    return Source(name=name, root=root, examples=examples, skipped=dict(skipped), notes=notes)


def check_image(path: Path) -> None:
    """Read an image to its end; ValueError where that is not possible.

    A JPEG is decoded at an eighth of its size: cheap, but all its data is read, so a truncated file is found.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))
            image.load()
    except Exception as error:  # on broken files Pillow raises all from SyntaxError to struct.error
        raise ValueError(f"{path} cannot be read as an image ({error}); replace it or leave it out") from None


# Finding the caption file


def _caption_file(path: Path, layout: str | None, notes: list[str]) -> tuple[Path, str]:
    if layout is not None and layout not in READERS:
        raise ValueError(f"layout is {layout!r}; known are {', '.join(READERS)}")
    known = " or ".join(reader.about for reader in READERS.values())
    if path.is_file():
        layout = layout or next((key for key, r in READERS.items() if r.recognises.fullmatch(path.name)), None)
        if layout is None:
            raise ValueError(f"{path} is not named like {known}; say which it is with layout={'|'.join(READERS)}")
        return path, layout
    if not path.is_dir():
        raise FileNotFoundError(f"there is no dataset at {path}; give the folder that holds {known}")

    layouts = READERS if layout is None else [layout]
    found = {key: file for key in layouts if (file := _only_file(path, READERS[key]))}
    if not found:
        wanted = known if layout is None else READERS[layout].about
        raise ValueError(f"no captions in {path}; give the folder that holds {wanted}")
    (layout, file), *others = found.items()
    for other, unread in others:
        notes.append(f"{file.name} was read and {unread.name} was not; layout={other} does the reverse")
    return file, layout


def _only_file(folder: Path, reader: Reader) -> Path | None:
    for pattern in ("*", "*/*"):
        files = sorted(f for f in folder.glob(pattern) if reader.recognises.fullmatch(f.name) and f.is_file())
        if len(files) > 1:
            raise ValueError(f"{folder} holds both {files[0].name} and {files[1].name}; give the file itself")
        if files:
            return files[0]
    return None


# From entries to examples


def _placed(
    entries: list[Entry], file: Path, restval: bool, skipped: dict[str, list[str]], notes: list[str]
) -> list[Entry]:
    """The entries that are images of a split; those of restval become train."""
    placed, joined = [], 0
    for image, times in Counter(entry.image for entry in entries).items():
        if times > 1:
            raise ValueError(f"{file} has {times} entries for the image {image!r}; keep one of them")
        if image.startswith("/") or ".." in PurePosixPath(image).parts:
            raise ValueError(f"{file} names the image {image!r}, outside the image folder; correct it")
    for entry in entries:
        split = entry.split
        if not entry.image.lower().endswith(IMAGE_SUFFIXES):
            skipped[STRAY].append(entry.image)
        elif split is None:
            skipped[UNLISTED].append(entry.image)
        elif split == "restval" and not restval:
            skipped[RESTVAL].append(entry.image)
        elif split == "restval":
            joined += 1
            placed.append(Entry(image=entry.image, split="train", captions=entry.captions))
        elif split in SPLITS:
            placed.append(entry)
        else:
            known = ", ".join((*SPLITS, "restval"))
            raise ValueError(f"{file} puts {entry.image} into the split {split!r}; known are {known}")
    if joined:
        notes.append(f"the {joined} images of COCO's restval were joined to train; restval=False keeps them out")
    return placed


def _worded(entries: list[Entry], skipped: dict[str, list[str]]) -> list[Example]:
    """Captions as tokens, without those that have none."""
    examples = []
    for entry in entries:
        captions = [Caption(raw=raw, tokens=tokenise(raw)) for raw in entry.captions]
        for i, caption in enumerate(captions):
            if not caption.tokens:
                skipped[WORDLESS].append(f"{entry.image}#{i}")
        kept = tuple(caption for caption in captions if caption.tokens)
        if kept:
            examples.append(Example(image=entry.image, split=entry.split, captions=kept))
        else:
            skipped[CAPTIONLESS].append(entry.image)
    return examples


def _image_folder(file: Path, examples: list[Example], images: Path | None) -> Path:
    """The folder that holds most of the images."""

    def held(folder: Path) -> int:
        return sum(os.path.isfile(folder / example.image) for example in examples)

    if images is None:
        bases = (file.parent, file.resolve().parent.parent)
        folders = [base / name for base in bases for name in IMAGE_FOLDERS]
        folders = [folder for folder in folders if folder.is_dir()]
        where = f"in the usual folders beside {file}"
    else:
        folders, where = [Path(images)], f"in {images}"
        if not folders[0].is_dir():
            raise FileNotFoundError(f"there is no image folder at {images}; give the folder that holds the images")
    best = max(folders, key=held)
    if examples and not held(best):
        raise FileNotFoundError(
            f"none of the {len(examples)} images is {where}; give the folder of {examples[0].image} as images"
        )
    return best


def _readable(examples: list[Example], root: Path, check_images: bool, skipped: dict[str, list[str]]) -> list[Example]:
    def fault(example: Example) -> str | None:
        path = root / example.image
        if not os.path.isfile(path):
            return MISSING
        try:
            if check_images:
                check_image(path)
        except ValueError:
            return UNREADABLE
        return None

    readable = []
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        for example, reason in zip(examples, pool.map(fault, examples), strict=True):
            if reason is None:
                readable.append(example)
            else:
                skipped[reason].append(example.image)
    return readable


def _forgive_nothing(file: Path, skipped: dict[str, list[str]]) -> None:
    faults = [f"{reason}: {len(skipped[reason])}, as {skipped[reason][0]}" for reason in FAULTS if reason in skipped]
    if faults:
        raise ValueError(f"{file} has faults ({'; '.join(faults)}); correct them, or read it without strict")


# The layouts


def _karpathy(file: Path) -> tuple[str, list[Entry]]:
    """Karpathy's {"dataset", "images": [{"filename", "split", "sentences": [{"raw"}]}]}."""
    try:
        stored = json.loads(_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}); download or unpack it again") from None
    images = stored.get("images") if isinstance(stored, dict) else None
    if not isinstance(images, list):
        raise ValueError(f"{file} has no list of images; give a dataset_*.json as Karpathy made them")
    name = stored.get("dataset")
    return name if isinstance(name, str) else file.stem, [_karpathy_image(file, i, x) for i, x in enumerate(images)]


def _karpathy_image(file: Path, number: int, image: object) -> Entry:
    try:
        folder, filename, split = image.get("filepath", ""), image["filename"], image["split"]
        raws = [sentence["raw"] for sentence in image["sentences"]]
        if not all(isinstance(text, str) for text in (folder, filename, split, *raws)):
            raise TypeError
    except (AttributeError, KeyError, TypeError):
        raise ValueError(
            f"image {number} of {file} lacks a filename, a split or raw sentences; correct or remove it"
        ) from None
    path = f"{folder.rstrip('/')}/{filename}" if folder else filename
    return Entry(image=path, split=split, captions=tuple(raw.strip() for raw in raws))


def _flickr8k(file: Path) -> tuple[str, list[Entry]]:
    """Flickr8k's own lines ``IMAGE#NUMBER<tab>caption``, and beside them a list of images for each split."""
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in _lines(file):
        key, tab, raw = line.partition("\t")
        image, _, index = key.rpartition("#")
        if not (tab and image and index.isdecimal()):
            raise ValueError(f"line {number} of {file} is not IMAGE#NUMBER, a tab and a caption; correct or remove it")
        captions[image].append(raw.strip())

    splits: dict[str, str] = {}
    for split, word in (("train", "train"), ("val", "dev"), ("test", "test")):
        lists = sorted(file.parent.glob(f"*{word}Images.txt"))
        if len(lists) != 1:
            raise ValueError(f"{len(lists)} files beside {file} are named *{word}Images.txt; exactly one is needed")
        for _, line in _lines(lists[0]):
            image = line.strip()
            if splits.setdefault(image, split) != split:
                raise ValueError(f"{image} is listed in {splits[image]} and in {split}; remove it from one list")

    entries = [Entry(image=i, split=splits.get(i), captions=tuple(captions[i])) for i in captions]
    entries += [Entry(image=i, split=split, captions=()) for i, split in splits.items() if i not in captions]
    return file.name.split(".")[0].lower(), entries


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    return ((i, line) for i, line in enumerate(_text(file).split("\n"), 1) if line.strip())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text; save it as UTF-8 or download it again") from None


READERS: dict[str, Reader] = {  # in the order of preference
    "karpathy": Reader(
        about="Karpathy's dataset_*.json",
        recognises=re.compile(r"dataset.*\.json"),
        read=_karpathy,
    ),
    "flickr8k": Reader(
        about="Flickr8k.token.txt with its split lists",
        recognises=re.compile(r"(?!.*lemma).*\.token\.txt"),
        read=_flickr8k,
    ),
}
