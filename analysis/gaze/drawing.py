"""Write pictures of one caption's attention: its maps, and the path of its gaze."""

from pathlib import Path

from attend.analysis.figures.figures import FORMATS, save
from attend.analysis.figures.panels import Picture
from attend.analysis.gaze.pictures import Boxes, gaze_paths
from attend.analysis.gaze.saccades import attention_maps, tabulate
from matplotlib.figure import Figure

from attend.runs.evaluations import Attention


def draw_maps(
    image: Picture, one: Attention, path: Path, *, boxes: Boxes | None = None, smooth: bool = True
) -> list[Path]:
    """Write the attention of every word over the picture, and its numbers as CSV; returns the files."""
    figure = attention_maps(image, one, boxes=boxes, smooth=smooth)
    return save(figure, path, formats=("png",), numbers=tabulate(one))


def draw_path(image: Picture, one: Attention, path: Path, *, boxes: Boxes | None = None) -> list[Path]:
    """Write the path of the gaze over the picture, and its fixations as CSV; returns the files."""
    return save(gaze_paths(image, one, boxes=boxes), path, formats=("png",))


def draw(image: Picture, one: Attention, file: Path | str | None = None, *, path: bool = False) -> Figure:
    """The maps of a caption's words, or the ``path`` of its gaze, also written into ``file`` if it is named.

    Raises:
        ValueError: the suffix of the file is none of FORMATS.
    """
    figure = gaze_paths(image, one) if path else attention_maps(image, one)
    if file is not None:
        file = Path(file)
        if file.suffix[1:] not in FORMATS:
            raise ValueError(f"{file} has no suffix of a picture: name a file that ends in .{', .'.join(FORMATS)}")
        save(figure, file, formats=(file.suffix[1:],), numbers=[()])  # a header alone: no numbers beside it
    return figure
