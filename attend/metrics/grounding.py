"""How well the weights of given captions fall on the boxes their words speak of.

For a word with weights alpha over L cells and boxes of which cell i holds the share s_i of its area,

    mass = sum_i alpha_i s_i,    pointing = 1 if the centre of the cell with the largest alpha lies in a box, else 0
    (of several largest, the share that do).

Two controls that never saw the caption stand beside it: ``uniform`` weights, whose pointing is that of a cell drawn
at random, and ``centre``, a Gaussian around the grid's centre. ``ground`` sums over the words of one caption and
``pool`` turns such sums into means over words, so captions of any length weigh by their words.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from attend.geometry import Box, Geometry, centre_weights

MEASURES = tuple(f"{who}{what}" for who in ("", "uniform_", "centre_") for what in ("mass", "pointing"))
Grounding = dict[str, float]  # "words", a count, and the MEASURES


def ground(
    weights: np.ndarray,  # (T, L)
    boxes: Sequence[Sequence[Box] | None],
    geometry: Geometry,
) -> Grounding:
    """Sums over the words that have boxes: their number ``words`` and the MEASURES, each a sum of fractions.

    ``boxes`` has one entry a word: its boxes, or None (or no box) where it speaks of none. Words whose boxes a crop
    has cut away wholly are left out too: no weights could fall on them.

    Raises ValueError when words, weights and cells do not agree in number.
    """
    rows, columns = geometry.grid
    weights = np.asarray(weights, float)
    if weights.shape != (needed := (len(boxes), rows * columns)):
        raise ValueError(f"weights are {weights.shape}; {len(boxes)} words on {rows} x {columns} cells need {needed}")
    centre = centre_weights(geometry.grid)
    sums = dict.fromkeys(("words", *MEASURES), 0.0)
    for alpha, of_word in zip(weights, boxes, strict=True):
        if not of_word or not (shares := geometry.shares(of_word)).any():
            continue
        holds = geometry.holds(of_word)
        sums["words"] += 1
        sums["mass"] += alpha @ shares
        sums["pointing"] += holds[alpha == alpha.max()].mean()
        sums["uniform_mass"] += shares.mean()
        sums["uniform_pointing"] += holds.mean()
        sums["centre_mass"] += centre @ shares
        sums["centre_pointing"] += holds[centre == centre.max()].mean()
    return {name: float(value) for name, value in sums.items()}


def pool(captions: Iterable[Grounding]) -> Grounding:
    """Means over all words of the captions' sums: ``words`` in all, and each of MEASURES as a fraction.

    Where no word has a box, ``words`` is 0 and every measure is NaN: nothing was measured.
    """
    sums = dict.fromkeys(("words", *MEASURES), 0.0)
    for caption in captions:
        for name in sums:
            sums[name] += caption[name]
    words = sums["words"]
    return {"words": words} | {name: sums[name] / words if words else float("nan") for name in MEASURES}
