"""A short probe of a configuration: seconds of each part of its run, and bytes of what it leaves on disk."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from attend.config import Config, Decode
from attend.data.batches import epoch_rows
from attend.data.prepared import Prepared
from attend.data.stores import Store, unwritten
from attend.encoder.encoder import Encoder
from attend.encoder.features import CHUNK, compute_features, place, read_square
from attend.evaluation.bounds import PATHS, caption_bounds
from attend.evaluation.evaluate import Given
from attend.evaluation.generate import IMAGES, generate
from attend.evaluation.teacher_forced import traces
from attend.geometry import Geometry
from attend.model import Model
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator
from attend.training.loop import Trainer

STEPS = 3
"""Training steps that are timed, after one that is not."""
PATIENCE = 2.0
"""Seconds after which no further step is timed."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one configuration: seconds to ``start``, of a training ``step``, and of an image whose captions are ``given``,
    ``bounded``, or ``searched`` by context and beam; bytes of the ``weights`` and of what training keeps beside them;
    ``locations`` of its grid."""

    start: float
    step: float
    given: float
    bounded: float
    searched: dict[tuple[Decode, int], float]
    weights: int
    state: int
    locations: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is not stored yet of what an encoder makes of a dataset: bytes, and seconds to compute it."""

    bytes: int
    seconds: float


class Blank:
    """In place of a store that is not there: random inputs of the encoder's shapes."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.provenance = encoder, {"grid": list(encoder.grid)}

    def read(self, name: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        encoder, random = self.encoder, np.random.default_rng(0)
        if name == "inputs" and encoder.settings.tune_blocks:
            return random.integers(0, 256, (len(rows), 3, encoder.size, encoder.size), dtype=np.uint8)
        if name == "inputs":
            locations = int(np.prod(encoder.grid))
            return random.random((len(rows), locations, encoder.width), dtype=np.float32).astype(np.float16)
        size = (encoder.size, encoder.size)
        one = {"size": size, "affine": Geometry.of(encoder.settings.transform, size, encoder.grid).affine}[name]
        return np.array([one] * len(rows))


class Probe(Trainer):
    """A trainer that writes nothing, and reads random inputs where those of its encoder are not stored."""

    def __init__(self, config: Config) -> None:
        start = time.perf_counter()
        super().__init__(config, RunFolder(os.devnull), None, accelerator())
        self.started = time.perf_counter() - start

    def store(self, dataset: Prepared) -> Store | Blank:
        folder, _ = place(dataset, self.model.encoder)
        whole = (folder / "store.json").exists() and not unwritten(folder, len(dataset.examples))
        return Store(folder) if whole else Blank(self.model.encoder)

    def inputs(self) -> Inputs:
        """What is still to be computed before the first run with this encoder can start."""
        dataset, encoder, device = self.batches.dataset, self.model.encoder, self.accelerator.device
        rows = unwritten(place(dataset, encoder)[0], len(dataset.examples))
        if not rows:
            return Inputs(bytes=0, seconds=0.0)
        some = [dataset.image(row) for row in range(min(CHUNK.get(device.type, CHUNK["cuda"]), rows))]

        def compute() -> None:
            squares = np.stack([read_square(path, encoder)[0] for path in some])
            if not self.model.tuned:
                compute_features(encoder, squares, device)

        compute()
        one = self.batches.store.read("inputs", [0])
        return Inputs(bytes=rows * one.nbytes, seconds=rows * seconds(compute) / len(some))

    def cost(self, ways: Iterable[tuple[Decode, int]], bound: int = 0) -> Cost:
        """What is spent on a run that is evaluated in these ways, and bounded from so many paths."""
        dataset, device = self.batches.dataset, self.accelerator
        rows = dataset.rows("val")[:IMAGES]
        step = self.step_seconds()  # first, so that no pass is the first one of the model
        model = self.speaking(rows)
        searched = {way: seconds(generate, model, self.batches, rows, device, *way) / len(rows) for way in ways}
        kept = [value for one in self.optimiser.state_dict()["state"].values() for value in one.values()]
        return Cost(
            start=self.started,
            step=step,
            given=seconds(self.given, rows) / len(rows),
            bounded=self.bound_seconds(rows, bound) / len(rows) if bound else 0.0,
            searched=searched,
            weights=size(self.model.tensors().values()),
            state=size(map(torch.as_tensor, kept)) + size(self.helpers.state_dict().values()),
            locations=int(np.prod(self.model.encoder.grid)),
        )

    def step_seconds(self) -> float:
        """Of a training step and of reading its minibatch, the mean over some."""

        def step(rows: Sequence[int]) -> None:
            self.step(self.batches[rows].to(self.accelerator.device))

        pieces = epoch_rows(self.batches.dataset.rows("train"), self.config.train.images, self.config.seed, 0)
        took = []
        for rows in itertools.islice(itertools.cycle(pieces), 1 + STEPS):
            took.append(seconds(step, rows))
            if len(took) > 1 and sum(took) > PATIENCE:
                break
        return float(np.mean(took[1:]))

    def given(self, rows: Sequence[int]) -> None:
        """The pass over given captions, as an evaluation makes it."""
        dataset = self.batches.dataset
        sums = Given(dataset, self.batches, grounding=dataset.boxes)
        for batch, trace in traces(self.model, self.batches, rows, self.accelerator, self.config.decode):
            sums.add(batch, trace)

    def speaking(self, rows: Sequence[int]) -> Model:
        """The model, whose captions have as many words at most as the given ones: untrained, it would not end them."""
        search, longest = self.config.search, self.batches[rows].words.shape[-1]
        shorter = replace(search, max_length=min(search.max_length, longest))
        return replace(self.model, config=replace(self.config, search=shorter))

    @torch.no_grad()
    def bound_seconds(self, rows: Sequence[int], draws: int) -> float:
        """Of all paths, from some of them; where the state reads no glimpse, the passes are not those of the paths."""
        some = min(draws, PATHS)
        batch = self.batches[rows].to(self.accelerator.device)
        self.model.captioner.eval()
        with self.model.autocast():
            features = self.model.features(batch.inputs)
            took = seconds(caption_bounds, self.model.captioner, features, batch, some)
        hard = self.config.attention.hard and self.config.attention.feed == "glimpse"
        return took * draws / some if hard else took


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def size(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.nbytes for tensor in tensors)
