"""The gallery of a report: each image with its picture, and the caption and attention of each model.

A word's weights are stored as bytes, round(255 w / max w), with max w: the error is at most max w / 510.
"""

import base64
import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.figures.figures import colours
from attend.analysis.grounding.boxes import boxes_of_words, phrases_of
from attend.analysis.records import Evaluation, Record, names
from attend.analysis.tables.comparison import COLUMNS

from attend.data.examples import Caption
from attend.data.images import open_image
from attend.data.prepared import Prepared
from attend.geometry import Box
from attend.metrics.gaze import fixations
from attend.runs.evaluations import Attention, read_attention, read_images

SCORES = {"cider": "cider", "meteor": "meteor", "bleu4": "bleu4", "rouge_l": "rouge_l", "grounding_mass": "mass"}
"""Scores of one image, by their name in images.csv -> the table column that defines how they are printed."""
LONGEST = 320
"""The longer side of a picture in the report, in pixels."""
QUALITY = 60
FLAT = 1e-3
"""If weights differ by at most this share of the largest, they count as equal and the word has no gaze."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One panel of the gallery: a variant, one of its runs, and the evaluation of that run's headline scores."""

    name: str
    record: Record
    evaluation: Evaluation


def gallery(
    records: Sequence[Record],
    *,
    images: int | None = None,
    pictures: bool = True,
    seed: int | None = None,
    data: str | Path | None = None,
) -> tuple[dict, list[str]]:
    """The gallery as plain values for JSON, and a sentence for each missing part.

    Args:
        records: the runs; unfinished ones are ignored.
        images: the largest number of images; None: all with scores.
        pictures: whether the maps have photographs below them.
        seed: the seed that is shown; None: the first of each variant.
        data: the prepared dataset, if it was moved after training.
    """
    notes: list[str] = []
    models = _models(records, seed, notes)
    looks = {model.name: _looks(model, images, notes) for model in models}
    models = [model for model in models if looks[model.name]]
    images_shown = list(dict.fromkeys(name for of in looks.values() for name in of))[:images]
    shown = [name for name in SCORES if any(name in look["scores"] for of in looks.values() for look in of.values())]
    for of in looks.values():
        for look in of.values():
            look["scores"] = [look["scores"].get(score) for score in shown]
    sizes = {name: [of[name]["size"] for of in looks.values() if name in of] for name in images_shown}
    pages = _pages(models[0], sizes, data, pictures, notes) if models else {}
    entries = []
    for name, page in pages.items():
        entry = {"name": name, "looks": [looks[model.name].get(name) for model in models], **page}
        _add_boxes(entry, entry.pop("captions"))
        entries.append(entry)
    styles = colours(model.name for model in models)
    return {
        "models": [_about(model, styles[model.name][0]) for model in models],
        "scores": [
            {"title": column.title, "scale": column.scale, "decimals": min(column.decimals, 2)}
            for column in (COLUMNS[SCORES[one]] for one in shown)
        ],
        "images": entries,
    }, notes


def _about(model: Model, colour: str) -> dict:
    evaluation = model.evaluation
    search = "words sampled" if evaluation.beam == 0 else f"beam {evaluation.beam}"
    decoding = f"{evaluation.decode}, {search}, seed {model.record.seed}"
    return {"name": model.name, "decoding": decoding, "colour": colour}


def _models(records: Sequence[Record], seed: int | None, notes: list[str]) -> list[Model]:
    """A model for each variant with the data of the first one. The others are noted."""
    finished = [record for record in records if record.finished]
    called = names(finished)
    found: dict[str, Model] = {}
    other: dict[str, None] = {}
    for record in finished:
        name = called[record.folder]
        if name in found or (seed is not None and record.seed != seed):
            continue
        if found and _data(record) != _data(next(iter(found.values())).record):
            other[name] = None
        elif evaluation := record.headline():
            found[name] = Model(name=name, record=record, evaluation=evaluation)
        else:
            notes.append(f"{record.folder} has no evaluation of its headline scores, so the gallery leaves it out.")
    if other:
        first = next(iter(found))
        notes.append(f"The gallery leaves out {', '.join(other)}, whose data differ from those of {first}.")
    if finished and seed is not None and not found:
        notes.append(f"No finished run has seed {seed}, so there is no gallery; omit --seed, or choose another.")
    return list(found.values())


def _data(record: Record) -> tuple:
    return record.scores["split"], record.scores.get("data_fingerprint", record.config.data)


def _looks(model: Model, images: int | None, notes: list[str]) -> dict[str, dict]:
    """Image -> the model's caption and attention, in the order of its evaluation."""
    rows, looks = _rows(model, notes), {}
    path = model.evaluation.attention
    count = model.evaluation.scores["images"] if path.exists() else 0
    count = count if images is None else min(images, count)
    try:
        for number in range(count):
            attention = read_attention(path, number)
            looks[attention.image] = _look(attention, path) | {"scores": _scores(rows.get(attention.image, {}))}
    except ValueError as error:
        shown = f"the gallery has the attention of its first {len(looks)} images" if looks else "its maps are left out"
        notes.append(f"{model.name}: {str(error).rstrip('.')}; {shown}.")
    if not path.exists():
        notes.append(f"{model.name}: there is no attention ({path} is missing), so the gallery has only its captions.")
    for image, row in list(rows.items())[:images]:
        looks.setdefault(image, _words(row["caption"].split()) | {"scores": _scores(row)})
    if looks and all(cell < 0 for look in looks.values() for cell in look["cells"]) and path.exists():
        notes.append(f"{model.name} gives all locations equal weight, so it has no gaze.")
    return looks


def _rows(model: Model, notes: list[str]) -> dict[str, dict[str, str]]:
    """Image -> its row of images.csv."""
    try:
        table = read_images(model.evaluation.folder)
        if "caption" not in table.columns:
            raise ValueError(f"{table.path} has no captions")
    except (OSError, ValueError) as error:
        notes.append(f"{model.name}: {error}, so the gallery has no scores of its images.")
        return {}
    rows = zip(*table.columns.values(), strict=True)
    return {name: dict(zip(table.columns, row, strict=True)) for name, row in zip(table.images, rows, strict=True)}


def _scores(row: dict) -> dict[str, float]:
    scores = {}
    for name in SCORES:
        with contextlib.suppress(TypeError, ValueError):
            value = float(row.get(name) or "nan")
            if math.isfinite(value):
                scores[name] = round(value, 4)
    return scores


def _words(words: Sequence[str]) -> dict:
    """A caption without attention."""
    empty = {"weights": "", "peaks": [], "gates": None, "sampled": False, "grid": None, "affine": None, "size": None}
    return {"words": list(words), "cells": [-1] * len(words), **empty}


def _look(attention: Attention, path: Path) -> dict:
    """A caption and its attention: ``cells`` (T,) has the cell of each word's gaze, -1 if its weights are equal.

    Raises:
        ValueError: the weights are not valid on the grid, or a glimpse is not one of its cells.
    """
    weights, geometry = np.asarray(attention.weights, float), attention.geometry
    cells = geometry.grid[0] * geometry.grid[1]
    if weights.shape != (len(attention.words), cells) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{path} has no weights of {len(attention.words)} words over {cells} cells; evaluate again")
    if not weights.size:
        return _words(attention.words)
    fixations(weights, attention.glimpses, geometry)  # raises ValueError for an invalid glimpse
    peaks = weights.max(axis=1)
    flat = weights.min(axis=1) >= (1 - FLAT) * peaks
    largest, gates = np.where(flat, -1, weights.argmax(axis=1)), attention.gates
    gaze = largest if attention.glimpses is None else np.asarray(attention.glimpses, int)
    return {
        "words": list(attention.words),
        "cells": gaze.tolist(),
        "weights": base64.b64encode(quantise(weights)).decode(),
        "peaks": [float(f"{peak:.4g}") for peak in peaks],
        "gates": None if gates is None else [round(float(gate), 3) for gate in np.nan_to_num(gates)],
        "sampled": attention.glimpses is not None,
        "grid": list(geometry.grid),
        "affine": list(geometry.affine),
        "size": list(geometry.size),
    }


def _add_boxes(entry: dict, captions: Sequence[Caption]) -> None:
    """Add the boxes of an image's captions, each with its noun, and for each word of a look the numbers of its own."""
    nouns: dict[Box, str] = {}
    for words, boxes in phrases_of(captions):
        for box in boxes:
            nouns.setdefault(box, words[-1])
    number = {box: place for place, box in enumerate(nouns)}
    entry["boxes"] = [[noun, *(round(edge, 4) for edge in box)] for box, noun in nouns.items()]
    for look in filter(None, entry["looks"]):
        own = boxes_of_words(look["words"], captions) if number else [()] * len(look["words"])
        look["boxes"] = [[number[box] for box in boxes] for boxes in own]


def quantise(weights: np.ndarray) -> bytes:
    """Weights (T, L) as T L bytes: 255 times the weight over the word's largest, rounded."""
    return np.rint(255 * weights / np.maximum(weights.max(axis=1, keepdims=True), 1e-12)).astype(np.uint8).tobytes()


def _pages(
    model: Model, sizes: dict[str, list], data: str | Path | None, pictures: bool, notes: list[str]
) -> dict[str, dict]:
    """The picture, size, references and captions with boxes of each image, if they can be read."""
    captions, failed = {}, {}
    try:
        dataset = Prepared(data or model.record.config.data)
        for example in map(dataset.examples.__getitem__, dataset.rows(model.record.scores["split"])):
            captions[example.image] = example.captions
        own = dataset.about.get("fingerprint")
        if own != model.record.scores.get("data_fingerprint", own):
            notes.append(f"{dataset.folder} is not the dataset of {model.name}: their fingerprints differ.")
    except (OSError, ValueError, LookupError) as error:
        gist = str(error).rstrip(".")
        notes.append(f"The gallery has no photographs and no captions by people: {gist}; name the dataset with --data.")
        pictures = False
    pages = {}
    for name, known in sizes.items():
        picture, size = None, next(filter(None, known), None)
        try:
            picture, size = shrink(dataset.file(name), size) if pictures else (None, size)
        except (OSError, ValueError) as error:
            failed[name] = str(error).rstrip(".")
        theirs = captions.get(name, ())
        raw = [caption.raw for caption in theirs]
        pages[name] = {"picture": picture, "size": size, "references": raw, "captions": theirs}
    if failed:
        name, why = next(iter(failed.items()))
        count = "1 photograph" if len(failed) == 1 else f"{len(failed)} photographs"
        notes.append(f"The gallery lacks {count}, the first of {name}: {why}.")
    return pages


def shrink(path: Path, size: Sequence[int] | None) -> tuple[str, Sequence[int]]:
    """A picture as base64 of a small WebP file, and its ``size`` in pixels (width, height), or else that of the file.

    Raises:
        ValueError: the file is not an image, or its shape is not that of ``size``, the picture of the attention.
    """
    image = open_image(path)
    own = list(image.size)
    if size is not None and abs(own[0] * size[1] / (own[1] * size[0]) - 1) > 0.05:
        here, there = ("{} x {}".format(*one) for one in (own, size))
        raise ValueError(f"{path} is {here}, but the attention belongs to a picture of {there}")
    image.thumbnail((LONGEST, LONGEST))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=2)
    return base64.b64encode(file.getvalue()).decode(), size or own
