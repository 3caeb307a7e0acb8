"""The comparison table: one row for each variant and way of decoding, one column for each score.

Scores are fractions in files and become percentages only here; CIDEr is printed as in the literature. A cell is the
mean over seeds with its interval over seeds and images. Without scores of single images, it is the mean with the range
over seeds, or the value of one run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from attend.analysis.records import Record, names
from attend.analysis.statistics.evidence import Evidence, Scored, against, compared, shared_seeds
from attend.analysis.statistics.intervals import Difference
from attend.analysis.tables.columns import COLUMNS, CONTROLS, DEFAULT, SAME, Cell, Column, Row, Table
from attend.analysis.tables.published import PUBLISHED, Published
from attend.analysis.tables.render import COLLAPSED, DASH, FORMATS, render

__all__ = ["COLUMNS", "DEFAULT", "FORMATS", "Cell", "Column", "Row", "Table", "comparison", "render"]


UNKNOWN_OBJECTS = "only for the images of the built-in world are all objects known"
BEGUN = "If a run began from another run, its epochs and training time include those of that run."


def comparison(
    records: Iterable[Record],
    *,
    columns: Sequence[str] = DEFAULT,
    split: str | None = None,
    published: str | None = None,
    base: str | None = None,
    broken: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
) -> Table:
    """Compare finished runs on one split, by default that of their headline scores.

    ``published`` names a dataset: its published scores are added below if they have any of the columns. With ``base``,
    a variant, all other rows are differences from its row with the same decoding, or else from its headline row.
    ``margins`` replace those of COLUMNS. ``broken`` has a sentence for each run that could not be read, for the notes.

    Raises:
        ValueError: columns, dataset or base are unknown, no run is finished, runs have different data, their headlines
            are on several splits, or none was scored on this one.
    """
    check_columns(columns)
    if published is not None and published not in PUBLISHED:
        raise ValueError(f"no published scores of {published!r}; known are those of {', '.join(PUBLISHED)}")
    records = list(records)
    finished = [record for record in records if record.finished]
    split = split or _headline_split(finished)
    chosen = _chosen(columns, margins or {})
    ways = _groups(finished, split)
    everything = [run.scores for _, group in ways for run in group]

    rows = [_row(*way, group, chosen) for way, group in ways]
    if not (begun := any(run.record.scores.get("epochs_before") for _, group in ways for run in group)):
        rows = [replace(row, epochs=()) for row in rows]
    evidence = Evidence([group for _, group in ways])
    rows, about = _tested(rows, evidence, chosen, None if base is None else _bases(base, ways))
    theirs = [model for model in PUBLISHED.get(published, ()) if not model.scores.keys().isdisjoint(columns)]
    return Table(
        split=split,
        columns=chosen,
        rows=(*rows, *_controls(everything, chosen), *_published(theirs, chosen)) if base is None else tuple(rows),
        caption=_caption(rows, split, chosen, base),
        notes=(
            *about,
            *evidence.notes,
            *(f"Left out because broken: {why}." for why in broken),
            *_notes(rows, everything, chosen, unfinished=len(records) - len(finished)),
            *_trial_notes(finished),
            *([BEGUN] if begun else []),
            *(_sources(theirs, chosen) if base is None else ()),
        ),
        base=base,
    )


def check_columns(columns: Sequence[str]) -> None:
    """ValueError for an unknown column."""
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise ValueError(f"unknown columns {', '.join(unknown)}; known are {', '.join(COLUMNS)}")


def _chosen(columns: Sequence[str], margins: Mapping[str, float]) -> tuple[Column, ...]:
    """The columns of these names, some with a margin of their own."""
    own = {name: {"margin": margin} for name, margin in margins.items()}
    return tuple(replace(COLUMNS[name], **own.get(name, {})) for name in columns)


def _tested(
    rows: list[Row], evidence: Evidence, columns: Sequence[Column], bases: list[int] | None
) -> tuple[list[Row], list[str]]:
    """The rows with their differences from the best, or from their bases, and the notes on the tests."""
    if bases is None:
        cells, tests, untested = compared(evidence, [list(row.cells) for row in rows], columns)
        about = _best_notes(tests, [rows[r].name for r in sorted(untested)], columns)
    else:
        rows = [replace(row, base=r == bases[r]) for r, row in enumerate(rows)]
        cells, found = against(evidence, bases, columns)
        about = _base_notes(rows, evidence, bases, found)
    return [replace(row, cells=tuple(some)) for row, some in zip(rows, cells, strict=True)], [*about]


def _groups(finished: Sequence[Record], split: str) -> list[tuple[tuple, list[Scored]]]:
    """The runs of each variant and way of decoding. ValueError if there are none, or if their data differ."""
    groups: dict[tuple, list[Scored]] = {}
    called = names(finished)
    for record in finished:
        for way, scored in _scored(record, split).items():
            groups.setdefault((called[record.folder], *way), []).append(scored)
    if not groups:
        known = sorted({e.split for record in finished for e in record.evaluations})
        raise ValueError(f"no run was scored on {split!r}; splits with scores: {', '.join(known) or 'none'}")
    ways = _by_variant(groups)
    _same_data([run for _, group in ways for run in group])
    return ways


def _headline_split(finished: Sequence[Record]) -> str:
    splits = sorted({record.scores["split"] for record in finished})
    if not splits:
        raise ValueError("no run is finished (no scores.json), so there is nothing to compare: resume one first")
    if len(splits) > 1:
        raise ValueError(f"the runs report different splits ({', '.join(splits)}); choose one with --split")
    return splits[0]


def _same_data(runs: Sequence[Scored]) -> None:
    """ValueError if the data of the runs differ. A run without a fingerprint passes: older runs did not record one."""
    prints: dict[str, Scored] = {}
    for run in runs:
        if "data_fingerprint" in run.scores:
            prints.setdefault(run.scores["data_fingerprint"], run)
    if len(prints) > 1:
        each = ", ".join(f"{key} of {run.record.experiment}/{run.name}" for key, run in prints.items())
        raise ValueError(f"the runs have different data ({each}): compare the runs of one dataset")


def _scored(record: Record, split: str) -> dict[tuple[str, int, str], Scored]:
    """The scores of a run by (decode, beam, look), its headline first; for several draws, their mean.

    If the headline was evaluated again, for example after boxes were added, the new scores are used.
    """
    found: dict[tuple[str, int, str], Scored] = {}
    evaluated = [(evaluation.scores, evaluation.folder) for evaluation in record.evaluations]
    for scores, folder in ((record.scores, None), *evaluated):
        if scores["split"] == split:
            mean = scores.get("captions", {}) | scores.get("draws", {}).get("mean", {})
            way = scores["decode"], scores["beam"], scores.get("look", "")
            found[way] = Scored(record, scores | {"captions": mean}, folder)
    return found


def _by_variant(groups: dict[tuple, list]) -> list[tuple[tuple, list[Scored]]]:
    """The groups with all rows of a variant next to each other, in order of first appearance."""
    variants = list(dict.fromkeys(name for name, *_ in groups))
    return sorted(groups.items(), key=lambda group: (variants.index(group[0][0]), *group[0][1:]))


def _bases(base: str, ways: Sequence[tuple[tuple, list[Scored]]]) -> list[int]:
    """The base row of each row: that with the same decoding, or else the headline of the base."""
    theirs = {way[1:]: r for r, (way, _) in enumerate(ways) if way[0] == base}
    if not theirs:
        known = ", ".join(dict.fromkeys(way[0] for way, _ in ways))
        raise ValueError(f"there is no variant {base!r} to compare with; known are {known}")
    headlines = (run.record.scores for way, group in ways if way[0] == base for run in group)
    main = next(((one["decode"], one["beam"], one.get("look", "")) for one in headlines), None)
    return [theirs.get(way[1:], theirs.get(main, min(theirs.values()))) for way, _ in ways]


def _row(name: str, decode: str, beam: int, look: str, group: list[Scored], columns: Sequence[Column]) -> Row:
    """The row of a group of runs. Time and epochs include those of the runs that they began from."""
    ours = [run.record.scores for run in group]
    facts = {
        field: tuple(scores[key] + scores.get(before, 0) for scores in ours if scores.get(key) is not None)
        for field, key, before in (
            ("parameters", "parameters", ""),
            ("seconds", "train_seconds", "seconds_before"),
            ("epochs", "epochs", "epochs_before"),
        )
    }
    return Row(
        name=name,
        decode=decode,
        beam=beam,
        look=look,
        runs=len(group),
        collapsed=sum(run.record.collapsed for run in group),
        trials=max((run.record.study or {}).get("trials", 0) for run in group),
        cells=tuple(_cell(column, [run.scores for run in group]) for column in columns),
        **facts,
    )


def _cell(column: Column, scores: Iterable[dict]) -> Cell | None:
    values = tuple(value for one in scores if (value := column.read(one)) is not None)
    return Cell(values) if values else None


def _controls(scores: Sequence[dict], columns: Sequence[Column]) -> Iterable[Row]:
    """Scores of attention that ignores the image, on the same words: rows with the grounding columns only."""
    for control, name in ((control, CONTROLS[control]) for control in SAME):
        cells = []
        for column in columns:
            blind = Column(title=column.title, part="grounding", name=f"{control}_{column.name}")
            cells.append(_cell(blind, scores) if column.part == "grounding" else None)
        if any(cells):
            yield Row(name=name, cells=tuple(cells))


def _published(models: Sequence[Published], columns: Sequence[Column]) -> Iterable[Row]:
    """Rows of published scores."""
    for model in models:
        cells = tuple(_cell(column, [{column.part: model.scores}]) for column in columns)
        yield Row(name=model.name, published=True, cells=cells)


def _caption(rows: Sequence[Row], split: str, columns: Sequence[Column], base: str | None) -> str:
    parts = [f"Scores on {split}." + (f" Rows other than {base} are differences from it." if base else "")]
    parts += _bracket_notes(rows, columns)
    scales = {column.scale for column in columns}
    if 100 in scales:
        plain = [column.title for column in columns if column.scale == 1]
        parts.append("In percent" + (f", except {' and '.join(plain)}." if plain else "."))
    if any(column.name == "cider" for column in columns):
        parts.append("CIDEr is CIDEr-D with the document frequencies of the references it is scored on.")
    return " ".join(parts)


def _bracket_notes(rows: Sequence[Row], columns: Sequence[Column]) -> Iterable[str]:
    """Explain the numbers beside a mean: an interval, a range, or none."""
    counts = [row.runs for row in rows]
    n = f"n = {counts[0]}" if len(set(counts)) == 1 else f"n = {min(counts)} to {max(counts)}"
    cells = [(column, cell) for row in rows for column, cell in zip(columns, row.cells, strict=True) if cell]
    intervals = [cell.interval for _, cell in cells if cell.interval]
    if not intervals:
        if max(counts) > 1:
            yield f"Mean over {n} seeds, [lowest, highest] in brackets."
        if min(counts) == 1:
            yield "A value without brackets is a single run, so the spread between seeds is unknown."
        return
    images = f"{intervals[0].images:,} images"
    degrees = sorted({one.degrees for one in intervals})
    if degrees == [0]:
        yield f"[95 % interval] in brackets: bootstrap over {images} of one seed, without the spread between seeds."
    else:
        pooled = any(one.degrees > one.seeds - 1 for one in intervals)
        seeds = f"seeds, their spread pooled over the rows ({degrees[-1]} degrees of freedom)," if pooled else "seeds"
        yield f"Mean over {n} seeds with its [95 % interval] in brackets: bootstrap over {seeds} and {images}."
    bare = list(dict.fromkeys(column.title for column, cell in cells if not cell.interval))
    if bare and max(counts) > 1:
        yield (
            "In (parentheses): the range over seeds, if there are no scores of single images, or if seeds are too few "
            f"for an interval: {', '.join(bare)}."
        )
    elif bare:
        yield f"Without an interval, because there are no scores of single images: {', '.join(bare)}."


def _method(tests: Sequence[Difference]) -> str:
    """The test that distinguishes rows, in words."""
    count = f"{len(tests)} tests" if len(tests) > 1 else "1 test"
    return f"paired over seeds and images, permutation test at 5 %, Holm's correction for all {count} of this table"


def _margins(columns: Sequence[Column]) -> str:
    """What ≈ means."""
    margins = ", ".join(f"{column.title} {column.margin:g}" for column in columns if column.margin is not None)
    return f"≈: equal within a margin ({margins}; two one-sided tests at 5 %, not corrected)." if margins else ""


def _best_notes(tests: Sequence[Difference], untested: Sequence[str], columns: Sequence[Column]) -> Iterable[str]:
    if not tests:
        return
    yield f"Bold: the best of a column. Italic: not resolved whether it differs ({_method(tests)}). {_margins(columns)}"
    if untested:
        left = ", ".join(dict.fromkeys(untested))
        yield f"Not tested against the best (too few seeds, or no common seeds and images): {left}."


def _base_notes(
    rows: Sequence[Row], evidence: Evidence, bases: Sequence[int], tests: Sequence[tuple[Column, Difference]]
) -> Iterable[str]:
    """Explain which differences were tested, and report the smallest detectable ones."""
    fewer = []
    for row, group, base in zip(rows, evidence.rows, bases, strict=True):
        both, most = shared_seeds(group, evidence.rows[base]), max(row.runs, len(evidence.rows[base]))
        if both < most:
            fewer.append(f"{row.name} ({both} of {most})")
    if fewer:
        yield f"Differences use the seeds that both rows have. Not all seeds: {', '.join(dict.fromkeys(fewer))}."
    if not tests:
        yield "No row shares two seeds with its base, so nothing is tested: one run says nothing of another seed."
        return
    margins = _margins(list(dict.fromkeys(column for column, _ in tests)))
    yield f"Bold: differs from the base ({_method([one for _, one in tests])}). {margins} Plain: not resolved."
    least: dict[Column, list[float]] = {}
    for column, one in tests:
        least.setdefault(column, []).append(one.detectable)
    small = []
    for column, some in least.items():
        ends = dict.fromkeys(f"{value:.{column.decimals}f}" for value in (min(some), max(some)))
        small.append(f"{column.title} {' to '.join(ends)}")
    yield (
        "Smallest difference that this number of seeds and images detects with power 80 %, before correction: "
        f"{', '.join(small)}."
    )


def _notes(rows: Sequence[Row], scores: Sequence[dict], columns: Sequence[Column], *, unfinished: int) -> Iterable[str]:
    collapsed = [f"{row.name} ({row.collapsed} of {row.runs})" for row in rows if row.collapsed]
    if collapsed:
        yield f"{COLLAPSED} collapsed in training, but included: {', '.join(dict.fromkeys(collapsed))}."
    draws = sorted({s["draws"]["n"] for s in scores if "draws" in s})
    if draws:
        yield f"Captions decoded by `sample` are scored as the mean over {' or '.join(map(str, draws))} draws."
    for column in columns:
        lacking = sum(column.read(s) is None for s in scores)
        if lacking and column.part == "grounding" and not any(s.get("grounding") for s in scores):
            yield f"{DASH} {column.title}: not measured; these images have no boxes."
        elif lacking and column.signed:
            yield f"{DASH} {column.title}: some runs were evaluated before it was measured; evaluate them again."
        elif lacking:
            reasons = sorted({_reason(column, s) for s in scores if column.read(s) is None})
            where = f"{lacking} of {len(scores)} evaluations"
            yield f"{DASH} {column.title} missing in {where}: {'; '.join(reasons)}."
    if unfinished:
        yield f"Left out because unfinished: {unfinished} {'run' if unfinished == 1 else 'runs'}."


def _sources(models: Sequence[Published], columns: Sequence[Column]) -> Iterable[str]:
    """How the published rows compare with ours, and where they are from."""
    if not models:
        return
    sources = "; ".join(dict.fromkeys(model.source for model in models))
    yield (
        f"Published rows are single runs of their source ({sources}), with its own encoder, vocabulary and METEOR. "
        "Their spread between seeds is unknown."
    )
    if any("bleu4_free" in model.scores for model in models):
        shown = any(column.name.endswith("_free") for column in columns)
        where = "it is under 'no penalty', beside ours" if shown else "the columns bleu1_free to bleu4_free show it"
        yield f"Published BLEU has no brevity penalty: {where}. It is not comparable with BLEU that has one."


def _trial_notes(records: Iterable[Record]) -> Iterable[str]:
    """The number of trials of each study, since the best of many trials is too good on average."""
    studies = {(record.experiment, json.dumps(record.study)): record.study for record in records if record.study}
    for (experiment, _), study in studies.items():
        trials = "1 trial was" if study["trials"] == 1 else f"{study['trials']} trials were"
        of = ", ".join(f"{kind} {count}" for kind, count in study.get("of", {}).items())
        yield f"{experiment}: {trials} spent on the study {study['study']}{f' ({of})' if of else ''}."


def _reason(column: Column, scores: dict) -> str:
    missing = scores.get("missing", {})
    if column.part in ("diversity", "hallucination") and "captions" not in missing:
        if column.part not in scores:
            return "they are older than this score, so evaluate the run again"
        if column.part == "diversity":
            return "only several draws can be compared (`attend evaluate RUN --decode sample --draws 5`)"
        return "the captions name none" if scores[column.part] else UNKNOWN_OBJECTS
    return str(missing.get(column.name, missing.get(column.part, "no reason recorded"))).rstrip(".")
