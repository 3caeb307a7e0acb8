"""`attend plot`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attend.experiments.cli.common import Runs, at_least, named
from tyro.conf import Positional, UseAppendAction

from attend.config import Decode

Kind = Literal[
    "curves",
    "health",
    "scores",
    "differences",
    "beam",
    "metrics",
    "study",
    "estimators",
    "saccades",
    "gaze",
    "grounding",
]
"""What `attend plot` draws, as in experiments/plotting.KINDS."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw runs, a study or estimators: what was learned, how attention fared, what scores are worth, where it looked.

    curves: learning curves and attention health. health: attention health alone. scores: each variant's scores with
    intervals. differences: those to --base, on the same seeds and images. beam: scores against the width of the beam.
    metrics: rank correlations between the scores of images. study: a study's trials; RUN is the folder of its queue.db,
    or of its runs. estimators: RUN is the folder of an estimators.csv. saccades: gaze paths and attention maps. gaze:
    statistics of the gaze over a split, and how alike paths are. grounding: attention in the boxes of words, by
    kind and size.
    """

    what: Positional[Kind]
    """kind of picture"""
    runs: Runs
    """run folders, or folders of them"""
    out: Path = Path("pictures")
    """folder for the pictures, and for the numbers behind each as CSV"""
    formats: str = "png,pdf,svg"
    """of the pictures, separated by commas, of png, pdf and svg; saccades are png"""
    scores: str | None = None
    """what scores, differences and beam show, separated by commas, named as the columns of `attend table`; none is
    bleu4, meteor and cider, with grounding or with the length ratio"""
    base: str | None = None
    """variant that differences are to; none is the first"""
    split: str | None = None
    """images that scores are of; none is that of the headline scores"""
    ways: bool = False
    """with scores and differences, every way in which runs were decoded, and not the headline's alone"""
    images: int = 4
    """how many images to draw saccades for"""
    image: UseAppendAction[tuple[str, ...]] = ()
    """saccades: an image by its name instead; may be given several times"""
    dots: Literal["attention", "gate", "equal"] = "attention"
    """saccades: what the area of a fixation's dot shows"""
    raw: bool = False
    """saccades: attention maps cell by cell, not smooth"""
    film: bool = False
    """saccades: an animated GIF, word by word, too"""
    decode: Decode | None = None
    """saccades and gaze: the evaluation of hard runs that is shown, as sample; none is that of the headline scores"""
    draws: int = 20
    """saccades and gaze: paths drawn from a hard model's weights"""
    seed: int = 0
    """saccades and gaze: of those draws"""
    people: Path | None = None
    """gaze: a CSV of people's fixations (image, subject, order, x, y) to compare with"""
    data: Path | None = None
    """grounding: prepared dataset of the runs, where it has moved since"""


def plot(command: Plot) -> None:
    from attend.experiments.cli.plotting import KINDS

    at_least(1, images=command.images, draws=command.draws)
    at_least(0, seed=command.seed)
    named(command.runs)
    if command.split and command.what not in ("scores", "differences", "beam", "metrics", "grounding"):
        raise ValueError(f"--split has no effect on {command.what}, which is of the headline's images: leave it out")
    files = KINDS[command.what](command)
    if not files:
        lacking = "no attention that is learned, no epoch that was logged, or nothing that was measured"
        raise ValueError(f"there is nothing to draw: {lacking}")
    print(*files, sep="\n")
