"""`attend score`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score captions against references: every metric with its interval, and differences to other captions."""

    captions: Annotated[Positional[Path], arg(metavar="CAPTIONS")]
    """one caption per image: a JSON list of {image_id, caption}, a CSV with the columns image and caption, a run, or
    one of its evaluations"""
    references: Path | None = None
    """captions by people: COCO's annotations, Karpathy's dataset, JSON or CSV as above with several captions per image,
    or a prepared dataset (required)"""
    base: Path | None = None
    """other captions of the same images: report the differences to them, with tests"""
    format: Literal["text", "markdown", "latex", "html", "csv"] = "text"
    """format of the table; text is aligned for a terminal, csv has fractions"""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """file for the table; if not given, it is printed"""
    images: Path | None = None
    """also write a CSV with the scores of each image to this file"""
    partial: bool = False
    """score only the images that have captions and references; otherwise a missing one is an error"""
    metrics: str = "bleu,meteor,rouge_l,cider"
    """metrics, separated by commas; without meteor and with simple tokens no Java is needed"""
    tokeniser: Literal["ptb", "simple"] = "ptb"
    """ptb: the Penn Treebank's, which the scores of papers use; simple: words and numbers"""


def score(command: Score) -> None:
    from attend.analysis.scoring.score import compare
    from attend.analysis.scoring.score import score as score_one
    from attend.analysis.tables.text import rows_of

    from attend.runs.files import write_rows, write_text

    if command.references is None:
        raise ValueError(
            f"no references are named: add --references FILE{_of_run(command.captions)} (`attend score --help` lists "
            "the formats)"
        )
    options = {"metrics": command.metrics.split(","), "tokeniser": command.tokeniser, "partial": command.partial}
    if command.base is None:
        found = score_one(command.captions, command.references, **options)
    else:
        found = compare(command.captions, command.base, command.references, **options)
    if command.images is not None:
        write_rows(command.images, rows_of(found.image_rows()))
    text = found.render(command.format)
    if command.out is None:
        print(text, end="" if command.format == "csv" else "\n")
    else:
        write_text(command.out, text)
        print(command.out)


def _of_run(folder: Path) -> str:
    """The dataset of a run, whose captions its references are."""
    from attend.runs.folder import RunFolder

    if not (folder / "config.json").is_file():
        return ""
    return f", as the dataset of this run, {RunFolder(folder).config().data}"
