"""What a configuration has to know without torch: the names of scores and maps, and facts of each estimator.

Their functions are in ``attend.attention`` and ``attend.estimators``, which add to these what a user adds to them.
"""

from __future__ import annotations

from dataclasses import dataclass

SCORES = ["additive", "bilinear", "dot"]
"""Names of ``attend.attention.score.SCORES``."""

SIMPLEXES = ["softmax", "sparsemax", "entmax"]
"""Names of ``attend.attention.simplex.SIMPLEXES``."""

SEVERAL = 5
"""Samples of a caption, where an estimator compares them."""

ENUMERATED = 4096
"""Paths of a caption that are enumerated at most, where the state reads the glimpses: L^T of L locations, T words."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """How an estimator's glimpses are taken and which settings it reads.

    ``select`` is a name of SELECTIONS, RELAXATIONS or CHOICES in ``attend.attention.select``;
    ``samples`` the number of paths unless the configuration gives one, from ``fewest`` to ``most``; ``charged`` says
    whether estimator.cost and estimator.baseline are read, ``relaxed`` whether estimator.relaxation is, and ``mixed``
    whether some images take the expected context instead (semi-sampling). ``noise`` says that a number is drawn for
    every location of a word, beside one for its glimpse, and ``proposal`` that glimpses are drawn from a network's q.
    """

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
        """Whether paths are drawn one by one from alpha and weighed as they are."""
        return self.select == "sample" and not self.noise and not self.proposal


FACTS = {
    "reinforce": Facts(charged=True, mixed=True),
    "enumeration": Facts(select="all", most=1),
    "marginal": Facts(select="all", most=1),
    "vimco": Facts(samples=SEVERAL, mixed=True),
    "wake-sleep": Facts(samples=SEVERAL, mixed=True),
    "sum-and-sample": Facts(select="best-and-rest", samples=SEVERAL, fewest=2, most=100),
    "unordered-set": Facts(select="distinct", samples=SEVERAL, most=8, noise=True),
    "rebar": Facts(charged=True, relaxed=True, noise=True),
    "relax": Facts(charged=True, relaxed=True, noise=True),
    "gumbel-softmax": Facts(select="relaxed", relaxed=True, noise=True),
    "straight-through": Facts(select="straight-through"),
    "gumbel-straight-through": Facts(select="gumbel-straight-through", relaxed=True, noise=True),
    "variational": Facts(charged=True, proposal=True),
    "xu2015-code": Facts(most=1, mixed=True),
}
"""By name."""
