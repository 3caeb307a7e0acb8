"""The record of an evaluation: captions.json, attention.h5, given.h5 and images.csv, all that analysis reads of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from attend.data.batches import Batches
from attend.data.prepared import Prepared
from attend.metrics.grounding import Grounding, pool
from attend.runs.files import write_bytes, write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Said:
    """The caption of one image and where the model looked: words (T), alpha (T, L), glimpse and gate (T,) or None."""

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
class Looked:
    """Where the model looked at the words of a given caption that have boxes: their numbers (K,), weights (K, L)."""

    row: int
    caption: int
    words: np.ndarray
    weights: np.ndarray


def write_captions(path: Path, dataset: Prepared, said: Sequence[Said]) -> None:
    """captions.json, in COCO's results format."""
    write_json(path, [{"image_id": dataset.examples[s.row].image, "caption": s.caption} for s in said])


def write_attention(path: Path, dataset: Prepared, batches: Batches, said: Sequence[Said]) -> None:
    """attention.h5: a group an image with its words, alpha, glimpses and gates, and the map of its grid."""
    memory = io.BytesIO()  # HDF5 itself does not survive a disk that fills up
    with h5py.File(memory, "w") as file:
        for number, one in enumerate(said):
            geometry = batches.geometry(one.row)
            group = file.create_group(str(number))
            group.attrs.update(
                image=dataset.examples[one.row].image,
                caption=one.caption,
                grid=geometry.grid,
                affine=geometry.affine,
                size=geometry.size,
            )
            group.create_dataset("words", data=list(one.words), dtype=h5py.string_dtype())
            group.create_dataset("alpha", data=one.weights.astype(np.float32))
            if one.gates is not None:
                group.create_dataset("gate", data=one.gates.astype(np.float32))
            if one.glimpses is not None:
                group.create_dataset("glimpse", data=one.glimpses.astype(np.int32))
    write_bytes(path, memory.getvalue())


def write_given(path: Path, dataset: Prepared, batches: Batches, looked: Sequence[Looked]) -> None:
    """given.h5: alpha (M, L) as float16 of the M words of given captions that have boxes, by image, caption and word.

    ``image``, ``caption`` and ``word`` (M,) number them, ``token`` is the word itself as a number into ``tokens``;
    ``images`` has the names, ``size`` (N, 2) and ``affine`` (N, 4) the geometry of each.
    """
    examples = {row: dataset.examples[row] for row in sorted({one.row for one in looked})}
    place = {row: number for number, row in enumerate(examples)}
    spoken = [examples[one.row].captions[one.caption].tokens[word] for one in looked for word in one.words]
    number = {token: i for i, token in enumerate(sorted(set(spoken)))}
    counts = [len(one.words) for one in looked]
    columns = {
        "image": np.repeat([place[one.row] for one in looked], counts).astype(np.int32),
        "caption": np.repeat([one.caption for one in looked], counts).astype(np.int16),
        "word": np.concatenate([one.words for one in looked]).astype(np.int16),
        "token": np.array([number[token] for token in spoken], np.int32),
        "alpha": np.concatenate([one.weights for one in looked]),
    }
    geometries = [batches.geometry(row) for row in examples]
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["grid"] = geometries[0].grid
        for name, values in columns.items():
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        for name, texts in (("images", [one.image for one in examples.values()]), ("tokens", list(number))):
            file.create_dataset(name, data=texts, dtype=h5py.string_dtype())
        file.create_dataset("size", data=np.array([one.size for one in geometries], np.int32))
        file.create_dataset("affine", data=np.array([one.affine for one in geometries]))
    write_bytes(path, memory.getvalue())


def write_images(
    path: Path,
    dataset: Prepared,
    rows: Sequence[int],
    said: Sequence[Said],
    table: dict[str, list],
    grounded: dict[int, list[Grounding]],
) -> None:
    """images.csv: one row an image with its caption, scores, grounding and the statistics that resampling needs.

    ``table`` has the columns of scores, ``grounded`` the sums of each row's given captions; ``said`` may be empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    grounding = {row: pooled for row, some in grounded.items() if (pooled := pool(some))["words"]}
    measures = list(next(iter(grounding.values()), {}))
    writer.writerow(["image", "caption", *table, *(f"grounding_{name}" for name in measures)])
    for number, row in enumerate(rows):
        caption = said[number].caption if said else ""
        values = [column[number] for column in table.values()]
        pooled = grounding.get(row, {})
        writer.writerow([dataset.examples[row].image, caption, *values, *(pooled.get(m, "") for m in measures)])
    write_text(path, text.getvalue())
