"""From a source of images and captions to a prepared dataset, and from its images to the stores a run reads."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attend import config
from attend.bars import bar
from attend.data.images import open_image, to_square
from attend.data.prepared import Prepared
from attend.data.stores import Store, fill_store
from attend.encoder.encoder import Encoder
from attend.geometry import Geometry

CHUNK = {"cpu": 2, "cuda": 64}
"""Images that pass the encoder at once while features are computed: on a CPU the maps of more fit no cache."""


def ensure_store(
    dataset: Prepared, encoder: Encoder, device: str | torch.device = "cpu", *, compress: bool = False
) -> Store:
    """The store of what this encoder reads: its features if it is frozen, squares of pixels if blocks are tuned.

    Made on the first call, resumed if it was interrupted, and found again afterwards.
    """
    folder, provenance = place(dataset, encoder)
    kind = provenance["kind"]
    provenance["versions"] = {name: metadata.version(name) for name in ("torch", "timm", "pillow")}
    encoder.to(device)

    def produce(rows: range) -> dict[str, np.ndarray]:
        inputs, sizes = [], []
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda row: read_square(dataset.image(row), encoder), rows)  # ahead of the encoder
            while chunk := list(islice(read, CHUNK.get(torch.device(device).type, CHUNK["cuda"]))):
                squares, their_sizes = zip(*chunk, strict=True)
                images = np.stack(squares)
                inputs.append(images if kind == "images" else compute_features(encoder, images, device))
                sizes += their_sizes
                progress.update(len(chunk))
        affines = [Geometry.of(encoder.settings.transform, size, encoder.grid).affine for size in sizes]
        return {"inputs": np.concatenate(inputs), "size": np.array(sizes, np.int32), "affine": np.array(affines)}

    count = len(dataset.examples)
    with bar(count, f"{kind} of {encoder.settings.name}", "image") as progress:
        for done in fill_store(folder, count, provenance, produce, compress=compress):
            progress.update(done - progress.n)  # shards that were there already
    return Store(folder)


def place(dataset: Prepared, encoder: Encoder) -> tuple[Path, dict[str, Any]]:
    """The folder of the store of what this encoder reads, and everything that its rows depend on."""
    settings = json.loads(json.dumps(asdict(encoder.settings)))  # as it is read back
    del settings["normalise"]  # features are stored as they are
    if encoder.settings.tune_blocks:
        kind, settings = "images", {name: settings[name] for name in ("name", "transform")}
    else:
        kind, settings["weights_hash"] = "features", encoder.fingerprint()
    provenance = {
        "kind": kind,
        "dataset": dataset.about["name"],
        "data_fingerprint": dataset.about["fingerprint"],
        "encoder": settings,
        "size": encoder.size,
        "grid": list(encoder.grid),
        "interpolation": encoder.interpolation,
    }
    identity = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()[:10]
    return dataset.folder / f"{kind}-{encoder.settings.name}-{identity}", provenance


def read_square(path: Path, encoder: Encoder) -> tuple[np.ndarray, tuple[int, int]]:
    """The square (3, S, S) that the encoder reads of an image file, and the image's own (width, height)."""
    image = open_image(path)
    return to_square(image, encoder.size, encoder.settings.transform, encoder.interpolation), image.size


@torch.no_grad()
def compute_features(encoder: Encoder, images: np.ndarray, device: str | torch.device) -> np.ndarray:
    """Features (N, L, D) in fp16 of images (N, 3, S, S) in uint8."""
    device = torch.device(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=encoder.settings.precision == "bf16"):
        return to_half(encoder(torch.from_numpy(images).to(device)))


def to_half(features: Tensor) -> np.ndarray:
    """Features as they are stored: fp16, refusing values that fp16 cannot hold."""
    if not bool(torch.isfinite(features).all()) or features.abs().max() > 65504:
        raise ValueError("the encoder gave features that are not finite in fp16: check its weights")
    return features.to(torch.float16).cpu().numpy()


def store_features(dataset: Prepared, encoder: config.Encoder, *, compress: bool = False) -> Path:
    """Compute the features (or squares of pixels, for a tuned encoder) that a run with this encoder reads."""
    from attend.runs.processes import accelerator

    return ensure_store(dataset, Encoder(encoder), accelerator().device, compress=compress).folder
