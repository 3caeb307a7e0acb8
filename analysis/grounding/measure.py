"""Is the attention of a word inside the word's boxes, more than attention that does not know the caption?

Attention mass and pointing of given and of generated captions, by type of phrase and by size of box, are compared with
controls on the same words (``attend.metrics.grounding``). ``mass`` and ``pointing`` are means over words; intervals are
over seeds and images (``analysis.statistics.intervals``). A sharp look holds more of a box than an even one, so models
are compared with each other at equal sharpness: each with its weights tempered to one common mean entropy.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.grounding.correlation import Rank, ranks
from attend.analysis.grounding.words import GroundedWords, by_group, generated, given
from attend.analysis.records import Evaluation, Record, names
from attend.analysis.statistics.intervals import Difference, Interval, of_pair, of_sums, ratio, within
from attend.analysis.statistics.pooling import Spread, of_scores
from attend.analysis.statistics.resampling import Sums, sums

from attend.data.phrases import Phrases, read_phrases
from attend.data.prepared import Prepared
from attend.metrics.grounding import CONTROLS, LOOKS, MEASURES, Cells

SIZES = {"small": (0.0, 1 / 16), "medium": (1 / 16, 1 / 4), "large": (1 / 4, 1.0)}
"""The share of the grid that boxes cover: lowest (exclusive) and highest (inclusive)."""
FEWEST = 50
"""A part is left out if some seed has fewer words of it."""
RESAMPLES = 10_000
Model = tuple[str, str]
"""A variant and its decoding."""
READERS = {"given": "given.h5", "generated": "attention.h5"}
"""The file with the weights for each kind of captions, in the folder of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one part of the words: ``measure`` of each of LOOKS, and learned minus each control (``beyond``).

    ``words`` is the number of words, mean over seeds. ``by`` is the criterion of the part: all, size or type. ``best``
    is the control with the highest mean. ``nats`` is the entropy that the weights were tempered to, None for the
    model's own weights. ``less_first`` is this model less the first of the table on the same words, where both are
    tempered to the same entropy.
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
    nats: float | None = None
    less_first: Difference | None = None

    @property
    def best(self) -> str:
        return max(self.beyond, key=lambda look: self.looks[look].value)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The rows, those at equal sharpness, the rank correlations with caption scores, and notes on what was left out."""

    split: str
    rows: tuple[Row, ...]
    equal: tuple[Row, ...]
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
    found_ranks: list[Rank] = []
    models: dict[str, dict[Model, list[GroundedWords]]] = {captions: {} for captions in READERS}
    for (variant, decode), runs in groups.items():
        read = {captions: _read(captions, runs, data, known, notes, seed) for captions in READERS}
        for captions, seeds in read.items():
            same = [one for one in seeds.values() if one.images == next(iter(seeds.values())).images]
            if left := len(seeds) - len(same):
                several = f"{variant}, {decode}: {captions} captions of {left} {'seed' if left == 1 else 'seeds'}"
                notes.append(f"{several} are left out: their images differ from the first seed's")
            if same:
                models[captions][variant, decode] = same
        found_ranks += ranks(variant, decode, [one for _, one in runs], read["generated"], notes)
    rows = [row for captions, some in models.items() for row in _rows(captions, some, notes)]
    if not rows:
        raise ValueError(
            f"no words can be grounded: {'; '.join(dict.fromkeys(notes)) or f'no run was scored on {split}'}"
        )
    found = {"rows": tuple(rows), "equal": tuple(_equal(models["given"])), "ranks": tuple(found_ranks)}
    return Found(split=split, **found, notes=tuple(dict.fromkeys(notes)))


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
            cells = _cells(one)
            if captions == "given":
                read[one.folder] = given(path, phrases, cells, seed=seed)
            else:
                read[one.folder] = generated(path, one.scores["images"], phrases, cells, seed=seed)
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


def _cells(evaluation: Evaluation) -> Cells | None:
    """The best single cells of the training split, as the evaluation found them."""
    grounding = evaluation.scores.get("grounding") or {}
    if "cell_mass" not in grounding:
        raise ValueError(
            f"{evaluation.folder} does not say which single cell is best on the training split: evaluate the run again "
            "(`attend evaluate`)"
        )
    cells = [grounding.get(f"{measure}_cell") for measure in MEASURES]
    return None if None in cells else Cells(*map(int, cells))


def _rows(captions: str, models: dict[Model, list[GroundedWords]], notes: list[str]) -> Iterable[Row]:
    """Rows of all models, part by part; a part with few words in some seed of a model is left out for it."""
    parts: dict[tuple[str, str], dict[Model, list[np.ndarray]]] = {}
    for model, seeds in models.items():
        own = [{part[:2]: part[2] for part in by_group(one, SIZES)} for one in seeds]
        shared = [name for name in own[0] if all(name in some and some[name].sum() >= FEWEST for some in own)]
        if not shared:
            notes.append(f"{', '.join(model)}: fewer than {FEWEST} words of {captions} captions have boxes")
        for name in shared:
            parts.setdefault(name, {})[model] = [some[name] for some in own]
    found = []
    for (by, group), masks in parts.items():
        drawn = {
            model: _drawn([_sums(one, mask) for one, mask in zip(models[model], some, strict=True)])
            for model, some in masks.items()
        }
        for measure in MEASURES:
            for model, compared in _compared(drawn, measure).items():
                about = {"captions": captions, "variant": model[0], "decode": model[1], "by": by, "group": group}
                words = float(np.mean([mask.sum() for mask in masks[model]]))
                found.append(Row(**about, measure=measure, words=words, **compared))
    return sorted(found, key=lambda row: [*models].index((row.variant, row.decode)))


def _equal(models: dict[Model, list[GroundedWords]]) -> Iterable[Row]:
    """The mass of all words of given captions at equal sharpness: that of the models' mean, tempered seed by seed.

    Models that look at all cells alike are left out: no temper makes them sharper.
    """
    looking = {model: seeds for model, seeds in models.items() if all(one.sharp for one in seeds)}
    if len(looking) < 2:
        return
    nats = float(np.mean([one.entropy for seeds in looking.values() for one in seeds]))
    summed = {
        model: [_sums(one.tempered(nats), np.ones(len(one.words), bool)) for one in seeds]
        for model, seeds in looking.items()
    }
    first = next(iter(summed.values()))
    for model, compared in _compared({model: _drawn(some) for model, some in summed.items()}, "mass").items():
        ours, less_first = summed[model], None
        several = min(len(first), len(ours))
        if ours is not first and first[0].shape == ours[0].shape:
            both = _drawn(ours[:several] + first[:several])
            a, b = (both.of(part, _place("learned", "mass")) for part in (slice(several), slice(several, None)))
            less_first = within(of_pair(a, b, ratio), -1, 1)
        about = {"captions": "given", "variant": model[0], "decode": model[1], "by": "all", "group": "all"}
        words = float(np.mean([len(one.words) for one in looking[model]]))
        yield Row(**about, measure="mass", words=words, **compared, nats=nats, less_first=less_first)


def _compared(drawn: dict[Model, Sums], measure: str) -> dict[Model, dict[str, dict]]:
    """Of each model the interval of every look, and the difference of the learned one to every control.

    There is no ``cell`` where no word of the training split has boxes, and nothing ``shuffled`` of one image. The
    spread of seeds is pooled over the models.
    """
    looks = {
        model: {look: one.of(slice(None), _place(look, measure)) for look in LOOKS} for model, one in drawn.items()
    }
    looks = {
        model: {look: one for look, one in some.items() if np.isfinite(one.whole).all()}
        for model, some in looks.items()
    }

    def spread(values: Callable[[dict[str, Sums]], np.ndarray]) -> Spread | None:
        variants: dict[str, list[dict[int, float]]] = {}
        for (variant, _), some in looks.items():
            variants.setdefault(variant, []).append(dict(enumerate(values(some).tolist())))
        return of_scores(variants.values())

    found: dict[Model, dict[str, dict]] = {model: {"looks": {}, "beyond": {}} for model in looks}
    for look in next(iter(looks.values())):
        pooled = spread(lambda some, look=look: ratio(some[look].whole))
        less = spread(lambda some, look=look: ratio(some["learned"].whole) - ratio(some[look].whole))
        for model, some in looks.items():
            found[model]["looks"][look] = within(of_sums(some[look], ratio, spread=pooled), 0, 1)
            if look in CONTROLS:
                difference = of_pair(some["learned"], some[look], ratio, spread=less)
                found[model]["beyond"][look] = within(difference, -1, 1)
    return found


def _place(look: str, measure: str) -> list[int]:
    """Where ``_sums`` has the sum of a look's scores, and the number of words."""
    return [1 + LOOKS.index(look) * len(MEASURES) + MEASURES.index(measure), 0]


def _drawn(seeds: Sequence[np.ndarray]) -> Sums:
    """The sums over resampled images, of those images that have such words."""
    statistics = np.stack(seeds)
    return sums(statistics[:, (statistics[..., 0] > 0).any(axis=0)], resamples=RESAMPLES)


def _sums(grounded: GroundedWords, words: np.ndarray) -> np.ndarray:
    """Per image (N, 1 + LOOKS MEASURES): the number of these words, and the sums of their scores."""
    columns = np.concatenate([np.ones((len(words), 1)), grounded.scores.reshape(len(words), -1)], axis=1)
    summed = np.zeros((len(grounded.images), columns.shape[1]))
    np.add.at(summed, grounded.image[words], columns[words])
    return summed
