"""How hard attention learns: pure functions on tensors, and a table of what each estimates and needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attend import config
from attend.config.catalogue import FACTS, Facts
from attend.estimators.baselines import MovingAverage
from attend.estimators.distinct import sum_and_sample, unordered_set
from attend.estimators.exact import enumeration, marginal
from attend.estimators.paths import Charges, Paths
from attend.estimators.reinforce import reinforce
from attend.estimators.relaxed import pathwise
from attend.estimators.released import released_rule
from attend.estimators.several import vimco, wake_sleep


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One estimator: its function, what it estimates, whether without bias, what it costs, and its source.

    ``target`` is bound (J, or under q), K-sample bound, marginal or relaxed; ``passes`` of the decoder are its cost.
    ``divided`` says whether score part and entropy bonus are divided by the captions of a minibatch, as the likelihood
    is, ``penalised`` whether the doubly stochastic penalty has a gradient beside it, and ``validated_sampled`` whether
    given captions of the validation split are sampled, semi-sampling and all, instead of being decoded. ``facts`` say
    how its glimpses are taken, and how many.
    """

    facts: Facts
    function: Callable[[Paths, config.Estimator, MovingAverage], Charges]
    target: str
    unbiased: bool
    source: str
    passes: int = 1
    divided: bool = True
    penalised: bool = True
    validated_sampled: bool = False


ESTIMATORS = {
    "reinforce": Entry(
        facts=FACTS["reinforce"],
        function=reinforce,
        target="bound",
        unbiased=True,
        source="Williams (1992); Xu et al. (2015)",
    ),
    "enumeration": Entry(
        facts=FACTS["enumeration"],
        function=enumeration,
        target="bound",
        unbiased=True,
        source="Deng et al. (2018)",
    ),
    "marginal": Entry(
        facts=FACTS["marginal"],
        function=marginal,
        target="marginal",
        unbiased=True,
        source="Deng et al. (2018)",
    ),
    "vimco": Entry(
        facts=FACTS["vimco"],
        function=vimco,
        target="K-sample bound",
        unbiased=True,
        source="Mnih and Rezende (2016)",
    ),
    "wake-sleep": Entry(
        facts=FACTS["wake-sleep"],
        function=wake_sleep,
        target="K-sample bound, its proposal held fixed",
        unbiased=True,
        source="Ba et al. (2015)",
    ),
    "sum-and-sample": Entry(
        facts=FACTS["sum-and-sample"],
        function=sum_and_sample,
        target="bound",
        unbiased=True,
        passes=3,
        source="Liu et al. (2019)",
    ),
    "unordered-set": Entry(
        facts=FACTS["unordered-set"],
        function=unordered_set,
        target="bound",
        unbiased=True,
        passes=2,
        source="Kool et al. (2020)",
    ),
    "rebar": Entry(
        facts=FACTS["rebar"],
        function=reinforce,
        target="bound",
        unbiased=True,
        source="Tucker et al. (2017)",
        passes=2,
    ),
    "relax": Entry(
        facts=FACTS["relax"],
        function=reinforce,
        target="bound",
        unbiased=True,
        source="Grathwohl et al. (2018)",
        passes=2,
    ),
    "gumbel-softmax": Entry(
        facts=FACTS["gumbel-softmax"],
        function=pathwise,
        target="relaxed",
        unbiased=False,
        source="Jang et al. (2017); Maddison et al. (2017)",
    ),
    "straight-through": Entry(
        facts=FACTS["straight-through"],
        function=pathwise,
        target="bound",
        unbiased=False,
        source="Bengio et al. (2013)",
    ),
    "gumbel-straight-through": Entry(
        facts=FACTS["gumbel-straight-through"],
        function=pathwise,
        target="bound",
        unbiased=False,
        source="Jang et al. (2017)",
    ),
    "variational": Entry(
        facts=FACTS["variational"],
        function=reinforce,
        target="bound by q",
        unbiased=True,
        source="Deng et al. (2018)",
    ),
    "xu2015-code": Entry(
        facts=FACTS["xu2015-code"],
        function=released_rule,
        target="bound",
        unbiased=False,
        source="the code released with Xu et al. (2015)",
        divided=False,
        penalised=False,
        validated_sampled=True,
    ),
}
"""By name. ``passes`` beyond the first find the paths, where the state reads glimpses, or are a control variate's."""


def add(name: str, entry: Entry) -> None:
    """An estimator of one's own; its name is then known to configurations."""
    ESTIMATORS[name] = entry
    FACTS[name] = entry.facts
