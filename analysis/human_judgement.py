"""Agreement of a caption metric with people: Kendall's tau between its scores and people's ratings of captions.

    tau_b = (C - D) / sqrt((C + D + X) (C + D + Y)),    tau_c = 2 (C - D) / (n^2 (m - 1) / m)

for C concordant and D discordant pairs of n judgements, X pairs with ties only in the rating, Y pairs with ties only in
the score, and m the smaller number of distinct values. A score no better than chance has tau 0.

Source: Kendall (1945); Stuart (1953).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.statistics.intervals import Interval
from scipy.stats import kendalltau

from attend.chance import numpy_generator
from attend.paths import regular

Captions = dict[str, dict[str, str]]
"""Image -> number of a caption -> caption."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The ratings (one or several) of one pair of image and caption, and the references for scoring the caption.

    ``number`` names the caption as <image>#<number>.
    """

    image: str
    number: str
    caption: str
    ratings: tuple[float, ...]
    references: tuple[str, ...]


def read_captions(path: Path) -> Captions:
    """Flickr8k.token.txt: lines of <image>#<number>, a tab and the caption.

    Raises:
        ValueError: the file is missing, or a line is malformed.
    """
    captions: Captions = {}
    for number, (key, caption) in _rows(path, 2):
        image, mark, place = key.rpartition("#")
        if not mark:
            raise ValueError(f"line {number} of {path} does not begin with IMAGE#NUMBER: unpack the file again")
        captions.setdefault(image, {})[place] = caption.strip()
    return captions


def read_expert(path: Path, captions: Captions) -> list[Judgement]:
    """ExpertAnnotations.txt: three ratings from 1 to 4 per pair. Pairs of an image with its own caption are left out.

    References are all captions of the image.

    Raises:
        ValueError: the file is missing, a line is malformed, or a line names a caption that does not exist.
    """
    judged = []
    for number, (image, key, *ratings) in _rows(path, 5):
        place, caption = _caption(captions, image, key, f"line {number} of {path}")
        references = tuple(captions[image].values())
        if caption not in references:
            pair = {"image": image, "number": place, "caption": caption}
            judged.append(Judgement(**pair, ratings=tuple(ratings), references=references))
    return _checked(judged, path)


def read_crowd(path: Path, captions: Captions) -> list[Judgement]:
    """CrowdFlowerAnnotations.txt: for each pair, the share of people who judged that the caption describes the image.

    If an image's own caption is judged, it is not a reference for any pair of that image.

    Raises:
        ValueError: as ``read_expert``.
    """
    judged: list[tuple[str, str, str, float]] = []
    own: dict[str, set[str]] = {}
    for number, (image, key, share, *_) in _rows(path, 5):
        place, caption = _caption(captions, image, key, f"line {number} of {path}")
        judged.append((image, place, caption, share))
        own.setdefault(image, set()).add(caption)
    left = {image: tuple(one for one in captions[image].values() if one not in some) for image, some in own.items()}
    pairs = [
        Judgement(image=image, number=place, caption=caption, ratings=(share,), references=left[image])
        for image, place, caption, share in judged
        if left[image]
    ]
    return _checked(pairs, path)


def _rows(path: Path, columns: int):
    """The numbered lines of a file, split at tabs. Columns after the second are numbers."""
    if not regular(path).exists():
        raise ValueError(f"{path} is missing: name the folder of Flickr8k as distributed, which has this file")
    try:
        text = regular(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no UTF-8 text: unpack it again") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        try:
            numbers = [float(field) for field in fields[2:]]
            if len(fields) != columns or not all(map(math.isfinite, numbers)):
                raise ValueError
            yield number, (*fields[:2], *numbers)
        except ValueError:
            raise ValueError(
                f"line {number} of {path} does not have {columns} valid columns: unpack it again"
            ) from None


def _caption(captions: Captions, image: str, key: str, where: str) -> tuple[str, str]:
    source, _, place = key.rpartition("#")
    if image not in captions or place not in captions.get(source, {}):
        raise ValueError(
            f"{where} names {image if image not in captions else key}, which is not in Flickr8k.token.txt: the files "
            "are from different datasets; unpack them again"
        )
    return f"{source}#{place}", captions[source][place]


def _checked(judged: list[Judgement], path: Path) -> list[Judgement]:
    if len(judged) < 2:
        raise ValueError(f"{path} has {len(judged)} judgements, but at least 2 are needed: unpack the file again")
    return judged


def agreement(
    scores: Sequence[float],
    judged: Sequence[Judgement],
    *,
    variant: str,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """tau (``variant`` b or c) between one score per pair and its ratings, each rating counted as one judgement.

    The interval is from a bootstrap over images: all judgements of an image are resampled together.

    Raises:
        ValueError: the variant is unknown, or there is not one score per pair.
    """
    if variant not in ("b", "c"):
        raise ValueError(f"variant is {variant!r}; known are b and c")
    if len(scores) != len(judged):
        raise ValueError(f"there are {len(scores)} scores for {len(judged)} pairs: pass one score per pair")
    times = [len(one.ratings) for one in judged]
    score = np.repeat(np.asarray(scores, float), times)
    rating = np.concatenate([one.ratings for one in judged])
    names, image = np.unique(np.repeat([one.image for one in judged], times), return_inverse=True)
    value = float(kendalltau(score, rating, variant=variant).statistic)
    even = np.full(len(names), 1 / len(names))
    counts = numpy_generator("resampled judgements", seed, len(names)).multinomial(len(names), even, size=resamples)
    again = resampled_tau(score, rating, image, counts.astype(float), variant)
    low, high = np.nanquantile(again, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        value=value, low=float(low), high=float(high), level=level, seeds=1, images=len(names),
        lowest=value, highest=value, degrees=0,
        method=f"bootstrap over {len(names):,} images",
    )  # fmt: skip


def resampled_tau(x: np.ndarray, y: np.ndarray, image: np.ndarray, counts: np.ndarray, variant: str) -> np.ndarray:
    """tau (R,) of points (n,) whose images (n,) are repeated as often as counts (R, N) say.

    Every sum over pairs of points is a quadratic form in the counts, so pairs are compared once, not per resample:
    C - D = w' K w / 2 for K_ab the sum of sign(x_i - x_j) sign(y_i - y_j) over i of image a and j of image b.
    """
    order = np.argsort(image, kind="stable")
    x, y, image = np.unique(x, return_inverse=True)[1][order], np.unique(y, return_inverse=True)[1][order], image[order]
    images = counts.shape[1]
    starts = np.searchsorted(image, np.arange(images + 1))
    x, y = x.astype(np.int32), y.astype(np.int32)
    together, apart_x, apart_y = (np.zeros((images, images)) for _ in range(3))
    for a in range(images):  # with itself and the images after it
        own, later = slice(starts[a], starts[a + 1]), slice(starts[a], None)
        pairs = [(one[own, None], one[later]) for one in (x, y)]
        signs = [(one > two).view(np.int8) - (one < two).view(np.int8) for one, two in pairs]
        for table, values in ((together, signs[0] * signs[1]), (apart_x, signs[0] != 0), (apart_y, signs[1] != 0)):
            table[a, a:] = np.add.reduceat(values.sum(axis=0, dtype=np.int32), starts[a:-1] - starts[a])
    for table in (together, apart_x, apart_y):
        table += np.triu(table, 1).T
    concordance, differ_x, differ_y = (
        np.einsum("ra,ra->r", counts @ table, counts) for table in (together, apart_x, apart_y)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        if variant == "b":
            return concordance / np.sqrt(differ_x * differ_y)
        n = counts @ np.diff(starts)
        distinct = np.minimum(*(_distinct(one, image, counts) for one in (x, y)))
        return concordance / (n**2 * (distinct - 1) / distinct)


def _distinct(values: np.ndarray, image: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The number of distinct values (R,) in each resample. Above 50, no value is assumed to be missing."""
    kinds = values.max() + 1
    if kinds > 50:
        return np.full(len(counts), float(kinds))
    has = np.zeros((counts.shape[1], kinds))
    has[image, values] = 1
    return (counts @ has > 0).sum(axis=1).astype(float)
