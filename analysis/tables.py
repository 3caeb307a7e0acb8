"""The comparison table: one row for each variant and way of decoding, one column for each score.

Scores are fractions in files and become percentages here and nowhere else; CIDEr stays as the literature
prints it. A cell is the mean over seeds with its range in brackets, or the bare value where there is one run.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from analysis.published import PUBLISHED, Published
from analysis.records import Record

DASH = "–"
COLLAPSED = "†"
LARGEST_POWER = 700.0
"""e to more is no number."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score: its heading, where scores.json holds it (part, name), and how it is printed: with ``power`` as e^it."""

    title: str
    part: str
    name: str
    scale: float = 100.0
    decimals: int = 1
    power: bool = False

    def read(self, scores: dict) -> float | None:
        """The score as printed, or None where it is missing or no finite number."""
        value = (scores.get(self.part) or {}).get(self.name)
        if value is None or not math.isfinite(value) or (self.power and value > LARGEST_POWER):
            return None
        return math.exp(value) if self.power else value * self.scale


COLUMNS = {
    **{f"bleu{n}": Column(title=f"BLEU-{n}", part="captions", name=f"bleu{n}") for n in (1, 2, 3, 4)},
    **{
        f"bleu{n}_free": Column(title=f"BLEU-{n}, no penalty", part="captions", name=f"bleu{n}_free")
        for n in (1, 2, 3, 4)
    },
    "meteor": Column(title="METEOR", part="captions", name="meteor"),
    "rouge_l": Column(title="ROUGE-L", part="captions", name="rouge_l"),
    "cider": Column(title="CIDEr", part="captions", name="cider", scale=1, decimals=3),
    "length_ratio": Column(title="Length ratio", part="captions", name="length_ratio", scale=1, decimals=2),
    "mass": Column(title="Grounding mass", part="grounding", name="mass"),
    "pointing": Column(title="Grounding pointing", part="grounding", name="pointing"),
    "nll": Column(title="NLL (nats per token)", part="given", name="nll", scale=1, decimals=3),
    "perplexity": Column(title="Perplexity", part="given", name="nll", scale=1, decimals=3, power=True),
    "top1": Column(title="Top-1", part="given", name="top1"),
    "top5": Column(title="Top-5", part="given", name="top5"),
    "content_top1": Column(title="Top-1 of content words", part="given", name="content_top1"),
    "entropy": Column(title="Entropy (nats)", part="health", name="entropy", scale=1, decimals=2),
    "maximum": Column(title="Largest weight", part="health", name="maximum"),
    "change": Column(title="Change between words", part="health", name="change"),
    "distinct": Column(title="Distinct places", part="health", name="distinct"),
}
DEFAULT = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "mass", "pointing")
CONTROLS = {"uniform": "looks nowhere: uniform", "centre": "looks at the centre"}


@dataclass(frozen=True)
class Cell:
    """The values of one score over the seeds that have it, at least one."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant decoded one way, looking its own way or as ``look`` does. ``runs`` is 0 for what was not trained
    here: a control, or a ``published`` model; ``trials`` is what the study took that it comes from."""

    name: str
    decode: str = ""
    beam: int | None = None
    look: str = ""
    runs: int = 0
    collapsed: int = 0
    published: bool = False
    trials: int = 0
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under columns. ``caption`` says what the numbers are, ``notes`` what is missing and why."""

    split: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    notes: tuple[str, ...] = ()


def comparison(
    records: Iterable[Record],
    *,
    columns: Sequence[str] = DEFAULT,
    split: str | None = None,
    published: str | None = None,
) -> Table:
    """Compare finished runs on one split, by default the one their headline evaluations were made on.

    ``published`` names a dataset whose published scores stand below, where they have any of the columns.

    Raises:
        ValueError: unknown columns or dataset, nothing finished, headlines of several splits, or none on this one.
    """
    if published is not None and published not in PUBLISHED:
        raise ValueError(f"no published scores of {published!r}; known are those of {', '.join(PUBLISHED)}")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown columns {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
    records = list(records)
    finished = [record for record in records if record.finished]
    split = split or _headline_split(finished)
    chosen = tuple(COLUMNS[name] for name in columns)

    groups: dict[tuple, list[tuple[Record, dict]]] = {}
    several = len({record.experiment for record in finished}) > 1
    for record in finished:
        name = f"{record.experiment}/{record.variant}" if several else record.variant
        for way, scores in _scored(record, split).items():
            groups.setdefault((name, *way), []).append((record, scores))
    if not groups:
        known = sorted({e.split for record in finished for e in record.evaluations})
        raise ValueError(f"no run was scored on {split!r}; evaluated are {', '.join(known) or 'none'}")

    rows = [_row(*way, group, chosen) for way, group in _together(groups)]
    everything = [scores for group in groups.values() for _, scores in group]
    theirs = [model for model in PUBLISHED.get(published, ()) if not model.scores.keys().isdisjoint(columns)]
    return Table(
        split=split,
        columns=chosen,
        rows=(*rows, *_controls(everything, chosen), *_published(theirs, chosen)),
        caption=_caption(rows, split, chosen),
        notes=(
            *_notes(rows, everything, chosen, unfinished=len(records) - len(finished)),
            *_spent(finished),
            *_sources(theirs, chosen),
        ),
    )


def _headline_split(finished: Sequence[Record]) -> str:
    splits = sorted({record.scores["split"] for record in finished})
    if not splits:
        raise ValueError("no run is finished (no scores.json), so there is nothing to compare")
    if len(splits) > 1:
        raise ValueError(f"the runs report different splits ({', '.join(splits)}); choose one with split=...")
    return splits[0]


def _scored(record: Record, split: str) -> dict[tuple[str, int, str], dict]:
    """Scores of a run by (decode, beam, look), its headline first; those of several draws are their mean.

    Where the headline was evaluated again, as with boxes that came later, the new scores are shown.
    """
    found: dict[tuple[str, int, str], dict] = {}
    for scores in (record.scores, *(evaluation.scores for evaluation in record.evaluations)):
        if scores["split"] == split:
            mean = scores.get("captions", {}) | scores.get("draws", {}).get("mean", {})
            found[scores["decode"], scores["beam"], scores.get("look", "")] = scores | {"captions": mean}
    return found


def _together(groups: dict[tuple, list]) -> list[tuple[tuple, list]]:
    """The groups with all rows of a variant next to each other, in order of first appearance."""
    names = list(dict.fromkeys(name for name, *_ in groups))
    return sorted(groups.items(), key=lambda group: (names.index(group[0][0]), *group[0][1:]))


def _row(
    name: str, decode: str, beam: int, look: str, group: list[tuple[Record, dict]], columns: Sequence[Column]
) -> Row:
    return Row(
        name=name,
        decode=decode,
        beam=beam,
        look=look,
        runs=len(group),
        collapsed=sum(record.collapsed for record, _ in group),
        trials=max((record.study or {}).get("trials", 0) for record, _ in group),
        cells=tuple(_cell(column, [scores for _, scores in group]) for column in columns),
    )


def _cell(column: Column, scores: Iterable[dict]) -> Cell | None:
    values = [column.read(s) for s in scores]
    values = tuple(value for value in values if value is not None)
    return Cell(values) if values else None


def _controls(scores: Sequence[dict], columns: Sequence[Column]) -> Iterable[Row]:
    """What a gaze that knows nothing scores on the same words: rows for the grounding columns alone."""
    for control, name in CONTROLS.items():
        cells = []
        for column in columns:
            blind = Column(title=column.title, part="grounding", name=f"{control}_{column.name}")
            cells.append(_cell(blind, scores) if column.part == "grounding" else None)
        if any(cells):
            yield Row(name=name, cells=tuple(cells))


def _published(models: Sequence[Published], columns: Sequence[Column]) -> Iterable[Row]:
    """What others report: rows for the columns they have."""
    for model in models:
        cells = tuple(_cell(column, [{column.part: model.scores}]) for column in columns)
        yield Row(name=model.name, published=True, cells=cells)


def _caption(rows: Sequence[Row], split: str, columns: Sequence[Column]) -> str:
    counts = [row.runs for row in rows]
    said = [f"Scores on {split}."]
    if max(counts) > 1:
        n = f"n = {counts[0]}" if len(set(counts)) == 1 else f"n = {min(counts)} to {max(counts)}"
        said.append(f"Mean over {n} seeds, [lowest, highest] in brackets.")
    if min(counts) == 1:
        said.append("A value without brackets is a single run: it says nothing of the spread between seeds.")
    scales = {column.scale for column in columns}
    if 100 in scales:
        plain = [column.title for column in columns if column.scale == 1]
        said.append("In percent" + (f", {' and '.join(plain)} aside." if plain else "."))
    if any(column.name == "cider" for column in columns):
        said.append("CIDEr is CIDEr-D with the document frequencies of the references it is scored on.")
    return " ".join(said)


def _notes(rows: Sequence[Row], scores: Sequence[dict], columns: Sequence[Column], *, unfinished: int) -> Iterable[str]:
    collapsed = [f"{row.name} ({row.collapsed} of {row.runs})" for row in rows if row.collapsed]
    if collapsed:
        yield f"{COLLAPSED} collapsed in training, counted in: {', '.join(dict.fromkeys(collapsed))}."
    draws = sorted({s["draws"]["n"] for s in scores if "draws" in s})
    if draws:
        yield f"Captions decoded by `sample` are scored as the mean over {' or '.join(map(str, draws))} draws."
    for column in columns:
        lacking = sum(column.read(s) is None for s in scores)
        if lacking and column.part == "grounding" and not any(s.get("grounding") for s in scores):
            yield f"{DASH} {column.title}: not measured; these images have no boxes."
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
        "Published rows are single runs of their source, with its own encoder, words and METEOR, and say nothing of "
        f"the spread between seeds: {sources}."
    )
    if any(model.penalty_free for model in models):
        shown = any(column.name.endswith("_free") for column in columns)
        where = "it stands under 'no penalty', beside ours" if shown else "the columns bleu1_free to bleu4_free show it"
        yield f"Published BLEU has no brevity penalty: {where}, and does not compare with BLEU that has one."


def _spent(records: Iterable[Record]) -> Iterable[str]:
    """The best of many trials is too good on average, so how many there were belongs to every table of them."""
    studies = {(record.experiment, json.dumps(record.study)): record.study for record in records if record.study}
    for (experiment, _), study in studies.items():
        trials = "1 trial was" if study["trials"] == 1 else f"{study['trials']} trials were"
        of = ", ".join(f"{kind} {count}" for kind, count in study.get("of", {}).items())
        yield f"{experiment}: {trials} spent on the study {study['study']}{f' ({of})' if of else ''}."


def _reason(column: Column, scores: dict) -> str:
    missing = scores.get("missing", {})
    return str(missing.get(column.name, missing.get(column.part, "no reason recorded"))).rstrip(".")


def render(table: Table, format: str = "markdown") -> str:
    """The table as text in one of FORMATS.

    Raises:
        ValueError: an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; known are {', '.join(FORMATS)}")
    return FORMATS[format](table)


def _markdown(table: Table) -> str:
    header = ["Variant", "Decoding", "n", *(column.title for column in table.columns)]
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    for row in table.rows:
        name = f"{row.name} {COLLAPSED}" if row.collapsed else row.name
        cells = [_text(cell, column, row.runs) for cell, column in zip(row.cells, table.columns, strict=True)]
        lines.append([name, _decoding(row), str(row.runs or ""), *cells])
    text = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    return "\n".join([*text, "", table.caption, *("\n" + note for note in table.notes)]) + "\n"


def _decoding(row: Row) -> str:
    if row.published:
        return "published, one run"
    search = "words drawn" if row.beam == 0 else f"beam {row.beam}"
    look = f", looks {row.look}" if row.look else ""
    return f"{row.decode}, {search}{look}" if row.runs else ""


def _text(cell: Cell | None, column: Column, runs: int) -> str:
    """``21.4 [20.9, 22.0]``; a score that only some seeds have names how many."""
    if cell is None:
        return DASH if runs else ""
    mean, low, high = (f"{value:.{column.decimals}f}" for value in (cell.mean, cell.low, cell.high))
    seeds = len(cell.values)
    alone = seeds == 1 or (not runs and low == high)
    text = mean if alone else f"{mean} [{low}, {high}]"
    return f"{text} (n = {seeds})" if runs and seeds < runs else text


def _csv(table: Table) -> str:
    """For programs: mean, lowest, highest and count of every score in columns of their own, or empty."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    scores = [f"{c.title}{part}" for c in table.columns for part in ("", " low", " high", " n")]
    looks = ["Look"] if any(row.look for row in table.rows) else []
    trials = ["Trials"] if any(row.trials for row in table.rows) else []
    lines.writerow(["Variant", "Split", "Decode", "Beam", *looks, "n", "Collapsed", *trials, *scores])
    for row in table.rows:
        beam = "" if row.beam is None else row.beam
        cells = [
            (f"{c.mean:.6g}", f"{c.low:.6g}", f"{c.high:.6g}", len(c.values)) if c else [""] * 4 for c in row.cells
        ]
        flat = [value for cell in cells for value in cell]
        look, spent = [row.look] * len(looks), [row.trials or ""] * len(trials)
        scored = ("", "published") if row.published else (table.split, row.decode)
        lines.writerow([row.name, *scored, beam, *look, row.runs, row.collapsed, *spent, *flat])
    return text.getvalue()


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": _markdown, "csv": _csv}
