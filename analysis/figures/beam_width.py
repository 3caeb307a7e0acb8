"""Scores against the width of the beam, from the evaluations of each run that differ only in the width."""

from collections.abc import Iterable, Sequence

import numpy as np
from attend.analysis.figures.figures import Line, bundles, colours, finish, line_note, named, panels, styled
from attend.analysis.records import Record
from attend.analysis.tables.comparison import COLUMNS
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

DEFAULT = ("bleu4", "meteor", "cider", "length_ratio")


def widths(records: Iterable[Record], score: str, split: str | None = None) -> dict[str, list[Line]]:
    """For each variant, a line per seed: (gid, widths, scores in printed units), with at least two widths.

    Each decoding of a variant has its own lines. A beam of 0 (sampled words) is not a width.
    """
    records = [record for record in records if record.finished]
    called, column = named(records), COLUMNS[score]
    found: dict[tuple[str, str], list[Line]] = {}
    for record in records:
        ways: dict[str, dict[int, float]] = {}
        for one in record.evaluations:
            drawn = one.scores.get("draws", {}).get("mean", {})
            value = column.read(one.scores | {"captions": one.scores.get("captions", {}) | drawn})
            if one.split == (split or record.scores["split"]) and one.look is None and one.beam and value is not None:
                ways.setdefault(one.decode, {})[one.beam] = value
        for decode, points in ways.items():
            if len(points) > 1:
                x, y = np.array(sorted(points.items()), float).T
                line = (f"{called[record.folder]}/{decode}/seed{record.seed}", x, y)
                found.setdefault((called[record.folder], decode), []).append(line)
    several = len({name for name, _ in found}) < len(found)
    return {f"{name}, {decode}" if several else name: lines for (name, decode), lines in found.items()}


@styled
def width_curves(
    records: Sequence[Record],
    *,
    scores: Sequence[str] = DEFAULT,
    split: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> tuple[Axes, ...]:
    """Each score against the width of the beam, in panels: seeds, mean and interval as in learning curves.

    Raises:
        ValueError: no run was evaluated with two widths.
    """
    found = {score: some for score in scores if (some := widths(records, score, split))}
    if not found:
        raise ValueError("no run was evaluated with two widths of the beam: `attend evaluate RUN --beam 5` adds one")
    styles = colours(name for some in found.values() for name in some)
    every = panels(len(found), axes, columns=2, size=(3.6, 2.4))
    for one, (score, some) in zip(every, found.items(), strict=True):
        bundles(one, some, styles, markers=10**6, shared=True)
        one.set_title(COLUMNS[score].title + (" (%)" if COLUMNS[score].scale == 100 else ""), loc="left")
        one.set_xlabel("width of the beam")
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
    note = line_note(every, at="width", reach="at the widths that all seeds have")
    lacking = [COLUMNS[score].title for score in scores if score not in found]
    note += f"; not scored: {', '.join(lacking)}" if lacking else ""
    return tuple(finish(every[0].figure, every, note, own=axes is None))
