"""Caption image files with a trained run: words, and the attention behind each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL.Image import Image
from torch import Tensor

from attend.config import Decode
from attend.data.images import open_image, to_square
from attend.encoder.features import compute_features
from attend.evaluation.cause import into
from attend.evaluation.generate import hypotheses_of
from attend.geometry import Box, Geometry
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator
from attend.shipped import found


@dataclass(frozen=True, kw_only=True)
class ImageCaption:
    """The caption of an image file: ``words``, and for each word the ``weights`` (T, L) over the locations, the sampled
    location in ``glimpses`` (T,) and the gate in ``gates``; None if the model has none. ``geometry`` maps locations to
    pixels of the ``image``. ``look_at`` says what the model says if it must look at one box."""

    path: Path
    image: Image
    caption: str
    words: tuple[str, ...]
    weights: np.ndarray
    glimpses: np.ndarray | None
    gates: np.ndarray | None
    geometry: Geometry
    say: Callable[[Tensor], "ImageCaption"] = field(repr=False, compare=False)
    one_cell: bool = False

    def look_at(self, box: Box) -> "ImageCaption":
        """The caption of the same image if the model looks into a box at every word.

        ``box`` is (x0, y0, x1, y1) in fractions of the image's width and height. Soft attention reads the mean of the
        box, hard attention decoded by argmax the cell nearest to its middle.

        Raises ValueError if the grid shows nothing of the box.
        """
        weights = into((box,), self.geometry, self.one_cell)
        if weights is None:
            raise ValueError(f"the box {box} is not in the image: give x0, y0, x1, y1 as fractions of width and height")
        return self.say(torch.from_numpy(weights).float())


class ImageCaptioner:
    """A trained model that captions images: ``attend.load``.

        model = attend.load("flickr8k-hard")
        caption = model.caption("photo.jpg", decode="argmax", beam=3)

    Raises ValueError if the run has no model that fits, or its attention needs the boxes of given captions.
    """

    def __init__(self, run: Path | str) -> None:
        self.model = Model.read(RunFolder(found(run)))
        if self.model.config.attention.weights == "oracle":
            raise ValueError(
                f"{run} has oracle attention, which sees the boxes of given captions and so captions no images: "
                "name another run"
            )
        self.device = accelerator()
        self.model.to(self.device.device)
        self.model.captioner.eval()

    def caption(
        self, image: Path | str | Sequence[Path | str], *, decode: Decode | None = None, beam: int | None = None
    ) -> ImageCaption | list[ImageCaption]:
        """The caption of an image file, or a list of captions for a list of files.

        ``decode`` and ``beam`` replace the run's own. Raises ValueError if a file is no image.
        """
        if isinstance(image, Path | str):
            return next(self.captions([image], decode=decode, beam=beam))
        return list(self.captions(image, decode=decode, beam=beam))

    def captions(
        self, images: Sequence[Path | str], *, decode: Decode | None = None, beam: int | None = None
    ) -> Iterator[ImageCaption]:
        """The captions of image files in their order, one at a time."""
        way = self.model.config.way(decode, beam)
        return (_caption(self.model, Path(one), number, *way, self.device) for number, one in enumerate(images))


def caption_images(
    run: Path | str, images: Sequence[Path | str], *, decode: Decode | None = None, beam: int | None = None
) -> Iterator[ImageCaption]:
    """Caption image files in their order, one at a time.

    ``run`` is a run folder, or the name of a captioner that comes with the package (``attend.shipped.names``).
    ``attend.data.images.gather_images`` lists the images of folders. ``decode`` and ``beam`` replace the run's own.

    Raises:
        ValueError: as ``ImageCaptioner``, or a file is no image.
    """
    return ImageCaptioner(run).captions(images, decode=decode, beam=beam)


@torch.no_grad()
def _caption(
    model: Model, path: Path, number: int, decode: Decode, beam: int, device: Accelerator, weights: Tensor | None = None
) -> ImageCaption:
    """The caption of one image, with given weights (L,) at every word or the model's own; its noise is keyed by its
    number."""
    image, settings = open_image(path), model.encoder.settings
    square = to_square(image, model.encoder.size, settings.transform, model.encoder.interpolation)
    features = torch.from_numpy(compute_features(model.encoder, np.stack([square]), device.device)).float()
    shown = None if weights is None else weights.to(device.device).expand(1, model.config.search.max_length, -1)
    looking = model if weights is None else model.looking("oracle")
    with model.autocast():
        (said,) = hypotheses_of(
            looking, model.normalised(features.to(device.device)), [number], decode, beam, shown=shown
        )
    return ImageCaption(
        path=path,
        image=image,
        caption=said.caption,
        words=said.words,
        weights=np.asarray(said.weights),
        glimpses=said.glimpses,
        gates=said.gates,
        geometry=Geometry.of(settings.transform, image.size, model.encoder.grid),
        say=partial(_caption, model, path, number, decode, beam, device),
        one_cell=decode == "argmax",
    )
