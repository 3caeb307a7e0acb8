"""Caption image files with a trained run: words, and the attention behind each."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from attend.config import Decode
from attend.data.images import open_image, to_square
from attend.encoder.features import compute_features
from attend.evaluation.cause import into
from attend.evaluation.generate import hypotheses_of
from attend.evaluation.novelty import FILE as NOVELTY
from attend.evaluation.novelty import Novelty, doubts
from attend.geometry import Box, Geometry
from attend.model import Model
from attend.runs.evaluations import Attention
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator
from attend.shipped import found

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ImageCaption:
    """The caption of an image file: its ``text`` and its ``words``, and the attention of each word.

    ``weights`` (T, rows, columns) are those over the grid, which sum to 1. ``glimpses`` (T,) are the numbers of the
    cells that were read, counted row by row, None if means were read. ``gates`` (T,) are those on the context, None if
    the model has none. ``geometry`` maps cells to pixels of the ``image``. ``novelty`` is about 1 for an image like the
    training images (None: the run did not measure it). ``warnings`` are sentences that say why the caption should not
    be trusted.
    """

    path: Path
    image: Image = field(repr=False)
    text: str
    words: tuple[str, ...]
    weights: np.ndarray = field(repr=False)
    glimpses: np.ndarray | None = field(repr=False)
    gates: np.ndarray | None = field(repr=False)
    geometry: Geometry = field(repr=False)
    novelty: float | None = None
    warnings: tuple[str, ...] = ()
    say: Callable[[Tensor], "ImageCaption"] = field(repr=False, compare=False)
    one_cell: bool = field(default=False, repr=False)

    @property
    def attention(self) -> Attention:
        """The same as one caption of attention.h5, which ``attend.analysis`` draws: weights are (T, L)."""
        return Attention(
            image=str(self.path), caption=self.text, words=self.words, glimpses=self.glimpses, gates=self.gates,
            weights=self.weights.reshape(len(self.words), math.prod(self.weights.shape[1:])), geometry=self.geometry,
        )  # fmt: skip

    def plot(self, file: Path | str | None = None, *, path: bool = False) -> "Figure":
        """Draw the attention of each word over the image, or with ``path`` the path of the gaze.

        The figure is also written into ``file`` if it is named, in the format of its suffix: png, pdf or svg.
        """
        drawing = import_module("attend.analysis.gaze.drawing")  # the analysis reads the library, and not the reverse
        return drawing.draw(self.image, self.attention, file, path=path)

    def look_at(self, box: Box) -> "ImageCaption":
        """The caption of the same image if the model looks into a box at every word.

        ``box`` is (x0, y0, x1, y1) in fractions of the image's width and height. Soft attention reads the mean of the
        box, hard attention decoded by argmax the cell nearest to its middle.

        Raises ValueError if the box reaches beyond the image, as one in pixels does, or the grid shows nothing of it.
        """
        inside = len(box) == 4 and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
        weights = into((box,), self.geometry, self.one_cell) if inside else None
        if weights is None:
            raise ValueError(
                f"the box {box} is not in the image: give x0, y0, x1, y1 as fractions of width and height, from 0 to 1"
            )
        return self.say(torch.from_numpy(weights).float())


class ImageCaptioner:
    """A trained model that captions images: ``attend.load``.

        model = attend.load("flickr8k-hard")
        caption = model.caption("photo.jpg", decode="argmax", beam=3)

    Raises ValueError if the run has no model that fits, or its attention needs the boxes of given captions.
    """

    def __init__(self, run: Path | str) -> None:
        folder = found(run)
        self.model, self.novelty = Model.read(RunFolder(folder)), Novelty.read(folder)
        if self.model.config.attention.weights == "oracle":
            raise ValueError(
                f"{run} has oracle attention, which sees the boxes of given captions and so captions no images: "
                "name another run"
            )
        width = self.model.encoder.width
        if self.novelty is not None and len(self.novelty.mean) != width:
            raise ValueError(f"{folder / NOVELTY} is not of {width} features, as the encoder: restore it or remove it")
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
        return (self._caption(Path(one), number, *way) for number, one in enumerate(images))

    @torch.no_grad()
    def _caption(
        self, path: Path, number: int, decode: Decode, beam: int, weights: Tensor | None = None
    ) -> ImageCaption:
        """The caption of one image, with given weights (L,) at every word or the model's own; its noise is keyed by its
        number."""
        model, image = self.model, open_image(path)
        settings, longest, device = model.encoder.settings, model.config.search.max_length, self.device.device
        square = to_square(image, model.encoder.size, settings.transform, model.encoder.interpolation)
        features = torch.from_numpy(compute_features(model.encoder, np.stack([square]), device)).float().to(device)
        shown = None if weights is None else weights.to(device).expand(1, longest, -1)
        looking = model if weights is None else model.looking("oracle")
        with model.autocast():
            (hypothesis,) = hypotheses_of(looking, model.normalised(features), [number], decode, beam, shown=shown)
        score = None
        if self.novelty is not None:
            (score,) = self.novelty.score(model.normalised(features).mean(1).cpu().numpy()).tolist()
        return ImageCaption(
            path=path,
            image=image,
            text=hypothesis.caption,
            words=hypothesis.words,
            weights=np.asarray(hypothesis.weights).reshape(len(hypothesis.words), *model.encoder.grid),
            glimpses=hypothesis.glimpses,
            gates=hypothesis.gates,
            geometry=Geometry.of(settings.transform, image.size, model.encoder.grid),
            novelty=score,
            warnings=tuple(doubts(path.name, hypothesis.words, longest, self.novelty, score)),
            say=partial(self._caption, path, number, decode, beam),
            one_cell=decode == "argmax",
        )


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
