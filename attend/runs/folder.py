"""The run folder: the files of a run, and the lease of the process that may write them. It does not import torch."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attend.config import Config
from attend.config.text import difference, from_dict, to_dict
from attend.runs.files import read_json, write_json
from attend.runs.lease import Lease, LeaseLost
from attend.runs.provenance import environment
from attend.runs.scores import read_scores


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
    def open(self, config: Config) -> Iterator[Lease]:
        """Hold the folder for a run. Its configuration is written, or must equal the one that is there.

        If a start fails before its first checkpoint, its files are removed, so that the next start is free to differ.
        """
        with Lease(self.path) as lease:
            new = not (self.path / "config.json").exists()
            if not new:
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

    def _started(self) -> dict[str, Any]:
        """What the run began with, which a resumed run does not read again."""
        path = self.path / "environment.json"
        if not self.last.exists() or not path.exists():
            return {}
        return {name: value for name, value in read_json(path, dict).items() if name == "start"}

    def note(self, lease: Lease, **facts: Any) -> None:
        """Add facts to environment.json."""
        lease.check()
        path = self.path / "environment.json"
        write_json(path, read_json(path, dict) | facts)

    def config(self) -> Config:
        """The configuration the run was started with."""
        path = self.path / "config.json"
        if not path.exists():
            raise ValueError(f"{self.path} is no run folder (it has no config.json): name one below runs/")
        return from_dict(read_json(path), str(path))

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
