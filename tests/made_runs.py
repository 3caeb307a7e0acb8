"""Run folders made by hand, for the tests of the analysis."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np

from attend.metrics.captions import BLEU_STATISTICS, corpus_bleu, corpus_meteor

CAPTIONS = {
    "bleu1": 0.6,
    "bleu2": 0.4,
    "bleu3": 0.3,
    "bleu4": 0.2,
    "meteor": 0.19,
    "rouge_l": 0.45,
    "cider": 0.5,
}
CONTROLS = {"uniform_mass": 0.25, "uniform_pointing": 0.3, "cell_mass": 0.35, "cell_pointing": 0.4} | {
    "mass_beyond": 0.15, "pointing_beyond": 0.2}  # fmt: skip
GROUNDING = {"words": 100, "mass": 0.5, "pointing": 0.6, **CONTROLS}


def scores(*, split="test", decode="expected", beam=3, missing=None, grounding=GROUNDING, **captions) -> dict:
    """A scores.json: CAPTIONS and GROUNDING, with the given caption scores instead."""
    missing = missing or {}
    kept = {name: value for name, value in {**CAPTIONS, **captions}.items() if name not in missing}
    return {
        "split": split,
        "decode": decode,
        "beam": beam,
        "images": 100,
        "captions": kept,
        "missing": missing,
        "given": {"nll": 3.0, "top1": 0.4, "top5": 0.6},
        "grounding": grounding,
        "health": {},
        "seconds": 1.0,
    }


def make_run(root: Path, name: str = "made/soft/seed1", *, headline=None, evaluations=(), metrics=()) -> Path:
    """Write the run folder ``root/name``; without a headline it is unfinished."""
    run = root / name
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"train": {"epochs": 3}}))
    (run / "environment.json").write_text("{}")
    (run / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
    for evaluation in evaluations:
        look = f"-look-{evaluation['look']}" if "look" in evaluation else ""
        folder = run / "evaluations" / ("{split}-{decode}-beam{beam}".format(**evaluation) + look)
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text(json.dumps(evaluation))
    if headline:
        (run / "scores.json").write_text(json.dumps(headline))
    return run


def make_scored(root: Path, name: str, *, images=40, better=0.0, chance=0, fingerprint="data", **more) -> Path:
    """A finished run whose one evaluation has an images.csv, and scores.json what follows from it.

    Captions are never written: matches, lengths, matches of METEOR and grounding are drawn, ``better`` by a share.
    """
    draw = np.random.default_rng(chance)
    length, closest = draw.integers(6, 14, images), draw.integers(6, 14, images)
    guesses = np.stack([length - n for n in range(4)], axis=1)
    matches = draw.binomial(guesses, np.array([0.5, 0.4, 0.3, 0.2]) * (1 + better))
    cider, words = draw.uniform(0, 1, images) * (1 + better), draw.integers(0, 9, images)
    mass = draw.uniform(0, 1, images) * (1 + better) / 2
    matched = draw.binomial(length, 0.4 * (1 + better))
    meteor = np.zeros((images, 23), int)  # lengths, function words, four kinds of match, chunks, matches
    for places, values in (([0], length), ([1], closest), ([4, 5, 21, 22], matched), ([20], 1)):
        meteor[:, places] = np.reshape(values, (-1, 1))
    columns = {"image": [f"{i}.jpg" for i in range(images)], "caption": ["a, b"] * images}
    columns |= {f"bleu_match{n + 1}": matches[:, n] for n in range(4)}
    columns |= {f"bleu_guess{n + 1}": guesses[:, n] for n in range(4)}
    columns |= {"bleu_length": length, "bleu_reference_length": closest, "rouge_l": cider / 2, "cider": cider}
    columns |= {"meteor_statistics": [" ".join(map(str, row)) for row in meteor], "grounding_words": words}
    columns |= {"grounding_mass": np.where(words, mass, 0), "grounding_mass_beyond": np.where(words, mass - 0.3, 0)}
    bleu = corpus_bleu({name: np.sum(values) for name, values in columns.items() if name in BLEU_STATISTICS})
    captions = {name: float(value) for name, value in bleu.items()}
    captions |= {"meteor": float(corpus_meteor(meteor.sum(0))), "rouge_l": float(np.mean(cider / 2))}
    headline = scores(
        **captions | {"cider": float(np.mean(cider))},
        grounding={"words": int(words.sum()), "mass": (own := float(np.average(mass, weights=words))), **CONTROLS}
        | {"mass_beyond": own - 0.3},
    )
    headline |= {"images": images, "data_fingerprint": fingerprint, **more}
    run = make_run(root, name, headline=headline, evaluations=[headline])
    with open(images_of(run), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
    return run


def images_of(run: Path) -> Path:
    """The images.csv of a run that ``make_scored`` made."""
    return next(run.glob("evaluations/*")) / "images.csv"


def make_metrics(epochs: int = 4, *, per_epoch: int = 5, offset: float = 0.0) -> list[dict]:
    """Training that goes from 5 + offset down by 0.5 an epoch, and a validation score that rises by 0.1."""
    lines = []
    for step in range(1, epochs * per_epoch + 1):
        epoch = step / per_epoch
        line = {"step": step, "epoch": epoch, "time": 0.0}
        health = {"entropy": 2.0, "maximum": 0.3, "change": 0.1, "distinct": 0.5}
        lines.append({**line, "split": "train", "nll": 5 + offset - epoch / 2, **health})
        if step % per_epoch == 0:
            lines.append({**line, "split": "val", "bleu4": 0.1 * epoch, "nll": 4 + offset})
    return lines


def make_attention(path: Path, words: list[str], *, grid=(7, 7), size=(64, 48), sampled=False, image="a.jpg") -> Path:
    """An attention.h5 of one image: the gaze goes over the grid's diagonal, half a grid in all."""
    rows, columns = grid
    cells = [(t * rows // len(words)) * columns + t * columns // len(words) for t in range(len(words))]
    weights = np.full((len(words), rows * columns), 0.5 / (rows * columns - 1), np.float32)
    weights[np.arange(len(words)), cells] = 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("0")
        group.attrs.update(image=image, caption=" ".join(words), grid=grid, size=size)
        group.attrs["affine"] = (columns / size[0], rows / size[1], 0.0, 0.0)
        group.create_dataset("words", data=words, dtype=h5py.string_dtype())
        group.create_dataset("alpha", data=weights)
        group.create_dataset("gate", data=np.linspace(0.2, 0.9, len(words)))
        if sampled:
            group.create_dataset("glimpse", data=cells)
    return path


def make_study(root: Path, experiment: str, **about) -> Path:
    """The ``study.json`` of an experiment whose runs a study made."""
    path = root / experiment / "study.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about))
    return path
