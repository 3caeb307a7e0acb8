"""The optimisers by name, and what a checkpoint keeps of one."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attend.config import Train

OPTIMISERS = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "sgd": partial(torch.optim.SGD, fused=True),
}
COUNT_STEPS = ("adam", "adamw", "rmsprop", "adadelta")
"""Those that count their steps, on the host unless they are told not to."""


def make(settings: Train, parameters: list[Tensor], tuned: list[Tensor], *, capturable: bool) -> torch.optim.Optimizer:
    """The optimiser of a run, with a rate of its own for the encoder's ``tuned`` blocks.

    ``capturable``: steps are counted on the device, so that a step can be captured once and replayed.
    """
    more = {"capturable": True} if capturable and settings.optimiser in COUNT_STEPS else {}
    groups = [{"params": parameters, "lr": settings.learning_rate}]
    if tuned:
        groups.append({"params": tuned, "lr": settings.encoder_learning_rate})
    return OPTIMISERS[settings.optimiser](groups, **more)


def lower(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Multiply all learning rates by a factor."""
    for group in optimiser.param_groups:
        group["lr"] *= factor


class Rates:
    """The learning rates of an optimiser as tensors on the device: in its context a step reads these."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.groups = optimiser.param_groups
        self.held = [torch.zeros((), device=group["params"][0].device) for group in self.groups]
        self.renew()

    def renew(self) -> None:
        """Take over what a schedule has made of the rates."""
        for group, rate in zip(self.groups, self.held, strict=True):
            rate.fill_(group["lr"])

    def __enter__(self) -> None:
        self.numbers = [group["lr"] for group in self.groups]
        self._give(self.held)

    def __exit__(self, *_: object) -> None:
        self._give(self.numbers)

    def _give(self, rates: list[Tensor] | list[float]) -> None:
        for group, rate in zip(self.groups, rates, strict=True):
            group["lr"] = rate


def packed(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The tensors of an optimiser by name, and its groups."""
    whole = optimiser.state_dict()
    tensors = {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, values in whole["state"].items()
        for name, value in values.items()
    }
    return tensors, whole["param_groups"]


def unpack(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> None:
    """Take over the tensors and groups of a checkpoint, but count steps where this optimiser does."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    places = [{name: group[name] for name in ("capturable",) if name in group} for group in optimiser.param_groups]
    groups = [group | place for group, place in zip(groups, places, strict=True)]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
