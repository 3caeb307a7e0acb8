"""Training steps on a GPU: the textbook's, ours one by one, and ours captured in a CUDA graph, beside the floor.

Without a GPU the plan is shown: the words of a step, and what must be computed, moved and launched for them.
"""

import statistics
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from attend.experiments.bench.beds import KINDS, Bed
from attend.experiments.bench.clock import DTYPES, Setup, in_turn, ratio
from attend.experiments.bench.floor import measure, moved, products, units
from attend.experiments.bench.operations import launches

from attend.config.text import replace as with_fields
from attend.data.batches import Batch
from attend.estimators.noise import Noise
from attend.kernels.capture import CudaGraphs
from attend.training.graphs import Graphs
from attend.training.reward import Likelihood
from attend.training.update import Update

PRECISIONS = tuple(DTYPES)


def captured(setup: Setup) -> Iterator[dict[str, Any]]:
    """A step of each way in turn; the plan alone if the device is none that captures."""
    for size in setup.sizes:
        for kind in KINDS:
            for precision in PRECISIONS:
                row = {"size": size.name, "attention": kind, "precision": precision}
                yield row | (_measured if setup.device.type == "cuda" else _planned)(setup, size, kind, precision)


def _planned(setup: Setup, size: Any, kind: str, precision: str) -> dict[str, Any]:
    bed = Bed(size, kind, torch.device("cpu"), precision)
    operations = sum(one.operations for one in products(size, bed.live))
    return {
        "words": bed.tokens,
        "GFLOP of products": operations / 1e9,
        "million units": units(size, bed.live) / 1e6,
        "MB to move": moved(size, bed.live, bed.parameters, DTYPES[precision]) / 1e6,
        "kernels": launches(size, kind)[0],
    }


def _measured(setup: Setup, size: Any, kind: str, precision: str) -> dict[str, Any]:
    device = setup.device
    bed, ours = Bed(size, kind, device, precision), Bed(size, kind, device, precision)
    update = update_of(ours)
    graphs = Graphs(update, CudaGraphs())
    calls = {"textbook": bed.plain, "eager": bed.ours, "captured": lambda: step(ours, graphs)}
    floor = measure(size, bed.live, bed.parameters, device, DTYPES[precision])
    calls["floor"] = lambda: [call() for _, call, times in floor for _ in range(times)]
    seconds = in_turn(calls, setup.rounds, device)
    return {
        "words a second": bed.tokens / statistics.median(seconds["captured"]),
        "eager": bed.tokens / statistics.median(seconds["eager"]),
        "textbook's": bed.tokens / statistics.median(seconds["textbook"]),
        "times the textbook": ratio(seconds, "textbook", "captured"),
        "times the floor": ratio(seconds, "captured", "floor"),
        "seconds": seconds,
    }


def update_of(bed: Bed) -> Update:
    """The update of training, of the captioner of a bed, which reads features as they are."""
    captioner, on = bed.captioner, bed.device
    model = SimpleNamespace(
        captioner=captioner, tuned=False, features=lambda inputs: inputs,
        autocast=lambda: torch.autocast(on.type, torch.bfloat16, enabled=bed.precision == "bf16"),
    )  # fmt: skip
    alone = SimpleNamespace(device=on, num_processes=1, reduce=lambda value, how: value)
    settings = with_fields(bed.settings, {"train.precision": bed.precision})
    return Update(settings, model, Likelihood(), bed.learner, alone, capturable=on.type == "cuda")


def step(bed: Bed, take: Any) -> None:
    """A step with the noise of its number, as training draws it."""
    bed.steps += 1
    noise = Noise.draw(bed.settings, bed.shape, 0, bed.steps)
    take(Batch.of(bed.features, bed.words, bed.lengths), noise, health_due=False)
