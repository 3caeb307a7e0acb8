"""The optimisers by name, and what a checkpoint keeps of one."""

import json
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attend.config import Train
from attend.runs.checkpoint import Group

OPTIMISERS = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "sgd": partial(torch.optim.SGD, fused=True),
}
MOMENTS = {
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "RMSprop": {"step", "square_avg"},
    "Adadelta": {"step", "square_avg", "acc_delta"},
    "SGD": set(),
}
"""What each keeps of a weight."""
SETTINGS = {"betas", "eps", "weight_decay", "alpha", "momentum", "rho"}
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


def unpack(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[Group]) -> None:
    """Take over the tensors and learning rates of a checkpoint. ValueError if they are of another optimiser."""
    own, weights = optimiser.state_dict()["param_groups"], [p for g in optimiser.param_groups for p in g["params"]]
    if [group["params"] for group in groups] != [group["params"] for group in own]:
        raise ValueError("its groups of weights are not those of the optimiser")
    for theirs, ours in zip(groups, own, strict=True):
        for name in SETTINGS & ours.keys() & theirs.keys():
            if json.loads(json.dumps(ours[name])) != theirs[name]:
                raise ValueError(f"its optimiser has another {name}")
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = (*name.split(".", 2), "")[:3]
            state.setdefault(int(index) if index.isdecimal() else -1, {})[key] = tensor
    wanted = MOMENTS[type(optimiser).__name__]
    for index, values in state.items():
        shape = weights[index].shape if 0 <= index < len(weights) else None
        if values.keys() != wanted or any(t.shape != (() if k == "step" else shape) for k, t in values.items()):
            raise ValueError(f"what its optimiser keeps of weight {index} does not fit")
    if wanted and not state:
        raise ValueError("it lacks what the optimiser keeps of the weights")
    rates = [ours | {"lr": theirs["lr"]} for theirs, ours in zip(groups, own, strict=True)]
    optimiser.load_state_dict({"state": state, "param_groups": rates})
