"""Every setting of a run, with its unit and default; impossible values and combinations raise ValueError here.

The order is the order of the equations: data, encoder, attention, estimator, decoder, objective, search, training.
"""

from dataclasses import dataclass, field

from attend.config.catalogue import ENUMERATED
from attend.config.learning import Decode, Estimator, Intervention, Look, Objective, Search, Train
from attend.config.model import LEVEL, Attention, Decoder, Encoder
from attend.config.section import LARGEST, Seed, require, within

__all__ = [
    "LARGEST", "LEVEL", "Attention", "Config", "Decode", "Decoder", "Encoder", "Estimator", "Intervention", "Look",
    "Objective", "Search", "Train", "require",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run: everything that its result depends on."""

    data: str = "data/scenes"
    """a folder written by `attend prepare`"""
    seed: Seed = 0
    """seed of the weights at the start, of the order of the data and of all noise"""
    start: str | None = None
    """run folder whose best weights the run begins with, as far as names and shapes agree; none begins anew"""
    encoder: Encoder = field(default_factory=Encoder)
    attention: Attention = field(default_factory=Attention)
    estimator: Estimator = field(default_factory=Estimator)
    decoder: Decoder = field(default_factory=Decoder)
    objective: Objective = field(default_factory=Objective)
    search: Search = field(default_factory=Search)
    train: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        attention, rule = self.attention, self.estimator
        within(self.seed, Seed, "seed")
        if attention.weights == "oracle" and self.train.monitor != "nll":
            raise ValueError("attention.weights 'oracle' reads given captions and writes none: set train.monitor 'nll'")
        if self.objective.supervised and not attention.learned:
            raise ValueError(
                f"objective.supervised is {self.objective.supervised}, but attention.weights {attention.weights!r} has "
                "nothing to learn from boxes: set it to 0, or weights to 'learned'"
            )
        if not attention.hard and (rule.name != "reinforce" or rule.drawn > 1):
            raise ValueError(
                f"estimator.name {rule.name!r} with {rule.drawn} samples learns from glimpses, but attention.select "
                f"{attention.select!r} samples none: set attention.select to 'sample'"
            )
        for name in () if attention.hard else ("baseline", "cost", "rollout"):
            if getattr(rule, name) != getattr(Estimator, name):
                raise ValueError(
                    f"estimator.{name} is {getattr(rule, name)!r}, but attention.select {attention.select!r} samples "
                    "no glimpses to be charged: leave it out, or set attention.select to 'sample'"
                )
        if rule.name == "xu2015-code" and attention.temperature != 1:
            raise ValueError(
                f"attention.temperature is {attention.temperature}, but estimator.name 'xu2015-code' is the rule of "
                "code that multiplies scores by its temperature where ours divides: leave it at 1"
            )
        self._check_looks()
        self._check_feed()
        if self.train.reward != "likelihood":
            self._check_reward()

    def _check_looks(self) -> None:
        """ValueError if the glimpses of several heads, or of the first word alone, do not go with the rest."""
        attention, rule = self.attention, self.estimator
        if attention.heads > 1 and not (rule.facts.plain and rule.rollout == "start"):
            raise ValueError(
                f"estimator.name {rule.name!r} with estimator.rollout {rule.rollout!r} is for one head, but "
                f"attention.heads is {attention.heads}: set it to 1"
            )
        other = rule.baseline in ("soft", "self-critical", "learned") or attention.feed == "expected"
        if attention.weights == "first" and attention.hard and (other or not rule.facts.plain):
            raise ValueError(
                f"attention.weights 'first' draws one glimpse a caption, for which estimator.name {rule.name!r} with "
                f"baseline {rule.baseline!r} and attention.feed {attention.feed!r} is not made: leave them out"
            )
        if self.decoder.cell == "adaptive" and attention.heads > 1:
            raise ValueError(
                "decoder.cell 'adaptive' compares its sentinel with the scores of one head, but attention.heads is "
                f"{attention.heads}: set it to 1"
            )

    def _check_feed(self) -> None:
        """ValueError if what the decoder reads of a glimpse does not go with the rest."""
        attention, rule = self.attention, self.estimator
        if self.decoder.looks == "every" and attention.hard and attention.feed == "glimpse":
            raise ValueError(
                "decoder.looks is 'every', so blocks before the last read the expected context, but attention.feed is "
                "'glimpse': set attention.feed to expected, or decoder.looks to shared"
            )
        if attention.feed == "expected":
            if rule.name == "xu2015-code":
                raise ValueError(
                    "estimator.name 'xu2015-code' is the rule of code whose attention.feed is 'glimpse': leave "
                    "attention.feed out, or choose another estimator"
                )
            if self.decoder.cell == "lstm" and "context" not in self.decoder.terms:
                raise ValueError(
                    "attention.feed is 'expected', so only the readout sees the glimpse, but it does not read the "
                    "context: set decoder.readout deep and leave decoder.readout_context on"
                )
        elif self.search.decode == "marginal":
            raise ValueError(
                f"search.decode is 'marginal', but with attention.feed {attention.feed!r} later words depend on the "
                "glimpse, so no sum over locations gives the probability of a word: choose another"
            )

    def _check_reward(self) -> None:
        """ValueError if something does not go with self-critical training."""
        attention, rule, reward = self.attention, self.estimator, self.train.reward
        if attention.weights in ("oracle", "random"):
            raise ValueError(
                f"train.reward is {reward!r}, but attention.weights {attention.weights!r} needs given captions: choose "
                "other weights"
            )
        alone = rule.name == "reinforce" and rule.baseline == Estimator.baseline and rule.drawn == 1
        if attention.hard and (not alone or attention.heads > 1):
            raise ValueError(
                f"train.reward is {reward!r}, which charges one sampled glimpse per word with the caption's score: "
                "leave estimator.name, estimator.samples, estimator.baseline and attention.heads out"
            )
        if self.objective.supervised:
            raise ValueError(
                f"train.reward is {reward!r}, but objective.supervised {self.objective.supervised} needs given "
                "captions: leave it out, or reward the mass (cider+mass)"
            )

    @property
    def samples(self) -> int:
        """K, the paths that training takes through each caption: 1 for soft attention."""
        return self.estimator.drawn if self.attention.hard else 1

    @property
    def taken(self) -> str:
        """How training takes the glimpses of a word: ``Facts.select``, or "expected" for soft attention."""
        return self.estimator.facts.select if self.attention.hard else "expected"

    @property
    def noisy(self) -> bool:
        """Whether training draws a number for every location of a word."""
        return self.attention.hard and self.estimator.facts.noise

    @property
    def cost(self) -> str:
        """What a glimpse is charged with, resolved."""
        return self.estimator.cost or ("own" if self.attention.feed == "expected" else "to-go")

    @property
    def decode(self) -> Decode:
        """The context that captions are generated with."""
        if self.search.decode:
            return self.search.decode
        if self.attention.feed == "expected":
            return "marginal"
        return "argmax" if self.attention.hard else self.attention.select

    @property
    def drawn(self) -> Decode:
        """The context that captions are sampled with: sampled glimpses of hard attention, else as in training."""
        return "sample" if self.attention.hard else self.attention.select

    def way(self, decode: Decode | None = None, beam: int | None = None) -> tuple[Decode, int]:
        """How captions are generated: the context and the beam that are given, else the run's own."""
        return decode or self.decode, self.search.beam if beam is None else beam

    def check_fits(self, locations: int, longest: int) -> None:
        """Raise ValueError if training takes more paths, or more different locations, than a dataset has.

        ``locations`` is L of the encoder's grid, ``longest`` the words of the longest caption.
        """
        if self.taken == "all" and self.attention.feed == "glimpse":
            check_enumerable(locations, longest)
        if self.taken in ("distinct", "best-and-rest") and self.samples - (self.taken == "best-and-rest") > locations:
            raise ValueError(
                f"estimator.samples is {self.samples}, but estimator.name {self.estimator.name!r} takes different "
                f"ones, and a caption of one word has {locations}, the locations of the encoder's grid: give fewer"
            )


def check_enumerable(locations: int, length: int) -> None:
    """Raise ValueError if a caption has more than ENUMERATED paths."""
    if locations**length > ENUMERATED:
        raise ValueError(
            f"a caption of {length} words over {locations} locations has {locations}^{length} paths, and no more than "
            f"{ENUMERATED} are enumerated: set attention.feed to expected, where {locations} glimpses a word are enough"
        )
