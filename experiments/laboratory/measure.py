"""Samples of every gradient estimator at fixed weights on one minibatch: bias, variance, time and memory of each.

attend estimators --tiny                                                # few enough paths to enumerate: minutes
attend estimators --run runs/quickstart/hard/seed0 --checkpoints all    # for a trained run
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import torch
from attend.analysis.figures.estimators import Measured, markdown, write_rows
from attend.analysis.figures.from_runs import draw_estimators
from attend.experiments.bench.clock import in_turn
from attend.experiments.bench.memory import peak
from attend.experiments.laboratory.exact import Exact, gradient_of, noise_of, parts, ruled
from attend.experiments.laboratory.expectation import expectation
from attend.experiments.laboratory.statistics import Running, distance
from attend.experiments.laboratory.subjects import Subject
from torch import Tensor

from attend.bars import through
from attend.captioner.captioner import Captioner
from attend.config import Config, Estimator
from attend.config.catalogue import FACTS
from attend.estimators import Learner
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.signals import SIGNALS
from attend.runs.files import write_text
from attend.training.objective import Loss, loss_of

SETTLE = 50
"""The number of minibatches that update moving averages and train auxiliary networks before these are frozen."""
RATE = 0.01
"""The learning rate of Adam for the auxiliary networks."""
REFERENCE = f"reinforce, {Estimator.baseline}"
"""The estimator that variance at equal time is relative to."""
GRADIENT = {"scale": 1.0, "entropy": 0.0, "semi": 0.0}
"""Settings for the bare gradient, without additions that help learning."""
OWN = {"xu2015-code": {"scale": 0.1}}
"""Settings that belong to a rule."""


def ways(settings: Config, samples: int | None = None) -> dict[str, dict]:
    """Settings of every estimator by title: REINFORCE with each baseline and, with the soft one, each other cost.

    The soft baseline leaves little variance, so the bias of a cost is visible.

    ``samples`` is K of the estimators with several samples.
    """
    plain = ruled(settings, Estimator()).cost
    found = {}
    for name in FACTS:
        variants: dict[str, dict] = {name: {}}
        if name == "reinforce":
            variants = {f"{name}, {baseline}": {"baseline": baseline} for baseline in BASELINES}
            others = [cost for cost in SIGNALS if cost != plain]
            variants |= {f"{name}, soft, {cost} cost": {"baseline": "soft", "cost": cost} for cost in others}
            passes = [baseline for baseline, one in BASELINES.items() if one.rollout] if plain == "to-go" else []
            variants |= {f"{name}, {one} from the prefix": {"baseline": one, "rollout": "prefix"} for one in passes}
        for title, more in variants.items():
            rule = {"name": name} | GRADIENT | OWN.get(name, {}) | more
            several = samples is not None and Estimator(**rule).drawn > 1
            found[title] = rule | ({"samples": samples} if several else {})
    return found


@dataclass(frozen=True, kw_only=True)
class Way:
    """One estimator of one subject's gradient, with its moving average and auxiliary networks after ``settled``."""

    subject: Subject
    captioner: Captioner
    learner: Learner
    average: Average

    @classmethod
    def of(cls, subject: Subject, rule: dict) -> Self:
        """The estimator with settings ``rule``. ValueError if it does not fit this model and minibatch."""
        settings = ruled(subject.settings, Estimator(**rule))
        settings.check_fits(subject.features.shape[1], subject.longest)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(subject.seed)
            learner = Learner(settings, *subject.sizes).to(subject.features)
        way = cls(subject=subject, captioner=subject.under(settings), learner=learner, average=learner.start())
        return replace(way, average=way.settled())

    def settled(self) -> Average:
        """The moving average after SETTLE minibatches, which also train the networks."""
        average, learned = self.average, list(self.learner.parameters())
        optimiser = torch.optim.Adam(learned, lr=RATE) if learned else None
        for draw in range(SETTLE):
            with torch.set_grad_enabled(bool(learned)):
                loss = self.loss(draw, average)
            average = average.after(loss.observed, self.settings.estimator.decay)
            if optimiser is not None:
                for parameter, slope in zip(learned, torch.autograd.grad(loss.total, learned), strict=True):
                    parameter.grad = slope
                optimiser.step()
            elif loss.observed is None:  # there is no average
                break
        return average

    @property
    def settings(self) -> Config:
        return self.learner.settings

    def loss(self, draw: int, average: Average) -> Loss:
        noise = noise_of(self.subject, self.settings, draw)
        return loss_of(self.captioner, self.subject.features, self.subject.batch, noise, self.learner, average)[1]

    def draw(self, number: int) -> Tensor:
        """One estimate of the gradient, (P,)."""
        return gradient_of(self.captioner, self.loss(SETTLE + number, self.average).total)


def measure(
    subjects: Iterable[Subject],
    *,
    draws: int,
    rounds: int,
    samples: int | None = None,
    only: Sequence[str] = tuple(FACTS),
) -> list[Measured]:
    """A record for each subject, estimator of ``only`` and group of parameters.

    Each gradient is sampled ``draws`` times. Then steps are timed in ``rounds`` in which estimators take turns, and
    their memory is measured; with 0 rounds, neither is.
    """
    rows: list[Measured] = []
    for subject in subjects:
        exact, made, mine = Exact(subject), {}, []
        rules = {t: rule for t, rule in ways(subject.settings, samples).items() if rule["name"] in only}
        what = f"feed {subject.feed}, {subject.checkpoint}"
        for title, rule in through(rules.items(), len(rules), what, "estimator"):
            try:
                made[title] = Way.of(subject, rule)
            except ValueError as error:
                about = {"target": FACTS[rule["name"]].target, "note": str(error)}
                about |= {"estimator": title, "feed": subject.feed, "checkpoint": subject.checkpoint}
                mine += [Measured(group=group, **about) for group in parts(subject.captioner)]
            else:
                mine += drawn(title, made[title], exact, draws)
        rows += _with_costs(mine, made, rounds) if rounds and made else mine
    return rows


def drawn(title: str, way: Way, exact: Exact, draws: int) -> list[Measured]:
    """Bias, variance and so on of an estimator, per group of parameters. Deterministic estimators have two draws."""
    subject, rule = way.subject, way.settings.estimator
    target, samples = rule.facts.target, way.settings.samples
    known: dict[str, Tensor] = {}
    why = ""
    for name, several in (("bound", 1), ("marginal", 1), (target, samples)):
        try:
            known[name] = exact.gradient(name, several)
        except ValueError as error:
            why = str(error)
    against = next((name for name in (target, "bound") if name in known), "")
    note = why and (f"{why}; its bias is that against the bound" if against else f"no exact gradient: {why}")
    mean = expectation(exact, way.learner, way.average) if against else None
    running = Running(parts(way.captioner), known.get(against))
    for number in range(2 if rule.facts.select == "all" else draws):
        running.add(way.draw(number))

    def row(group: str) -> Measured:
        found = {"variance": running.variance(group), "signal_to_noise": running.signal_to_noise(group)}
        if against:
            found |= {
                "bias": running.bias(group, known[against]),
                "chance": running.chance(group, known[against]),
                "cosine": running.cosine(group),
                "exactly": None if mean is None else distance(mean, known[against], running.parts[group]),
            }
        others = {f"from_{name}": running.bias(group, known[name]) for name in ("bound", "marginal") if name in known}
        return Measured(
            feed=subject.feed, checkpoint=subject.checkpoint, group=group, estimator=title, samples=samples,
            target=target, draws=running.count, against=against, note=note, **found, **others,
        )  # fmt: skip

    return [row(group) for group in running.parts]


def _with_costs(rows: list[Measured], made: dict[str, Way], rounds: int) -> list[Measured]:
    """The rows with seconds per step (median of ``rounds``), peak memory in MiB, and variance at equal time."""
    device = next(iter(made.values())).subject.features.device
    calls: dict[str, Callable[[], object]] = {title: partial(way.draw, 0) for title, way in made.items()}
    seconds = {title: statistics.median(some) for title, some in in_turn(calls, rounds, device).items()}
    memory = {title: peak(call, device) / 2**20 for title, call in calls.items()}
    level = {row.group: row.variance * seconds[REFERENCE] for row in rows if row.estimator == REFERENCE}

    def costed(row: Measured) -> Measured:
        if row.estimator not in made:
            return row
        step, reference = seconds[row.estimator], level.get(row.group)
        equal = row.variance * step / reference if reference else None
        return replace(row, seconds=step, mebibytes=memory[row.estimator], equal_time=equal)

    return [costed(row) for row in rows]


def write(out: Path, rows: Sequence[Measured]) -> list[Path]:
    """Write estimators.csv, estimators.md, and for each feed a figure with a CSV of its numbers."""
    files = [out / "estimators.csv", out / "estimators.md"]
    write_text(files[0], write_rows(rows))
    write_text(files[1], markdown(rows))
    return files + draw_estimators(rows, out, formats=("png",))


def summary(rows: Sequence[Measured]) -> str:
    """The number of measured estimators, and the names of those with a biased gradient of attention."""
    titles, done = ({row.estimator for row in some} for some in (rows, [row for row in rows if row.draws]))
    known = [row for row in rows if row.group == "attention" and row.bias is not None]
    measured = f"{len(done)} of {len(titles)} estimators measured"
    if not known:
        return f"{measured}, their bias unknown: estimators.md says why"
    biased = dict.fromkeys(row.estimator for row in known if row.biased)
    return f"{measured}; attention's gradient is biased beyond chance in {', '.join(biased) or 'none'}"
