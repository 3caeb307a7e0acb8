"""Reading run folders: each becomes one frozen record, and everything else here works on records.

A run is a folder with a ``config.json`` and an ``environment.json``, ``<experiment>/<variant>/seed<k>`` or
``<experiment>/<variant>`` with the seed of its configuration; it is finished once its own ``scores.json`` exists. What
is broken is reported in one sentence, and nothing is repaired.
"""

import contextlib
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
from attend.documents import parsed, typed
from attend.runs.files import read_json, read_line
from attend.runs.scores import Scores, read_scores

SEED = re.compile(r"seed(\d+)")
EVALUATION = re.compile(r"(?P<split>[^-]+)-(?P<decode>.+)-beam(?P<beam>\d+)(-look-(?P<look>\w+))?")
BOUND = re.compile(r"[^-]+-bound\d+")
"""A folder among the evaluations that holds likelihoods alone, and no captions."""


class Start(TypedDict):
    """How a run began from another one: the epochs of that run, and of those before it."""

    epochs_before: float


class Environment(TypedDict):
    """environment.json, as far as it is reported: every entry is there only if the run could find it out."""

    started: NotRequired[str]
    command: NotRequired[list[str]]
    python: NotRequired[str]
    system: NotRequired[str]
    cores: NotRequired[int | None]
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str]
    dirty: NotRequired[bool]
    device: NotRequired[str]
    processes: NotRequired[int]
    precision: NotRequired[str]
    threads: NotRequired[int]
    data_fingerprint: NotRequired[str]
    start: NotRequired[Start]


class Study(TypedDict):
    """study.json: the study that made an experiment, how many trials it took, and how many of each kind."""

    study: str
    trials: int
    of: NotRequired[dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One way in which one run was scored: a split, a decoding mode, a beam width, and what came of it.

    ``look`` names the evaluation control whose weights took the place of the run's own, where one did.
    """

    folder: Path
    split: str
    decode: str
    beam: int
    look: str | None
    scores: Scores

    @property
    def attention(self) -> Path:
        """The file of this evaluation's attention, whether or not it was kept."""
        return self.folder / "attention.h5"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run: who it is, its settings, its results as fractions. ``scores`` is None until it is finished.

    ``study`` is what the experiment's ``study.json`` says where a study made it: its name and the trials it took.
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
        """The first evaluation whose fields are these."""
        matches = (one for one in self.evaluations if all(getattr(one, name) == way[name] for name in way))
        return next(matches, None)

    def headline(self, split: str | None = None) -> Evaluation | None:
        """The evaluation that is decoded as that of the headline scores, on their split or on another one."""
        scores = self.scores
        way = {"decode": scores["decode"], "beam": scores["beam"], "look": scores.get("look")}
        return self.evaluation(split=split or scores["split"], **way)

    @property
    def collapsed(self) -> bool:
        """Whether the run itself reports that it collapsed."""
        return bool(self.scores and self.scores.get("collapsed"))

    @cached_property
    def metrics(self) -> tuple[dict, ...]:
        """The lines of ``metrics.jsonl``, read when first asked for.

        Raises:
            ValueError: a line is broken; the last one may be, where the writer was killed within it.
        """
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return ()
        *whole, torn = path.read_bytes().split(b"\n")
        lines = [read_line(line, number, path, dict) for number, line in enumerate(whole, 1) if line.strip()]
        with contextlib.suppress(ValueError):
            lines.append(parsed(torn, dict))
        return tuple(lines)

    @cached_property
    def epochs_before(self) -> float:
        """Epochs of the runs that this run began from."""
        start = read_environment(self.folder).get("start") if self.config.start else None
        return start["epochs_before"] if start else 0

    def series(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and values of one metric, both (n,), empty if it was never logged. Epochs include those before.

        Raises:
            ValueError: one of them is no number.
        """
        points = [(m.get("epoch"), m[name]) for m in self.metrics if m.get("split") == split and name in m]
        try:
            epochs, values = np.array(typed(points, list[tuple[float, float]])).reshape(-1, 2).T
        except ValueError:
            path = self.folder / "metrics.jsonl"
            raise ValueError(
                f"{path} has {name} of {split} without a number or its epoch; restore it, or run again"
            ) from None
        return epochs + self.epochs_before, values


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """The run folders at or below the given folders, each once: folders as given, runs by name and seed.

    Raises:
        ValueError: a folder is missing, or holds no run.
    """
    found: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give a run, or a folder that holds runs")
        runs = [c.parent.resolve() for c in folder.rglob("config.json") if _is_run(c.parent)]
        if not runs:
            raise ValueError(f"{folder} holds no run; give <experiment>/<variant>/seed<k>, or a folder above such runs")
        found.update(dict.fromkeys(sorted(runs, key=_order)))
    return list(found)


def read_runs(
    folders: Iterable[str | Path], *, unfinished: bool = False, broken: list[str] | None = None
) -> list[Record]:
    """Records of all runs at or below the folders, those still unfinished among them.

    With a list ``broken``, what cannot be read is left out as long as something can, and a sentence on it is added to
    the list: a run, a folder that holds none, one that has what a run wrote and not what makes it one, and a copy, a
    run of the experiment, variant and seed of another, which would count as a seed of its own.

    Raises:
        ValueError: a folder holds no run, a file is broken, or none is finished (``unfinished`` allows that).
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
        records = _once(records, broken)
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


def _once(records: Iterable[Record], broken: list[str]) -> list[Record]:
    """The first run of each experiment, variant and seed."""
    first: dict[tuple[str, str, int], Record] = {}
    for record in records:
        kept = first.setdefault((record.experiment, record.variant, record.seed), record)
        if kept is not record:
            broken.append(f"{record.folder} has the experiment, variant and seed of {kept.folder}, and is left out")
    return list(first.values())


def one_dataset(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The runs of the dataset that most are of, and a sentence on the others, where there are any."""
    scores = {record.folder: record.scores or {} for record in records}
    data = {
        folder: own.get("data_fingerprint") or read_environment(folder).get("data_fingerprint")
        for folder, own in scores.items()
    }
    (most, _), *others = Counter(data.values()).most_common() or [(None, 0)]
    other = [record for record in records if data[record.folder] != most]
    said = [f"{len(other)} runs of other data than most of these, as {other[0].folder}"] if others else []
    return [record for record in records if data[record.folder] == most], said


def read_environment(folder: Path) -> Environment:
    """Where a run comes from; ValueError if environment.json is damaged."""
    return read_json(folder / "environment.json", Environment)


def read_run(folder: str | Path) -> Record:
    """The record of one run folder.

    Raises:
        ValueError: the folder is no run, or a JSON file in it, or the study's above, is broken or of another kind.
    """
    folder = Path(folder).resolve()
    if not _is_run(folder):
        raise ValueError(f"{folder} is no run; a run is <experiment>/<variant>/seed<k> and holds a config.json")
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
        if BOUND.fullmatch(path.parent.name):
            continue
        name = EVALUATION.fullmatch(path.parent.name)
        if name is None:
            raise ValueError(
                f"{path.parent} is no evaluation; it should be named <split>-<decode>-beam<k>[-look-<name>]"
            )
        fields = name.groupdict() | {"beam": int(name["beam"])}
        yield Evaluation(folder=path.parent, scores=read_scores(path), **fields)


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").exists() and (folder / "environment.json").exists()


def _order(folder: Path) -> tuple[Path, int, str]:
    """Folders by name, and the seeds of a variant by number."""
    number = SEED.fullmatch(folder.name)
    return folder.parent, int(number[1]) if number else -1, folder.name
