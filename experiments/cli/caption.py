"""`attend caption`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attend.experiments.cli.common import Images, OneRun, check_beam

from attend.config import Decode


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Caption images, and draw where the model looked for each word."""

    run: OneRun
    """a run folder"""
    images: Images
    """image files, or folders of them"""
    out: Path = Path("captions")
    """folder for the pictures"""
    decode: Decode | None = None
    """context of decoding; none is the run's own"""
    beam: int | None = None
    """width of the beam; 1 is greedy, 0 draws every word from the model, none is the run's own"""


def caption(command: Caption) -> None:
    from attend.experiments.cli.captioning import caption_images

    check_beam(command.beam)
    if not command.images:
        raise ValueError("no image is named: give image files, or folders of them, after the run folder")
    for image, text, files in caption_images(
        command.run, command.images, command.out, decode=command.decode, beam=command.beam
    ):
        print(f"{image}: {text or '(no words)'}", *(f"  {file}" for file in files), sep="\n")
