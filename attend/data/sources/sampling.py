"""Random splits of a dataset, and random captions of an image, keyed by a seed.

Everything is ranked by a hash of the seed and the name, so a draw depends neither on the order of a file nor on
the version of a random generator.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from attend.data.examples import SPLITS, Source

T = TypeVar("T")


def split_images(images: Iterable[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """The split of each image, in shares of train, val and test such as 80, 10, 10 or 0.8, 0.1, 0.1.

    The counts are the shares, rounded; a split with a share gets at least one image while there are enough.
    Raises ValueError if the shares are not three numbers from 0 to a billion, or train has none.
    """
    if len(shares) != len(SPLITS) or not all(0 <= share < 1e9 for share in shares) or shares[0] == 0:
        given = " ".join(f"{share:g}" for share in shares)
        raise ValueError(f"split is {given}; give shares of train, val and test, as 80 10 10")
    ranked = sorted(set(images), key=lambda image: _rank(seed, image))
    counts = {}
    left = len(ranked) - 1  # train has one image at least
    for split, share in zip(SPLITS[1:], shares[1:], strict=True):
        wanted = max(1, round(len(ranked) * share / sum(shares))) if share else 0
        counts[split] = max(0, min(wanted, left))
        left -= counts[split]
    names = [split for split, count in counts.items() for _ in range(count)]
    names += ["train"] * (len(ranked) - len(names))
    return dict(zip(ranked, names, strict=True))


def draw(items: Sequence[T], number: int, seed: int, key: str) -> list[T]:
    """``number`` of the items in their order, without repetition; where there are fewer, all of them repeated.

    What is left over after whole repetitions is drawn without repetition too. ``key`` names whose items they are.
    """
    repetitions, rest = divmod(number, len(items))
    drawn = sorted(range(len(items)), key=lambda i: _rank(seed, f"{key}#{i}"))[:rest]
    return [*items] * repetitions + [items[i] for i in sorted(drawn)]


def draw_captions(source: Source, number: int, seed: int) -> Source:
    """The same source with ``number`` captions of every image, in all splits.

    Raises ValueError if the number is not 1 or more.
    """
    if number < 1:
        raise ValueError(f"captions_per_image is {number}, but must be 1 or more")
    more = sum(len(e.captions) > number for e in source.examples)
    fewer = sum(len(e.captions) < number for e in source.examples)
    examples = [replace(e, captions=tuple(draw(e.captions, number, seed, e.image))) for e in source.examples]
    note = (
        f"every image has {number} captions: of {more} images they were drawn from more, of {fewer} they repeat; "
        "scores are against these, in val and test too"
    )
    return replace(source, examples=examples, notes=[*source.notes, note])


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest()
