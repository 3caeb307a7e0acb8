"""The whole step as one CUDA graph: captured once for each shape of a minibatch, and replayed.

A replay is one launch for the host, where an eager step is hundreds. So the step reads nothing of the host but what is
copied into buffers of a fixed place: features, words, their lengths, noise. The words of a minibatch are padded up to a
multiple of BUCKET, so that few shapes occur. The first minibatch of a shape takes an eager step, which is a step of
training like any other, and is captured after it. All graphs share one pool of memory, which is as large as the largest
needs; each has its own buffers, and after MOST shapes new ones stay eager.

Graphs and eager steps agree to rounding: what is padded is more, and sums are taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from attend.bars import say
from attend.captioner.captioner import BUCKET
from attend.captioner.layout import OnDevice, rounded_up
from attend.config import Config
from attend.data.batches import MAXIMUM_LENGTH, Batch
from attend.decoder.protocol import Dropout
from attend.estimators import Learner
from attend.estimators.noise import Noise
from attend.estimators.take import every_path
from attend.kernels.capture import Capture, say_refused
from attend.model import Model
from attend.training.optimiser import Rates
from attend.training.update import Told, Update

MOST = 32
"""Shapes that are captured. Captions of up to 50 words have 13 lengths, for whole minibatches and the last one."""
PLACES = rounded_up(MAXIMUM_LENGTH + 1, BUCKET)
"""The places of a moving average that has one for each word of the longest caption."""
Step = Callable[[], Told]


class Graphs:
    """An ``Update`` that captures its steps. It is called as the update is, with tensors of the host or the device."""

    def __init__(self, update: Update, capture: Capture) -> None:
        self.update, self.capture = update, capture
        self.rates = Rates(update.optimiser)
        update.average = update.average.wide(PLACES)
        self.buckets: dict[tuple, tuple[dict[str, Tensor], Step]] = {}
        self.broken = False

    def __call__(self, batch: Batch, noise: Noise, *, health_due: bool) -> Told:
        extent = rounded_up(batch.words.shape[2], BUCKET)
        if noise.soft is None:  # of one shape whether a coin has fallen for soft or not
            noise = replace(noise, soft=torch.zeros(noise.glimpse.shape[:2], dtype=torch.bool))
        given = _parts(batch.widened(extent), noise.widened(extent))
        shape = tuple((name, part.shape, part.dtype) for name, part in given.items())
        if shape in self.buckets:
            buffers, replay = self.buckets[shape]
            for name, part in given.items():
                buffers[name].copy_(self.capture.staged(part), non_blocking=True)
            return replay()
        device = self.update.accelerator.device
        buffers = {name: part.to(device, copy=True) for name, part in given.items()}
        step = partial(self._step, buffers)
        told = self.capture.warm(step)
        if len(self.buckets) < MOST and not self.broken:
            self._capture(shape, buffers, step)
        return told

    def rates_changed(self) -> None:
        """As of an update."""
        self.rates.renew()

    def _capture(self, shape: tuple, buffers: dict[str, Tensor], step: Step) -> None:
        try:
            self.buckets[shape] = (buffers, self.capture.record(step))
        except RuntimeError as error:  # what a driver or an operation of one's own refuses
            self.broken = True
            self.update.optimiser.zero_grad()  # what it had captured until then is no gradient
            say_refused("this step", error)

    def _step(self, buffers: dict[str, Tensor]) -> Told:
        """The step on the buffers. The moving average keeps its place, and health is always told."""
        before = self.update.average
        try:
            with self.rates:
                told = self.update(*_assembled(buffers), health_due=True)
            before.take(self.update.average)
        finally:
            self.update.average = before
        return told


def wanted(config: Config, model: Model, learner: Learner, accelerator: Accelerator) -> bool:
    """Whether steps are to be captured: on CUDA, if nothing speaks against it, which is said to stderr."""
    if not config.train.graphs or accelerator.device.type != "cuda":
        return False
    why = why_not(config, model, learner, accelerator)
    if why is not None:
        say(f"steps are not captured in CUDA graphs: {why}")
    return why is None


def why_not(config: Config, model: Model, learner: Learner, accelerator: Accelerator) -> str | None:
    """Why steps cannot be captured; None if they can."""
    name = config.estimator.name
    reasons = {
        "train.reward scores captions on the host": config.train.reward != "likelihood",
        "several processes train one run": accelerator.num_processes > 1,
        "encoder.tune_blocks computes the encoder in every step": model.tuned,
        f"estimator.name {name!r} reads the lengths of captions": not learner.rule.static,
        f"estimator.name {name!r} takes every path": learner.rule.take is every_path and not model.captioner.apart,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _parts(batch: Batch, noise: Noise) -> dict[str, Tensor]:
    """The tensors that a step reads, by name."""
    parts = {"inputs": batch.inputs, "words": batch.words, "lengths": batch.lengths, "shares": batch.shares}
    for one in fields(noise):
        drawn = getattr(noise, one.name)
        several = drawn._asdict() if isinstance(drawn, Dropout) else {"": drawn}
        parts |= {f"noise {one.name} {name}": part for name, part in several.items()}
    return {name: part for name, part in parts.items() if part is not None}


def _assembled(parts: dict[str, Tensor]) -> tuple[Batch, Noise]:
    """The inverse, with lengths that only the device knows."""
    known = OnDevice(parts["lengths"])
    drop = Dropout(*(parts.get(f"noise drop {name}") for name in Dropout._fields))
    noise = {one.name: parts.get(f"noise {one.name} ") for one in fields(Noise)}
    batch = Batch.of(parts["inputs"], parts["words"], known, parts.get("shares"))
    return batch, Noise(**noise | {"drop": drop})
