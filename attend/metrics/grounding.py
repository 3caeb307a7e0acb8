"""How well the weights of words fall on the boxes that the words speak of, beside looks that do not know the word.

For a word with weights alpha over L cells and boxes of which cell i holds the share s_i of its area,

    mass = sum_i alpha_i s_i,    pointing = 1 if the centre of the cell with the largest alpha lies in a box, else 0
    (of several largest, the share that do).

Beside the ``learned`` weights stand four controls on the same words: ``uniform`` weights, whose pointing is that of a
cell drawn at random; ``matched``, the Gaussian at the centre that is as sharp as the model, with the mean entropy of
its weights over these words (``sharpness.centre_of``); ``cell``, all weight on the one cell that is best on the words
of the training split; and ``shuffled``, the model's own weights at a word of another image. A model looks at what a
word speaks of, and not out of habit, only where it is better than the best of them (``beyond``).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from attend.geometry import Box, Geometry, on_grid
from attend.metrics.other_images import words_of_others
from attend.metrics.sharpness import centre_of, entropy

MEASURES = ("mass", "pointing")
CONTROLS = ("uniform", "matched", "cell", "shuffled")
LOOKS = ("learned", *CONTROLS)
NAMES = tuple(f"{'' if look == 'learned' else look + '_'}{measure}" for look in LOOKS for measure in MEASURES)
"""The scores of ``pool``, in the order of (LOOKS, MEASURES)."""
BEYOND = tuple(f"{measure}_beyond" for measure in MEASURES)
Boxes = tuple[Box, ...]


class Cells(NamedTuple):
    """The number of the cell that is best for each of MEASURES."""

    mass: int
    pointing: int


class BoxedWord(NamedTuple):
    """A word with boxes: the number of its image, its weights (L,), its boxes, and the map to the grid."""

    image: int
    weights: np.ndarray
    boxes: Boxes
    geometry: Geometry

    @property
    def visible(self) -> bool:
        """Whether the grid shows any of the boxes. If a crop has cut them away, no weights could fall on them."""
        return bool(on_grid(self.geometry, self.boxes)[0].any())


def best_cells(boxes: Mapping[tuple[Geometry, Boxes], int]) -> Cells | None:
    """The best single cell to look at for words with these boxes, by how many words have them; None without words."""
    seen = [(count, *on_grid(*key)) for key, count in boxes.items()]
    seen = [one for one in seen if one[1].any()]
    if not seen:
        return None
    return Cells(*(int(np.argmax(sum(one[0] * one[1 + m] for one in seen))) for m in range(len(MEASURES))))


def ground(words: Sequence[BoxedWord], cells: Cells | None, seed: int = 0) -> np.ndarray:
    """The scores (M, LOOKS, MEASURES) of M visible words, in [0, 1]; NaN for ``cell`` where there are no ``cells``.

    ``seed`` samples the words of other images for ``shuffled``, which is NaN too if there is one image only.

    Raises ValueError if weights and cells do not agree in number.
    """
    scores = np.full((len(words), len(LOOKS), len(MEASURES)), np.nan)
    if not words:
        return scores
    grid = words[0].geometry.grid
    weights = np.stack([word.weights for word in words]).astype(float)
    if weights.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"weights are {weights.shape}; {len(words)} words on {grid[0]} x {grid[1]} cells need others")
    shares, holds = (np.stack(one) for one in zip(*(on_grid(w.geometry, w.boxes) for w in words), strict=True))
    image = np.array([word.image for word in words])
    looks = {
        "learned": weights,
        "uniform": np.full(weights.shape[1], 1 / weights.shape[1]),
        "matched": centre_of(grid, entropy(weights).mean()),
    }
    if len(np.unique(image)) > 1:
        looks["shuffled"] = weights[words_of_others(image, seed)]
    for look, alpha in looks.items():
        largest = np.broadcast_to(alpha == alpha.max(-1, keepdims=True), holds.shape)
        masses, points = (alpha * shares).sum(-1), (holds & largest).sum(-1) / largest.sum(-1)
        scores[:, LOOKS.index(look)] = np.stack([masses, points], axis=1)
    if cells is not None:
        scores[:, LOOKS.index("cell")] = np.stack([shares[:, cells.mass], holds[:, cells.pointing]], axis=1)
    return scores


def best_controls(scores: np.ndarray) -> list[int]:
    """For each of MEASURES the place in LOOKS of the best control of scores (M, LOOKS, MEASURES), by their mean."""
    means = scores[:, 1:].mean(axis=0)
    return [1 + int(np.nanargmax(means[:, m])) for m in range(len(MEASURES))]


def pool(scores: np.ndarray, best: Sequence[int]) -> dict[str, float]:
    """Means over words: their number ``words``, each of NAMES and BEYOND; NaN where no word has a box.

    ``best`` is the control of each measure that ``beyond`` is over: learned less that control, on the same words.
    """
    words = len(scores)
    means = scores.mean(axis=0) if words else np.full(scores.shape[1:], np.nan)
    beyond = {name: float(means[0, m] - means[best[m], m]) for m, name in enumerate(BEYOND)}
    return {"words": float(words)} | dict(zip(NAMES, means.ravel().tolist(), strict=True)) | beyond
