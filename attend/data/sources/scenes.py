"""A small generated world whose truth is known: which box every word of every caption speaks of.

Four objects stand in the four quarters of an image, each with a size, a colour and a shape drawn on their own,
so a colour or a shape may come twice, but never the same two together. Each quarter has a texture of its own
kind, because attention has no coordinates: what a cell shows must tell where it is. Grey strokes, dots and
rings lie about that no caption mentions.

A caption names one object in full and a neighbour by colour and shape. Four of five open with the place of the
first object; the place, the relation and the image then fix every word of both. So a model that looks can know
them; the mean of the features tells which colours and shapes there are, but not where.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from attend.chance import numpy_generator
from attend.data.examples import SPLITS, Caption, Example, Phrase, Source
from attend.geometry import Box

SCENES = "scenes"
"""The name of the world as a dataset."""

SIZES = {"small": (46, 54), "large": (72, 84)}  # shortest and longest side, in pixels of an image of 224
COLOURS = {
    "red": (215, 25, 30),
    "yellow": (245, 225, 50),
    "green": (30, 135, 50),
    "blue": (30, 60, 215),
    "pink": (250, 120, 185),
    "black": (14, 14, 14),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "moon", "arrow")
PLACES = ("top", "bottom", "left", "right", "above", "over", "below", "under")
WORD_KINDS = {"size": tuple(SIZES), "colour": tuple(COLOURS), "shape": SHAPES, "place": PLACES}
CONTENT_KINDS = ("size", "colour", "shape")  # the words that speak of an object, and so the ones with boxes
PHRASE_TYPES = {"{a}": "subject", "{b}": "neighbour"}
"""The two kinds of phrases: the object that a caption is about, named in full, and the one beside it."""

QUARTERS = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = {  # by the steps (right, down) from the second object's quarter to the first's
    (-1, 0): ("left of", "to the left of"),
    (1, 0): ("right of", "to the right of"),
    (0, -1): ("above", "over"),
    (0, 1): ("below", "under"),
}
SENTENCES = (  # {a} is the first object in full, {b} the second, {at} the quarter of the first
    "at the {at} is a {a} {relation} the {b}",
    "in the {at} corner a {a} sits {relation} the {b}",
    "at the {at} there is a {a} {relation} the {b}",
    "the {at} shows a {a} {relation} the {b}",
    "the {a} is {relation} the {b}",
)
FULL = 224  # the side, in pixels, that all lengths below are stated for


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object: its words, quarter (0 to 3, row by row) and square (left, top, side) in pixels of 224."""

    size: str
    colour: str
    shape: str
    quarter: int
    square: tuple[float, float, float]

    @property
    def box(self) -> Box:
        """The object's box in fractions of the image."""
        left, top, side = self.square
        return left / FULL, top / FULL, (left + side) / FULL, (top + side) / FULL


def generate(
    *, train: int = 1300, val: int = 150, test: int = 150, seed: int = 0, size: int = 224
) -> Iterator[tuple[np.ndarray, Example]]:
    """Images (size, size, 3) uint8 with their examples of five captions: train first, then val, then test.

    Image i of a split depends on ``seed``, the split and i alone, so larger counts only append. Content words
    (CONTENT_KINDS) have the one box of their object; every other word, articles too, has None.

    Raises ValueError for a negative count or seed, for no image at all, and for ``size`` below 64.
    """
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    if min(counts.values()) < 0 or not any(counts.values()):
        raise ValueError(f"the splits have {counts} images; give counts of 0 or more, and at least one image")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give 0 or more")
    if size < 64:
        raise ValueError(f"size is {size} pixels; give at least 64, or the shapes cannot be told apart")
    numbers = ((number, split, i) for number, split in enumerate(counts) for i in range(counts[split]))
    return (_scene(seed, *one, size) for one in numbers)


def write_scenes(folder: Path, **same) -> Source:
    """Write the images of ``generate(**same)`` below ``folder``/images, as JPEG, and return their Source."""
    root = Path(folder) / "images"
    scenes = generate(**same)
    root.mkdir(parents=True, exist_ok=True)
    examples = []
    for pixels, example in scenes:
        path = root / example.image
        try:
            Image.fromarray(pixels).save(path, quality=92, subsampling=0)
        except OSError as error:
            error.filename = str(path)  # a full disk does not say which file it was
            raise
        examples.append(example)
    return Source(name=SCENES, root=root, examples=examples)


def objects_of(example: Example) -> list[frozenset[str]]:
    """The four objects of an image, each as its size, colour and shape.

    The captions name all objects with colour and shape. A size is read from the box, since some are never named.
    """
    words: dict[Box, set[str]] = {}
    for caption in example.captions:
        for token, boxes in zip(caption.tokens, caption.boxes, strict=True):
            for box in boxes or ():
                words.setdefault(box, set()).add(token)
    return [frozenset({*named, _size(box)}) for box, named in words.items()]


def _size(box: Box) -> str:
    between = (SIZES["small"][1] + SIZES["large"][0]) / 2
    return "small" if (box[2] - box[0]) * FULL < between else "large"


def _scene(seed: int, number: int, split: str, i: int, size: int) -> tuple[np.ndarray, Example]:
    rng = numpy_generator("scene", seed, number, i)
    things = _things(rng)
    example = Example(image=f"{split}_{i:05d}.jpg", split=split, captions=_captions(rng, things))
    return _paint(rng, things, size), example


def _things(rng: np.random.Generator) -> list[Thing]:
    pairs = rng.choice(len(COLOURS) * len(SHAPES), size=4, replace=False)
    things = []
    for quarter, (colour, shape) in enumerate(zip(*np.divmod(pairs, len(SHAPES)), strict=True)):
        size = str(rng.choice(list(SIZES)))
        side = rng.uniform(*SIZES[size])
        row, column = divmod(quarter, 2)
        left, top = np.array([column, row]) * FULL / 2 + rng.uniform(8, FULL / 2 - 8 - side, size=2)
        words = {"size": size, "colour": list(COLOURS)[colour], "shape": SHAPES[shape]}
        things.append(Thing(**words, quarter=quarter, square=(float(left), float(top), side)))
    return things


def _captions(rng: np.random.Generator, things: list[Thing]) -> tuple[Caption, ...]:
    """Five captions: five of the eight ordered pairs of neighbours, each kind of sentence once."""
    pairs = [(a, b) for a in range(4) for b in range(4) if a ^ b in (1, 2)]
    chosen = rng.choice(len(pairs), size=len(SENTENCES), replace=False)
    captions = []
    for sentence, pair in zip(SENTENCES, chosen, strict=True):
        a, b = (things[quarter] for quarter in pairs[pair])
        step = (a.quarter % 2 - b.quarter % 2, a.quarter // 2 - b.quarter // 2)
        captions.append(_caption(sentence, a, b, str(rng.choice(RELATIONS[step]))))
    return tuple(captions)


def _caption(sentence: str, a: Thing, b: Thing, relation: str) -> Caption:
    fills = {
        "{a}": ((a.size, a.colour, a.shape), (a.box,)),
        "{b}": ((b.colour, b.shape), (b.box,)),
        "{at}": (QUARTERS[a.quarter].split(), None),
        "{relation}": (relation.split(), None),
    }
    words, phrases = [], []
    for piece in sentence.split():
        tokens, boxes = fills.get(piece, ((piece,), None))
        if boxes:
            chain = str({"{a}": a, "{b}": b}[piece].quarter)
            phrases.append(Phrase(chain, (PHRASE_TYPES[piece],), len(words), len(words) + len(tokens), boxes))
        words += [(token, boxes) for token in tokens]
    tokens, boxes = zip(*words, strict=True)
    raw = " ".join(tokens).capitalize() + "."
    return Caption(raw=raw, tokens=tokens, boxes=boxes, phrases=tuple(phrases))


def _paint(rng: np.random.Generator, things: list[Thing], size: int) -> np.ndarray:
    image = Image.fromarray(_ground(rng, size))
    _scatter(rng, image)
    for thing in things:
        colour = np.clip(COLOURS[thing.colour] + rng.normal(0, 6, 3), 0, 255)
        corner, cover = _cover(thing.shape, np.array(thing.square) * size / FULL)
        image.paste(tuple(colour.astype(int).tolist()), corner, cover)
    grain = 5 * rng.standard_normal((size, size, 1), dtype=np.float32)
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Clouds, upright stripes, checks and slanting stripes, one in each quarter, in muted colours."""
    across, down, slant, phase = np.float32(2 * np.pi * rng.uniform(8, 14, 4))
    x = np.arange(size, dtype=np.float32) / size
    y = x[:, None]
    coarse = Image.fromarray(rng.uniform(-1.5, 1.5, (12, 12)).astype(np.float32))
    clouds = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    stripes = np.sin(across * x + phase) + 0 * y
    checks = np.sin(across * x + phase) * np.sin(down * y)
    slanting = np.sin(slant * (x + y))
    bottom, right = (size * rng.uniform(0.48, 0.52, 2)).astype(int)
    tints = np.float32(rng.uniform(105, 165, (4, 1)) + rng.uniform(-14, 14, (4, 3)))
    ground = np.empty((size, size, 3), np.float32)
    for quarter, pattern in enumerate((clouds, stripes, checks, slanting)):
        rows = slice(bottom, None) if quarter >= 2 else slice(bottom)
        columns = slice(right, None) if quarter % 2 else slice(right)
        ground[rows, columns] = tints[quarter] + 18 * pattern[rows, columns, None]
    return ground.clip(0, 255).astype(np.uint8)


def _scatter(rng: np.random.Generator, image: Image.Image) -> None:
    """Draw a dozen grey strokes, dots and rings: things to see that no caption mentions."""
    draw, unit = ImageDraw.Draw(image), image.width / FULL
    for kind in rng.choice(["stroke", "dot", "ring"], size=12):
        colour = tuple((rng.uniform(70, 190) + rng.uniform(-10, 10, 3)).astype(int).tolist())
        (x, y), (dx, dy) = rng.uniform(0, image.width, 2), rng.uniform(-16, 16, 2) * unit
        radius = rng.uniform(3, 8) * unit
        circle = (x - radius, y - radius, x + radius, y + radius)
        if kind == "stroke":
            draw.line((x, y, x + dx, y + dy), fill=colour, width=max(1, round(3 * unit)))
        elif kind == "dot":
            draw.ellipse(circle, fill=colour)
        else:
            draw.ellipse(circle, outline=colour, width=max(1, round(2 * unit)))


def _cover(shape: str, square: np.ndarray, fine: int = 3) -> tuple[tuple[int, int], Image.Image]:
    """The corner of a patch around the object, and how much of each pixel there the object covers."""
    left, top, side = square
    x, y, edge = int(left), int(top), int(side) + 2
    corners = (_outline(shape) * side + (left - x, top - y)) * fine
    patch = Image.new("L", (edge * fine, edge * fine))
    ImageDraw.Draw(patch).polygon([tuple(corner) for corner in corners], fill=255)
    return (x, y), patch.resize((edge, edge), Image.Resampling.BOX)


def _outline(shape: str) -> np.ndarray:
    """Corners (n, 2) of a shape that touches all four sides of the unit square, y downwards."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if shape == "circle":
        corners = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    elif shape == "star":
        points = np.arange(10)
        radius = np.where(points % 2, 0.4, 1.0)
        corners = np.stack([radius * np.sin(points * np.pi / 5), -radius * np.cos(points * np.pi / 5)], axis=1)
    elif shape == "cross":
        a, b = 0.34, 0.66
        upper = [(0, a), (a, a), (a, 0), (b, 0), (b, a), (1, a)]
        corners = upper + [(1 - x, 1 - y) for x, y in upper]
    elif shape == "heart":
        height = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        corners = np.stack([16 * np.sin(turn) ** 3, -height], axis=1)
    elif shape == "moon":
        outer, inner = np.linspace(0.25, 1.75, 32) * np.pi, np.linspace(1.611, 0.389, 32) * np.pi
        bite = np.stack([0.45 + 0.752 * np.cos(inner), 0.752 * np.sin(inner)], axis=1)
        corners = np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), bite])
    else:
        corners = {
            "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
            "triangle": [(0.5, 0), (1, 1), (0, 1)],
            "arrow": [(0, 0.33), (0.5, 0.33), (0.5, 0), (1, 0.5), (0.5, 1), (0.5, 0.67), (0, 0.67)],
        }[shape]
    corners = np.asarray(corners, float)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (corners - low) / (high - low)
