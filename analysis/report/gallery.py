"""The gallery of a report: each image with its picture, and the caption and attention of each model.

A word's weights are kept as bytes, round(255 w / max w), beside its max w: no weight is off by more than max w / 510.
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
from attend.analysis.records import Evaluation, Record, names
from attend.analysis.tables.comparison import COLUMNS

from attend.data.images import open_image
from attend.data.prepared import Prepared
from attend.metrics.gaze import fixations
from attend.runs.evaluations import Attention, read_attention, read_images

SCORES = {"cider": "cider", "meteor": "meteor", "bleu4": "bleu4", "rouge_l": "rouge_l", "grounding_mass": "mass"}
"""Scores of one image, as images.csv names them -> the column of the table that says how they are printed."""
LONGEST = 320
"""Pixels of the longer side of a picture in the report."""
QUALITY = 60
FLAT = 1e-3
"""Weights that differ by no more than this share of the largest are equal: the word looks nowhere in particular."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One panel of the gallery: a variant, and the evaluation of one seed that its headline scores are of."""

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
    """The gallery as plain values for JSON, and a sentence for everything that it lacks.

    Args:
        records: finished runs; of each variant the first seed is shown, or ``seed``.
        images: how many at most; None shows all that were scored.
        pictures: whether photographs are laid under the maps.
        data: the prepared dataset, where it has moved since.
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
    entries = [
        {"name": name, "looks": [looks[model.name].get(name) for model in models], **page}
        for name, page in pages.items()
    ]
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
    search = "words drawn" if evaluation.beam == 0 else f"beam {evaluation.beam}"
    decoding = f"{evaluation.decode}, {search}, seed {model.record.seed}"
    return {"name": model.name, "decoding": decoding, "colour": colour}


def _models(records: Sequence[Record], seed: int | None, notes: list[str]) -> list[Model]:
    """A model for each variant, of runs on the same data as the first one's."""
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
            notes.append(f"{record.folder} lacks the evaluation of its headline scores, so the gallery leaves it out.")
    if other:
        first = next(iter(found))
        notes.append(f"The gallery shows the images of {first} only: {', '.join(other)} had other data.")
    if finished and seed is not None and not found:
        notes.append(f"No finished run has seed {seed}, so there is no gallery; leave --seed out, or name another.")
    return list(found.values())


def _data(record: Record) -> tuple:
    return record.scores["split"], record.scores.get("data_fingerprint", record.config.data)


def _looks(model: Model, images: int | None, notes: list[str]) -> dict[str, dict]:
    """Image -> what the model wrote and looked at, in the order of its evaluation."""
    rows, looks = _rows(model, notes), {}
    path = model.evaluation.attention
    count = model.evaluation.scores["images"] if path.exists() else 0
    count = count if images is None else min(images, count)
    try:
        for number in range(count):
            attention = read_attention(path, number)
            looks[attention.image] = _look(attention, path) | {"scores": _scores(rows.get(attention.image, {}))}
    except ValueError as error:
        held = f"the gallery has the attention of its first {len(looks)} images" if looks else "its maps are left out"
        notes.append(f"{model.name}: {str(error).rstrip('.')}; {held}.")
    if not path.exists():
        notes.append(f"{model.name}: no attention was kept ({path} is missing), so the gallery has its captions alone.")
    for image, row in list(rows.items())[:images]:
        looks.setdefault(image, _words(row["caption"].split()) | {"scores": _scores(row)})
    if looks and all(cell < 0 for look in looks.values() for cell in look["cells"]) and path.exists():
        notes.append(f"{model.name} gives all places equal weight, so it has no gaze to draw.")
    return looks


def _rows(model: Model, notes: list[str]) -> dict[str, dict[str, str]]:
    """Image -> its row of images.csv."""
    try:
        table = read_images(model.evaluation.folder)
        if "caption" not in table.columns:
            raise ValueError(f"{table.path} has no captions")
    except (OSError, ValueError) as error:
        notes.append(f"{model.name}: {error}, so the gallery lacks scores of its images.")
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
    """A caption and its attention: ``cells`` (T,) are where the gaze is, -1 where a word looks nowhere in particular.

    Raises:
        ValueError: the weights are no distribution over the grid, or a glimpse is none of its cells.
    """
    weights, geometry = np.asarray(attention.weights, float), attention.geometry
    cells = geometry.grid[0] * geometry.grid[1]
    if weights.shape != (len(attention.words), cells) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{path} holds no weights of {len(attention.words)} words over {cells} cells; evaluate again")
    if not weights.size:
        return _words(attention.words)
    fixations(weights, attention.glimpses, geometry)  # says what is wrong with a glimpse
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


def quantise(weights: np.ndarray) -> bytes:
    """Weights (T, L) as T L bytes, each 255 times its share of the word's largest, rounded."""
    return np.rint(255 * weights / np.maximum(weights.max(axis=1, keepdims=True), 1e-12)).astype(np.uint8).tobytes()


def _pages(
    model: Model, sizes: dict[str, list], data: str | Path | None, pictures: bool, notes: list[str]
) -> dict[str, dict]:
    """What stands on each image's page beside the models, as far as it can be read: picture, size and references."""
    references, failed = {}, {}
    try:
        dataset = Prepared(data or model.record.config.data)
        folder = dataset.folder / dataset.about["images"]
        for example in map(dataset.examples.__getitem__, dataset.rows(model.record.scores["split"])):
            references[example.image] = [caption.raw for caption in example.captions]
        own = dataset.about.get("fingerprint")
        if own != model.record.scores.get("data_fingerprint", own):
            notes.append(f"{dataset.folder} is not the data of {model.name}, as its fingerprint says.")
    except (OSError, ValueError, LookupError) as error:
        gist = str(error).rstrip(".")
        notes.append(f"The gallery has no photographs and no captions by people: {gist}; --data says where it is.")
        pictures = False
    pages = {}
    for name, known in sizes.items():
        picture, size = None, next(filter(None, known), None)
        try:
            picture, size = shrink(folder / name, size) if pictures else (None, size)
        except (OSError, ValueError) as error:
            failed[name] = str(error).rstrip(".")
        pages[name] = {"picture": picture, "size": size, "references": references.get(name, [])}
    if failed:
        name, why = next(iter(failed.items()))
        count = "1 photograph" if len(failed) == 1 else f"{len(failed)} photographs"
        notes.append(f"The gallery lacks {count}, the first of {name}: {why}.")
    return pages


def shrink(path: Path, size: Sequence[int] | None) -> tuple[str, Sequence[int]]:
    """A picture as base64 of a small WebP file, and its ``size`` in pixels (width, height), or that of the file.

    Raises:
        ValueError: it is no image, or of another shape than ``size``, which the attention belongs to.
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
