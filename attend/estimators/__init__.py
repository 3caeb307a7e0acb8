"""How hard attention learns: pure functions on tensors, and a table of what each estimates and needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attend.estimators.reinforce import reinforce


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One estimator: its function, what it estimates, whether without bias, and what it needs."""

    function: Callable
    target: str
    unbiased: bool
    select: str
    samples: int
    passes: int
    source: str


ESTIMATORS = {
    "reinforce": Entry(
        function=reinforce,
        target="bound",
        unbiased=True,
        select="sample",
        samples=1,
        passes=1,
        source="Williams (1992); Xu et al. (2015)",
    )
}
