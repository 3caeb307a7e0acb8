"""Does looking make the word? What a model says if its attention is moved, or if what it attends to is removed.

Given captions, one word at a time: all words before it are looked at and said as they were, and at this word alone the
weights alpha are replaced. An intervention compares its log p of the word with that under the model's own weights.

*Redirect*: while a word of one object is due, attention is moved into the box of another object of the image. Beside
it: into the word's own box, and into a box of the other's size at a random place. *Without*: the attended cells (the
fewest that hold half of the attention) are removed and the weights of the rest normalised. Beside it: as many random
cells are removed, and as many of those that are attended to least.

Soft attention moved into a box reads the mean of the box. Hard attention decoded by argmax reads the one cell that is
nearest to its middle.

Source: none for captioners; moving the gaze of a language model's heads is of "gaze heads" (2026).
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from attend.attention.select import TopK
from attend.bars import through
from attend.captioner.captioner import decoding
from attend.captioner.unrolled import Readout
from attend.chance import numpy_generator
from attend.config import Decode, Intervention
from attend.config.catalogue import INTERVENED, WAYS
from attend.data.batches import Batch, Batches, in_order
from attend.data.examples import Phrase
from attend.data.phrases import read_phrases
from attend.decoder.protocol import Policy
from attend.evaluation.generate import IMAGES
from attend.geometry import Box, Geometry, on_grid
from attend.model import Model
from attend.runs.files import write_json, write_rows
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease
from attend.runs.processes import gather, share

HALF = 0.5
"""The share of the attention that the attended cells hold."""


class Due(NamedTuple):
    """A word that is due: its image, caption and place, its boxes, and the other object's boxes and word."""

    row: int
    caption: int
    place: int
    boxes: tuple[Box, ...]
    others: tuple[Box, ...]
    other: str


def due_words(
    row: int, captions: Sequence[tuple[Phrase, ...] | None], tokens: Sequence[Sequence[str]]
) -> Iterator[Due]:
    """The words of phrases with boxes, each with another object of the image and the word that would be due for that.

    The other object is drawn by the row, the caption and the place, from all that the image's captions name elsewhere.
    Its word has the same distance from the end of the phrase (``red star`` and ``blue moon``: colour for colour, noun
    for noun), and is another one than is due.
    """
    named = [(c, one) for c, some in enumerate(captions) for one in some or () if one.boxes]
    for c, phrase in named:
        for place in range(phrase.start, phrase.stop):
            behind = phrase.stop - place
            others = [
                (one.boxes, tokens[d][one.stop - behind])
                for d, one in named
                if one.boxes != phrase.boxes and one.stop - one.start >= behind
            ]
            others = sorted({one for one in others if one[1] != tokens[c][place]})
            if others:
                drawn = numpy_generator("another object", row, c, place).integers(len(others))
                yield Due(row, c, place, phrase.boxes, *others[drawn])


def elsewhere(boxes: Sequence[Box], due: Due) -> tuple[Box, ...]:
    """Boxes as they lie to each other, moved together to a random place inside the image."""
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    drawn = numpy_generator("a random box", due.row, due.caption, due.place).uniform(size=2)
    move = drawn * np.maximum(0, 1 - (high - low)) - low
    return tuple(tuple(float(edge) for edge in np.asarray(box) + np.tile(move, 2)) for box in boxes)


def into(boxes: Sequence[Box], geometry: Geometry, one_cell: bool) -> np.ndarray | None:
    """Weights (L,) inside boxes: each cell by its share, or the one cell in them that is nearest to their middle.

    None if the grid shows nothing of the boxes.
    """
    shares, _ = on_grid(geometry, tuple(boxes))
    if not shares.any():
        return None
    if not one_cell:
        return shares / shares.sum()
    rows, columns = geometry.grid
    places = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    middle = shares @ places / shares.sum()
    far = ((places - middle) ** 2).sum(axis=1)
    return np.eye(len(shares))[np.argmin(np.where(shares >= shares.max() / 2, far, np.inf))]


def without(weights: Tensor, order: Tensor, one_cell: bool) -> Tensor:
    """Weights (..., L) without as many cells as hold HALF of them, the first in ``order`` (..., L), normalised again.

    At least one cell is left. Hard attention then reads the largest of the rest.
    """
    largest = weights.sort(-1, descending=True).values
    removed = 1 + (largest.cumsum(-1) < HALF * largest.sum(-1, keepdim=True)).sum(-1, keepdim=True)
    removed = removed.clamp(max=weights.shape[-1] - 1)
    rank = torch.empty_like(order).scatter_(-1, order, torch.arange(order.shape[-1]).to(order).expand_as(order))
    left = weights.masked_fill(rank < removed, 0.0)
    rest = torch.where(left.sum(-1, keepdim=True) > 0, left, (rank >= removed).to(weights))
    return _largest(rest) if one_cell else rest / rest.sum(-1, keepdim=True)


def _largest(weights: Tensor) -> Tensor:
    return torch.zeros_like(weights).scatter_(-1, weights.argmax(-1, keepdim=True), 1.0)


@torch.no_grad()
def evaluate_cause(
    model: Model,
    batches: Batches,
    run: RunFolder,
    lease: Lease,
    accelerator: Accelerator,
    *,
    split: str,
    decode: Decode,
    intervention: Intervention,
) -> dict[str, Any]:
    """Intervene at every word of the split's given captions that names an object beside another; returns the scores.

    Writes evaluations/<split>-<decode>-<intervention>/: images.csv has a row an image, with the number of its words
    and their sums, scores.json the means over words. For each of WAYS: ``log p`` of the word that was due, ``said``,
    whether it was the likeliest, and of the other object's word the same (``other log p`` and ``said other``).
    """
    start, dataset = time.time(), batches.dataset
    phrases, rows = read_phrases(dataset.folder), dataset.rows(split)
    model.captioner.eval()
    found: list[tuple[int, list[list[float]]]] = []
    pieces = in_order(rows, IMAGES)[share(accelerator)]
    for batch in through(batches.loader(pieces), len(pieces), intervention, "minibatch"):
        due = defaultdict(list)
        for row in batch.rows.tolist():
            example = dataset.examples[row]
            named = phrases.get(example.image, ())
            for one in due_words(row, named, [caption.tokens for caption in example.captions]):
                due[row].append(one)
        found += _intervened(model, batches, batch.to(accelerator.device), due, decode, intervention)
    sums = dict(gather(found, accelerator))
    titles = [f"{way}, {what}" for way in WAYS[intervention] for what in INTERVENED]
    table = [[dataset.examples[row].image, *np.ravel(sums.get(row, np.zeros(1 + len(titles))))] for row in rows]
    total = np.sum([line[1:] for line in table], axis=0)
    if not total[0]:
        raise ValueError(
            f"no caption of {dataset.folder} names two objects of one image, so none can be moved to another: name "
            "other captions with --data or --split"
        )
    scores = {"split": split, "decode": decode, "look": intervention, "words": int(total[0])}
    scores |= {"means": dict(zip(titles, (total[1:] / total[0]).tolist(), strict=True))}
    scores |= {"data_fingerprint": dataset.about["fingerprint"], "seconds": round(time.time() - start, 1)}
    lease.check()
    folder = run.intervention(split, decode, intervention)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "images.csv", [["image", "words", *titles], *table])
    write_json(folder / "scores.json", scores)
    return scores


def _intervened(
    model: Model, batches: Batches, batch: Batch, due: dict[int, list[Due]], decode: Decode, intervention: Intervention
) -> list[tuple[int, np.ndarray]]:
    """Of each image the number of words that are due, and the sums over them, (1 + WAYS INTERVENED,)."""
    one_cell = decode == "argmax"
    with model.autocast():
        u = model.captioner(model.features(batch.inputs), batch.words, batch.lengths, _word_by_word(model, decode))
        place = {
            (row, c): (n, m) for n, row in enumerate(batch.rows.tolist()) for m, c in enumerate(batch.order[n].tolist())
        }
        words = [(one, place[one.row, one.caption]) for some in due.values() for one in some]
        words = [(one, *at) for one, at in words if one.place < int(batch.lengths[at]) - 1]
        weights = u.weights.float()
        moved = (_redirected if intervention == "redirect" else _removed)(weights, words, batches, one_cell)
        # the grid may show nothing of some boxes
        words = [(one, n, c) for one, n, c in words if all(bool(way[n, c, one.place].any()) for way in moved)]
        if not words:
            return []
        at = tuple(torch.tensor([(n, c, one.place) for one, n, c in words], device=weights.device).T)
        others = torch.tensor(model.vocabulary.encode([one.other for one, _, _ in words])).to(weights.device)
        said = torch.stack([batch.words[at], others], 1)
        values = torch.cat([_log_p(u, way, at, said) for way in (None, *moved)], 1).cpu().numpy()
    sums: dict[int, np.ndarray] = {}
    for (one, _, _), line in zip(words, values, strict=True):
        sums[one.row] = sums.get(one.row, 0.0) + np.append(1.0, line)
    return [*sums.items()]


def _word_by_word(model: Model, decode: Decode) -> Policy:
    """The policy of decoding, taken word by word by decoders whose states read the context."""
    policy = decoding(decode, model.config.attention.top)
    blind = Policy in model.captioner.decoder.at_once or model.captioner.attention.look == "first"
    return TopK(10**6) if decode == "expected" and not blind else policy


def _log_p(u: Readout, weights: Tensor | None, at: tuple[Tensor, ...], said: Tensor) -> Tensor:
    """log p of ``said`` (W, 2) at W places (image, caption, word), and whether each is the likeliest: (W, INTERVENED).

    Under the model's own weights, or under others at each word alone.
    """
    logits = u.logits if weights is None else u.under(weights)
    log_p = torch.log_softmax(logits.float(), -1)[u.spread(torch.arange(len(logits), device=logits.device))[at]]
    likeliest = said == log_p.argmax(-1, keepdim=True)
    return torch.stack([log_p.gather(1, said), likeliest.to(log_p)], 2).flatten(1).double()


def _redirected(weights: Tensor, words: Sequence[tuple], batches: Batches, one_cell: bool) -> list[Tensor]:
    """The model's own weights, but in boxes for the words that are due: their own, the other's, and a random one."""
    moved = [torch.zeros_like(weights) for _ in range(3)]
    maps = {row: batches.geometry(row) for row in {due.row for due, _, _ in words}}
    for due, n, c in words:
        geometry = maps[due.row]
        for way, boxes in zip(moved, (due.boxes, due.others, elsewhere(due.others, due)), strict=True):
            found = into(boxes, geometry, one_cell)
            if found is not None:
                way[n, c, due.place] = torch.from_numpy(found).to(way)
    return moved


def _removed(weights: Tensor, words: Sequence[tuple], batches: Batches, one_cell: bool) -> list[Tensor]:
    """Weights without what is attended to most, without random cells, and without what is attended to least."""
    noise = torch.rand(weights.shape, generator=torch.Generator().manual_seed(0)).to(weights.device)
    return [without(weights, by.argsort(-1), one_cell) for by in (-weights, noise, weights)]
