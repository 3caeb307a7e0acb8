"""Pictures of runs, from their folders: learning curves, attention maps and gaze paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.figures import health_curves, learning_curves, save
from analysis.records import Evaluation, Record
from analysis.saccades import Attention, attention_maps, compare_gaze, gaze_path, read_attention, tabulate
from attend.data.images import open_image
from attend.data.prepared import Prepared


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


def draw_gazes(records: Sequence[Record], folder: Path, images: int) -> list[Path]:
    """For the first images: the gaze of every learned variant side by side, and the maps of each (first seeds).

    Where fewer images were evaluated, those are drawn.
    """
    shown: dict[str, tuple[Record, Evaluation]] = {}
    for record in records:
        if record.config.attention.weights == "learned" and (evaluation := _headline(record)):
            shown.setdefault(record.variant, (record, evaluation))
    files = []
    evaluated = [evaluation.scores["images"] for _, evaluation in shown.values()]
    for number in range(min([images, *evaluated]) if shown else 0):
        looks = {variant: read_attention(evaluation.attention, number) for variant, (_, evaluation) in shown.items()}
        first, _ = next(iter(shown.values()))
        image = open_image(_image_of(first, next(iter(looks.values())).image))
        files += save(compare_gaze(image, looks), folder / f"gaze-{number}", formats=("png",))
        for variant, look in looks.items():
            files += draw_maps(image, look, folder / f"maps-{number}-{variant}")
    return files


def draw_maps(image, look: Attention, path: Path) -> list[Path]:
    """The attention of every word over the picture."""
    figure = attention_maps(
        image, look.words, look.weights, look.geometry, glimpses=look.glimpses, gates=look.gates, caption=look.caption
    )
    numbers = tabulate(look.words, look.weights, look.geometry, glimpses=look.glimpses)
    return save(figure, path, formats=("png",), numbers=numbers)


def draw_gaze(image, look: Attention, path: Path) -> list[Path]:
    """The path of the gaze over the picture."""
    axes = gaze_path(
        image, look.words, look.weights, look.geometry, glimpses=look.glimpses, caption=look.caption
    )  # fmt: skip
    return save(axes.figure, path, formats=("png",))


def _headline(record: Record) -> Evaluation | None:
    """The evaluation with pictures that the run's headline scores are of."""
    if not record.finished:
        return None
    for evaluation in record.evaluations:
        same = all(evaluation.scores.get(k) == record.scores.get(k) for k in ("split", "decode", "beam", "look"))
        if same and evaluation.attention.exists():
            return evaluation
    return None


def _image_of(record: Record, name: str) -> Path:
    """The file of an image of the dataset a run was trained on."""
    dataset = Prepared(record.config.data)
    return dataset.folder / dataset.about["images"] / name
