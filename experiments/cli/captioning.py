"""`attend caption`: captions for a user's own images, with pictures of where the model looked."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from attend.analysis.figures.from_runs import draw_gaze, draw_maps

from attend.config import Decode
from attend.data.images import gather_images, open_image, to_square
from attend.encoder.features import compute_features
from attend.evaluation.evaluate import Hypothesis
from attend.evaluation.generate import say
from attend.geometry import Geometry
from attend.model import Model
from attend.runs.evaluations import Attention
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator


def caption_images(
    run: Path, images: Sequence[Path], out: Path, *, decode: Decode | None = None, beam: int | None = None
) -> Iterator[tuple[Path, str, list[Path]]]:
    """Yield each image with its caption and the pictures written: the attention of every word, the path of the gaze
    where attention is learned.

    A folder stands for all images below it. All images are opened before anything is written: an unreadable one is
    left out, and said to stderr, where it lies in a folder. Raises ValueError for a file that is no image, a folder
    without one, and a run without a model that fits.
    """
    model = Model.read(RunFolder(run))
    if model.config.attention.weights == "oracle":
        raise ValueError(
            f"{run} has oracle attention, which sees the boxes of given captions: it cannot caption images"
        )
    images, skipped = gather_images(images)
    if skipped:
        some = ", ".join(map(str, skipped[:3])) + (", ..." if len(skipped) > 3 else "")
        print(f"skipped {len(skipped)}: image empty, truncated or otherwise unreadable ({some})", file=sys.stderr)
    device = accelerator()
    model.to(device.device)
    model.captioner.eval()
    decode, beam = model.config.way(decode, beam)
    names, weights = _names(images), model.config.attention.weights
    looks = weights == "learned"
    if not looks:
        how = "attends to all places alike" if weights == "uniform" else f"has {weights!r} attention"
        print(f"{run} {how}: there is no gaze to draw", file=sys.stderr)
    for number, path in enumerate(images):
        image = open_image(path)
        settings = model.encoder.settings
        square = to_square(image, model.encoder.size, settings.transform, model.encoder.interpolation)
        geometry = Geometry.of(settings.transform, image.size, model.encoder.grid)
        features = torch.from_numpy(compute_features(model.encoder, np.stack([square]), device.device)).float()
        with model.autocast(), torch.no_grad():
            (said,) = say(model, features.to(device.device), [number], decode, beam)
        look = _look(path, said, geometry)
        files = draw_maps(image, look, out / f"{names[number]}-maps")
        files += draw_gaze(image, look, out / f"{names[number]}-gaze") if looks else []
        yield path, said.caption, files


def _look(path: Path, said: Hypothesis, geometry: Geometry) -> Attention:
    return Attention(
        image=str(path),
        caption=said.caption,
        words=said.words,
        weights=np.asarray(said.weights),
        glimpses=said.glimpses,
        gates=said.gates,
        geometry=geometry,
    )


def _names(images: Sequence[Path]) -> list[str]:
    """A name for the pictures of each image: its stem, with its number where stems repeat."""
    stems = Counter(path.stem for path in images)
    names: dict[str, None] = {}
    for number, path in enumerate(images):
        name = path.stem if stems[path.stem] == 1 else f"{path.stem}-{number}"
        while name in names:  # as where a-1.jpg lies between two a.jpg
            name = f"{name}-{number}"
        names[name] = None
    return [*names]
