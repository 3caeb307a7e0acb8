"""How attention is doing: entropy, largest weight, change between words, distinct glimpses."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from attend.captioner.unrolled import Readout

MEASURES = ("entropy", "maximum", "change", "distinct")
STILL = 0.01
"""The least change between words of attention that moves, as a share of its mass."""


def health_sums(u: Readout) -> Tensor:
    """The sums of MEASURES over real words, and what each is divided by, (2, 4), detached and on the device.

    entropy (nats) and maximum of alpha. change: total variation between consecutive words, over pairs of words.
    distinct: the words of a caption that look where no earlier word of it looked (glimpses, or maxima without them).
    """
    weights, real = u.weights.detach().float(), u.maps.real
    following = real[..., 1:]
    change = 0.5 * (weights[:, :, 1:] - weights[:, :, :-1]).abs().sum(-1)
    places = weights.argmax(-1)
    if u.looks == u.samples:
        places = torch.where(u.glimpses >= 0, u.glimpses, places)
    places = torch.where(real, places, -1)
    seen = (places[..., None] == places[..., None, :]).tril(-1).any(-1)
    sums = (entropy(weights) * real, weights.amax(-1) * real, change * following, ~seen & real)
    words, pairs = real.sum(), following.sum()
    return torch.stack([*(one.sum().float() for one in sums), *(n.float() for n in (words, words, pairs, words))]).view(
        2, 4
    )


def means(sums: Tensor) -> dict[str, float]:
    """The means by name; without those that no word or no pair of words could tell. It waits for the device."""
    return {name: total / count for name, total, count in zip(MEASURES, *sums.tolist(), strict=True) if count}


def entropy(weights: Tensor) -> Tensor:
    """H = -sum_i alpha_i log alpha_i in nats, (..., L) -> (...); 0 log 0 = 0, also in the gradient."""
    return -(weights * weights.clamp(min=1e-12).log()).sum(-1)


def standstill(health: dict[str, float], learned: bool, records: Iterable[dict[str, Any]]) -> str | None:
    """Why learned attention is the same at every word: "collapsed" if it moved before, "unmoved" if it never did.

    It moves if its maps change by STILL of their mass between words. None if it does, or is not learned. ``records``
    are the lines of metrics.jsonl until then; those of validation count, since dropout moves attention too.
    """
    if not learned or health.get("change", 1.0) >= STILL:
        return None
    moved = any(record.get("change", 0.0) >= STILL for record in records if record.get("split") == "val")
    return "collapsed" if moved else "unmoved"
