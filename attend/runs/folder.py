"""The run folder: the files of a run, and the lease of the process that may write them. It does not import torch."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypedDict

from attend.bars import say
from attend.config import Config
from attend.config.text import difference, from_dict, to_dict
from attend.documents import Count, Finite, parsed
from attend.paths import regular
from attend.runs.checkpoint import read_state
from attend.runs.files import read_json, read_line, write_json
from attend.runs.lease import InUse, Lease, LeaseLost, held
from attend.runs.provenance import Environment, environment
from attend.runs.scores import read_scores

REPLACED = re.compile(r".+\.replaced\d+")
"""The name of a run folder that was put aside for a new run."""


class Line(TypedDict, total=False):
    """A line of metrics.jsonl: what is used of it by name. All means have names of their own."""

    step: Count
    epoch: Finite
    split: str
    change: Finite
    time: Finite


class RunFolder:
    """One run on disk: ``runs/<experiment>/<variant>/seed<k>/``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def finished(self) -> bool:
        """Whether the headline scores are there, which are written last."""
        return (self.path / "scores.json").exists()

    @property
    def last(self) -> Path:
        return self.path / "checkpoint" / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "checkpoint" / "best.safetensors"

    @property
    def encoder(self) -> Path:
        """The encoder's weights, in the folder of a captioner that was shared with them."""
        return self.path / "encoder.safetensors"

    def kept(self, epoch: int) -> Path:
        """The weights after ``epoch`` epochs, which train.keep_every keeps."""
        return self.path / "checkpoint" / f"epoch{epoch}.safetensors"

    @contextlib.contextmanager
    def open(self, config: Config, *, again: bool = False) -> Iterator[Lease]:
        """Hold the folder for a run. Its configuration is written, or must equal the one that is there.

        If it has more train.epochs than the one that is there, the run goes on (``_extend``). With ``again``, a run
        that is finished or has another configuration is put aside first. If a start fails before its first checkpoint,
        its files are removed, so that the next start is free to differ.
        """
        aside = again and self.replaceable(config)
        with self._put_aside() if aside else contextlib.nullcontext(), Lease(self.path) as lease:
            new = not (self.path / "config.json").exists()
            if not new and self.shorter_than(config):
                self._extend(config)
            elif not new:
                self.same(config)
            try:
                if new:
                    write_json(self.path / "config.json", to_dict(config))
                write_json(self.path / "environment.json", environment() | self._started())
                yield lease
            except BaseException as error:
                if new and not self.last.exists() and not isinstance(error, LeaseLost):
                    for name in ("config.json", "environment.json", "vocabulary.json", "metrics.jsonl"):
                        (self.path / name).unlink(missing_ok=True)
                raise

    def replaceable(self, config: Config) -> bool:
        """Whether a run is here that is finished or has another configuration, and so cannot be resumed."""
        return (self.path / "config.json").exists() and (self.finished or bool(difference(config, self.config())))

    @contextlib.contextmanager
    def _put_aside(self) -> Iterator[None]:
        """Rename the folder of the run to the first free <name>.replaced<n>, and back if no new one comes to be.

        InUse if a process works in it.
        """
        if held(self.path):
            raise InUse(f"{self.path} is in use by another process: wait for it, or stop it")
        names = (self.path.with_name(f"{self.path.name}.replaced{n}") for n in count(1))
        aside = next(path for path in names if not path.exists())
        os.rename(self.path, aside)
        say(f"{self.path}: the run that was there is kept in {aside}")
        try:
            yield
        except BaseException:
            if not self.last.exists():
                with contextlib.suppress(OSError):  # something else is in the folder, and stays
                    self.path.rmdir()
                    os.rename(aside, self.path)
            raise

    def shorter_than(self, config: Config) -> bool:
        """Whether a configuration has more train.epochs than the run's own, and nothing else differs."""
        own = self.config()
        more = config.train.epochs > own.train.epochs
        return more and replace(config, train=replace(config.train, epochs=own.train.epochs)) == own

    @property
    def stopped_early(self) -> bool:
        """Whether training ended before its last epoch, since validation had not improved for train.patience epochs."""
        epochs = self.scores().get("epochs") if self.finished else None
        return epochs is not None and epochs < self.config().train.epochs

    def done(self, config: Config) -> bool:
        """Whether the run is finished, and this configuration asks for nothing more.

        More train.epochs ask for more, unless the run stopped early: then it would stop at the same epoch. ValueError
        if anything else differs.
        """
        if not self.finished:
            return False
        if self.shorter_than(config):
            return self.stopped_early
        self.same(config)
        return True

    def _extend(self, config: Config) -> None:
        """Make a run one of more epochs, which resume goes on with from the last checkpoint.

        Scores and evaluations are of a model that may change: they move into evaluations-epochs<n>. config.json is
        written last, so a process that is killed before can do this again. ValueError if a finished run has no
        checkpoint to go on from.
        """
        if self.finished and "average" not in read_state(self.last).get("progress", {}):
            raise ValueError(f"{self.last} cannot be resumed, so the run cannot go on: --again trains it anew")
        epochs = self.config().train.epochs
        kept = self.path / f"evaluations-epochs{epochs}"
        for path in [self.path / "scores.json", *(self.path / "evaluations").glob("*")]:
            if path.exists():
                kept.mkdir(exist_ok=True)
                if (kept / path.name).is_dir():
                    shutil.rmtree(kept / path.name)
                os.replace(path, kept / path.name)
        write_json(self.path / "config.json", to_dict(config))
        aside = f"; scores and evaluations after {epochs} are kept in {kept}" if kept.exists() else ""
        say(f"{self.path}: goes on from {epochs} to {config.train.epochs} epochs{aside}")

    def _started(self) -> dict[str, Any]:
        """What the run began with, which a resumed run does not read again."""
        path = self.path / "environment.json"
        if not self.last.exists() or not path.exists():
            return {}
        return {name: value for name, value in read_json(path, Environment).items() if name == "start"}

    def note(self, lease: Lease, **facts: Any) -> None:
        """Add facts to environment.json."""
        lease.check()
        path = self.path / "environment.json"
        write_json(path, read_json(path, Environment) | facts)

    def config(self) -> Config:
        """The configuration the run was started with."""
        path = self.path / "config.json"
        if not path.exists():
            raise ValueError(f"{self.path} is no run folder (it has no config.json): name one below runs/")
        return from_dict(read_json(path), str(path))

    def ended(self) -> Config:
        """The configuration of a finished run, from which another can begin. ValueError if it is not finished."""
        config = self.config()
        if not self.finished:
            raise ValueError(f"{self.path} is not finished: train it to its end, or begin from another run")
        return config

    def same(self, config: Config) -> None:
        """Raise ValueError with the difference if the folder belongs to another configuration."""
        if changed := difference(config, self.config()):
            raise ValueError(f"{self.path} has another configuration: {changed}; choose another folder or remove it")

    def log(self, lease: Lease, **record: Any) -> None:
        """Append one record to metrics.jsonl; values that are not finite are left out."""
        lease.check()
        kept = {k: v for k, v in record.items() if not isinstance(v, float) or abs(v) < float("inf")}
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(kept | {"time": round(time.time(), 3)}) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl; an incomplete last line, of a process that was killed, is left out.

        Raises ValueError if another line is broken.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        *lines, torn = regular(path).read_bytes().split(b"\n")
        records = [read_line(line, number, path, Line) for number, line in enumerate(lines, 1) if line.strip()]
        with contextlib.suppress(ValueError):
            records.append(parsed(torn, Line))
        return records

    def logged(self) -> int:
        """Length of metrics.jsonl in bytes."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def cut_log(self, length: int) -> None:
        """Cut metrics.jsonl back to the length that a checkpoint remembers."""
        if self.logged() > length:
            os.truncate(self.path / "metrics.jsonl", length)

    def evaluation(self, split: str, decode: str, beam: int, look: str | None = None) -> Path:
        """The folder of one evaluation, under the run's own weights or those of a control."""
        return self.path / "evaluations" / (f"{split}-{decode}-beam{beam}" + (f"-look-{look}" if look else ""))

    def bound(self, split: str, draws: int) -> Path:
        """The folder of the bounds from ``draws`` paths for each caption."""
        return self.path / "evaluations" / f"{split}-bound{draws}"

    def intervention(self, split: str, decode: str, name: str) -> Path:
        """The folder of what is said if attention is moved, or if what it attends to is removed."""
        return self.path / "evaluations" / f"{split}-{decode}-{name}"

    def scores(self) -> dict[str, Any]:
        """The headline scores; ValueError if the file holds something else."""
        return read_scores(self.path / "scores.json")

    def finish(self, lease: Lease, scores: dict[str, Any]) -> None:
        """Write the headline scores: from here on the run is finished."""
        lease.check()
        write_json(self.path / "scores.json", scores)
