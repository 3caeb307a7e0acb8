"""One image file -> the square of pixels that the encoder reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def open_image(path: Path | str) -> Image.Image:
    """The image as RGB, upright; ValueError says in one sentence why a file is none."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not an image: name the files in it")
    if not path.exists():
        raise ValueError(f"{path} does not exist: check the name of the image")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is an empty file, not an image: fetch it again or leave it out")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # convert would cut 16 bits off at white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ValueError(f"{path} is not a readable image ({error}): fetch it again or leave it out") from None


def to_square(image: Image.Image, size: int, transform: str, interpolation: str) -> np.ndarray:
    """Squash the whole image, or crop its central square, to (3, size, size) uint8."""
    box = None
    if transform == "crop":
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
    resample = RESAMPLING.get(interpolation, Image.Resampling.BICUBIC)
    square = image.resize((size, size), resample, box=box)
    return np.asarray(square).transpose(2, 0, 1)
