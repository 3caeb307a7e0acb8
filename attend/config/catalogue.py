"""All that a configuration may name, without torch: scores, maps, and the facts of each estimator.

The functions are in ``attend.attention`` and ``attend.estimators``. What a user adds there is added here.
"""

from dataclasses import dataclass
from typing import Any

SCORES = ["additive", "bilinear", "dot"]
"""Names of ``attend.attention.score.SCORES``."""

SIMPLEXES = ["softmax", "sparsemax", "entmax"]
"""Names of ``attend.attention.simplex.SIMPLEXES``."""

SEVERAL = 5
"""Samples per caption, if an estimator or a baseline compares them and the configuration gives no number."""

COMPARED = {"leave-one-out": "the mean over the other samples", "group": "the mean and deviation of the samples"}
"""Baselines that compare the samples of a caption, of which they need two, and what they compute."""

TODAY = {
    "estimator.name": {"Concrete": "gumbel-softmax"},
    "estimator.baseline": {
        "RLOO": "leave-one-out",
        "GRPO": "group",
        "NVIL": "learned",
        "ReMax": "self-critical",
        "SCST": "self-critical",
    },
    "train.reward_baseline": {"RLOO": "leave-one-out", "ReMax": "greedy", "SCST": "greedy"},
}
"""By field, the names of today's papers, and ours. The command line and files of settings take both, in any case."""


def ours(field: str, name: Any) -> Any:
    """Our name of what a user calls by the name of today's papers; any other value as it is.

    ValueError if it names a baseline where an estimator is expected.
    """
    if not isinstance(name, str):
        return name
    if field == "estimator.name" and (baseline := ours("estimator.baseline", name)) != name:
        raise ValueError(
            f"estimator.name is {name!r}, which is estimator.name 'reinforce' with estimator.baseline {baseline!r}: "
            f"set estimator.baseline to {baseline}, and leave estimator.name out"
        )
    known = {today.lower(): one for today, one in TODAY.get(field, {}).items()}
    return known.get(name.lower(), name)


ENUMERATED = 4096
"""Paths per caption that are enumerated at most, if the state reads the glimpses: L^T of L locations and T words."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an estimator estimates, how it takes its glimpses, and which settings it reads.

    target: bound (J, or under q), K-sample bound, marginal or relaxed.
    unbiased: whether its expectation is the gradient of the target.
    source: where it is from.
    passes: of the decoder, its cost. Those beyond the first find the paths, or are a control variate's.
    select: how the glimpses of a word are taken: sample, all, distinct, best-and-rest, or a relaxation.
    samples: paths per caption unless the configuration gives a number, from ``fewest`` to ``most``.
    charged: whether estimator.cost and estimator.baseline are read.
    relaxed: whether estimator.relaxation is read.
    mixed: whether some images may take the expected context instead (semi-sampling).
    noise: whether a number is drawn for every location of a word, beside one for its glimpse.
    proposal: whether glimpses are drawn from a network's q.
    """

    target: str = "bound"
    unbiased: bool = True
    source: str = ""
    passes: int = 1
    select: str = "sample"
    samples: int = 1
    fewest: int = 1
    most: int = 1000
    charged: bool = False
    relaxed: bool = False
    mixed: bool = False
    noise: bool = False
    proposal: bool = False

    @property
    def plain(self) -> bool:
        """Whether paths are drawn one by one from alpha and have equal weight."""
        return self.select == "sample" and not self.noise and not self.proposal


DENG, JANG = "Deng et al. (2018)", "Jang et al. (2017)"
VARIED = {"charged": True, "relaxed": True, "noise": True, "passes": 2}
FACTS = {
    "reinforce": Facts(source="Williams (1992); Xu et al. (2015)", charged=True, mixed=True),
    "enumeration": Facts(source=DENG, select="all", most=1),
    "marginal": Facts(source=DENG, target="marginal", select="all", most=1),
    "vimco": Facts(source="Mnih and Rezende (2016)", target="K-sample bound", samples=SEVERAL, mixed=True),
    "wake-sleep": Facts(
        source="Ba et al. (2015)", target="K-sample bound, its proposal held fixed", samples=SEVERAL, mixed=True
    ),
    "sum-and-sample": Facts(
        source="Liu et al. (2019)", passes=3, select="best-and-rest", samples=SEVERAL, fewest=2, most=100
    ),
    "unordered-set": Facts(
        source="Kool et al. (2020)", passes=2, select="distinct", samples=SEVERAL, most=8, noise=True
    ),
    "rebar": Facts(source="Tucker et al. (2017)", **VARIED),
    "relax": Facts(source="Grathwohl et al. (2018)", **VARIED),
    "gumbel-softmax": Facts(
        source=f"{JANG}; Maddison et al. (2017)",
        target="relaxed",
        unbiased=False,
        select="relaxed",
        relaxed=True,
        noise=True,
    ),
    "straight-through": Facts(source="Bengio et al. (2013)", unbiased=False, select="straight-through"),
    "gumbel-straight-through": Facts(
        source=JANG, unbiased=False, select="gumbel-straight-through", relaxed=True, noise=True
    ),
    "variational": Facts(source=DENG, target="bound by q", charged=True, proposal=True),
    "xu2015-code": Facts(source="the code released with Xu et al. (2015)", unbiased=False, most=1, mixed=True),
}
"""By name."""

WAYS = {
    "redirect": ("itself", "own box", "other's box", "random box"),
    "without": ("itself", "attended", "random cells", "least attended"),
}
"""By the name of an intervention on attention, what the weights of a word are: the model's own, and three in their
place (``attend.evaluation.cause``)."""
INTERVENED = ("log p", "said", "other log p", "said other")
"""What is measured under each of WAYS."""
