"""A dataset and finished runs made by hand, for the tests of the report: six images, soft and hard, two seeds each."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np

from tests import halves
from tests.made_runs import make_metrics, make_run, scores

SPLIT = (2, 0, 6)
HOSTILE = "a <script>window.hacked=1</script> <img/src=x/onerror=hacked=2> </script> <!-- \u2028 \"'&amp;"
CAPTIONS = ["a red half", "a dog runs", "a green half and more", "dogs sleep", "white then blue", "blue"]
GRID, SIZE = (2, 3), (32, 32)
DECODES = {"soft": "expected", "hard": "argmax", "uniform": "expected"}


def weights_of(variant: str, number: int, words: int) -> np.ndarray:
    """Weights (T, L): equal for `uniform`, else drawn from a generator of the variant and the image."""
    cells = GRID[0] * GRID[1]
    if variant == "uniform":
        return np.full((words, cells), 1 / cells, np.float32)
    drawn = np.random.default_rng([len(variant) + ord(variant[0]), number]).dirichlet(np.full(cells, 0.5), words)
    return drawn.astype(np.float32)


def names(data: Path) -> list[str]:
    """The test images of the dataset."""
    lines = (data / "examples.jsonl").read_text().splitlines()
    return [json.loads(line)["image"] for line in lines][SPLIT[0] :]


def make(root: Path, variants=("soft", "hard"), seeds=(0, 1), captions=CAPTIONS, attention=True) -> tuple[Path, Path]:
    """The folder of the dataset and that of the runs; CIDEr of image i is i / 10 for soft and 0.3 for the others."""
    data = root / "data" if (root / "data").exists() else halves.write(root / "data", SPLIT, boxes=True)
    for variant in variants:
        for seed in seeds:
            made = scores(decode=DECODES.get(variant, "expected"), beam=3) | {"images": len(captions)}
            run = make_run(
                root / "runs", f"made/{variant}/seed{seed}", headline=made, evaluations=[made], metrics=make_metrics()
            )
            (run / "config.json").write_text(json.dumps({"data": str(data), "seed": seed}))
            about = {
                "command": ["x", "run", "made"],
                "commit": "c0ffee" * 6,
                "dirty": True,
                "data_fingerprint": "f00d",
                "versions": {"torch": "2.6"},
                "python": "3.12",
                "started": "2026-01-02T03:04:05+00:00",
            }
            (run / "environment.json").write_text(json.dumps(about))
            (folder,) = (run / "evaluations").iterdir()
            texts = [f"{text} {seed}" if seed else text for text in captions]
            write_evaluation(folder, variant, names(data), texts, attention)
    return data, root / "runs"


def write_evaluation(folder: Path, variant: str, images: list[str], captions: list[str], attention: bool) -> None:
    with open(folder / "images.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "cider", "meteor", "bleu4"])
        for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
            rows.writerow([image, caption, i / 10 if variant == "soft" else 0.3, 0.2, "nan" if i == 1 else 0.1])
    if not attention:
        return
    (rows, columns), (width, height) = GRID, SIZE
    with h5py.File(folder / "attention.h5", "w") as file:
        for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
            words, group = caption.split(), file.create_group(str(i))
            weights = weights_of(variant, i, len(words))
            group.attrs.update(image=image, caption=caption, grid=GRID, size=SIZE)
            group.attrs["affine"] = (columns / width, rows / height, 0.0, 0.0)
            group.create_dataset("words", data=words, dtype=h5py.string_dtype())
            group.create_dataset("alpha", data=weights)
            group.create_dataset("gate", data=np.full(len(words), 0.25))
            if variant == "hard":
                group.create_dataset("glimpse", data=weights.argmax(axis=1))
