"""The layouts that captions come in, each a small function from its caption files to a Listing.

All that follows, from splits to unreadable images, is done once for every layout, in ``readers``. So a new layout
is a function here and an entry of READERS.
"""

import contextlib
import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from attend.data.examples import Entry, Listing
from attend.data.sources import classic
from attend.data.text import tokenise
from attend.documents import parsed
from attend.paths import regular

LACKING = "row without all its columns, or with a quote left open"
TWICE = "caption with the number of another"
LIST = 'a list of {"image", "captions"} as in docs/your-own-data.md'
KAGGLE = {("image", "caption"), ("image_name", "comment"), ("image_name", "comment_number", "comment")}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One layout: what it is, how its caption files are named, and what reads them."""

    about: str
    recognises: re.Pattern[str]
    read: Callable[[Sequence[Path]], Listing]
    several: bool = False
    """all such files of a folder are one dataset, not one too many"""
    any_name: bool = False
    """only looked for where nothing else is found"""
    flat: bool = False
    """its images may lie together, without the folders in their names"""
    tokenise: Callable[[str], Iterable[str]] = tokenise
    unpack: Callable[[Path, Path], Path] | None = None
    """writes the images below a folder and returns theirs, where they do not lie in files of their own"""


def karpathy(files: Sequence[Path]) -> Listing:
    """Karpathy's {"dataset", "images": [{"filename", "split", "sentences": [{"raw"}]}]}; a list is somebody's own."""
    (file,) = files
    stored = _json(file)
    if isinstance(stored, list):
        return own_json(files)
    images = stored.get("images") if isinstance(stored, dict) else None
    if not isinstance(images, list):
        raise ValueError(f"{file} has no list of images; give one as Karpathy made them, or {LIST}")
    name, entries = stored.get("dataset"), []
    for number, image in enumerate(images):
        try:
            folder, filename, split = image.get("filepath", ""), image["filename"], image["split"]
            raws = tuple(sentence["raw"] for sentence in image["sentences"])
            if not all(isinstance(text, str) for text in (folder, filename, split, *raws)):
                raise TypeError
        except (AttributeError, KeyError, TypeError):
            lack = f"image {number} of {file} lacks a filename, a split or raw sentences"
            raise ValueError(f"{lack}; correct or remove it") from None
        entries.append(Entry(image=str(PurePosixPath(folder, filename)), split=split, captions=raws))
    return Listing(name=name if isinstance(name, str) else file.stem, entries=entries)


def flickr(files: Sequence[Path]) -> Listing:
    """Flickr8k's and Flickr30k's lines ``IMAGE#NUMBER<tab>caption``; beside them a list of images a split, or none."""
    (file,) = files
    captions: dict[str, dict[str, str]] = defaultdict(dict)
    skipped: dict[str, list[str]] = defaultdict(list)
    for number, line in _lines(file):
        key, tab, raw = line.partition("\t")
        image, _, index = key.rpartition("#")
        if not (tab and image and index.isdecimal()):
            raise ValueError(f"line {number} of {file} is not IMAGE#NUMBER, a tab and a caption; correct or remove it")
        if index in captions[image]:
            skipped[TWICE].append(f"line {number} of {file.name}: {key}")
        else:
            captions[image][index] = raw
    splits = _split_lists(file)
    entries = [Entry(image=i, split=splits.get(i), captions=tuple(captions[i].values())) for i in captions]
    entries += [Entry(image=i, split=split, captions=()) for i, split in splits.items() if i not in captions]
    return Listing(name=file.name.split(".")[0].lower(), entries=entries, skipped=dict(skipped))


def _split_lists(file: Path) -> dict[str, str]:
    """The split of each image that a list beside the captions names; nothing where there are no lists at all."""
    lists = {
        split: (f"*{word}Images.txt", sorted(file.parent.glob(f"*{word}Images.txt")))
        for split, word in (("train", "train"), ("val", "dev"), ("test", "test"))
    }
    splits: dict[str, str] = {}
    if not any(found for _, found in lists.values()):
        return splits
    for split, (pattern, found) in lists.items():
        if len(found) != 1:
            raise ValueError(f"{len(found)} files beside {file} are named {pattern}; keep one of them there")
        for _, line in _lines(found[0]):
            image = line.strip()
            if splits.setdefault(image, split) != split:
                raise ValueError(f"{image} is listed in {splits[image]} and in {split}; remove it from one list")
    return splits


def kaggle(files: Sequence[Path]) -> Listing:
    """Kaggle's captions.txt (image,caption) and results.csv (image_name| comment_number| comment), without splits.

    With other columns it is somebody's own CSV, and so is what CSV rules can read. Where they cannot, the caption is
    the last column and takes the rest of its line, separators and all; a row that lacks a column, as one of
    Flickr30k's does, or leaves a quote open is left out.
    """
    (file,) = files
    (_, header), *lines = [*_lines(file)] or [(1, "")]
    separator = "|" if "|" in header else ","
    columns = tuple(name.strip().lower() for name in header.split(separator))
    if columns not in KAGGLE:
        return own_csv(files)
    if separator == ",":
        with contextlib.suppress(ValueError):
            return own_csv(files)
    captions: dict[str, list[str]] = defaultdict(list)
    skipped: dict[str, list[str]] = defaultdict(list)
    for number, line in lines:
        values = [_unquoted(value.strip()) for value in line.split(separator, len(columns) - 1)]
        half = separator == "," and values[-1].startswith('"') and values[-1].count('"') % 2
        if len(values) == len(columns) and values[0] and not half:
            captions[values[0]].append(values[-1])
        else:
            skipped[LACKING].append(f"line {number} of {file.name}: {values[0]}")
    entries = [Entry(image=image, split=None, captions=tuple(raws)) for image, raws in captions.items()]
    return Listing(name=_folder_name(file), entries=entries, skipped=dict(skipped))


def _unquoted(value: str) -> str:
    """A value as CSV quotes it, or as it is: some of these files quote and some do not."""
    inside = value[1:-1].replace('""', "")
    quoted = len(value) > 1 and value[0] == value[-1] == '"' and '"' not in inside
    return value[1:-1].replace('""', '"') if quoted else value


def coco(files: Sequence[Path]) -> Listing:
    """COCO's captions_train2017.json and captions_val2017.json: images in train2017/ and val2017/.

    Two files give the two splits. One file alone names no split, for COCO has none within a file; with a list in it,
    it is somebody's own.
    """
    if len(files) == 1 and _text(files[0]).lstrip().startswith("["):
        return own_json(files)
    named = [re.fullmatch(r"captions_(train|val|test)(.*)\.json", file.name) for file in files]
    splits = [match and match[1] for match in named]
    years = {match and match[2] for match in named}
    if len(files) > 1 and (len(set(splits)) < len(files) or len(years) > 1):  # val2017 is in train2014
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{names} in {files[0].parent} are not one file a split of one year: move the others away")
    entries = []
    for file, split in zip(files, splits if len(files) > 1 else [None], strict=True):
        folder = file.stem.removeprefix("captions_")
        for image, raws in _coco_captions(file).items():
            entries.append(Entry(image=str(PurePosixPath(folder, image)), split=split, captions=tuple(raws)))
    return Listing(name="coco", entries=entries)


def _coco_captions(file: Path) -> dict[str, list[str]]:
    """The captions of each file name, in their order."""
    stored = _json(file)
    lists = [stored.get(key) for key in ("images", "annotations")] if isinstance(stored, dict) else [None]
    if not all(isinstance(one, list) for one in lists):
        raise ValueError(f"{file} has no lists of images and annotations; give COCO's captions_*.json, or {LIST}")
    images, annotations = lists
    names: dict[int | str, str] = {}
    for number, image in enumerate(images):
        known = isinstance(image, dict) and isinstance(image.get("id"), int | str)
        if not (known and isinstance(image.get("file_name"), str)):
            raise ValueError(f"image {number} of {file} lacks an id or a file_name; correct or remove it")
        if image["id"] in names:
            raise ValueError(f"{file} has two images with the id {image['id']!r}; keep one of them")
        names[image["id"]] = image["file_name"]
    for twice, times in Counter(names.values()).most_common(1):
        if times > 1:
            raise ValueError(f"{file} has several ids for the image {twice!r}; keep one of them")
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    for number, annotation in enumerate(annotations):
        annotation = annotation if isinstance(annotation, dict) else {}
        image, raw = annotation.get("image_id"), annotation.get("caption")
        if not isinstance(raw, str):
            raise ValueError(f"annotation {number} of {file} has no caption; give captions_*.json, not instances_*")
        if not isinstance(image, int | str) or image not in names:
            raise ValueError(f"annotation {number} of {file} is of no image in its list; correct or remove it")
        captions[names[image]].append(raw)
    return captions


def own_csv(files: Sequence[Path]) -> Listing:
    """Anybody's CSV with the columns image (or image_id), caption and, if there are splits, split; a row a caption."""
    (file,) = files
    text = _text(file)
    header = text.partition("\n")[0]
    separator = max(",;\t|", key=header.count)
    lines = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        rows = [(lines.line_num, [value.strip() for value in values]) for values in lines]
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num} of {file} is not CSV ({error}); correct its quotes") from None
    (_, names), *rows = [(number, values) for number, values in rows if any(values)] or [(0, [])]
    columns = [name.lower() for name in names]
    if "image" not in columns:
        columns = ["image" if name == "image_id" else name for name in columns]
    if not columns:
        raise ValueError(f"{file} is empty; its first line must name the columns image and caption")
    if not {"image", "caption"} <= set(columns) or len(set(columns)) < len(columns):
        raise ValueError(
            f"{file} begins with {header[:80]!r}; its first line must name the columns image, caption and, if there "
            "are splits, split"
        )
    records = []
    for number, values in rows:
        if len(values) != len(columns):
            raise ValueError(
                f"line {number} of {file} has {len(values)} columns, and the first line {len(columns)}; "
                'write a caption with separators in "quotes"'
            )
        row = dict(zip(columns, values, strict=True))
        records.append((f"line {number}", row["image"], row.get("split"), [row["caption"]]))
    return Listing(name=_folder_name(file), entries=_joined(file, records))


def own_json(files: Sequence[Path]) -> Listing:
    """Anybody's JSON: a list of {"image", "caption" or "captions"} and, if there are splits, "split"."""
    (file,) = files
    stored = _json(file)
    if not isinstance(stored, list):
        raise ValueError(f"{file} is no list; give {LIST}")
    records = []
    for number, record in enumerate(stored):
        record = record if isinstance(record, dict) else {}
        if {"caption", "captions"} <= record.keys():
            raise ValueError(f"entry {number} of {file} has both caption and captions; join them into captions")
        raws = record.get("captions", record.get("caption", []))
        raws = [raws] if isinstance(raws, str) else raws
        image, split = record.get("image"), record.get("split")
        texts = isinstance(raws, list) and all(isinstance(raw, str) for raw in raws)
        if not (isinstance(image, str) and isinstance(split, str | None) and texts):
            raise ValueError(f"entry {number} of {file} lacks an image or text as captions; correct or remove it")
        records.append((f"entry {number}", image, split, raws))
    return Listing(name=_folder_name(file), entries=_joined(file, records))


def _joined(file: Path, records: Iterable[tuple[str, str, str | None, list[str]]]) -> list[Entry]:
    """One entry an image, from records of (where, image, split, captions)."""
    splits: dict[str, str | None] = {}
    captions: dict[str, list[str]] = defaultdict(list)
    for where, image, split, raws in records:
        split = split or None
        if not image:
            raise ValueError(f"{where} of {file} names no image; correct or remove it")
        if splits.setdefault(image, split) != split:
            raise ValueError(f"{where} of {file} puts {image} into {split}, and before into {splits[image]}; keep one")
        captions[image] += raws
    return [Entry(image=image, split=split, captions=tuple(captions[image])) for image, split in splits.items()]


def _folder_name(file: Path) -> str:
    return file.resolve().parent.name.lower()


def _json(file: Path) -> Any:
    try:
        return parsed(_text(file))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); download or unpack it again") from None


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    return ((i, line) for i, line in enumerate(_text(file).split("\n"), 1) if line.strip())


def _text(file: Path) -> str:
    """A file as text, whatever its line ends and byte-order mark; ValueError names the line that is not UTF-8."""
    try:
        return regular(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file} is not UTF-8 text in line {line}; save it as UTF-8 or download it again") from None


READERS: dict[str, Reader] = {  # in the order of preference
    "karpathy": Reader(
        about="Karpathy's dataset_*.json", recognises=re.compile(r"dataset.*\.json"), read=karpathy, flat=True
    ),
    "flickr8k": Reader(
        about="Flickr8k.token.txt or Flickr30k's *.token, with or without split lists",
        recognises=re.compile(r"(?!.*lemma).*\.token(\.txt)?"),
        read=flickr,
    ),
    "kaggle": Reader(
        about="Kaggle's captions.txt or results.csv", recognises=re.compile(r"captions\.txt|results\.csv"), read=kaggle
    ),
    "coco": Reader(
        about="COCO's captions_*.json", recognises=re.compile(r"captions_.+\.json"), read=coco, several=True, flat=True
    ),
    "classic": Reader(
        about="the classic input files with their WORDMAP_*.json",
        recognises=re.compile(r"WORDMAP_.+\.json"),
        read=classic.read_captions,
        tokenise=str.split,
        unpack=classic.unpack_images,
    ),
    "csv": Reader(about="one CSV of image, caption", recognises=re.compile(r".+\.csv"), read=own_csv, any_name=True),
    "json": Reader(
        about='one JSON list of {"image", "captions"}',
        recognises=re.compile(r"(?!(TRAIN|VAL|TEST)_).+\.json"),
        read=own_json,
        any_name=True,
    ),
}
