"""Rank correlation over images between grounding and caption scores, with its interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.grounding.words import GroundedWords
from attend.analysis.records import Evaluation
from attend.analysis.statistics.intervals import Interval, of_sums
from attend.analysis.statistics.resampling import Sums

from attend.chance import numpy_generator
from attend.metrics.grounding import LOOKS, MEASURES
from attend.runs.evaluations import read_images

QUALITIES = ("cider", "meteor", "bleu4")
RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Spearman's rank correlation over images, mean over seeds, between grounding and a score of the caption.

    ``looks`` is mass or pointing, or its excess over uniform weights on the same words, which removes the effect of the
    size of the boxes. ``captions`` says whether grounding is that of given or of generated captions.
    """

    variant: str
    decode: str
    captions: str
    looks: str
    score: str
    rho: Interval


def ranks(
    variant: str, decode: str, evaluations: Sequence[Evaluation], words: dict[Path, GroundedWords], notes: list[str]
) -> Iterable[Rank]:
    """Every grounding measure against every score, over evaluations (one per seed) that have both."""
    tables = []
    for one in evaluations:
        try:
            table = read_images(one.folder)
            names = [name for name in table.columns if name in QUALITIES or name.startswith("grounding_")]
            tables.append((one, table.images, {name: table.numbers(name) for name in names}))
        except ValueError as error:
            notes.append(str(error))
    alike = [table for table in tables if table[1] == tables[0][1]]
    if len(alike) < len(tables):
        notes.append(f"{variant}, {decode}: the correlations leave out seeds whose images differ from the first's")
    tables = alike
    looks: dict[tuple[str, str], list] = {}
    for one, images, table in tables:
        seed = {}
        for name in MEASURES:
            if f"grounding_{name}" in table:
                seed["given", name] = table[f"grounding_{name}"]
                seed["given", f"{name} beyond uniform"] = seed["given", name] - table[f"grounding_uniform_{name}"]
        if one.folder in words and words[one.folder].images == images:
            seed |= _per_image(words[one.folder])
        for key, values in seed.items():
            looks.setdefault(key, []).append((values, table))
    for (captions, name), seeds in looks.items():
        for score in QUALITIES:
            pairs = [(values, table[score]) for values, table in seeds if score in table]
            if pairs:
                rho = correlation(*map(np.stack, zip(*pairs, strict=True)))
                if rho is not None:
                    yield Rank(variant=variant, decode=decode, captions=captions, looks=name, score=score, rho=rho)


def correlation(x: np.ndarray, y: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Spearman's rho of x and y (S, N), NaN if an image has no value; None if a seed is constant or has under 3 images.

    Images are resampled, the same for all seeds, and all ranks are computed again.
    """
    images = x.shape[1]
    generator = numpy_generator("resampled ranks", seed)
    counts = generator.multinomial(images, np.full(images, 1 / images), size=resamples).astype(float)
    whole, again = [], []
    for own_x, own_y in zip(x, y, strict=True):
        there = np.isfinite(own_x) & np.isfinite(own_y)
        one, two = own_x[there], own_y[there]
        if len(one) < 3 or np.ptp(one) == 0 or np.ptp(two) == 0:
            return None
        whole.append(spearman(np.ones((1, len(one))), one, two)[0])
        again.append(spearman(counts[:, there], one, two))
    resampled = np.stack(again, axis=1)[..., None]
    drawn = Sums(np.array(whole)[:, None], resampled, resampled, int(np.isfinite(x + y).any(axis=0).sum()))
    return of_sums(drawn, lambda rho: rho[..., 0])


def spearman(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho (R,) of points (N,), each repeated as often as counts (R, N) say.

    rho is Pearson's correlation of the ranks; equal values have their mean rank. NaN if x or y is constant.
    """
    a, b = _ranks(counts, x), _ranks(counts, y)
    n = counts.sum(axis=1, keepdims=True)
    a, b = (one - (counts * one).sum(axis=1, keepdims=True) / n for one in (a, b))
    together, own, other = ((counts * one * two).sum(axis=1) for one, two in ((a, b), (a, a), (b, b)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return together / np.sqrt(own * other)


def _ranks(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean ranks (R, N) of values (N,) in each resample: the points below, and half of those that are equal."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    equal = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, groups)
    return (np.cumsum(equal, axis=1) - equal + (equal + 1) / 2)[:, group]


def _per_image(words: GroundedWords) -> dict[tuple[str, str], np.ndarray]:
    """Means (N,) of each measure over the words of each image, NaN if it has none."""
    counts = np.bincount(words.image, minlength=len(words.images)).astype(float)
    means = np.zeros((len(counts), *words.scores.shape[1:]))
    np.add.at(means, words.image, words.scores)
    means /= np.where(counts, counts, np.nan)[:, None, None]
    found = {}
    for name, own, uniform in zip(
        MEASURES, *(means[:, LOOKS.index(look)].T for look in ("learned", "uniform")), strict=True
    ):
        found["generated", name], found["generated", f"{name} beyond uniform"] = own, own - uniform
    return found
