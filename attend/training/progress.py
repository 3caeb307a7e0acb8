"""What a training loop counts: sums that stay on the device until they are logged."""

from collections.abc import Callable

import torch
from torch import Tensor

PER_STEP = ("attention_gradient", "wait_seconds", "step_seconds")
"""Meters that are a mean per step; all others are means per word."""


class Meters:
    """Sums since the last line of metrics.jsonl, and the first step whose loss was not finite.

    ``add`` never waits for the device; ``read`` does, and adds what the other processes have.
    """

    def __init__(self, sums: dict[str, float] | None = None) -> None:
        self.sums = dict(sums or {})  # of all processes
        self.own: dict[str, Tensor] = {}  # of this process, on the device
        self.bad: Tensor | None = None  # step and loss; step is -1 while all losses are finite

    def add(self, **values: float | Tensor) -> None:
        """Add numbers of the host, which count for all processes, or this process's share of sums on the device."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.detach().float()
                self.own[name] = self.own[name] + value if name in self.own else value.clone()
            else:
                self.sums[name] = self.sums.get(name, 0.0) + value

    def watch(self, step: int, loss: Tensor) -> None:
        """Remember the first loss that is not finite."""
        loss = loss.detach().float()
        now = torch.stack([torch.full_like(loss, step), loss])
        before = torch.stack([torch.full_like(loss, -1), loss]) if self.bad is None else self.bad
        self.bad = torch.where((before[0] < 0) & ~torch.isfinite(loss), now, before)

    def check(self, gathered: Callable[[Tensor], Tensor]) -> None:
        """Raise ValueError if a loss of any process was not finite."""
        if self.bad is None:
            return
        bad = [(step, loss) for step, loss in gathered(self.bad[None]).tolist() if step >= 0]
        self.bad = None
        if bad:
            step, loss = min(bad)
            raise ValueError(f"the loss is {loss} at step {int(step)}: lower train.learning_rate or use precision fp32")

    def own_mean(self, name: str) -> float | None:
        """The mean per word of one meter, of this process alone and without a trace; None before the first word."""
        words = self.sums.get("words")
        return (self.sums.get(name, 0.0) + float(self.own.get(name, 0.0))) / words if words else None

    def read(self, summed: Callable[[dict[str, float]], dict[str, float]]) -> dict[str, float]:
        """The sums as numbers. ``summed`` adds what the other processes have."""
        if self.own:
            numbers = summed(dict(zip(self.own, torch.stack(list(self.own.values())).tolist(), strict=True)))
            self.add(**numbers)
            self.own = {}
        return self.sums


def means(sums: dict[str, float]) -> dict[str, float]:
    """Means per word, or per step, from the sums of ``Meters``."""
    counts = {name: sums["steps" if name in PER_STEP else "words"] for name in sums if name not in ("steps", "words")}
    values = {name: sums[name] / count for name, count in counts.items()}
    return values | {"tokens_per_second": sums["words"] / sums["step_seconds"]}
