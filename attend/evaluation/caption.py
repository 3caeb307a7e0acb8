"""Caption image files with a trained run: words, and the attention behind each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL.Image import Image

from attend.config import Decode
from attend.data.images import open_image, to_square
from attend.encoder.features import compute_features
from attend.evaluation.generate import hypotheses_of
from attend.geometry import Geometry
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator


@dataclass(frozen=True, kw_only=True)
class ImageCaption:
    """The caption of an image file: ``words``, and for each word the ``weights`` (T, L) over the locations, the sampled
    location in ``glimpses`` (T,) and the gate in ``gates``; None if the model has none. ``geometry`` maps locations to
    pixels of the ``image``."""

    path: Path
    image: Image
    caption: str
    words: tuple[str, ...]
    weights: np.ndarray
    glimpses: np.ndarray | None
    gates: np.ndarray | None
    geometry: Geometry


def caption_images(
    run: Path | str, images: Sequence[Path | str], *, decode: Decode | None = None, beam: int | None = None
) -> Iterator[ImageCaption]:
    """Caption image files in their order, one at a time.

    ``attend.data.images.gather_images`` lists the images of folders. ``decode`` and ``beam`` replace the run's own.

    Raises:
        ValueError: the run has no model that fits, its attention needs the boxes of given captions, or a file is no
            image.
    """
    model = Model.read(RunFolder(run))
    if model.config.attention.weights == "oracle":
        raise ValueError(
            f"{run} has oracle attention, which sees the boxes of given captions: it cannot caption images"
        )
    device = accelerator()
    model.to(device.device)
    model.captioner.eval()
    way = model.config.way(decode, beam)
    return (_caption(model, Path(path), number, *way, device) for number, path in enumerate(images))


@torch.no_grad()
def _caption(model: Model, path: Path, number: int, decode: Decode, beam: int, device: Accelerator) -> ImageCaption:
    """The caption of one image; its noise is keyed by its number."""
    image, settings = open_image(path), model.encoder.settings
    square = to_square(image, model.encoder.size, settings.transform, model.encoder.interpolation)
    features = torch.from_numpy(compute_features(model.encoder, np.stack([square]), device.device)).float()
    with model.autocast():
        (said,) = hypotheses_of(model, features.to(device.device), [number], decode, beam)
    return ImageCaption(
        path=path,
        image=image,
        caption=said.caption,
        words=said.words,
        weights=np.asarray(said.weights),
        glimpses=said.glimpses,
        gates=said.gates,
        geometry=Geometry.of(settings.transform, image.size, model.encoder.grid),
    )
