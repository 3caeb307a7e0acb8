"""The floor of a training step: a lower bound for any implementation of the same equations on this machine.

It counts the matrix products in their cheapest order, the units of the additive score, and the bytes that must move.
Each is then measured alone, as one call on random numbers. A step that does one thing at a time cannot be faster than
their sum.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a minibatch of N images with C captions each, and of its captioner."""

    name: str
    images: int
    captions: int
    locations: int
    features: int
    vocabulary: int
    width: int = 512
    embedding: int = 512
    hidden: int = 512
    shortest: int = 8
    longest: int = 22


SIZES = {
    size.name: size
    for size in (
        Size(name="flickr8k", images=13, captions=5, locations=196, features=512, vocabulary=2500),
        Size(name="lite", images=13, captions=5, locations=49, features=1280, vocabulary=2500),
        Size(name="coco", images=6, captions=5, locations=196, features=2048, vocabulary=9490),
        Size(
            name="quickstart", images=16, captions=5, locations=196, features=112, vocabulary=39, width=128,
            embedding=128, hidden=128, shortest=10, longest=18,
        ),  # experiments/quickstart.py on the built-in world
        Size(
            name="tiny", images=3, captions=2, locations=9, features=16, vocabulary=50, width=8, embedding=8, hidden=8
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """``times`` products (rows, inner) x (inner, columns): of what, and how often in a step."""

    what: str
    rows: int
    inner: int
    columns: int
    times: int = 1

    @property
    def operations(self) -> int:
        return 2 * self.rows * self.inner * self.columns * self.times


def products(size: Size, live: list[int]) -> list[Product]:
    """All products of a training step. ``live`` rows have a word to say at each step; M words in all.

    A linear map of what needs a gradient costs three products (forward, of its input, of its weights), a map of the
    frozen features two. What a context is multiplied with can be multiplied with the features instead, once an image
    (N L rows, two products) or once a word (M rows, three): the cheaper one counts. Products of the state h_{t-1} must
    wait for it, so they run once a word of the longest caption, save that of their weights.
    """
    words, places = sum(live), size.images * size.locations
    hidden, embedding, features, width = size.hidden, size.embedding, size.features, size.width

    def mapped(what: str, rows: int, inner: int, columns: int, frozen: bool = False) -> list[Product]:
        ways = Product(what, rows, inner, columns), Product(f"{what}: weights", inner, rows, columns)
        return [*ways] if frozen else [*ways, Product(f"{what}: input", rows, columns, inner)]

    found = mapped("keys", places, features, width, frozen=True)
    found.append(Product("initial state", size.images, features, 2 * hidden, 3))
    for what, columns in (("context to gates", 4 * hidden), ("context to readout", embedding)):
        by_word = mapped(what, words, features, columns)
        by_place = mapped(what, places, features, columns, frozen=True)
        found += min(by_word, by_place, key=lambda way: sum(one.operations for one in way))
    found += mapped("words to gates", words, embedding, 4 * hidden)
    found += mapped("state to readout", words, hidden, embedding)
    found += mapped("readout to logits", words, embedding, size.vocabulary)
    for what, columns in (("state to gates", 4 * hidden), ("state to query", width)):
        for rows, times in Counter(live).items():  # how many steps have as many rows
            found += [
                Product(what, rows, hidden, columns, times),
                Product(f"{what}: input", rows, columns, hidden, times),
            ]
        found.append(Product(f"{what}: weights", hidden, words, columns))
    return found


def units(size: Size, live: list[int]) -> int:
    """Units tanh(k + q) of the additive score; the backward pass can do with their results.

    Each costs a reciprocal at least: 2 / (1 + exp(-2 k) exp(-2 q)) - 1 has its exponentials once a key and a query.
    """
    return sum(live) * size.locations * size.width


def moved(size: Size, live: list[int], parameters: int, precision: torch.dtype) -> int:
    """Bytes that must be read or written: features, parameters with Adam's state, and the logits.

    Each parameter is read, and its gradient written; then Adam reads gradient, weight and two moments and writes three
    of them, all in fp32: nine passes. The logits are written, read for the loss, and their gradient written and read
    twice.
    """
    half = precision.itemsize
    features = size.images * size.locations * size.features * half * 2  # read for the keys and for the context
    return features + parameters * 4 * 9 + sum(live) * size.vocabulary * half * 5


def measure(size: Size, live: list[int], parameters: int, device: torch.device, precision: torch.dtype) -> list[tuple]:
    """(what, callable that does it once, how often) for all of the above."""
    calls: list[tuple[str, Callable[[], object], int]] = []
    for one in products(size, live):
        shapes = (one.rows, one.inner), (one.inner, one.columns), (one.rows, one.columns)
        left, right, out = (torch.randn(shape, device=device, dtype=precision) for shape in shapes)
        calls.append((one.what, partial(torch.mm, left, right, out=out), one.times))
    values = torch.randn(size.images * size.captions, size.locations, size.width, device=device)
    calls.append(("units", values.reciprocal_, math.ceil(units(size, live) / values.numel())))
    source = torch.empty(moved(size, live, parameters, precision) // 8, device=device)  # a copy reads and writes 4 each
    target = torch.empty_like(source)
    calls.append(("bytes", lambda: target.copy_(source), 1))
    return calls
