"""A dataset of some seconds: images of two coloured halves, each with two captions that name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from attend.data.examples import Caption, Example, Source
from attend.data.prepared import write_prepared

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 220), "white": (240, 240, 240)}
SMALL = {
    "encoder": {"name": "test_resnet", "weights": "random", "size": 32, "grid": [2, 2], "stride": 8},
    "attention": {"width": 16},
    "decoder": {"embedding": 16, "hidden": 24, "dropout": 0.2},
    "search": {"max_length": 10, "beam": 2},
    "train": {"images": 4, "log_every": 2, "checkpoint_minutes": 0.0, "learning_rate": 0.01},
}
"""Settings of a model that suits it."""
CLEARER = SMALL["encoder"] | {"name": "resnet10t"}
"""An encoder whose random features tell the colours apart better, for more seconds."""

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def write(folder: Path, splits: tuple[int, int, int] = (28, 6, 6), boxes: bool = False) -> Path:
    """Draw the images and write the prepared dataset; with ``boxes`` a colour's box is its half."""
    root = folder / "images"
    root.mkdir(parents=True)
    examples = []
    names = [split for split, count in zip(("train", "val", "test"), splits, strict=True) for _ in range(count)]
    for number, split in enumerate(names):
        left, right = (list(COLOURS)[(number // k) % 4] for k in (1, 4))
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:, :16], pixels[:, 16:] = COLOURS[left], COLOURS[right]
        Image.fromarray(pixels).save(root / f"{number:02}.png")
        texts = [f"a {left} half and a {right} half", f"{left} then {right}"]
        captions = tuple(_caption(text, boxes) for text in texts)
        examples.append(Example(image=f"{number:02}.png", split=split, captions=captions))
    write_prepared(Source(name="halves", root=root, examples=examples), folder, minimum_count=1)
    return folder


def _caption(text: str, boxes: bool) -> Caption:
    tokens, halves = tuple(text.split()), iter([LEFT, RIGHT])
    where = tuple((next(halves),) if token in COLOURS else None for token in tokens) if boxes else None
    return Caption(raw=text, tokens=tokens, boxes=where)
