"""How hard attention learns: pure functions on tensors, and a table of what each estimates and needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attend import config
from attend.estimators.baselines import MovingAverage
from attend.estimators.paths import Charges, Paths
from attend.estimators.reinforce import reinforce
from attend.estimators.released import released_rule
from attend.estimators.several import vimco, wake_sleep


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One estimator: its function, what it estimates, whether without bias, and what it needs.

    ``target`` is bound (J), K-sample bound or marginal; ``paths`` how many of a caption it takes unless the
    configuration says so, and ``passes`` of the decoder what each path costs. ``divided`` says whether score part and
    entropy bonus are divided by the captions of a minibatch, as the likelihood is, ``penalised`` whether the doubly
    stochastic penalty has a gradient beside it, and ``validated_sampled`` whether given captions of the validation
    split are sampled, semi-sampling and all, instead of being decoded.
    """

    function: Callable[[Paths, config.Estimator, MovingAverage], Charges]
    target: str
    unbiased: bool
    source: str
    select: str = "sample"
    paths: int = 1
    passes: int = 1
    divided: bool = True
    penalised: bool = True
    validated_sampled: bool = False


ESTIMATORS = {
    "reinforce": Entry(
        function=reinforce,
        target="bound",
        unbiased=True,
        source="Williams (1992); Xu et al. (2015)",
    ),
    "vimco": Entry(
        function=vimco,
        target="K-sample bound",
        unbiased=True,
        paths=config.SEVERAL,
        source="Mnih and Rezende (2016)",
    ),
    "wake-sleep": Entry(
        function=wake_sleep,
        target="K-sample bound, its proposal held fixed",
        unbiased=True,
        paths=config.SEVERAL,
        source="Ba et al. (2015)",
    ),
    "xu2015-code": Entry(
        function=released_rule,
        target="bound",
        unbiased=False,
        source="the code released with Xu et al. (2015)",
        divided=False,
        penalised=False,
        validated_sampled=True,
    ),
}
