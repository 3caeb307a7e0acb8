"""Studies: a function from a trial to a configuration for each kind of attention, and the objectives.

Every kind has a queue of its own with as many trials, so that budgets are equal; every trial is a run folder.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import optuna
from attend.experiments.runner.declared import Declared, by_name, of, optional, several, whole
from attend.experiments.runner.experiment import find
from attend.experiments.runner.queue import Job, Queue
from attend.experiments.runner.samplers import PRUNERS, SAMPLERS, Keyed
from optuna.distributions import distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import BaseTrial
from sqlalchemy.exc import SQLAlchemyError

from attend.config import Config
from attend.config.section import LARGEST, MOST_TRIALS
from attend.config.text import difference, from_dict, to_dict
from attend.config.text import replace as with_fields
from attend.paths import plain_name
from attend.runs.secrets import redacted

LOOKS = 20
"""Random trials that describe the search space of a study."""


class NotBegun(ValueError):
    """The storage does not have this study."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A score of a trial on validation images: its place in scores.json, and its direction."""

    part: str | None
    name: str
    direction: str = "maximize"

    def read(self, scores: dict[str, Any]) -> float:
        """The score of a run; ValueError if the run does not have it."""
        value = (scores if self.part is None else scores.get(self.part) or {}).get(self.name)
        if value is None:
            why = scores.get("missing", {}).get(self.name, "the data have no boxes" if self.part == "grounding" else "")
            raise ValueError(f"the run has no {self.name} to judge it by{f': {why}' if why else ''}")
        return float(value)


OBJECTIVES = {
    "cider": Objective(part="captions", name="cider_frozen"),  # comparable between sets, and what epochs report
    "bleu4": Objective(part="captions", name="bleu4"),
    "meteor": Objective(part="captions", name="meteor"),
    "nll": Objective(part="given", name="nll", direction="minimize"),
    "mass": Objective(part="grounding", name="mass"),
    "pointing": Objective(part="grounding", name="pointing"),
    "parameters": Objective(part=None, name="parameters", direction="minimize"),
    "seconds": Objective(part=None, name="train_seconds", direction="minimize"),
}
"""By name."""


@dataclass(frozen=True, kw_only=True)
class Study(Declared):
    """A search for settings, with the same number of trials for each kind of attention.

    ``space(trial, kind)`` is the configuration of a trial; ``objectives`` name what is sought (see OBJECTIVES);
    ``trials`` of each kind; ``seed`` is that of the sampler, and the configuration says that of the runs. Trials are
    pruned by ``pruner`` on what train.monitor names, where there is one objective, and where attention has collapsed
    for ``collapse`` epochs in succession (0: never). ``prepare`` makes the data that are not there.
    """

    SHAPES: ClassVar = {
        "kinds": (several(of(str)), "a list of names"),
        "space": (callable, "a function of (trial, kind) that returns a Config"),
        "objectives": (several(of(str)), "a list of names"),
        "trials": (whole(1, MOST_TRIALS), f"1 to {MOST_TRIALS}"),
        "seed": (whole(0, 2**31 - 1), "a whole number in [0, 2147483648)"),
        "sampler": (of(str), "a name"),
        "pruner": (of(str), "a name"),
        "collapse": (whole(0, LARGEST), "a number of epochs, 0 or more"),
        "settings": (by_name(lambda value: True), "values by the names of settings"),
        "prepare": (optional(callable), "a function, or None"),
    }
    RETURNS: ClassVar = {"space": Config, "prepare": object}
    PASS: ClassVar = (UpdateFinishedTrialError, StorageInternalError, SQLAlchemyError)

    name: str
    kinds: Sequence[str]
    space: Callable[[BaseTrial, str], Config]
    objectives: Sequence[str] = ("cider",)
    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "median"
    seed: int = 0
    collapse: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.kinds:
            plain_name(kind, f"a kind of {self.name}")
        for what, names, known in (
            ("objective", self.objectives, OBJECTIVES),
            ("sampler", [self.sampler], SAMPLERS),
            ("pruner", [self.pruner], PRUNERS),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{self.name} has the {what} {name!r}: known are {', '.join(known)}")
        if not self.objectives or not self.kinds:
            raise ValueError(f"{self.name} needs one kind and one objective at least")

    def only(self, kinds: Sequence[str]) -> Self:
        """The same study with these kinds alone; ValueError for an unknown kind."""
        for kind in kinds:
            if kind not in self.kinds:
                raise ValueError(f"{self.name} has no kind {kind!r}: it has {', '.join(self.kinds)}")
        return replace(self, kinds=tuple(kinds))

    def config(self, trial: BaseTrial, kind: str) -> Config:
        """The configuration of a trial, with the settings of all trials."""
        return with_fields(self.space(trial, kind), dict(self.settings))

    def folder(self, out: Path, kind: str) -> Path:
        """The folder of the trials of one kind."""
        return out / f"{self.name}-{kind}"

    def run_folder(self, out: Path, kind: str, job: str) -> Path:
        return self.folder(out, kind) / f"trial{int(job):03}"

    def queue(self, url: str, kind: str, *, begun: bool = False, **options: Any) -> Queue:
        """The trials of one kind. ValueError if the storage has a study of this name with another space; NotBegun if it
        has none although it should be ``begun``."""
        queue = Queue(
            url,
            f"{self.name}-{kind}",
            directions=[OBJECTIVES[name].direction for name in self.objectives],
            sampler=Keyed(self.sampler, self.seed),
            pruner=PRUNERS[self.pruner](),
            **options,
        )
        if begun and not queue.there:
            twin = "" if self.name.endswith("-tiny") else ", or add --tiny if that is how it ran"
            raise NotBegun(
                f"the storage {redacted(url)} has no study {queue.name}: run `attend study` on it first{twin}"
            )
        self._agree(queue, kind)
        return queue

    def _agree(self, queue: Queue, kind: str) -> None:
        """Raise ValueError if the study in the storage has another space, other objectives or other settings."""
        ours = self.described(kind)
        theirs = queue.attribute("space", ours)
        if theirs == ours:
            return
        if ours["objectives"] != theirs["objectives"]:
            what = f"it seeks {', '.join(theirs['objectives'])}, this one {', '.join(ours['objectives'])}"
        elif changed := [n for n in {**ours["space"], **theirs["space"]} if _of(ours, n) != _of(theirs, n)]:
            what = "; ".join(f"{name} is {_of(ours, name)} (was {_of(theirs, name)})" for name in changed)
        else:
            what = difference(from_dict(ours["first"]), from_dict(theirs["first"])) or "its function differs"
        raise ValueError(
            f"the storage has a study {queue.name} with another space: {what}; name this one anew, or take another "
            "--storage"
        )

    def described(self, kind: str) -> dict[str, Any]:
        """A description to compare studies of one name: objectives, ranges of the parameters, and a configuration.

        ValueError if a range changes between trials.
        """
        trials = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        space, first = {}, {}
        for _ in range(LOOKS):
            trial = trials.ask()
            config = self.config(trial, kind)
            first = first or to_dict(config)
            for name, one in trial.distributions.items():
                range_ = json.loads(distribution_to_json(one))
                self._check_range(kind, name, range_, space.setdefault(name, range_))
        told = {"objectives": list(self.objectives), "space": space, "first": first}
        return json.loads(json.dumps(told))

    def _check_range(self, kind: str, name: str, now: dict[str, Any], before: dict[str, Any]) -> None:
        """ValueError if the range of a parameter is another one than in an earlier trial."""
        if now != before:
            raise ValueError(
                f"{self.name}-{kind} samples {name} from {_words(before)} in one trial and from {_words(now)} in "
                "another: give each range a name of its own"
            )


def _of(described: dict[str, Any], name: str) -> str:
    """A parameter's range in words."""
    one = described["space"].get(name)
    return "none" if one is None else _words(one)


def _words(one: dict[str, Any]) -> str:
    """A range, as Optuna writes it, in words."""
    values = one["attributes"]
    if "choices" in values:
        return f"one of {', '.join(map(str, values['choices']))}"
    return f"{values['low']} to {values['high']}" + (", logarithmic" if values.get("log") else "")


def spent(jobs: Mapping[str, Job]) -> int:
    """Trials that count: completed or pruned, each once."""
    return sum(job.state == "done" for job in jobs.values())


STUDIES = {"soft_or_hard": "attend.experiments.studies.soft_or_hard"}
"""By name, the module whose ``study(data, tiny)`` declares it."""


def load_study(name: str, data: Path | None, tiny: bool) -> Study:
    """The study of a name, or of a file of the user. ValueError explains what is wrong."""
    return find(name, STUDIES, "study", Study, data, tiny)
