"""How hard attention learns: a table of rules, one row a name. The functions of a family stand in one file."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attend import config
from attend.captioner.captioner import Captioner
from attend.captioner.unrolled import Readout
from attend.config.catalogue import FACTS, Facts
from attend.estimators import relaxed
from attend.estimators.baselines import BASELINES, Average, critic_loss
from attend.estimators.control import Control, ControlNetwork, controlled, variance
from attend.estimators.different_paths import likeliest_and_another, without_replacement
from attend.estimators.distinct import sum_and_sample, unordered_set
from attend.estimators.exact import enumeration, marginal
from attend.estimators.noise import Noise
from attend.estimators.paths import Charges, Paths
from attend.estimators.reinforce import reinforce, reinforce_loss
from attend.estimators.released import released_rule
from attend.estimators.several import vimco, wake_sleep
from attend.estimators.take import Given, Take, every_path, samples, softly, under
from attend.estimators.variational import Inference, divergence, from_proposal

__all__ = ["ESTIMATORS", "SOFT", "Learner", "Rule", "add", "nothing", "reinforce_loss"]


def nothing(paths: Paths, charges: Charges, settings: config.Estimator) -> dict[str, Tensor]:
    """No loss beside the model's."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One estimator.

    charge: weighs the samples; a pure function of paths, settings and the moving average. None for soft attention.
    take: how its glimpses of a minibatch are taken.
    learns: the network that is learned beside the model, called with (config, features, vocabulary).
    extra: the losses that this network learns from, summed over words.
    start: the moving average before the first minibatch.
    scaled: whether estimator.scale applies; what is computed without sampling is not scaled.
    divided: whether score part and entropy bonus are divided by the captions of a minibatch, as the likelihood is.
    penalised: whether the doubly stochastic penalty has a gradient beside it.
    validated_sampled: whether given captions of the validation split are sampled, semi-sampling and all.
    static: whether shapes alone decide what is computed, and more padding changes nothing, so that a step can be
        captured once and replayed.
    """

    charge: Callable[[Paths, config.Estimator, Average], Charges] | None
    take: Take = samples
    learns: type[nn.Module] | None = None
    extra: Callable[[Paths, Charges, config.Estimator], dict[str, Tensor]] = nothing
    start: tuple[float | None, ...] = ()
    scaled: bool = True
    divided: bool = True
    penalised: bool = True
    validated_sampled: bool = False
    static: bool = True


SOFT = Rule(charge=None, take=softly)
ESTIMATORS = {
    "reinforce": Rule(charge=reinforce),
    "enumeration": Rule(charge=enumeration, take=every_path, scaled=False),
    "marginal": Rule(charge=marginal, take=every_path, scaled=False),
    "vimco": Rule(charge=vimco),
    "wake-sleep": Rule(charge=wake_sleep),
    "sum-and-sample": Rule(charge=sum_and_sample, take=likeliest_and_another),
    "unordered-set": Rule(charge=unordered_set, take=without_replacement),
    "rebar": Rule(charge=controlled, learns=Control, extra=variance),
    "relax": Rule(charge=controlled, learns=ControlNetwork, extra=variance),
    "gumbel-softmax": Rule(charge=relaxed.pathwise, take=under(relaxed.gumbel_softmax)),
    "straight-through": Rule(charge=relaxed.pathwise, take=under(relaxed.straight_through)),
    "gumbel-straight-through": Rule(charge=relaxed.pathwise, take=under(relaxed.gumbel_straight_through)),
    "variational": Rule(charge=reinforce, take=from_proposal, learns=Inference, extra=divergence, static=False),
    "xu2015-code": Rule(
        charge=released_rule, start=(0.0,), divided=False, penalised=False, validated_sampled=True, static=False
    ),
}
"""By name. What each estimates, whether without bias, and its source stand in ``config.catalogue.FACTS``."""


def add(name: str, rule: Rule, facts: Facts) -> None:
    """Add an estimator of your own under a name that configurations then know. ValueError if it is none."""
    if not (isinstance(name, str) and isinstance(rule, Rule) and isinstance(facts, Facts)):
        kinds = ", ".join(type(one).__name__ for one in (name, rule, facts))
        raise ValueError(f"estimators.add was given {kinds}: give a name, a Rule and its Facts")
    ESTIMATORS[name], FACTS[name] = rule, facts


class Learner(nn.Module):
    """How a configuration learns: its rule, its baseline, and what these two learn beside the model."""

    def __init__(self, settings: config.Config, features: int, vocabulary: int) -> None:
        super().__init__()
        self.settings, estimator = settings, settings.estimator
        self.rule = ESTIMATORS[estimator.name] if settings.attention.hard else SOFT
        self.baseline = BASELINES[estimator.baseline if estimator.facts.charged else "none"]
        sizes = (settings, features, vocabulary)
        critic = None if self.rule.charge is None else self.baseline.learns
        self.critic = None if critic is None else critic(*sizes)
        self.learned = None if self.rule.learns is None else self.rule.learns(*sizes)

    @property
    def hard(self) -> bool:
        """Whether there are glimpses to learn from."""
        return self.rule.charge is not None

    def start(self, device: torch.device | str = "cpu") -> Average:
        """The moving average before the first minibatch."""
        return Average.of(list(self.rule.start), device)

    def take(self, captioner: Captioner, given: Given, noise: Noise) -> Readout:
        """The glimpses of a minibatch, as the rule takes them."""
        return self.rule.take(captioner, given, noise, self.settings, self.learned)

    def charge(self, paths: Paths, average: Average) -> Charges:
        return self.rule.charge(paths, self.settings.estimator, average)

    def extra(self, paths: Paths, charges: Charges) -> dict[str, Tensor]:
        """The losses of what is learned beside the model, summed over words."""
        losses = self.rule.extra(paths, charges, self.settings.estimator)
        if paths.level is not None:
            losses["critic"] = critic_loss(paths, self.settings.estimator) / paths.costs.shape[-2]
        return losses
