"""The files of one evaluation, written and read: captions.json, attention.h5, given.h5 and images.csv.

scores.json beside them is in ``attend.runs.scores``. An evaluation is made of images, which are numbered by their rows
in the dataset; names and geometries are given by row.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from attend.geometry import Geometry
from attend.paths import regular
from attend.runs import hdf5
from attend.runs.files import write_bytes, write_json, write_rows

AGAIN = "evaluate the run again"


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """The generated caption of one image with its attention: words (T), alpha (T, L), glimpse and gate (T,) or None."""

    row: int
    words: tuple[str, ...]
    score: float
    weights: np.ndarray
    glimpses: np.ndarray | None
    gates: np.ndarray | None

    @property
    def caption(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, kw_only=True)
class WordGrounding:
    """The attention of the words of one given caption that have boxes: their places (K,) and weights (K, L)."""

    row: int
    caption: int
    words: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One caption over one image, as attention.h5 holds it."""

    image: str
    caption: str
    words: tuple[str, ...]
    weights: np.ndarray  # (T, L)
    glimpses: np.ndarray | None  # (T,)
    gates: np.ndarray | None  # (T,)
    geometry: Geometry


@dataclass(frozen=True, kw_only=True)
class GivenWords:
    """M words of given captions that have boxes, as given.h5 holds them: by image, caption and place in the caption."""

    images: tuple[str, ...]
    geometries: tuple[Geometry, ...]
    image: np.ndarray  # (M,)
    caption: np.ndarray  # (M,)
    word: np.ndarray  # (M,)
    weights: np.ndarray  # (M, L)


@dataclass(frozen=True)
class ImageTable:
    """images.csv of one evaluation: the images in order, and each column as text."""

    path: Path
    images: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]

    def numbers(self, name: str) -> np.ndarray:
        """A column (N,) as numbers, NaN if a cell is empty.

        Raises:
            ValueError: a cell holds something else.
        """
        try:
            return np.array([text or "nan" for text in self.columns[name]], float)
        except ValueError:
            raise ValueError(f"{self.path} has a cell that is no number: evaluate the run again") from None


def write_captions(path: Path, names: Mapping[int, str], hypotheses: Sequence[Hypothesis]) -> None:
    """captions.json, in COCO's results format."""
    write_json(path, [{"image_id": names[one.row], "caption": one.caption} for one in hypotheses])


def write_attention(
    path: Path, names: Mapping[int, str], geometries: Mapping[int, Geometry], hypotheses: Sequence[Hypothesis]
) -> None:
    """attention.h5: one group for each image with its words, alpha, glimpses and gates, and the map of its grid."""
    memory = io.BytesIO()  # HDF5 itself does not survive a disk that fills up
    with h5py.File(memory, "w") as file:
        for number, one in enumerate(hypotheses):
            geometry = geometries[one.row]
            group = file.create_group(str(number))
            group.attrs.update(image=names[one.row], caption=one.caption)
            group.attrs.update({name: getattr(geometry, name) for name in ("grid", "affine", "size")})
            group.create_dataset("words", data=list(one.words), dtype=h5py.string_dtype())
            group.create_dataset("alpha", data=one.weights.astype(np.float32))
            for name, values, kind in (("gate", one.gates, np.float32), ("glimpse", one.glimpses, np.int32)):
                if values is not None:
                    group.create_dataset(name, data=values.astype(kind))
    write_bytes(path, memory.getvalue())


def read_attention(path: str | Path, image: int | str) -> Attention:
    """The attention over one image, by its number in the file or by its name.

    Raises:
        ValueError: there is no such image in the file, or the file is not ours.
    """

    with hdf5.opened(path, "cannot be read as attention", AGAIN) as file:
        name, number = str(image) if isinstance(image, int) else _named(file, image), len(file)
        found = _attention(file.part(name)) if name in file else None
    if found is None:
        raise ValueError(f"{path} holds no image {image!r}; it holds {number}, numbered from 0")
    return found


def read_all(path: str | Path) -> Iterator[Attention]:
    """The attention over every image of an evaluation, in their order.

    Raises:
        ValueError: the file is not ours, or is damaged.
    """
    with hdf5.opened(path, "cannot be read as attention", AGAIN) as file:
        found = [_attention(file.part(str(i))) for i in range(len(file))]
    yield from found


def _attention(group: hdf5.Part) -> Attention:
    return Attention(
        image=group.text("image"),
        caption=group.text("caption"),
        words=group.texts("words"),
        weights=group.values("alpha"),
        glimpses=group.values("glimpse") if "glimpse" in group else None,
        gates=group.values("gate") if "gate" in group else None,
        geometry=_geometry(group.numbers("size", 2), group.numbers("grid", 2), group.numbers("affine", 4)),
    )


def _geometry(size: Sequence[int], grid: Sequence[int], affine: Sequence[float]) -> Geometry:
    return Geometry(size=tuple(map(int, size)), grid=tuple(map(int, grid)), affine=tuple(map(float, affine)))


def _named(file: hdf5.Part, name: str) -> str:
    """The number of the image of that name, or else of the first with its file name; empty if there is none."""
    images = {number: file.part(number).text("image") for number in file}
    exact = [number for number, image in images.items() if image == name]
    return next(iter(exact or [n for n, image in images.items() if Path(image).name == Path(name).name]), "")


def write_given(
    path: Path,
    names: Mapping[int, str],
    geometries: Mapping[int, Geometry],
    tokens: Mapping[tuple[int, int], Sequence[str]],
    words: Sequence[WordGrounding],
) -> None:
    """given.h5: alpha (M, L) as float16 of the M words of given captions that have boxes, by image, caption and word.

    ``image``, ``caption`` and ``word`` (M,) number them, ``token`` is the word itself as a number into ``tokens``;
    ``images`` has the names, ``size`` (N, 2) and ``affine`` (N, 4) the geometry of each. ``tokens`` has the tokens of
    each caption by row and number.
    """
    rows = sorted({one.row for one in words})
    place = {row: number for number, row in enumerate(rows)}
    spoken = [tokens[one.row, one.caption][word] for one in words for word in one.words]
    number = {token: i for i, token in enumerate(sorted(set(spoken)))}
    counts = [len(one.words) for one in words]
    columns = {
        "image": np.repeat([place[one.row] for one in words], counts).astype(np.int32),
        "caption": np.repeat([one.caption for one in words], counts).astype(np.int16),
        "word": np.concatenate([one.words for one in words]).astype(np.int16),
        "token": np.array([number[token] for token in spoken], np.int32),
        "alpha": np.concatenate([one.weights for one in words]).astype(np.float16),
    }
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["grid"] = geometries[rows[0]].grid
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        for name, texts in (("images", [names[row] for row in rows]), ("tokens", list(number))):
            file.create_dataset(name, data=texts, dtype=h5py.string_dtype())
        file.create_dataset("size", data=np.array([geometries[row].size for row in rows], np.int32))
        file.create_dataset("affine", data=np.array([geometries[row].affine for row in rows]))
    write_bytes(path, memory.getvalue())


def read_given(path: Path) -> GivenWords:
    """The words of given captions in given.h5.

    Raises:
        ValueError: the file is not ours, or is damaged.
    """
    with hdf5.opened(path, "cannot be read as weights of given captions", AGAIN) as file:
        sizes, affines, grid = file.values("size"), file.values("affine"), file.numbers("grid", 2)
        return GivenWords(
            images=file.texts("images"),
            geometries=tuple(_geometry(s, grid, a) for s, a in zip(sizes, affines, strict=True)),
            weights=file.values("alpha").astype(float),
            **{name: file.values(name) for name in ("image", "caption", "word")},
        )


def write_images(
    path: Path,
    names: Sequence[str],
    captions: Sequence[str],
    table: Mapping[str, Sequence],
    grounding: Sequence[Mapping[str, float]],
) -> None:
    """images.csv: one row for each image with its caption, scores, grounding and the statistics for resampling.

    ``table`` has the columns of scores. ``grounding`` has the means over the words of each image, which are empty for
    an image without boxes.
    """
    measures = list(next(filter(None, grounding), {}))
    rows = [["image", "caption", *table, *(f"grounding_{name}" for name in measures)]]
    for name, caption, means, *values in zip(names, captions, grounding, *table.values(), strict=True):
        rows.append([name, caption, *values, *(means.get(measure, "") for measure in measures)])
    write_rows(path, rows)


def read_images(folder: str | Path, expected: int | None = None) -> ImageTable:
    """The images.csv of an evaluation's folder, of ``expected`` images.

    Raises:
        ValueError: it is missing, no table, half a table, or of another number of images.
    """
    path = Path(folder) / "images.csv"
    if not regular(path).exists():
        raise ValueError(f"{path} is missing (an older layout, or a copy without it): evaluate the run again")
    try:
        with open(regular(path), encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except (ValueError, csv.Error):  # not UTF-8, empty, or cut within quotes
        raise ValueError(f"{path} is no table: copy it again, or evaluate the run again") from None
    number = len(rows) if expected is None else expected
    if header[:1] != ["image"] or not rows or len(rows) != number or any(len(row) != len(header) for row in rows):
        whole = "a whole table" if expected is None else f"a whole table of {expected:,} images"
        raise ValueError(f"{path} is not {whole}: copy it again, or evaluate the run again")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    images = columns.pop("image")
    if len(set(images)) < len(images):
        raise ValueError(f"{path} has an image twice: evaluate the run again")
    return ImageTable(path, images, columns)
