"""How a run is evaluated."""

from typing import NamedTuple

from attend.config import Decode, Look


class Setting(NamedTuple):
    """An evaluation: decoding context, beam width (None: the run's own), repetitions of ``sample``, evaluation control
    (None: the model's own attention) and split (None: that of the headline)."""

    decode: Decode | None = None
    beam: int | None = None
    draws: int = 1
    look: Look | None = None
    split: str | None = None


HEADLINE = Setting()
"""The evaluation whose scores stand for a run."""
