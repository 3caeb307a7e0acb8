"""A finished run as Python code meets it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attend.config import Config
from attend.runs.folder import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class FinishedRun:
    """A run that was trained and evaluated: ``path`` is its folder, which ``attend.load`` takes.

    ``attend.train("soft").scores["captions"]["cider"]`` is a CIDEr.
    """

    path: Path

    @cached_property
    def config(self) -> Config:
        """The settings that it was trained with."""
        return RunFolder(self.path).config()

    @cached_property
    def scores(self) -> dict[str, Any]:
        """The headline scores, as in scores.json: fractions in "captions" and "grounding", nats per word in "given"."""
        return RunFolder(self.path).scores()

    @cached_property
    def metrics(self) -> list[dict[str, Any]] | DataFrame:
        """What training logged, a record per line of metrics.jsonl: step, epoch, split, and the means by name.

        A DataFrame if pandas is installed, else a list of dictionaries.
        """
        records = RunFolder(self.path).metrics()
        try:
            from pandas import DataFrame
        except ImportError:
            return records
        return DataFrame.from_records(records)
