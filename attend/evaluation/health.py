"""How attention is doing: entropy, largest weight, change between words, distinct glimpses."""

from __future__ import annotations

from collections.abc import Callable

import torch

from attend.captioner.captioner import Trace
from attend.captioner.traces import entropy


def health(trace: Trace, summed: Callable[[dict[str, float]], dict[str, float]] = dict) -> dict[str, float]:
    """How attention is doing, means over real words, all detached.

    entropy (nats) and maximum of alpha, change: total variation between consecutive words, distinct: share of a
    caption's words that look where no earlier word of it looked (glimpses, or maxima where there are none).
    What no word or pair of words could tell is left out. ``summed`` adds what other processes have to each sum.
    """
    sums = health_sums(trace)
    totals, counts = (summed({name: pair[i] for name, pair in sums.items()}) for i in (0, 1))
    return {name: totals[name] / count for name, count in counts.items() if count}


def health_sums(trace: Trace) -> dict[str, tuple[float, int]]:
    """What ``health`` is the mean of: each sum, and over how many words or, for change, pairs of words it goes."""
    weights, real = trace.weights.detach().float(), trace.looked
    following = real[..., 1:]
    change = 0.5 * (weights[:, :, 1:] - weights[:, :, :-1]).abs().sum(-1)
    places = weights.argmax(-1)
    if trace.looks == trace.samples:
        places = torch.where(trace.glimpses >= 0, trace.glimpses, places)
    places = torch.where(real, places, -1)
    seen = (places[..., None] == places[..., None, :]).tril(-1).any(-1)
    words, pairs = int(real.sum()), int(following.sum())
    return {
        "entropy": (float((entropy(weights) * real).sum()), words),
        "maximum": (float((weights.amax(-1) * real).sum()), words),
        "change": (float((change * following).sum()), pairs),
        "distinct": (float((~seen & real).sum()), words),
    }


def collapsed(health: dict[str, float], learned: bool) -> bool:
    """Whether learned attention has stopped moving: its maps change by less than 1 % of their mass between words."""
    return learned and health.get("change", 1.0) < 0.01
