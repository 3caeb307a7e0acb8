"""How a run is evaluated."""

from typing import NamedTuple

from attend.config import Decode, Look
from attend.config.section import Beam, Repetitions


class Setting(NamedTuple):
    """An evaluation: decoding context, beam width (None: the run's own), repetitions of ``sample``, evaluation control
    (None: the model's own attention) and split (None: that of the headline)."""

    decode: Decode | None = None
    beam: Beam | None = None
    draws: Repetitions = 1
    look: Look | None = None
    split: str | None = None


HEADLINE = Setting()
"""The evaluation whose scores stand for a run."""
