"""Rehearse a configuration: train it for a few steps on a minibatch of its own dataset, and search some captions."""

import contextlib
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from attend.analysis.records import read_run

from attend.config import Config, Decode
from attend.data.batches import Batches, longest
from attend.data.examples import Source
from attend.data.prepared import Prepared, write_prepared
from attend.data.stores import unwritten
from attend.data.text import SPECIALS
from attend.encoder.encoder import Encoder
from attend.encoder.features import ensure_store, place
from attend.evaluation.generate import generate
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator
from attend.training.loop import train

IMAGES = 16
"""Images of which captions are searched."""
STEPS, PATIENCE = 3, 2.0
"""Steps that are timed after the first, or fewer if they take more seconds."""


class Cost(NamedTuple):
    """The cost of a configuration: seconds to ``start``, of a training ``step``, and of the ``search`` of an image;
    bytes of its ``last`` and its ``best`` checkpoint; ``locations`` of its grid."""

    start: float
    step: float
    search: dict[tuple[Decode, int], float]
    last: int
    best: int
    locations: int


class Enough(Exception):
    """Ends the training of a rehearsal."""


def rehearse(config: Config, searches: Iterable[tuple[Decode, int]], folder: Path) -> tuple[Cost, tuple[int, float]]:
    """The cost of a configuration, and bytes and seconds of the features that its dataset lacks.

    Works below ``folder``, where configurations share their samples. ValueError if this one cannot be trained.
    """
    dataset, device = Prepared(config.data), accelerator()
    out = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    with contextlib.redirect_stderr(io.StringIO()):
        name = f"sample-{dataset.about['fingerprint']}-{config.train.images}"
        some = sample(dataset, config.train.images, folder / name)
        encoder = Encoder(config.encoder)
        took, store = timed(ensure_store, some, encoder, device.device)
        rows = unwritten(place(dataset, encoder)[0], len(dataset.examples))
        steps = train_few(replace(config, data=str(some.folder)), out)
        start, model = timed(lambda: Model.read(RunFolder(out)).to(device.device))
        most = min(config.search.max_length, longest(some, "val"))  # the captions of an untrained model do not end
        model = replace(model, config=replace(config, search=replace(config.search, max_length=most)))
        batches, val = Batches(some, store), some.rows("val")
        seconds = {way: timed(generate, model, batches, val, device, *way)[0] for way in searches}
    cost = Cost(
        start=start,
        step=sum(steps) / len(steps),
        search={way: total / len(val) for way, total in seconds.items()},
        last=RunFolder(out).last.stat().st_size,
        best=RunFolder(out).best.stat().st_size,
        locations=math.prod(encoder.grid),
    )
    return cost, (rows * store.read("inputs", [0]).nbytes, rows * took / len(store))


def sample(dataset: Prepared, images: int, folder: Path) -> Prepared:
    """A dataset of some training images, the longest caption's among them, and some for validation."""
    rows = dataset.rows("train")
    hardest = max(rows, key=lambda row: max(len(caption.tokens) for caption in dataset.examples[row].captions))
    rows = [hardest, *(row for row in rows if row != hardest)][:images] + dataset.rows("val")[:IMAGES]
    source = Source(
        name=dataset.about["name"],
        root=dataset.folder / dataset.about["images"],
        examples=[dataset.examples[row] for row in rows],
        words=dataset.vocabulary.words[len(SPECIALS) :],
    )
    return write_prepared(source, folder, minimum_count=1)


def train_few(config: Config, out: Path) -> list[float]:
    """Train epochs of one step each; the seconds of each step but the first, which is slower."""

    def steps() -> list[float]:
        return [one["step_seconds"] for one in read_run(out).metrics if one["split"] == "train"][1:]

    def after_epoch() -> None:
        if len(steps()) == STEPS or sum(steps()) > PATIENCE:
            raise Enough

    brief = {"epochs": STEPS + 1, "log_every": 1, "monitor": "nll", "patience": 0, "training_images": 0, "workers": 0}
    with contextlib.suppress(Enough):
        train(replace(config, train=replace(config.train, **brief)), out, after_epoch=after_epoch)
    return steps()


def timed(function: Callable[..., Any], *arguments: object) -> tuple[float, Any]:
    """The seconds of a call, and its result."""
    begun = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begun, result
