"""The laboratory of gradient estimators: what each is off by, scatters and costs, at fixed weights on one minibatch.

attend estimators --tiny                                                # where all paths can be summed: minutes
attend estimators --run runs/quickstart/hard/seed0 --checkpoints all    # of a trained run
"""

from collections.abc import Sequence
from pathlib import Path

from attend.analysis.figures.estimators import Measured, markdown, write_rows
from attend.analysis.figures.from_runs import draw_estimators
from attend.experiments.laboratory.measure import measure
from attend.experiments.laboratory.subjects import tiny, trained

from attend.runs.files import write_text

TINY_SAMPLES = 3
"""K on the tiny minibatch, where also all K-tuples of paths can be summed."""


def laboratory(
    out: Path,
    *,
    run: Path | None,
    checkpoints: str,
    split: str,
    images: int,
    data: Path | None,
    seed: int,
    draws: int,
    rounds: int,
    samples: int | None,
    only: Sequence[str],
) -> tuple[str, list[Path]]:
    """Measure a run, or where there is none the tiny minibatch; returns a summary in one line and the files written."""
    if run is None:
        subjects, samples = tiny(seed), samples or TINY_SAMPLES
    else:
        subjects = trained(run, checkpoints, images=images, split=split, seed=seed, data=data)
    rows = measure(subjects, draws=draws, rounds=rounds, samples=samples, only=only)
    return f"{out}: {summary(rows)}", write(out, rows)


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
