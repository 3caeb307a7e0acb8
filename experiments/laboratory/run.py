"""The laboratory of gradient estimators: what each is off by, scatters and costs, at fixed weights on one minibatch.

attend estimators --tiny                                                # where all paths can be summed: minutes
attend estimators --run runs/quickstart/hard/seed0 --checkpoints all    # of a trained run
"""

from collections.abc import Sequence
from pathlib import Path

from attend.analysis.figures.estimators import Measured, markdown, write_rows
from attend.analysis.figures.from_runs import draw_estimators

from attend.runs.files import write_text


def write(out: Path, rows: Sequence[Measured]) -> list[Path]:
    """estimators.csv and estimators.md, and a figure for each feed with its numbers beside it."""
    files = [out / "estimators.csv", out / "estimators.md"]
    write_text(files[0], write_rows(rows))
    write_text(files[1], markdown(rows))
    return files + draw_estimators(rows, out, formats=("png",))


def summary(rows: Sequence[Measured]) -> str:
    """How many were measured, and which of them are biased in the gradient of attention."""
    titles, done = ({row.estimator for row in some} for some in (rows, [row for row in rows if row.draws]))
    known = [row for row in rows if row.group == "attention" and row.bias is not None]
    said = f"{len(done)} of {len(titles)} estimators measured"
    if not known:
        return f"{said}, their bias unknown: estimators.md says why"
    biased = dict.fromkeys(row.estimator for row in known if row.biased)
    return f"{said}; attention's gradient is biased beyond chance in {', '.join(biased) or 'none'}"
