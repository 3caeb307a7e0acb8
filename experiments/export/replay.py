"""Replay runs into a tracker: the lines of metrics.jsonl, the scores of each evaluation, and pictures of the gaze.

A replay can follow runs while they train. What it reads next is what the run wrote since, and a run that was resumed,
so that its log was cut back and written again, is replayed once: steps that were replayed are passed over.
"""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

from attend.analysis.gaze.pictures import gaze_paths
from attend.analysis.records import Evaluation, Record, find_runs, read_run
from matplotlib.figure import Figure

from attend.bars import say
from attend.data.images import open_image
from attend.data.prepared import Prepared
from attend.documents import typed
from attend.runs.evaluations import read_all
from attend.runs.files import read_json
from attend.runs.lease import held

POLL = 2.0
"""Seconds between two looks at runs that are followed."""
PATIENCE = 60.0
"""Seconds that a folder of runs is followed after all its runs are finished: another may begin."""


class Line(TypedDict):
    """The entries of a line of metrics.jsonl that are no metrics."""

    step: int
    split: str
    time: NotRequired[float]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Numbers at one step: a line of metrics.jsonl of a split, or the scores of an evaluation, whose name is ``of``.

    ``time`` is in seconds since 1970.
    """

    of: str
    step: int
    time: float
    values: dict[str, float]
    evaluation: bool = False

    @property
    def named(self) -> dict[str, float]:
        """The numbers by their names in a tracker: val/cider, test-argmax-beam3/captions/cider."""
        return {f"{self.of}/{name}": value for name, value in self.values.items()}


class Tracker(Protocol):
    """Where a run is replayed to. Making one removes what an earlier export of the same run left there."""

    pictures: bool
    """whether the tracker takes pictures"""

    def log(self, points: Sequence[Point]) -> None: ...

    def draw(self, name: str, figure: Figure, step: int) -> None: ...

    def close(self, record: Record) -> None: ...


def run_name(record: Record) -> str:
    """The name of a run in a tracker: <experiment>/<variant>/seed<k>."""
    return f"{record.experiment}/{record.variant}/seed{record.seed}"


@dataclass(kw_only=True)
class Replay:
    """One run on its way into a tracker: what was replayed so far."""

    tracker: Tracker
    images: int
    data: Path | None
    steps: dict[str, int] = field(default_factory=dict)  # the last step of each split
    evaluated: dict[str, int] = field(default_factory=dict)  # pictures of each evaluation
    lines: int = 0

    def advance(self, record: Record) -> None:
        """Replay what the run has logged and evaluated since."""
        lines = logged(record)
        points = [point for point in lines if point.step > self.steps.get(point.of, -1)]
        self.steps |= {point.of: point.step for point in points}
        self.lines += len(points)
        last = max(self.steps.values(), default=0)
        new = [path for path in sorted(record.folder.glob("evaluations/*/scores.json")) if self._is_new(path)]
        points += [scores(path, last) for path in new]
        if points:
            self.tracker.log(points)
        known = {one.folder: one for one in record.evaluations}
        for path in new:
            self.evaluated[path.parent.name] = 0
            if self.tracker.pictures and path.parent in known:
                for name, figure in drawn(record, known[path.parent], self.images, self.data):
                    self.tracker.draw(name, figure, last)
                    self.evaluated[path.parent.name] += 1

    def _is_new(self, path: Path) -> bool:
        return path.parent.name not in self.evaluated

    def __str__(self) -> str:
        counts = {"line of metrics.jsonl": self.lines, "evaluation": len(self.evaluated)}
        counts |= {"picture": sum(self.evaluated.values())} if self.tracker.pictures else {}
        plural = {"line of metrics.jsonl": "lines of metrics.jsonl"}
        return ", ".join(f"{n:,} {one if n == 1 else plural.get(one, f'{one}s')}" for one, n in counts.items())


def logged(record: Record) -> list[Point]:
    """The lines of a run's metrics.jsonl; ValueError for a line without a step or a split."""
    points = []
    for number, metrics in enumerate(record.metrics, 1):
        try:
            line = typed(metrics, Line)
        except ValueError as error:
            path = record.folder / "metrics.jsonl"
            raise ValueError(f"line {number} of {path} is damaged: restore it or run again ({error})") from None
        values = _numbers({name: value for name, value in metrics.items() if name not in Line.__annotations__})
        points.append(Point(of=line["split"], step=line["step"], time=line.get("time", 0.0), values=values))
    return points


def scores(path: Path, step: int) -> Point:
    """All numbers of the scores.json of an evaluation."""
    values, time = _numbers(read_json(path, dict)), path.stat().st_mtime
    return Point(of=path.parent.name, step=step, time=time, values=values, evaluation=True)


def _numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of nested values by their path; truth values and text are left out."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            found[prefix + name] = value
    return found


def drawn(record: Record, evaluation: Evaluation, images: int, data: Path | None) -> Iterator[tuple[str, Figure]]:
    """The gaze over the first images of an evaluation; ``data`` is the dataset if it has moved.

    What cannot be drawn is reported to stderr and left out.
    """
    if not images or record.config.attention.weights != "learned" or not evaluation.attention.exists():
        return
    try:
        dataset = Prepared(data or record.config.data)
        for one in islice(read_all(evaluation.attention), images):
            picture = open_image(dataset.file(one.image))
            yield f"{evaluation.folder.name}/gaze/{Path(one.image).stem}", gaze_paths(picture, one)
    except ValueError as error:
        say(f"{run_name(record)} is exported without its gaze: {error}")


def replay(
    folders: Sequence[Path],
    begin: Callable[[Record], Tracker],
    *,
    follow: bool = False,
    images: int = 4,
    data: Path | None = None,
) -> None:
    """Replay all runs at or below some folders, each into a tracker of its own, and print what was replayed.

    With ``follow``, go on until all of them are finished; folders of runs are then watched for PATIENCE seconds more.
    A run that cannot be read is reported to stderr, and the others are replayed.

    Raises ValueError if there is no run, or if none can be read.
    """
    alone = set(find_runs(folders)) == {folder.resolve() for folder in folders}
    patience, quiet = 0.0 if alone else PATIENCE, time.monotonic()
    runs: dict[Path, Run] = {}
    try:
        while True:
            for folder in find_runs(folders):
                run = runs.setdefault(folder, Run(folder, taken={run.name for run in runs.values()}))
                if run.going and run.advance(begin, follow, images, data):
                    quiet = time.monotonic()
            if not any(run.going for run in runs.values()) and (not follow or time.monotonic() - quiet >= patience):
                break
            time.sleep(POLL if follow else 0)
    finally:
        for run in runs.values():
            run.close()
    errors = [run.error for run in runs.values() if run.error]
    if len(errors) == len(runs):
        raise errors[0]
    for error in errors:
        say(error)


class Run:
    """A run that is replayed: its folder, its replay while it goes on, and the error that ended it, if any."""

    def __init__(self, folder: Path, taken: Collection[str]) -> None:
        self.folder, self.taken = folder, taken
        self.name, self.going, self.waits = "", True, False
        self.error: ValueError | None = None
        self.replay: Replay | None = None
        self.record: Record | None = None

    def advance(self, begin: Callable[[Record], Tracker], follow: bool, images: int, data: Path | None) -> bool:
        """Replay what is new; returns whether that was the end."""
        try:
            self.record = record = read_run(self.folder)
            if self.replay is None:
                self.name = run_name(record)
                if self.name in self.taken:
                    raise ValueError(f"{self.folder} is the second run called {self.name}: it is left out")
                self.replay = Replay(tracker=begin(record), images=images, data=data)
            self.replay.advance(record)
        except ValueError as error:
            self.error, self.going = error, False
            return True
        if follow and not record.finished:
            self._wait()
            return False
        print(f"{self.name}: {self.replay}")
        self.going = False
        self.close()
        return True

    def _wait(self) -> None:
        """Report once that nobody trains an unfinished run."""
        waits = not held(self.folder)
        if waits and not self.waits:
            say(f"{self.name} is not finished, and nobody trains it: waiting (Ctrl-C stops)")
        self.waits = waits

    def close(self) -> None:
        """Close the tracker, once."""
        if self.replay and self.record:
            self.replay.tracker.close(self.record)
        self.replay = None
