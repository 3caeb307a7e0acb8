"""Runs with the stored attention of several images, over a prepared dataset with pictures, for the tests of gaze."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from attend.analysis.gaze.pictures import gaze_path
from attend.analysis.gaze.saccades import attention_maps

from attend.geometry import Geometry
from attend.runs.evaluations import Attention
from tests.halves import write
from tests.made_runs import make_run, scores

CAPTIONS = ("a red dog runs in the snow", "two men sit on a wooden bench", "a small boy throws the ball")
SIZE, GRID = (32, 32), (4, 4)
GEOMETRY = Geometry.of("squash", SIZE, GRID)
IMAGES = tuple(f"{number:02}.png" for number in range(34, 40))  # the test images of tests/halves.py


def peaked(cells, share: float = 0.7, count: int = 16) -> np.ndarray:
    """Weights (T, L) with this share in one cell a word."""
    weights = np.full((len(cells), count), (1 - share) / (count - 1), np.float32)
    weights[np.arange(len(cells)), cells] = share
    return weights


def make_gazes(path: Path, captions, weights, *, sampled: bool = False, images=IMAGES, gates: bool = True) -> Path:
    """An attention.h5 with a caption and its weights (T, L) for each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, (image, caption, alpha) in enumerate(zip(images, captions, weights, strict=True)):
            group = file.create_group(str(number))
            group.attrs.update(image=image, caption=caption, grid=GRID, size=SIZE, affine=GEOMETRY.affine)
            group.create_dataset("words", data=caption.split(), dtype=h5py.string_dtype())
            group.create_dataset("alpha", data=alpha)
            if gates:
                group.create_dataset("gate", data=np.linspace(0.2, 0.9, len(alpha)))
            if sampled:
                group.create_dataset("glimpse", data=alpha.argmax(axis=1))
    return path


def make_experiment(root: Path, *, seeds: int = 2, images=IMAGES, gates: bool = True) -> Path:
    """Soft runs whose gaze goes over all cells and hard ones that stay on few, on a dataset of coloured halves."""
    data = write(root / "data")
    for variant, cells in (("soft", 16), ("hard", 3)):
        for seed in range(seeds):
            decode = "argmax" if variant == "hard" else "expected"
            headline = scores(decode=decode)
            run = make_run(root, f"made/{variant}/seed{seed}", headline=headline, evaluations=[headline])
            select = "sample" if variant == "hard" else "expected"
            (run / "config.json").write_text(json.dumps({"data": str(data), "attention": {"select": select}}))
            rng = np.random.default_rng([seed, cells])
            captions = [CAPTIONS[number % 3] for number in range(len(images))]
            weights = [peaked(rng.integers(0, cells, len(caption.split()))) for caption in captions]
            path = run / f"evaluations/test-{decode}-beam3/attention.h5"
            make_gazes(path, captions, weights, sampled=variant == "hard", images=images, gates=gates)
    return root / "made"


def attention_of(words, weights, geometry, *, glimpses=None, gates=None, caption="") -> Attention:
    """The attention of a caption, from plain arrays."""
    arrays = {"weights": np.asarray(weights), "glimpses": glimpses, "gates": gates}
    return Attention(image="a.jpg", caption=caption, words=tuple(words), geometry=geometry, **arrays)


def maps_of(image, words, weights, geometry, *, smooth=True, boxes=None, **more):
    return attention_maps(image, attention_of(words, weights, geometry, **more), boxes=boxes, smooth=smooth)


def drawn_path(image, words, weights, geometry, *, glimpses=None, gates=None, caption="", **options):
    one = attention_of(words, weights, geometry, glimpses=glimpses, gates=gates, caption=caption)
    return gaze_path(image, one, **options)
