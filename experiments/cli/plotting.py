"""`attend plot KIND RUNS`: a table from each kind of picture to the function that draws it.

If a run lacks data for a picture, one sentence says so and the other runs are drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attend.analysis.cause import draw_cause
from attend.analysis.figures import beam_width, dots, metric_agreement
from attend.analysis.figures.estimators import read_rows
from attend.analysis.figures.figures import FORMATS, HEALTH, colours, named, save
from attend.analysis.figures.from_runs import draw_curves, draw_estimators, draw_health, say
from attend.analysis.gaze.from_runs import Pictures, draw_gaze, draw_saccades
from attend.analysis.grounding.from_runs import draw_grounding
from attend.analysis.records import Record, one_dataset, read_runs
from attend.analysis.tables.columns import COLUMNS
from attend.analysis.tables.comparison import comparison
from attend.experiments.cli.plot import Plot

from attend import bars
from attend.paths import regular

SCORES = ("bleu4", "meteor", "cider", "mass", "pointing")
"""The default scores."""


def curves(command: Plot) -> list[Path]:
    return draw_curves(_logged(command), command.out, formats(command))


def health(command: Plot) -> list[Path]:
    return draw_health(_logged(command), command.out, formats(command))


def scores(command: Plot) -> list[Path]:
    return _dots(command, "scores", _ways(command))


def differences(command: Plot) -> list[Path]:
    records = _ways(command)
    base = command.base or records[0].variant
    if len({record.variant for record in records}) == 1:
        raise ValueError(f"{records[0].variant} is the only variant here, so it differs from none: name other runs too")
    return _dots(command, "differences", records, base)


def _dots(command: Plot, name: str, records: Sequence[Record], base: str | None = None) -> list[Path]:
    table = comparison(records, columns=_scores(command, SCORES), split=command.split, base=base)
    for note in table.notes:
        if not note.startswith("Bold"):  # which is how the table marks what the picture fills
            bars.say(note)
    figure = dots.dot_panels(table)[0].figure
    return save(figure, command.out / name, formats=formats(command), numbers=dots.numbers(table))


def _ways(command: Plot) -> list[Record]:
    """The runs with their headline evaluation, or with all evaluations if ``ways`` is set."""
    records = _finished(command)
    if command.ways:
        return records
    return [replace(one, evaluations=tuple(filter(None, [one.headline(command.split)]))) for one in records]


def beam(command: Plot) -> list[Path]:
    records, chosen = _finished(command), _scores(command, beam_width.DEFAULT)
    for record in records:
        if not any(beam_width.widths([record], score, command.split) for score in chosen):
            say(f"{record.folder} was not evaluated with two widths of the beam")
    axes = beam_width.width_curves(records, scores=chosen, split=command.split)
    return save(axes[0].figure, command.out / "beam", formats=formats(command))


def metrics(command: Plot) -> list[Path]:
    records = _finished(command)
    called, tables = named(records), {}
    for record in records:
        one = record.headline(command.split)
        if one is None:
            images = command.split or record.scores["split"]
            say(f"{record.folder} has no evaluation on {images} with its own decoding")
        elif (table := _read(metric_agreement.read_metrics, one)) is not None:
            tables.setdefault(called[record.folder], []).append(table)
    found = [metric_agreement.correlate(name, tables[name]) for name in colours(tables)]
    figure = metric_agreement.heat_maps(found)[0].figure
    return save(figure, command.out / "metrics", formats=formats(command), numbers=metric_agreement.numbers(found))


def study(command: Plot) -> list[Path]:
    from attend.experiments.runner.show import draw_found

    return [file for run in command.runs for file in draw_found(run, command.out, formats(command))]


def estimators(command: Plot) -> list[Path]:
    files = []
    for folder in command.runs:
        path = folder / "estimators.csv"
        rows = (
            _read(lambda path: read_rows(regular(path).read_text("utf-8", "replace"), str(path)), path)
            if path.exists()
            else None
        )
        if not path.exists():
            say(f"{folder} has no estimators.csv: run `attend estimators --out {folder}`")
        elif rows and not any(row.draws for row in rows):
            say(f"{path} has no estimator that was measured")
        out = command.out / folder.name if len(command.runs) > 1 else command.out
        files += draw_estimators(rows or [], out, formats(command))
    return files


def saccades(command: Plot) -> list[Path]:
    options = {name: getattr(command, name) for name in ("images", "dots", "raw", "decode", "draws", "seed")}
    return draw_saccades(_finished(command), command.out, Pictures(names=command.image, moving=command.film, **options))


def gaze(command: Plot) -> list[Path]:
    options = {name: getattr(command, name) for name in ("decode", "draws", "seed", "people", "split")}
    return draw_gaze(_finished(command), command.out, formats=formats(command), **options)


def grounding(command: Plot) -> list[Path]:
    return draw_grounding(_finished(command), command.out, command.data, command.split, formats(command))


def cause(command: Plot) -> list[Path]:
    return draw_cause(_finished(command), command.out, formats(command))


KINDS: dict[str, Callable[[Plot], list[Path]]] = {
    draw.__name__: draw
    for draw in (
        curves, health, scores, differences, beam, metrics, study, estimators, saccades, gaze, grounding, cause,
    )
}  # fmt: skip
"""Each returns the files it wrote; the names are those of plot.Kind."""


def formats(command: Plot) -> tuple[str, ...]:
    """The formats of pictures; ValueError for one that is unknown."""
    chosen = tuple(dict.fromkeys(command.formats.split(",")))
    if unknown := [one for one in chosen if one not in FORMATS]:
        raise ValueError(f"unknown format {', '.join(map(repr, unknown))}: --formats takes {', '.join(FORMATS)}")
    return chosen


def _scores(command: Plot, default: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(default) if command.scores is None else tuple(dict.fromkeys(command.scores.split(",")))
    if unknown := [one for one in chosen if one not in COLUMNS]:
        raise ValueError(f"unknown scores {', '.join(unknown)}: known are {', '.join(COLUMNS)}")
    return chosen


def _readable(command: Plot) -> list[Record]:
    """The runs at or below the folders, finished or not. Broken runs are reported and left out."""
    broken: list[str] = []
    records = read_runs(command.runs, unfinished=True, broken=broken)
    for sentence in broken:
        say(sentence)
    return records


def _finished(command: Plot) -> list[Record]:
    """The finished runs. Unfinished runs are reported."""
    finished = []
    for record in _readable(command):
        if record.finished:
            finished.append(record)
        else:
            say(f"{record.folder} is unfinished (no scores.json)")
    if not finished:
        raise ValueError("none of these runs is finished (no scores.json): resume one first")
    return _alike(finished)


def _alike(records: Sequence[Record]) -> list[Record]:
    """The runs of the most frequent dataset. The others are reported."""
    kept, left = one_dataset(records)
    for sentence in left:
        say(sentence)
    return kept


def _logged(command: Plot) -> list[Record]:
    """The runs with a metrics.jsonl that can be read."""
    return _alike([one for one in _readable(command) if _read(_drawable, one)])


def _drawable(record: Record) -> bool:
    """Whether a run logged anything; ValueError if a logged value is no number."""
    for name, split in (*((name, "train") for name in ("nll", *HEALTH)), ("nll", "val"), ("cider", "val")):
        record.series(name, split)
    if not record.metrics:
        say(f"{record.folder} has no metrics.jsonl, or an empty one")
    return bool(record.metrics)


def _read(function: Callable[[Any], Any], what: Any) -> Any:
    """The result of the function, or None after reporting its error."""
    try:
        return function(what)
    except (ValueError, OSError) as error:
        say(" ".join(str(error).split()))
        return None
