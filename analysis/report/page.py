"""A comparison as one HTML page: the runs, their scores and curves, and the attention of each model.

The page loads no other file: it contains pictures, weights, style and program. Its Content-Security-Policy lets no
other script run, so a caption is text whatever it contains.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from attend.analysis import records as runs
from attend.analysis.figures.figures import health_curves, learning_curves
from attend.analysis.records import Record, one_dataset, read_environment, read_runs
from attend.analysis.report.gallery import gallery
from attend.analysis.report.svg import inline
from attend.analysis.tables.comparison import DEFAULT, Table, check_columns, comparison
from attend.analysis.tables.render import grid
from attend.analysis.tables.text import templates
from markupsafe import Markup, escape

from attend.config.text import difference

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("data.js", "heat.js", "gaze.js", "boxes.js", "card.js", "gallery.js")
"""The files of the page's program, in their order."""
COLUMNS = tuple(name for name in DEFAULT if name not in ("bleu2", "bleu3"))
"""Scores of the table: all of DEFAULT are too wide for a page."""
ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def report(
    folders: Sequence[str | Path],
    *,
    images: int | None = None,
    pictures: bool = True,
    seed: int | None = None,
    data: str | Path | None = None,
    columns: Sequence[str] = COLUMNS,
) -> tuple[str, list[str]]:
    """The page as HTML, and a sentence for each part that is left out.

    Args:
        folders: runs, or folders of runs; broken and unfinished runs are noted.
        images: the largest number of images in the gallery; None: all.
        pictures: whether the gallery has photographs.
        seed: the seed of the runs in the gallery; None: the first of each variant.
        data: the prepared dataset, if it was moved after training.
        columns: the scores of the table.

    Raises:
        ValueError: no folder has a run that can be read, or a column is unknown.
    """
    notes: list[str] = []
    broken: list[str] = []
    check_columns(columns)
    records = read_runs(folders, unfinished=True, broken=broken)
    notes += [f"Left out: {one.rstrip('.')}." for one in broken]
    table = _maybe(lambda: comparison(records, columns=columns), "There is no table", notes)
    curves = list(_curves(records, notes))
    looked, lacking = gallery(records, images=images, pictures=pictures, seed=seed, data=data)
    notes += lacking
    program = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    template = templates(TEMPLATES, autoescape=True, said=_with_code).get_template("report.html")
    page = template.render(
        title=_title(records),
        summary=_summary(records),
        facts=_facts(records),
        variants=_variants(records),
        table=table and _for_template(table),
        curves=curves,
        gallery=looked,
        boxed=any(entry["boxes"] for entry in looked["images"]),
        data=Markup(script_json(looked)),
        notes=notes,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        program=Markup(program),
        digest=base64.b64encode(hashlib.sha256(program.encode()).digest()).decode(),
    )
    return page.encode("utf-8", "replace").decode(), notes  # a folder's name may be invalid Unicode


def script_json(value: object) -> str:
    """JSON for a script element: ``</script>``, ``<!--`` and line separators are escaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)


def _maybe(work: Callable, lacking: str, notes: list[str]):
    """The result of ``work``; None after an error, with a note on it."""
    try:
        return work()
    except (OSError, ValueError) as error:
        notes.append(f"{lacking}: {str(error).rstrip('.')}.")
        return None


def _curves(records: Sequence[Record], notes: list[str]) -> Iterable[tuple[str, Markup]]:
    """Learning curves and attention health, if there are any, each with its title."""
    records, others = one_dataset(records)
    notes += [f"The curves leave out {one}." for one in others]
    logged = [r for r in records if _maybe(lambda r=r: r.metrics, "The curves leave out a run", notes)]
    for score in ("cider", "nll"):
        scored = _maybe(lambda s=score: [r for r in logged if len(r.series(s, "val")[0])], "There are no curves", notes)
        if scored:
            drawn = _maybe(lambda s=score, of=scored: learning_curves(of, score=s), "There are no curves", notes)
            if drawn:
                yield "Learning curves", inline(drawn[0].figure, "Learning curves")
            break
    learned = [record for record in logged if record.config.attention.weights == "learned"]
    drawn = learned and _maybe(lambda: health_curves(learned), "Attention health is not drawn", notes)
    if drawn:
        yield "Attention health", inline(drawn[0].figure, "Attention health in training")


def _title(records: Sequence[Record]) -> str:
    variants = list(dict.fromkeys(runs.names(records).values()))
    experiments = " and ".join(dict.fromkeys(record.experiment for record in records))
    if len(variants) > 3:
        return f"{experiments}: {len(variants)} variants"
    return f"{experiments}: {' against '.join(variants)}"


def _summary(records: Sequence[Record]) -> str:
    """The numbers of runs, variants and images of the page, and its datasets."""
    finished = [record for record in records if record.finished]
    counts = {"run": len(records), "variant": len({(r.experiment, r.variant) for r in records})}
    parts = [f"{count:,} {thing}{'s' * (count != 1)}" for thing, count in counts.items()]
    if unfinished := len(records) - len(finished):
        parts.append(f"{unfinished} unfinished")
    scored = sorted({(r.scores["images"], r.scores["split"]) for r in finished})
    parts += [f"{images:,} {split} images" for images, split in scored]
    return " · ".join([*parts, *dict.fromkeys(str(record.config.data) for record in records)])


def _facts(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Settings and environment of the runs: for each label, the distinct values over all runs."""
    around = [_environment(record) for record in records]
    started = sorted(one["started"][:16].replace("T", " ") for one in around if one.get("started"))
    facts = {
        "Experiment": [record.experiment for record in records],
        "Command": [shlex.join(["attend", *one["command"][1:]]) for one in around if one.get("command")],
        "Commit": [
            one["commit"][:12] + ", changed since" * bool(one.get("dirty")) for one in around if one.get("commit")
        ],
        "Data": [_data(record, one) for record, one in zip(records, around, strict=True)],
        "Versions": [_versions(one) for one in around],
        "Machine": [_machine(one) for one in around],
        "Started": [" to ".join(dict.fromkeys((started[0], started[-1]))) + " UTC"] if started else [],
    }
    return [(label, list(dict.fromkeys(filter(None, values)))) for label, values in facts.items() if any(values)]


def _environment(record: Record) -> runs.Environment:
    try:
        return read_environment(record.folder)
    except (OSError, ValueError):
        return {}


def _data(record: Record, environment: runs.Environment) -> str:
    fingerprint = environment.get("data_fingerprint") or (record.scores or {}).get("data_fingerprint")
    return str(record.config.data) + (f", fingerprint {fingerprint}" if fingerprint else "")


def _versions(environment: runs.Environment) -> str:
    known = {"Python": environment.get("python"), **environment.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in known.items() if version)


def _machine(environment: runs.Environment) -> str:
    cores = environment.get("cores")
    parts = (environment.get("device"), environment.get("precision"), f"{cores} cores" if cores else None)
    return ", ".join(str(one) for one in (*parts, environment.get("system")) if one)


def _variants(records: Sequence[Record]) -> list[dict]:
    """A row for each variant: its seeds, its epochs, and the settings that differ from the first variant's."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.experiment, record.variant), []).append(record)
    base, called = records[0].config, runs.names(records)
    rows = []
    for group in groups.values():
        epochs = sorted(
            n + r.scores.get("epochs_before", 0)
            for r in group
            if isinstance(n := (r.scores or {}).get("epochs"), int | float)
        )
        row = {
            "name": called[group[0].folder],
            "seeds": ", ".join(str(record.seed) for record in group),
            "unfinished": ", ".join(str(record.seed) for record in group if not record.finished),
            "epochs": " to ".join(dict.fromkeys(f"{n:g}" for n in epochs[:1] + epochs[-1:])) or "–",
            "differs": difference(replace(group[0].config, seed=base.seed), base),
        }
        rows.append(row)
    return rows


def _for_template(table: Table) -> dict:
    """The comparison table for the template, with the decoding of a row apart from the other cells."""
    header, rows = grid(table)
    lines = [{"name": name.text, "decoding": decoding.text, "cells": cells} for name, decoding, *cells in rows]
    return {"columns": header[2:], "rows": lines, "caption": table.caption, "notes": table.notes}


def _with_code(text: str) -> Markup:
    """Text as HTML, with `this` as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
