"""How hard attention learns: pure functions on tensors, and a table of what each estimates and needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attend.estimators.reinforce import with_moving_average
from attend.estimators.released import released_rule


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One estimator: its function, what it estimates, whether without bias, and what it needs.

    ``divided`` says whether score part and entropy bonus are divided by the captions of a minibatch, as the likelihood
    is, ``penalised`` whether the doubly stochastic penalty has a gradient beside it, and ``validated_sampled`` whether
    given captions of the validation split are sampled, semi-sampling and all, instead of being decoded.
    """

    function: Callable
    target: str
    unbiased: bool
    select: str
    samples: int
    passes: int
    source: str
    divided: bool = True
    penalised: bool = True
    validated_sampled: bool = False


ESTIMATORS = {
    "reinforce": Entry(
        function=with_moving_average,
        target="bound",
        unbiased=True,
        select="sample",
        samples=1,
        passes=1,
        source="Williams (1992); Xu et al. (2015)",
    ),
    "xu2015-code": Entry(
        function=released_rule,
        target="bound",
        unbiased=False,
        select="sample",
        samples=1,
        passes=1,
        source="the code released with Xu et al. (2015)",
        divided=False,
        penalised=False,
        validated_sampled=True,
    ),
}
