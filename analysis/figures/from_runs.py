"""Write figures of runs: learning curves, attention health and the estimators of a laboratory."""

from collections.abc import Sequence
from pathlib import Path

from attend.analysis.figures.estimators import Measured, estimator_panels
from attend.analysis.figures.figures import HEALTH, health_curves, is_logged, learning_curves, save, titled
from attend.analysis.records import Record

from attend import bars


def draw_curves(records: Sequence[Record], folder: Path, formats: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Learning curves (validation CIDEr, else the likelihood) and attention health. Missing metrics are reported."""
    score = next((one for one in ("cider", "nll") if is_logged(records, one, "val")), "cider")
    scored = [record for record in records if is_logged([record], score, "val")] or records
    for record in records:
        if record not in scored:
            say(f"{record.folder} logged no {titled(score, 'val')}")
    panels = [("nll", "train"), (score, "val")]
    missing = [one for one in panels if not is_logged(scored, *one)]
    for one in missing:
        say(f"no run logged {titled(*one)}")
    files = []
    if len(missing) < len(panels):
        files += save(learning_curves(scored, score=score)[0].figure, folder / "curves", formats=formats)
    return files + draw_health(records, folder, formats)


def draw_health(records: Sequence[Record], folder: Path, formats: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Attention health of the runs with learned attention."""
    learned = [record for record in records if record.config.attention.weights == "learned"]
    logged = [record for record in learned if any(is_logged([record], name, "train") for name in HEALTH)]
    for record in learned:
        if record not in logged:
            say(f"{record.folder} logged nothing of attention")
    return save(health_curves(logged)[0].figure, folder / "health", formats=formats) if logged else []


def draw_estimators(rows: Sequence[Measured], folder: Path, formats: Sequence[str]) -> list[Path]:
    """Bias, variance and time of gradient estimators, one figure per feed."""
    files = []
    for feed in dict.fromkeys(row.feed for row in rows if row.draws):
        axes = estimator_panels([row for row in rows if row.feed == feed])
        files += save(axes[0].figure, folder / f"feed-{feed}", formats=formats)
    return files


def say(sentence: str) -> None:
    """Print a note on something left out to stderr."""
    bars.say(f"left out: {sentence}")
