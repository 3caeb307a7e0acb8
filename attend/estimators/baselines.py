"""Baselines: what a cost is compared with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class MovingAverage:
    """b <- decay b + (1 - decay) x. The first x starts it.

    The *old* value is the baseline of a minibatch; ``update`` comes after. Updating first would let the baseline
    depend on the sample it is subtracted from and shrink the score part.

    Source: Xu et al. (2015), section 4.1.
    """

    decay: float = 0.9
    value: float | None = None

    def update(self, observed: float) -> None:
        """Take in one more observation."""
        self.value = observed if self.value is None else self.decay * self.value + (1 - self.decay) * observed
