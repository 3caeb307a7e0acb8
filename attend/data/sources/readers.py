"""Datasets as their users have them on disk, each layout read into the same records.

A layout (see ``layouts``) turns caption files into entries: image, split and raw captions. All the rest, from
tokens to unreadable images, is done here, once for every layout.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from attend.data.examples import SPLITS, Caption, Entry, Example, Source
from attend.data.images import IMAGE_SUFFIXES, check_image, images_below
from attend.data.sources.layouts import LACKING, READERS, TWICE, Reader
from attend.data.sources.sampling import split_images
from attend.data.text import UNWRITABLE
from attend.paths import inside, regular

IMAGE_FOLDERS = (
    *(".", "Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset"),
    *("flickr8k_images", "flickr30k_images", "flickr30k-images"),
)
Skipped = dict[str, list[str]]
SHARES = (80, 10, 10)
"""Of train, val and test, where a dataset has no splits of its own."""

STRAY = "stray entry, or an image of a format that is not read (jpg, png, webp, bmp, gif and tiff are)"
MISSING = "image missing on disk"
UNREADABLE = "image empty, truncated or otherwise unreadable"
WORDLESS = "caption without a word"
CAPTIONLESS = "image without a caption"
UNLISTED = "image named by no split list"
RESTVAL = "image of restval, kept out"
FAULTS = (STRAY, MISSING, UNREADABLE, WORDLESS, CAPTIONLESS, LACKING, TWICE)  # what ``strict`` does not forgive


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a dataset is read."""

    images: Path | None = None
    """folder of the images; if not given, one of IMAGE_FOLDERS beside or above the caption file"""
    layout: str | None = None
    """a key of READERS; if not given, told by the name of the caption file, in the folder or one level below it"""
    strict: bool = False
    """FAULTS are an error"""
    restval: bool = True
    """COCO's restval is a part of train"""
    check_images: bool = True
    """decode each image once, at an eighth of its size, which finds empty, truncated and foreign files (not flipped
    bytes inside a JPEG); else only ask that the file is there"""
    shares: Sequence[float] = SHARES
    """of train, val and test, in which a dataset without splits is split by image"""
    split_seed: int = 0
    """seed of that split"""
    in_order: bool = True
    """examples are in the order of SPLITS, then of image names, so two layouts of the same data are equal; else in the
    order of the caption file"""


def read_source(path: Path, reading: Reading | None = None, *, unpack: Path | None = None) -> Source:
    """Read a dataset: a folder, or the caption file itself. A layout that packs its images needs ``unpack``, a folder
    to write them to.

    Entries that cannot be used are left out and named in ``skipped``. Raises FileNotFoundError if a file or folder is
    missing and ValueError for anything wrong in them.
    """
    reading = reading or Reading()
    notes: list[str] = []
    files, layout = _caption_files(Path(path), reading.layout, notes)
    reader, named = READERS[layout], " and ".join(map(str, files))
    if reader.unpack is not None and unpack is None:
        raise ValueError(f"{named} comes with packed images; name a folder to write them to as unpack")
    if reader.unpack is not None and reading.images is not None:
        raise ValueError(f"{named} comes with packed images, so --images has no effect on it: leave it out")
    listing = reader.read(files)
    skipped = defaultdict(list, listing.skipped)
    notes += listing.notes
    entries = _placed(listing.entries, named, reading.restval, skipped, notes)
    entries = _split(entries, named, reading, skipped, notes)
    examples = _worded(entries, reader.tokenise, skipped)
    _refuse_faults(named, examples, skipped, reading.strict)  # before anything is written
    if reader.unpack is not None:
        reading = replace(reading, images=reader.unpack(files[0], unpack), check_images=False)
    root, examples = _located(files[0], examples, reading.images, reader.flat)
    examples = _readable(examples, root, reading.check_images, skipped)
    _refuse_faults(named, examples, skipped, reading.strict)
    if reading.in_order:
        examples.sort(key=lambda example: (SPLITS.index(example.split), example.image))
    rest = {"skipped": dict(skipped), "notes": notes, "words": listing.words}
    return Source(name=listing.name, root=root, examples=examples, **rest)


def _caption_files(path: Path, layout: str | None, notes: list[str]) -> tuple[list[Path], str]:
    if layout is not None and layout not in READERS:
        raise ValueError(f"layout is {layout!r}; known are {', '.join(READERS)}")
    known = " or ".join(reader.about for reader in READERS.values())
    if not path.is_dir() and regular(path).exists():
        layout = layout or next((key for key, r in READERS.items() if r.recognises.fullmatch(path.name)), None)
        if layout is None:
            raise ValueError(f"{path} is not named like {known}; say which it is with --layout {'|'.join(READERS)}")
        return [path], layout
    if not path.is_dir():
        raise FileNotFoundError(f"there is no dataset at {path}; give the folder that holds {known}")

    candidates = READERS if layout is None else {layout: READERS[layout]}
    found = _files_of(path, "*", candidates) or _files_of(path, "*/*", candidates)
    if not found:
        if layout is None and (pictures := len(images_below(path))):
            raise ValueError(
                f"{path} holds {pictures} images and no captions that can be read, so there is nothing to learn from: "
                f"`attend caption RUN {path}` captions them as they are, and --layout images prepares them for "
                f"`attend evaluate RUN --data`; to train on them, add {known}"
            )
        wanted = known if layout is None else READERS[layout].about
        raise ValueError(f"no captions in {path}; give the folder that holds {wanted}")
    (layout, files), *others = found.items()
    if len(files) > 1 and not READERS[layout].several:
        raise ValueError(f"{path} holds both {files[0].name} and {files[1].name}; give the file itself")
    for other, unread in others:
        notes.append(f"{files[0].name} was read and {unread[0].name} was not; --layout {other} does the reverse")
    return files, layout


def _files_of(folder: Path, pattern: str, readers: dict[str, Reader]) -> dict[str, list[Path]]:
    """The caption files of each layout; those that go by any name only where there are no others."""
    below = sorted(file for file in folder.glob(pattern) if file.is_file() and not _prepared(file))
    found: dict[str, list[Path]] = {}
    for key, reader in readers.items():
        known = any(not READERS[other].any_name for other in found)
        files = [file for file in below if reader.recognises.fullmatch(file.name)]
        if files and not (known and reader.any_name):
            found[key] = files
    return found


def _prepared(file: Path) -> bool:
    """Whether a file is one that `attend prepare` wrote: its folder may be that of the dataset, or below it."""
    ours = re.fullmatch(r"dataset\.json|vocabulary\.json|frequencies-.*\.json", file.name)
    return ours is not None and (file.parent / "examples.jsonl").exists()


def _placed(entries: list[Entry], named: str, restval: bool, skipped: Skipped, notes: list[str]) -> list[Entry]:
    """The entries that are images, of a known split or of none; those of restval become train."""
    for entry in entries:
        image = entry.image
        if image:
            inside(Path("the image folder"), image, f"an image in {named}")
        if "\\" in image:
            raise ValueError(f"{named} names the image {image!r}; write / between folders, from the image folder on")
        if UNWRITABLE.search(image):
            raise ValueError(f"{named} names the image {image!r}, which is no name of a file; correct it")
    entries = [replace(entry, image=str(PurePosixPath(entry.image))) for entry in entries]  # ./a.jpg is a.jpg
    for image, times in Counter(entry.image for entry in entries).items():
        if times > 1:
            raise ValueError(f"{named} has {times} entries for the image {image!r}; keep one of them")
    placed, joined = [], 0
    for entry in entries:
        split = entry.split
        if not entry.image.lower().endswith(IMAGE_SUFFIXES):
            skipped[STRAY].append(entry.image)
        elif split == "restval" and not restval:
            skipped[RESTVAL].append(entry.image)
        elif split == "restval":
            joined += 1
            placed.append(replace(entry, split="train"))
        elif split is None or split in SPLITS:
            placed.append(entry)
        else:
            known = ", ".join((*SPLITS, "restval"))
            raise ValueError(f"{named} puts {entry.image} into the split {split!r}; known are {known}")
    if joined:
        notes.append(f"the {joined} images of COCO's restval were joined to train; --no-restval keeps them out")
    return placed


def _split(entries: list[Entry], named: str, reading: Reading, skipped: Skipped, notes: list[str]) -> list[Entry]:
    """The entries of a split: their own, or where none has one, a split drawn by image."""
    shares, seed = reading.shares, reading.split_seed
    drawn = split_images((entry.image for entry in entries), shares, seed)
    if any(entry.split for entry in entries):
        if (*shares,) != SHARES or seed:
            notes.append(f"{named} has splits of its own, which were kept; the shares and seed given were not used")
        if unlisted := [entry.image for entry in entries if entry.split is None]:
            skipped[UNLISTED] += unlisted
        return [entry for entry in entries if entry.split is not None]
    if entries:
        counts = Counter(drawn.values())
        notes.append(
            f"{named} names no splits: {', '.join(f'{counts[split]} {split}' for split in SPLITS)} images were drawn, "
            f"in shares of {' '.join(f'{share:g}' for share in shares)} with split seed {seed}"
        )
    return [replace(entry, split=drawn[entry.image]) for entry in entries]


def _worded(entries: list[Entry], tokenise: Callable[[str], Iterable[str]], skipped: Skipped) -> list[Example]:
    """Captions as tokens, without those that have none; what no text file can hold is a space."""
    examples = []
    for entry in entries:
        raws = [UNWRITABLE.sub(" ", raw).strip() for raw in entry.captions]
        captions = [Caption(raw=raw, tokens=tuple(tokenise(raw))) for raw in raws]
        for i, caption in enumerate(captions):
            if not caption.tokens:
                skipped[WORDLESS].append(f"{entry.image}#{i}")
        kept = tuple(caption for caption in captions if caption.tokens)
        if kept:
            examples.append(Example(image=entry.image, split=entry.split, captions=kept))
        else:
            skipped[CAPTIONLESS].append(entry.image)
    return examples


def _located(file: Path, examples: list[Example], images: Path | None, flat: bool) -> tuple[Path, list[Example]]:
    """The folder that holds most of the images, and the examples with their names in it."""
    if images is None:
        bases = (file.parent, file.resolve().parent.parent)
        folders = [base / name for base in bases for name in IMAGE_FOLDERS]
        folders = [folder for folder in folders if folder.is_dir()]
        where = f"in the usual folders beside {file}"
    else:
        folders, where = [Path(images)], f"in {images}"
        if any(example.image.startswith(f"{folders[0].name}/") for example in examples):
            folders.append(folders[0].parent)  # train2017/a.jpg lies in train2017
        if not folders[0].is_dir():
            raise FileNotFoundError(f"there is no image folder at {images}; give the folder that holds the images")
    bare = [replace(example, image=PurePosixPath(example.image).name) for example in examples]
    unique = len({example.image for example in bare}) == len(bare)
    for named in (examples, bare) if flat and unique else (examples,):
        held = {folder: sum(os.path.isfile(folder / example.image) for example in named) for folder in folders}
        best = max(folders, key=held.get)
        if held[best]:
            return best, named
    first = examples[0].image
    raise FileNotFoundError(f"none of the {len(examples)} images is {where}; give the folder of {first} with --images")


def _readable(examples: list[Example], root: Path, check_images: bool, skipped: Skipped) -> list[Example]:
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
    with ThreadPoolExecutor(4) as pool:  # Pillow decodes outside the interpreter's lock, up to a third of a GB each
        for example, reason in zip(examples, pool.map(fault, examples), strict=True):
            if reason is None:
                readable.append(example)
            else:
                skipped[reason].append(example.image)
    return readable


def _refuse_faults(named: str, examples: list[Example], skipped: Skipped, strict: bool) -> None:
    """ValueError if there is nothing to train on, and with ``strict`` for any of FAULTS."""
    told = {reason: f"{reason}: {len(names)}, as {names[0]}" for reason, names in skipped.items() if names}
    faults = [told[reason] for reason in FAULTS if reason in told]
    if strict and faults:
        raise ValueError(f"{named} has faults ({'; '.join(faults)}); correct them, or leave --strict out")
    if not any(example.split == "train" for example in examples):
        why = "; ".join(told.values()) or "it names no image of train"
        raise ValueError(f"the training split of {named} is empty ({why}); correct its captions, splits or images")
