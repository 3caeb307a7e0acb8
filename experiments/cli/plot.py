"""`attend plot`"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from attend.experiments.cli.common import Runs, beside, named
from tyro.conf import Positional, UseAppendAction, arg

from attend.config import Decode
from attend.config.section import Positive, Repetitions, Seed

Kind = Literal[
    "curves", "health", "scores", "differences", "beam", "metrics", "study", "estimators", "saccades", "gaze",
    "grounding", "cause",
]  # fmt: skip
"""The pictures of `attend plot`: the keys of plotting.KINDS."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw runs, a study or estimators: learning curves, attention health, scores, gaze and grounding.

    curves: learning curves and attention health. health: attention health alone. scores: each variant's scores with
    intervals. differences: differences to --base, on the same seeds and images. beam: scores against beam width.
    metrics: rank correlations between the scores of images. study: the trials of a study; RUN is the folder of its
    queue.db, or of its runs. estimators: RUN is the folder of an estimators.csv. saccades: gaze paths and attention
    maps. gaze: statistics of the gaze over a split, and the similarity of paths. grounding: attention in the boxes of
    words, by kind and size. cause: what is said if attention is moved, or if what it attends to is removed.
    """

    what: Annotated[Positional[Kind], arg(metavar="KIND")]
    """kind of picture"""
    runs: Runs
    """run folders, or folders of them"""
    out: Path | None = None
    """folder for the pictures, each with its numbers as CSV; if not given, pictures in the folder that holds the runs,
    as runs/quickstart/pictures"""
    formats: str = "png,pdf,svg"
    """formats of the pictures, separated by commas: png, pdf, svg; saccades are always png"""
    scores: str | None = None
    """scores, differences, beam: the scores to draw, separated by commas, named as the columns of `attend table`; if
    not given, bleu4, meteor and cider, with grounding or with the length ratio"""
    base: str | None = None
    """differences: the variant to compare with; if not given, the first"""
    split: str | None = None
    """split of the scores; if not given, that of the headline scores; gaze: also the name of images without captions
    that the runs have captioned (`attend evaluate RUN --data`)"""
    ways: bool = False
    """scores, differences: every evaluation of a run, not only the headline"""
    images: Positive = 4
    """saccades: number of images"""
    image: UseAppendAction[tuple[str, ...]] = ()
    """saccades: an image by its name instead; can be repeated"""
    dots: Literal["attention", "gate", "equal"] = "attention"
    """saccades: the meaning of the area of a fixation's dot"""
    raw: bool = False
    """saccades: attention maps cell by cell, without smoothing"""
    film: bool = False
    """saccades: also write an animated GIF, word by word"""
    decode: Decode | None = None
    """saccades, gaze: the decoding of hard runs to draw, as in sample; if not given, that of the headline scores"""
    draws: Repetitions = 20
    """saccades, gaze: paths to sample from the weights of a hard model"""
    seed: Seed = 0
    """saccades, gaze: seed of these samples"""
    people: Path | None = None
    """gaze: a CSV of human fixations (image, subject, order, x, y) to compare with"""
    data: Path | None = None
    """grounding: prepared dataset of the runs, if it has moved since training"""


def plot(command: Plot) -> None:
    named(command.runs)
    if command.split and command.what not in ("scores", "differences", "beam", "metrics", "grounding", "gaze"):
        raise ValueError(f"--split has no effect on {command.what}, which is of the headline's images: leave it out")
    from attend.experiments.cli.plotting import KINDS

    command = replace(command, out=command.out or beside(command.runs) / "pictures")
    files = KINDS[command.what](command)
    if not files:
        why = "no attention is learned, no epoch was logged, or nothing was measured"
        raise ValueError(f"there is nothing to draw, because {why}: name other runs")
    print(*files, sep="\n")
