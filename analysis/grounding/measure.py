"""Is the attention of a word inside the word's boxes, more than attention that does not know the caption?

Attention mass and pointing (``attend.metrics.grounding``) of given and of generated captions, by type of phrase and by
size of box, are compared with three controls on the same words: uniform weights, a Gaussian at the centre, and the
model's own weights at a word of another image, sampled by a seed. ``mass`` and ``pointing`` are means over words;
intervals are over seeds and images (``analysis.statistics.intervals``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.figures.figures import colours, styled
from attend.analysis.grounding.correlation import Rank, ranks
from attend.analysis.grounding.words import LOOKS, MEASURES, GroundedWords, by_group, generated, given
from attend.analysis.records import Evaluation, Record, names
from attend.analysis.statistics.intervals import Difference, Interval, of_pair, of_sums, ratio, within
from attend.analysis.statistics.resampling import sums
from attend.analysis.tables.columns import CONTROLS
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attend.data.phrases import Phrases, read_phrases
from attend.data.prepared import Prepared

SIZES = {"small": (0.0, 1 / 16), "medium": (1 / 16, 1 / 4), "large": (1 / 4, 1.0)}
"""The share of the grid that boxes cover: lowest (exclusive) and highest (inclusive)."""
TITLES = {"mass": "attention in the boxes (%)", "pointing": "largest weight in a box (%)"}
FEWEST = 50
"""A part is left out if some seed has fewer words of it."""
RESAMPLES = 10_000
READERS = {"given": "given.h5", "generated": "attention.h5"}
"""The file with the weights for each kind of captions, in the folder of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one part of the words: ``measure`` of each of LOOKS, and learned minus each control (``beyond``).

    ``words`` is the number of words, mean over seeds. ``by`` is the criterion of the part: all, size or type.
    """

    captions: str
    variant: str
    decode: str
    by: str
    group: str
    measure: str
    words: float
    looks: dict[str, Interval]
    beyond: dict[str, Difference]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The rows, the rank correlations with caption scores, and notes on what was left out and why."""

    split: str
    rows: tuple[Row, ...]
    ranks: tuple[Rank, ...]
    notes: tuple[str, ...]


def measure(records: Sequence[Record], *, data: Path | None = None, split: str | None = None, seed: int = 0) -> Found:
    """All rows of finished runs on one split, by default that of their headline scores.

    ``data`` is the current folder of the prepared dataset; None: the folder in each run's settings. ``seed`` samples
    the words of other images for ``shuffled``. Runs that cannot be measured are left out and named in ``notes``.

    Raises:
        ValueError: no run can be measured.
    """
    notes: list[str] = []
    split = split or next((record.scores["split"] for record in records if record.finished), "test")
    groups = _groups([record for record in records if record.finished], split)
    known: dict[Path, Phrases | str] = {}
    rows, found_ranks = [], []
    for (variant, decode), runs in groups.items():
        read = {captions: _read(captions, runs, data, known, notes, seed) for captions in READERS}
        for captions, seeds in read.items():
            same = [one for one in seeds.values() if one.images == next(iter(seeds.values())).images]
            if left := len(seeds) - len(same):
                several = f"{variant}, {decode}: {captions} captions of {left} {'seed' if left == 1 else 'seeds'}"
                notes.append(f"{several} are left out: their images differ from the first seed's")
            rows += _rows(captions, variant, decode, same, notes) if same else []
        found_ranks += ranks(variant, decode, [one for _, one in runs], read["generated"], notes)
    if not rows:
        raise ValueError(
            f"no words can be grounded: {'; '.join(dict.fromkeys(notes)) or f'no run was scored on {split}'}"
        )
    return Found(split=split, rows=tuple(rows), ranks=tuple(found_ranks), notes=tuple(dict.fromkeys(notes)))


def _groups(records: Sequence[Record], split: str) -> dict[tuple[str, str], list[tuple[Record, Evaluation]]]:
    """The evaluations of each variant and decoding, one per run: that with the headline's beam, or the widest beam."""
    called = names(records)
    groups: dict[tuple[str, str], dict[Path, tuple[Record, Evaluation]]] = {}
    for record in records:
        own = [one for one in record.evaluations if one.split == split and one.look is None]
        for one in sorted(own, key=lambda one: (one.beam == record.scores["beam"], one.beam)):
            groups.setdefault((called[record.folder], one.decode), {})[record.folder] = record, one
    return {name: list(runs.values()) for name, runs in groups.items()}


def _read(
    captions: str,
    runs: Iterable[tuple[Record, Evaluation]],
    data: Path | None,
    known: dict[Path, Phrases | str],
    notes: list[str],
    seed: int,
) -> dict[Path, GroundedWords]:
    """The words of each evaluation by its folder."""
    read = {}
    for record, one in runs:
        path = one.folder / READERS[captions]
        try:
            phrases = _phrases(data or Path(record.config.data), one, known)
            if not path.exists():
                raise ValueError(f"{one.folder} has no {path.name}: evaluate the run again (`attend evaluate`)")
            if captions == "given":
                read[one.folder] = given(path, phrases, seed=seed)
            else:
                read[one.folder] = generated(path, one.scores["images"], phrases, seed=seed)
        except ValueError as error:
            notes.append(str(error))
    return read


def _phrases(folder: Path, evaluation: Evaluation, known: dict[Path, Phrases | str]) -> Phrases:
    """The phrases of the dataset of an evaluation. Phrases and errors are cached in ``known``."""
    if folder not in known:
        try:
            known[folder] = read_phrases(folder)
        except ValueError as error:
            known[folder] = str(error)
        if not (folder / "dataset.json").exists():
            known[folder] = f"there is no prepared dataset at {folder}: say where it is with --data"
    if isinstance(known[folder], str):
        raise ValueError(known[folder])
    there, here = evaluation.scores.get("data_fingerprint"), Prepared(folder).about["fingerprint"]
    if there not in (None, here):
        raise ValueError(f"{evaluation.folder} has another dataset than {folder}: name its dataset with --data")
    return known[folder]


def _rows(captions: str, variant: str, decode: str, seeds: list[GroundedWords], notes: list[str]) -> Iterable[Row]:
    """Rows of one model from its seeds; a part with few words in some seed is left out."""
    parts = [{part[:2]: part[2] for part in by_group(one, SIZES)} for one in seeds]
    shared = [name for name in parts[0] if all(name in some and some[name].sum() >= FEWEST for some in parts)]
    if not shared:
        notes.append(f"{variant}, {decode}: fewer than {FEWEST} words of {captions} captions have boxes")
        return
    for by, group in shared:
        statistics = np.stack([_sums(one, some[by, group]) for one, some in zip(seeds, parts, strict=True)])
        drawn = sums(statistics[:, (statistics[..., 0] > 0).any(axis=0)], resamples=RESAMPLES)  # images with such words
        for m, measure in enumerate(MEASURES):
            looks = {look: drawn.of(slice(None), [1 + i * len(MEASURES) + m, 0]) for i, look in enumerate(LOOKS)}
            yield Row(
                captions=captions,
                variant=variant,
                decode=decode,
                by=by,
                group=group,
                measure=measure,
                words=float(np.mean([some[by, group].sum() for some in parts])),
                looks={look: within(of_sums(one, ratio), 0, 1) for look, one in looks.items()},
                beyond={look: within(of_pair(looks["learned"], looks[look], ratio), -1, 1) for look in LOOKS[1:]},
            )


def _sums(grounded: GroundedWords, words: np.ndarray) -> np.ndarray:
    """Per image (N, 1 + LOOKS MEASURES): the number of these words, and the sums of their scores."""
    columns = np.concatenate([np.ones((len(words), 1)), grounded.scores.reshape(len(words), -1)], axis=1)
    summed = np.zeros((len(grounded.images), columns.shape[1]))
    np.add.at(summed, grounded.image[words], columns[words])
    return summed


@styled
def grounding_bars(
    rows: Sequence[Row], *, captions: str = "given", measure: str = "mass", axes: Axes | None = None
) -> Axes:
    """A bar for each model in each part of the words, with its interval, and the controls as marks.

    Raises:
        ValueError: no row has these captions.
    """
    rows = [row for row in rows if row.captions == captions and row.measure == measure]
    if not rows:
        raise ValueError(f"there is no {measure} of {captions} captions to draw")
    parts = list(dict.fromkeys((row.by, row.group) for row in rows))
    models = list(dict.fromkeys((row.variant, row.decode) for row in rows))
    styles = colours(variant for variant, _ in models)
    axes = axes or Figure(figsize=(7.2, 3.2), layout="constrained").add_subplot()
    wide = 0.8 / len(models)
    for number, (variant, decode) in enumerate(models):
        own = {(row.by, row.group): row.looks for row in rows if (row.variant, row.decode) == (variant, decode)}
        at = [p for p, part in enumerate(parts) if part in own]
        x = np.array(at) - 0.4 + wide * (number + 0.5)
        percent = {look: 100 * np.array([own[parts[p]][look].ends for p in at]).T for look in LOOKS}
        value, low, high = percent["learned"]
        ways = [decode for of, decode in models if of == variant]
        alpha = (1.0, 0.55, 0.3)[min(ways.index(decode), 2)]
        name = f"{variant} ({decode})" if len(ways) > 1 else variant
        axes.bar(x, value, width=0.9 * wide, color=styles[variant][0], alpha=alpha, label=name)
        axes.errorbar(x, value, np.abs([low - value, high - value]), fmt="none", ecolor="#222222", elinewidth=0.9)
        last = number == len(models) - 1
        marks = {"markersize": 3.4, "markerfacecolor": "white", "markeredgecolor": "#222222", "markeredgewidth": 0.8}
        axes.plot(
            x, percent["shuffled"][0], "o", **marks, label="its weights at another image's word" if last else None
        )
        for look, dash in (("uniform", ":"), ("centre", "-")):
            line = {"color": "#222222", "linestyle": dash, "linewidth": 1.3, "label": CONTROLS[look] if last else None}
            axes.hlines(percent[look][0], x - wide / 2, x + wide / 2, **line)
    axes.set_xticks(
        range(len(parts)),
        [{"all": "all words", "size": f"{group} boxes"}.get(by, group) for by, group in parts],
        rotation=30,
        ha="right",
    )
    axes.set_ylim(bottom=0)
    axes.grid(False, axis="x")
    seeds = sorted({row.looks["learned"].seeds for row in rows})
    axes.set_title(f"{TITLES[measure]}, {captions} captions (seeds: {' or '.join(map(str, seeds))})", loc="left")
    return axes
