"""How the words of given captions that have boxes are grounded, beside controls."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attend.data.batches import Batches
from attend.metrics.grounding import BoxedWord, Cells, best_cells, best_controls, ground, pool
from attend.runs.evaluations import WordGrounding


@dataclass(frozen=True, kw_only=True)
class Grounded:
    """M words with boxes: the row of their image (M,), ``scores`` (M, LOOKS, MEASURES), and the best ``cells``."""

    rows: np.ndarray
    scores: np.ndarray
    cells: Cells | None

    @classmethod
    def of(cls, looked: Sequence[WordGrounding], batches: Batches) -> "Grounded":
        """The words that the grid shows, of what was looked at."""
        words = []
        for one in looked:
            boxes, geometry = batches.dataset.examples[one.row].captions[one.caption].boxes, batches.geometry(one.row)
            words += [
                BoxedWord(one.row, alpha, boxes[word], geometry)
                for word, alpha in zip(one.words, one.weights, strict=True)
            ]
        words = [word for word in words if word.visible]
        cells = training_cells(batches) if words else None
        return cls(rows=np.array([word.image for word in words], int), scores=ground(words, cells), cells=cells)

    def pooled(self) -> dict[str, float | None] | None:
        """The means over all words, and the best cells; None without words, and for a control that there is not."""
        if not len(self.rows):
            return None
        cells = (
            {} if self.cells is None else {f"{measure}_cell": cell for measure, cell in self.cells._asdict().items()}
        )
        means = pool(self.scores, best_controls(self.scores))
        return {name: value if np.isfinite(value) else None for name, value in means.items()} | cells

    def of_images(self, rows: Sequence[int]) -> list[dict[str, float]]:
        """The means over the words of each image; an empty one for an image without words."""
        best = best_controls(self.scores) if len(self.rows) else ()
        order = np.argsort(self.rows, kind="stable")
        found, starts = np.unique(self.rows[order], return_index=True)
        parts = dict(zip(found.tolist(), np.split(self.scores[order], starts[1:]), strict=False))
        return [pool(parts[row], best) if row in parts else {} for row in rows]


def training_cells(batches: Batches) -> Cells | None:
    """The best single cells for the words with boxes of the training split; None where it has none."""
    dataset = batches.dataset
    boxes = Counter()
    for row, split in enumerate(dataset.examples.splits):
        if split == "train":
            spoken = Counter(some for c in dataset.examples[row].captions for some in c.boxes or () if some)
            if spoken:
                geometry = batches.geometry(row)
                boxes.update({(geometry, some): count for some, count in spoken.items()})
    return best_cells(boxes)
