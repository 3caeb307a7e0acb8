"""`attend caption`"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attend.experiments.cli.common import Images, OneRun

from attend.bars import say
from attend.config import Decode
from attend.config.section import Beam
from attend.runs.files import shortened


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Caption images, and draw the attention of each word."""

    run: OneRun
    """run folder, or a captioner that comes with attend: flickr8k-soft or flickr8k-hard"""
    images: Images
    """image files, or folders of them"""
    out: Path = Path("captions")
    """folder for the pictures"""
    decode: Decode | None = None
    """decoding context; if not given, the run's own"""
    beam: Beam | None = None
    """beam width; 1 is greedy search, 0 samples every word from the model; if not given, the run's own"""


def caption(command: Caption) -> None:
    from attend.data.images import gather_images
    from attend.runs.folder import RunFolder
    from attend.shipped import found

    if not command.images:
        raise ValueError("no image is named: give image files, or folders of them, after the run folder")
    attention = RunFolder(found(command.run)).config().attention
    files, skipped = gather_images(command.images)
    if skipped:
        some = ", ".join(map(str, skipped[:3])) + (", ..." if len(skipped) > 3 else "")
        say(f"skipped {len(skipped)}: image empty, truncated or otherwise unreadable ({some})")
    from attend.analysis.gaze.drawing import draw_maps, draw_path

    from attend.evaluation.caption import caption_images

    captions = caption_images(command.run, files, decode=command.decode, beam=command.beam)
    if attention.weights != "learned":
        alike = attention.weights == "uniform"
        how = "attends to all places alike" if alike else f"has {attention.weights!r} attention"
        say(f"{command.run} {how}: there is no gaze to draw")
    for name, one in zip(picture_names(files), captions, strict=True):
        pictures = draw_maps(one.image, one.attention, command.out / f"{name}-maps")
        if attention.weights == "learned":
            pictures += draw_path(one.image, one.attention, command.out / f"{name}-gaze")
        print(f"{one.path}: {one.text or '(no words)'}", *(f"  {file}" for file in pictures), sep="\n")
        for sentence in one.warnings:
            say(f"warning: {sentence}")


def picture_names(images: Sequence[Path]) -> list[str]:
    """A name for the pictures of each image: its stem, shortened if it is long, and its number if stems repeat."""
    named = [shortened(path.stem) for path in images]
    stems = Counter(named)
    names: dict[str, None] = {}
    for number, stem in enumerate(named):
        name = stem if stems[stem] == 1 else f"{stem}-{number}"
        while name in names:  # as if a-1.jpg lies between two a.jpg
            name = f"{name}-{number}"
        names[name] = None
    return [*names]
