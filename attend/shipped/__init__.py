"""Captioners that come with the package, by name: `attend caption flickr8k-hard photo.jpg`.

Each is a folder with config.json, vocabulary.json, checkpoint/best.safetensors (fp16) and README.md, its model card.
``experiments/ship.py`` made them.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The captioners that come with the package."""
    return tuple(sorted(one.parent.name for one in FOLDER.glob("*/config.json")))


def found(run: Path | str) -> Path:
    """The folder of a run, or of a captioner that comes with the package if there is no such run.

    Raises ValueError for a name that is neither.
    """
    path = Path(run)
    if path.exists():
        return path
    if str(run) in names():
        return FOLDER / str(run)
    known = f"; {' and '.join(names())} come with attend" if names() else ""
    raise ValueError(f"there is no run {run}: name a run folder, below runs/{known}")
