"""Captions and references from a dictionary, a JSON, CSV or token file, a run, an evaluation or a prepared dataset."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict

from attend.analysis.records import find_runs, read_run

from attend.data.examples import Examples
from attend.data.sources import layouts
from attend.documents import typed
from attend.paths import regular
from attend.runs.files import read_json

Captions = Mapping[Any, str | Sequence[str]] | str | Path
"""Captions by image (one, or a list), or a path: what ``read`` reads."""

KNOWN = (
    "a JSON list of {image_id, caption}, COCO's annotations, Karpathy's dataset, {image: captions}, a CSV with the "
    "columns image and caption, a run, one of its evaluations, or a prepared dataset"
)


@dataclass(frozen=True, kw_only=True)
class CaptionSource:
    """The captions of one source. ``name`` is how messages call it, and ``label`` is shorter, for tables.

    ``captions`` has the captions of each image, in order. ``others`` has other names of images (a COCO number, a file
    name without folders) and the image of each. ``splits`` has the split of each image, if the source has splits.
    """

    name: str
    label: str
    captions: dict[str, tuple[str, ...]]
    others: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)

    def find(self, image: str) -> str | None:
        """The image of that name, or of another name for it."""
        for name in (image, PurePosixPath(image).name):
            if name in self.captions:
                return name
            if name in self.others:
                return self.others[name]
        return None


def read(source: Captions, name: str) -> CaptionSource:
    """Captions by image; ``name`` is that of captions that are given as a dictionary.

    Raises:
        ValueError: there is nothing at the path, it holds no captions, or something in it is of a wrong type.
    """
    if isinstance(source, Mapping):
        return _source(name, _mapping({str(image): some for image, some in source.items()}, name))
    if not isinstance(source, str | Path):
        raise ValueError(
            f"{name} is of type {type(source).__name__}: give a dictionary of captions by image, or a path"
        )
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}: check the name")
    if not regular(path).stat().st_size:
        raise ValueError(f"{path} is empty: write the captions again")
    if path.name == "examples.jsonl":
        return _examples(path)
    return _json(path) if path.suffix.lower() == ".json" else _text(path)


def _source(name: str, entries: Iterable["_Listed"], label: str = "") -> CaptionSource:
    """The captions of each image joined, and its other names. A name of several images is no name."""
    captions: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    others: dict[str, set[str]] = {}
    for image, texts, names, split in entries:
        captions.setdefault(image, []).extend(texts)
        for other in (*names, PurePosixPath(image).name):
            others.setdefault(other, set()).add(image)
        if split:
            splits[image] = split
    kept = {image: tuple(texts) for image, texts in captions.items() if texts}
    if not kept:
        raise ValueError(f"{name} has no captions: give captions by image")
    unique = {other: next(iter(images)) for other, images in others.items() if len(images) == 1}
    return CaptionSource(name=name, label=label or Path(name).name, captions=kept, others=unique, splits=splits)


_Listed = tuple[str, Sequence[str], Sequence[str], str | None]
"""An image, its captions, other names of it, and its split."""


def _folder(path: Path) -> CaptionSource:
    """An evaluation, a run (its headline evaluation) or a prepared dataset."""
    if (path / "captions.json").exists():
        return _json(path / "captions.json", path.resolve().name)
    if (path / "dataset.json").exists():
        return _examples(path / "examples.jsonl")
    if (path / "config.json").exists():
        record = read_run(path)
        evaluation = record.headline() if record.finished else None
        if evaluation is None:
            raise ValueError(f"{path} has no headline evaluation: finish the run, or name one of its evaluations")
        if not (evaluation.folder / "captions.json").exists():
            raise ValueError(f"{evaluation.folder} has no captions.json: copy it again, or evaluate the run again")
        return _json(evaluation.folder / "captions.json", f"{record.variant}/seed{record.seed}")
    try:
        runs = find_runs([path])
    except ValueError:
        raise ValueError(f"{path} is a folder without captions: name {KNOWN}") from None
    raise ValueError(f"{path} has {len(runs)} runs: name one of them, as {runs[0]}")


def _examples(path: Path) -> CaptionSource:
    """The captions of a prepared dataset, as they were written."""
    examples = Examples(path)
    entries = ((one.image, [c.raw for c in one.captions], (), one.split) for one in examples)
    return _source(str(path.parent), entries)


def _text(path: Path) -> CaptionSource:
    """A CSV of image and caption, or Flickr's lines of IMAGE#NUMBER, a tab and a caption."""
    tokens = ".token" in path.name
    listing = (layouts.flickr if tokens else layouts.kaggle)([path])
    for why, places in listing.skipped.items():
        raise ValueError(f"{path} has {len(places)} times a {why}, as {places[0]}: correct it or remove it")
    return _source(str(path), ((one.image, one.captions, (), one.split) for one in listing.entries))


class _Entry(TypedDict):
    image_id: NotRequired[int | str]
    image: NotRequired[int | str]
    caption: NotRequired[str]
    captions: NotRequired[list[str]]
    split: NotRequired[str | None]


class _Annotation(TypedDict):
    image_id: int | str
    caption: str


class _Image(TypedDict):
    id: int | str
    file_name: NotRequired[str]


class _Annotations(TypedDict):
    annotations: list[_Annotation]
    images: NotRequired[list[_Image]]


class _Sentence(TypedDict):
    raw: str


class _Photograph(TypedDict):
    filename: str
    sentences: list[_Sentence]
    split: NotRequired[str]
    filepath: NotRequired[str]
    cocoid: NotRequired[int]
    imgid: NotRequired[int]


class _Karpathy(TypedDict):
    images: list[_Photograph]


class _Text(TypedDict):
    caption: str


def _json(path: Path, label: str = "") -> CaptionSource:
    """Any of the JSON layouts, told apart by their outermost fields."""
    value = read_json(path, remedy="save it again")
    reader = _list if isinstance(value, list) else _mapping
    if isinstance(value, dict):
        reader = _annotations if "annotations" in value else _karpathy if "images" in value else _mapping
    return _source(str(path), reader(value, str(path)), label)


def _typed(value: Any, kind: Any, name: str) -> Any:
    """A value as a type; ValueError names the source, the field and the layouts that can be read."""
    try:
        return typed(value, kind)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as captions ({error}): name {KNOWN}") from None


def _list(value: Any, name: str) -> Iterator[_Listed]:
    """COCO's results, or somebody's own list."""
    for number, entry in enumerate(_typed(value, list[_Entry], name)):
        image, texts = entry.get("image_id", entry.get("image")), entry.get("captions", entry.get("caption"))
        if image is None or texts is None:
            lacking = "image_id" if image is None else "caption"
            raise ValueError(f"entry {number} of {name} has no {lacking}: name {KNOWN}")
        yield str(image), [texts] if isinstance(texts, str) else texts, (), entry.get("split")


def _annotations(value: Any, name: str) -> Iterator[_Listed]:
    """COCO's captions_*.json: images have a number and a file name."""
    found = _typed(value, _Annotations, name)
    files = {one["id"]: one.get("file_name", str(one["id"])) for one in found.get("images", [])}
    for one in found["annotations"]:
        number = one["image_id"]
        yield files.get(number, str(number)), [one["caption"]], [str(number)], None


def _karpathy(value: Any, name: str) -> Iterator[_Listed]:
    """Karpathy's dataset_*.json: images have a file name, a number of COCO or one of their own, and a split."""
    for one in _typed(value, _Karpathy, name)["images"]:
        image = str(PurePosixPath(one.get("filepath", ""), one["filename"]))
        number = one.get("cocoid", one.get("imgid"))
        names = [] if number is None else [str(number)]
        yield image, [sentence["raw"] for sentence in one["sentences"]], names, one.get("split")


def _mapping(value: Any, name: str) -> Iterator[_Listed]:
    """{image: caption}, {image: [caption]}, or {image: [{"caption"}]} as pycocoevalcap takes them."""
    for image, texts in _typed(value, dict[str, str | list[str | _Text]], name).items():
        several = [texts] if isinstance(texts, str) else texts
        yield image, [one if isinstance(one, str) else one["caption"] for one in several], (), None
