"""Evaluation under other weights than a run's own: what may be asked for, and what another image's words looked at."""

from collections.abc import Sequence

import torch
from torch import Tensor

from attend.chance import numpy_generator
from attend.config import LEVEL, Attention, Decode, Look
from attend.data.batches import Batch
from attend.metrics.other_images import circle


def check_look(settings: Attention, look: Look | None, decode: Decode, boxes: bool, images: int) -> None:
    """Raise ValueError where a run of these settings cannot look so at data with or without boxes."""
    weights = look or settings.weights
    if weights == "oracle" and not boxes:
        raise ValueError("the oracle needs boxes, and these data have none: use scenes")
    if look in ("first", "shuffled") and not settings.learned:
        raise ValueError(
            f"look {look!r} is at what a model has learned to look at, and attention.weights {settings.weights!r} has "
            "learned nothing: evaluate a soft or a hard run"
        )
    if look == "shuffled" and images < 2:
        raise ValueError(
            "look 'shuffled' is at what another image's words look at, and the split has one image only: choose "
            "another look or another split"
        )
    if weights in LEVEL and decode in ("argmax", "top-k"):
        raise ValueError(
            f"decode {decode!r} looks where weights are largest, and of {weights!r} weights many are: "
            "use decode 'expected' or 'sample'"
        )


def partners(rows: Sequence[int], seed: int) -> dict[int, int]:
    """Another row for each, from a circle whose order is keyed by the seed."""
    other = circle(numpy_generator("another image", seed, len(rows)).permutation(len(rows)))
    return {row: rows[i] for row, i in zip(rows, other.tolist(), strict=True)}


def last_goes_on(weights: Tensor, length: int) -> Tensor:
    """Weights (T, L) of a caption's words as (length, L): cut, or the last again and again; 0 where there is none."""
    if not len(weights):
        return weights.new_zeros(length, weights.shape[-1])
    return weights[torch.arange(length).clamp(max=len(weights) - 1)]


def of_partners(batch: Batch, theirs: Batch, weights: Tensor, partner: dict[int, int]) -> Tensor:
    """What the captions of other images look at: (N, C, T, L) for ``batch``, from ``weights`` of ``theirs``.

    The longest caption is shown what the longest of the other image looks at, and so on in turn; the same word is that
    in the same place.
    """
    place = {row: m for m, row in enumerate(theirs.rows.tolist())}
    shown = weights.new_zeros(*batch.words.shape, weights.shape[-1])
    for n, row in enumerate(batch.rows.tolist()):
        m = place[partner[row]]
        lengths = [length for length in theirs.lengths[m].tolist() if length]
        for c in range(shown.shape[1] if lengths else 0):
            other = c % len(lengths)
            shown[n, c] = last_goes_on(weights[m, other, : lengths[other]], shown.shape[2])
    return shown
