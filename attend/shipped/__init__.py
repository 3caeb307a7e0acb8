"""Captioners that come with the package, by name: `attend caption flickr8k-hard photo.jpg`.

Each is a folder with config.json, vocabulary.json, checkpoint/best.safetensors (fp16) and README.md, its model card.
``experiments/ship.py`` made them.
"""

from pathlib import Path

from attend.shipped import hub

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The captioners that come with the package."""
    return tuple(sorted(one.parent.name for one in FOLDER.glob("*/config.json")))


def found(run: Path | str) -> Path:
    """The folder of a run; if there is no such run, of a captioner that comes with the package or is on the Hub.

    Raises ValueError for a name that is none of these, and as ``hub.downloaded``.
    """
    path = Path(run)
    if path.exists():
        return path
    if str(run) in names():
        return FOLDER / str(run)
    if hub.is_name(run):
        return hub.downloaded(str(run))
    known = f"; {' and '.join(names())} come with attend" if names() else ""
    raise ValueError(f"there is no run {run}: name a run folder, below runs/{known}")
