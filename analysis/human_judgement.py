"""Agreement of a caption metric with people: Kendall's tau between its scores and ratings of the same captions.

    tau_b = (C - D) / sqrt((C + D + X) (C + D + Y)),    tau_c = 2 (C - D) / (n^2 (m - 1) / m)

for C concordant and D discordant pairs of n judgements, X pairs that are equal in the people's rating alone, Y in the
score alone, and m the smaller number of different values. A score that is no better than chance has 0.

Source: Kendall (1945); Stuart (1953).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attend.analysis.statistics.intervals import Interval
from scipy.stats import kendalltau

from attend.chance import numpy_generator

Captions = dict[str, dict[str, str]]
"""Image -> number of a caption -> caption."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Captions that people rated for an image: ratings of one pair of image and caption, and what to score it against.

    ``number`` names the caption as <image>#<number>; ``ratings`` are one or several.
    """

    image: str
    number: str
    caption: str
    ratings: tuple[float, ...]
    references: tuple[str, ...]


def read_captions(path: Path) -> Captions:
    """Flickr8k.token.txt: lines of <image>#<number>, a tab and the caption.

    Raises:
        ValueError: the file is missing, or a line is something else.
    """
    captions: Captions = {}
    for number, (key, caption) in _rows(path, 2):
        image, mark, place = key.rpartition("#")
        if not mark:
            raise ValueError(f"line {number} of {path} does not begin with IMAGE#NUMBER: unpack the file again")
        captions.setdefault(image, {})[place] = caption.strip()
    return captions


def read_expert(path: Path, captions: Captions) -> list[Judgement]:
    """ExpertAnnotations.txt: three ratings of 1 to 4 of each pair, those of an image with its own caption left out.

    References are all captions of the image.

    Raises:
        ValueError: the file is missing, a line is malformed, or names a caption that is not there.
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
    """CrowdFlowerAnnotations.txt: of each pair the share of people who said that the caption describes the image.

    Where an image's own captions are judged, they are no reference of that image for any of its pairs.

    Raises:
        ValueError: as ``read_expert``.
    """
    judged: list[tuple[str, str, str, float]] = []
    own: dict[str, set[str]] = {}
    for number, (image, key, share, *_) in _rows(path, 5):
        place, caption = _caption(captions, image, key, f"line {number} of {path}")
        judged.append((image, place, caption, share))
        own.setdefault(image, set()).add(caption)
    left = {image: tuple(one for one in captions[image].values() if one not in said) for image, said in own.items()}
    pairs = [
        Judgement(image=image, number=place, caption=caption, ratings=(share,), references=left[image])
        for image, place, caption, share in judged
        if left[image]
    ]
    return _checked(pairs, path)


def _rows(path: Path, columns: int):
    """The lines of a file as columns between tabs, those after the second as numbers where there are more than two."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: give the folder of Flickr8k as distributed, which holds it")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        try:
            if len(fields) != columns:
                raise ValueError
            yield number, (*fields[:2], *(float(field) for field in fields[2:]))
        except ValueError:
            raise ValueError(f"line {number} of {path} has not its {columns} columns: unpack the file again") from None


def _caption(captions: Captions, image: str, key: str, where: str) -> tuple[str, str]:
    source, _, place = key.rpartition("#")
    if image not in captions or place not in captions.get(source, {}):
        raise ValueError(
            f"{where} names {image if image not in captions else key}, of which Flickr8k.token.txt says nothing: the "
            "files are not of one dataset; unpack them again"
        )
    return f"{source}#{place}", captions[source][place]


def _checked(judged: list[Judgement], path: Path) -> list[Judgement]:
    if len(judged) < 2:
        raise ValueError(f"{path} holds {len(judged)} judgements to compare with: unpack the file again")
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
    """tau (``variant`` b or c) of one score a pair and its ratings, each rating a judgement of its own.

    The interval is of a bootstrap over images: all judgements of an image come and go together.

    Raises:
        ValueError: an unknown variant, or scores that are not one a pair.
    """
    if variant not in ("b", "c"):
        raise ValueError(f"variant is {variant!r}; known are b and c")
    if len(scores) != len(judged):
        raise ValueError(f"there are {len(scores)} scores for {len(judged)} pairs: give one each")
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
        method=f"bootstrap over {len(names):,} images",
    )  # fmt: skip


def resampled_tau(x: np.ndarray, y: np.ndarray, image: np.ndarray, counts: np.ndarray, variant: str) -> np.ndarray:
    """tau (R,) of points (n,) whose images (n,) are there so often as counts (R, N) say.

    Every sum over pairs of points is a quadratic form in the counts, so pairs are looked at once, not once a resample:
    C - D = w' K w / 2 for K_ab the sum of sign(x_i - x_j) sign(y_i - y_j) over i of image a and j of image b.
    """
    order = np.argsort(image, kind="stable")
    x, y, image = np.unique(x, return_inverse=True)[1][order], np.unique(y, return_inverse=True)[1][order], image[order]
    images = counts.shape[1]
    starts = np.searchsorted(image, np.arange(images + 1))
    x, y = x.astype(np.int32), y.astype(np.int32)
    together, apart_x, apart_y = (np.zeros((images, images)) for _ in range(3))
    for a in range(images):  # with itself and those after it
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
    """How many different values (R,) are left in each resample; beyond 50 none is missed, and all count."""
    kinds = values.max() + 1
    if kinds > 50:
        return np.full(len(counts), float(kinds))
    has = np.zeros((counts.shape[1], kinds))
    has[image, values] = 1
    return (counts @ has > 0).sum(axis=1).astype(float)
