"""Read run folders into frozen records, on which the rest of the analysis works.

A run is a folder with a ``config.json`` and an ``environment.json``, ``<experiment>/<variant>/seed<k>`` or
``<experiment>/<variant>`` with the seed of its configuration. It is finished if it has a ``scores.json``. A broken file
is reported in one sentence and not repaired.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from attend.config import Config
from attend.config.text import from_dict
from attend.documents import Count, Finite, typed
from attend.runs.files import read_json
from attend.runs.folder import REPLACED, RunFolder
from attend.runs.provenance import Environment
from attend.runs.scores import Scores, read_scores

SEED = re.compile(r"seed(\d+)")
EVALUATION = re.compile(r"(?P<split>[^-]+)-(?P<decode>.+)-beam(?P<beam>\d+)(-look-(?P<look>\w+))?")
OTHER = re.compile(r"[^-]+-(bound\d+|.+-(redirect|without))")
"""A folder among the evaluations that has no captions: bounds, and interventions on attention."""


class Study(TypedDict):
    """study.json: the study that made an experiment, its number of trials, and the number of each kind (``of``)."""

    study: str
    trials: Count
    of: NotRequired[dict[str, Count]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a run: a split, a decoding mode, a beam width, and the scores.

    ``look`` names the evaluation control whose weights replaced the run's own, None without a control.
    """

    folder: Path
    split: str
    decode: str
    beam: int
    look: str | None
    scores: Scores

    @property
    def attention(self) -> Path:
        """The path of this evaluation's attention. The file need not exist."""
        return self.folder / "attention.h5"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run: its name, its settings, and its scores as fractions. ``scores`` is None until it is finished.

    ``study`` is the experiment's ``study.json``, None if no study made the experiment.
    """

    folder: Path
    experiment: str
    variant: str
    seed: int
    config: Config
    scores: Scores | None
    evaluations: tuple[Evaluation, ...]
    study: Study | None = None

    @property
    def finished(self) -> bool:
        return self.scores is not None

    def evaluation(self, **way: object) -> Evaluation | None:
        """The first evaluation with these values of its fields."""
        matches = (one for one in self.evaluations if all(getattr(one, name) == way[name] for name in way))
        return next(matches, None)

    def headline(self, split: str | None = None) -> Evaluation | None:
        """The evaluation with the decoding of the headline scores, on ``split`` or on theirs."""
        scores = self.scores
        way = {"decode": scores["decode"], "beam": scores["beam"], "look": scores.get("look")}
        return self.evaluation(split=split or scores["split"], **way)

    @property
    def collapsed(self) -> bool:
        """Whether scores.json reports that the run collapsed."""
        return bool(self.scores and self.scores.get("collapsed"))

    @cached_property
    def metrics(self) -> tuple[dict, ...]:
        """The lines of ``metrics.jsonl``, read at first use.

        Raises:
            ValueError: a line is broken. An incomplete last line is ignored: the run was killed while writing it.
        """
        return tuple(RunFolder(self.folder).metrics())

    @cached_property
    def epochs_before(self) -> float:
        """Epochs of the runs that this run began from."""
        start = read_environment(self.folder).get("start") if self.config.start else None
        return start["epochs_before"] if start else 0

    def series(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Epochs, with those of the runs before, and values of one metric, both (n,); empty if it was never logged.

        Raises:
            ValueError: an epoch or a value is not a number.
        """
        points = [(m.get("epoch"), m[name]) for m in self.metrics if m.get("split") == split and name in m]
        try:
            epochs, values = np.array(typed(points, list[tuple[Finite, Finite]])).reshape(-1, 2).T
        except ValueError:
            path = self.folder / "metrics.jsonl"
            raise ValueError(
                f"{path} has {name} of {split} without a number or an epoch; restore it, or run again"
            ) from None
        return epochs + self.epochs_before, values


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """The run folders at or below ``folders``, each once, in the order of ``folders``, then by name and seed.

    Folders that were put aside for a new run are passed over, unless they are named themselves.

    Raises:
        ValueError: a folder is missing, or has no run.
    """
    found: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; name a run, or a folder with runs")
        runs = [c.parent for c in folder.rglob("config.json") if _is_run(c.parent) and not _replaced(c.parent, folder)]
        if not runs:
            raise ValueError(f"{folder} has no run; name <experiment>/<variant>/seed<k>, or a folder above such runs")
        found.update(dict.fromkeys(sorted((run.resolve() for run in runs), key=_order)))
    return list(found)


def read_runs(
    folders: Iterable[str | Path], *, unfinished: bool = False, broken: list[str] | None = None
) -> list[Record]:
    """Records of all runs at or below the folders, finished or not.

    With a list ``broken``, a problem is an error only if no run can be read. Otherwise it is left out and the list gets
    a sentence on it: a broken run, a folder without a run, a run folder without its config.json or environment.json, or
    a second run of the same experiment, variant and seed, which would count as another seed.

    Raises:
        ValueError: a folder has no run, a file is broken, or no run is finished (``unfinished`` allows that).
    """
    folders, records, errors = list(folders), [], []
    runs: dict[Path, None] = {}
    for folder in folders:
        try:
            runs |= dict.fromkeys(find_runs([folder]))
        except ValueError as error:
            errors.append(error)
    for run in runs:
        try:
            records.append(read_run(run))
        except (ValueError, OSError) as error:
            errors.append(error)
    if errors and (broken is None or not records):
        raise errors[0]
    if broken is not None:
        broken += [str(error) for error in errors]
        records = _without_copies(records, broken)
        written = {path.parent.resolve() for folder in folders for path in Path(folder).rglob("metrics.jsonl")}
        halves = sorted(folder for folder in written if not _is_run(folder))
        broken += [f"{half} has no config.json or no environment.json: copy the run again" for half in halves]
    if not unfinished and not any(record.finished for record in records):
        where = ", ".join(map(str, folders))
        raise ValueError(
            f"none of the {len(records)} runs below {where} is finished (no scores.json); resume one first"
        )
    return records


def names(records: Iterable[Record]) -> dict[Path, str]:
    """The name of each run by its folder: its variant, or <experiment>/<variant> if there are several experiments."""
    records = list(records)
    several = len({record.experiment for record in records}) > 1
    return {one.folder: f"{one.experiment}/{one.variant}" if several else one.variant for one in records}


def _without_copies(records: Iterable[Record], broken: list[str]) -> list[Record]:
    """The first run of each experiment, variant and seed."""
    first: dict[tuple[str, str, int], Record] = {}
    for record in records:
        kept = first.setdefault((record.experiment, record.variant, record.seed), record)
        if kept is not record:
            broken.append(f"{record.folder} has the experiment, variant and seed of {kept.folder} and is left out")
    return list(first.values())


def one_dataset(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The runs of the most frequent dataset, and a sentence on the others if there are any."""
    scores = {record.folder: record.scores or {} for record in records}
    data = {
        folder: own.get("data_fingerprint") or read_environment(folder).get("data_fingerprint")
        for folder, own in scores.items()
    }
    (most, _), *others = Counter(data.values()).most_common() or [(None, 0)]
    other = [record for record in records if data[record.folder] != most]
    notes = [f"{len(other)} runs whose data differ from most of these, for example {other[0].folder}"] if others else []
    return [record for record in records if data[record.folder] == most], notes


def read_environment(folder: Path) -> Environment:
    """The environment.json of a run; ValueError if it is damaged."""
    return read_json(folder / "environment.json", Environment)


def read_run(folder: str | Path) -> Record:
    """The record of one run folder.

    Raises:
        ValueError: the folder is not a run, or one of its JSON files, or study.json above it, is broken or invalid.
    """
    folder = Path(folder).resolve()
    if not _is_run(folder):
        raise ValueError(f"{folder} is not a run; a run is <experiment>/<variant>/seed<k> and has a config.json")
    path, scores, number = folder / "config.json", folder / "scores.json", SEED.fullmatch(folder.name)
    config = from_dict(read_json(path), str(path))
    variant = folder.parent if number else folder
    study = variant.parent / "study.json"
    lacking = "does not say how many trials of which study there were", "restore it or run again"
    return Record(
        folder=folder,
        experiment=variant.parent.name,
        variant=variant.name,
        seed=int(number[1]) if number else config.seed,
        config=config,
        scores=read_scores(scores) if scores.exists() else None,
        evaluations=tuple(_evaluations(folder)),
        study=read_json(study, Study, *lacking) if study.exists() else None,
    )


def _evaluations(folder: Path) -> Iterable[Evaluation]:
    for path in sorted(folder.glob("evaluations/*/scores.json")):
        if OTHER.fullmatch(path.parent.name):
            continue
        name = EVALUATION.fullmatch(path.parent.name)
        if name is None:
            raise ValueError(
                f"{path.parent} is not an evaluation; its name must be <split>-<decode>-beam<k>[-look-<name>]"
            )
        fields = name.groupdict() | {"beam": int(name["beam"])}
        yield Evaluation(folder=path.parent, scores=read_scores(path), **fields)


def _replaced(run: Path, below: Path) -> bool:
    return any(REPLACED.fullmatch(name) for name in run.relative_to(below).parts)


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").exists() and (folder / "environment.json").exists()


def _order(folder: Path) -> tuple[Path, int, str]:
    """Folders by name, and the seeds of a variant by number."""
    number = SEED.fullmatch(folder.name)
    return folder.parent, int(number[1]) if number else -1, folder.name
