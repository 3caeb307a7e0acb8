"""Pictures of runs, from their folders: learning curves, attention maps and gaze paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.figures import health_curves, learning_curves, save
from analysis.gazes import gaze_path
from analysis.records import Record
from analysis.saccades import Attention, attention_maps, tabulate


def draw_curves(records: Sequence[Record], folder: Path) -> list[Path]:
    """Learning curves, of validation CIDEr or else of the likelihood, and attention health."""
    files = []
    for score in ("cider", "nll"):
        scored = [r for r in records if len(r.series(score, "val")[0])]
        if scored:
            files += save(learning_curves(scored, score=score)[0].figure, folder / "curves")
            break
    learned = [r for r in records if r.config.attention.weights == "learned" and r.metrics]
    if learned:
        files += save(health_curves(learned)[0].figure, folder / "health")
    return files


def draw_maps(image, look: Attention, path: Path, *, smooth: bool = True) -> list[Path]:
    """The attention of every word over the picture."""
    figure = attention_maps(
        image,
        look.words,
        look.weights,
        look.geometry,
        glimpses=look.glimpses,
        gates=look.gates,
        caption=look.caption,
        smooth=smooth,
    )
    numbers = tabulate(look.words, look.weights, look.geometry, glimpses=look.glimpses)
    return save(figure, path, formats=("png",), numbers=numbers)


def draw_gaze(image, look: Attention, path: Path) -> list[Path]:
    """The path of the gaze over the picture."""
    looks = {"glimpses": look.glimpses, "sizes": "attention"}
    axes = gaze_path(image, look.words, look.weights, look.geometry, **looks, caption=look.caption)
    return save(axes.figure, path, formats=("png",))
