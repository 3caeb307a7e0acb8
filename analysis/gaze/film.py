"""Figures one after the other as an animated GIF."""

import io
from collections.abc import Iterable
from pathlib import Path

from attend.analysis.figures.figures import PALETTE, styled
from matplotlib.figure import Figure
from PIL import Image

from attend.runs.files import write_bytes

COLOURS = 200
"""Colours of all frames together: more are hardly visible and make the file larger."""


@styled
def film(figures: Iterable[Figure], path: Path, *, seconds: float = 0.8, last: float = 3.0, dpi: int = 80) -> Path:
    """Write the figures as a GIF that loops, with ``last`` seconds for the last one; no partial file is left.

    Raises:
        ValueError: there is no figure.
    """
    frames = [_pixels(figure, dpi) for figure in figures]
    if not frames:
        raise ValueError("a film needs at least one figure")
    sheet = Image.new("RGB", (frames[0].width, 2 * frames[0].height))  # the palette of the first and the last
    sheet.paste(frames[0], (0, 0))
    sheet.paste(frames[-1], (0, frames[0].height))
    palette = Image.new("P", (1, 1))
    lines = [int(code[i : i + 2], 16) for code in (*PALETTE, "#FFFFFF") for i in (1, 3, 5)]  # the exact line colours
    palette.putpalette(sheet.quantize(COLOURS).getpalette()[: 3 * COLOURS] + lines)
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [int(1000 * seconds)] * (len(flat) - 1) + [int(1000 * last)]
    content = io.BytesIO()
    flat[0].save(content, "GIF", save_all=True, append_images=flat[1:], duration=times, loop=0, optimize=False)
    write_bytes(path, content.getvalue())
    return path


def _pixels(figure: Figure, dpi: int) -> Image.Image:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return Image.open(content).convert("RGB")
