"""One image file -> the square of pixels that the encoder reads."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from attend.paths import regular

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What a file may hold, whatever its suffix says: Pillow reads others by programs of their own, as EPS."""

MAXIMUM_PIXELS = 89_478_485
"""Pixels of an image that are read; as RGB they take a quarter of a gigabyte. More are refused."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # said by the refusal
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of EXIF and the like; the pixels are right


def open_image(path: Path | str) -> Image.Image:
    """The image as RGB, upright as its EXIF says; of an animation the first frame.

    What is transparent is laid on white, as on a page; 16 bits a channel become 8 by their high byte.
    Raises ValueError that says in one sentence why a file is no image, or is larger than MAXIMUM_PIXELS.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not an image: name the files in it")
    if not path.exists():
        raise ValueError(f"{path} does not exist: check the name of the image")
    if regular(path).stat().st_size == 0:
        raise ValueError(f"{path} is an empty file, not an image: fetch it again or leave it out")
    with _opened(path) as image:
        image.load()
        return _rgb(ImageOps.exif_transpose(image))


def check_image(path: Path) -> None:
    """Read an image to its end; ValueError if ``open_image`` could not read it.

    A JPEG is decoded at an eighth of its size: cheap, but all its data is read, so a truncated file is found.
    """
    with _opened(path) as image:
        image.draft("RGB", (1, 1))
        image.load()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(regular(path), formats=FORMATS) as image:
            _refuse(image)
            yield image
    except Exception as error:  # a damaged file makes Pillow raise nearly anything, from SyntaxError to struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is not a readable image ({reason}): replace it or leave it out") from None


def gather_images(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files named and all images below the folders named, sorted by path; and those of them left out.

    An unreadable image is left out where it came with a folder. Raises ValueError for one that was named itself,
    and for a folder without a readable image.
    """
    chosen: list[Path] = []
    skipped: list[Path] = []
    for path in paths:
        if not path.is_dir():
            open_image(path)
            chosen.append(path)
            continue
        readable, unreadable = [], []
        for file in images_below(path):
            try:
                check_image(file)
                readable.append(file)
            except ValueError:
                unreadable.append(file)
        if not readable:
            raise ValueError(f"folder {path} holds no readable image ({len(unreadable)} unreadable): name another")
        chosen, skipped = chosen + readable, skipped + unreadable
    return chosen, skipped


def images_below(folder: Path) -> list[Path]:
    """All files in a folder, at any depth, that are named like images, sorted; hidden ones are not looked at."""
    named = (file for file in folder.rglob("*") if file.name.lower().endswith(IMAGE_SUFFIXES))
    return sorted(f for f in named if f.is_file() and not any(p[0] == "." for p in f.relative_to(folder).parts))


def to_square(image: Image.Image, size: int, transform: str, interpolation: str) -> np.ndarray:
    """Squash the whole image, or crop its central square, to (3, size, size) uint8."""
    resample = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
    resize = ImageOps.fit if transform == "crop" else Image.Image.resize
    return np.asarray(resize(image, (size, size), resample)).transpose(2, 0, 1)


def _refuse(image: Image.Image) -> None:
    """Raise ValueError for what its header alone rules out."""
    pixels = image.width * image.height
    if pixels > MAXIMUM_PIXELS:
        raise ValueError(f"it has {pixels / 1e6:.0f} million pixels, and up to {MAXIMUM_PIXELS / 1e6:.0f} are read")
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError("its pixels have 32 bits and no stated range; save it with 8 or 16")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # convert would cut 16 bits off at white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
