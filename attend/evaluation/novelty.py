"""How unlike the training images an image is, and other reasons to doubt a caption.

The novelty of an image is the distance of its mean feature f from that of the training images, divided by the root mean
square of their own distances, so that it is about 1 for an image like them:

    novelty = |f - mu| / sqrt(mean_n |f_n - mu|^2),    f = 1/L sum_i a_i,    mu = mean_n f_n.

a_i is what the captioner reads. The limit comes from n validation images. If the logarithm of novelty is normal, one in
a thousand images like them is beyond

    exp(m + t_{n-1}(0.999) s sqrt(1 + 1/n)),    m and s: mean and standard deviation of their log novelty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from accelerate import Accelerator
from msgspec import Meta
from scipy.special import stdtrit
from torch import Tensor

from attend.data.batches import Batches, drawn_rows, in_order
from attend.documents import Amount, Count, Finite
from attend.model import Model
from attend.runs.files import read_json, write_json

FILE = "novelty.json"
IMAGES = 1000
"""The largest number of training images, and of validation images, that are read."""
SHARE = 0.001
"""The share of images like the validation images that are beyond the limit."""
TIMES = 3
"""A phrase that a caption says so many times in a row is a sign that the model is lost."""


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """The mean (D,) of the mean features of training images, their root mean square distance from it, and the limit.

    ``images`` is the number of validation images behind the limit. Less than three give none, which is a limit of 0.
    """

    mean: tuple[Finite, ...]
    distance: Annotated[float, Meta(gt=0, le=1e300, description="a number above 0")]
    limit: Amount
    images: Count

    @classmethod
    def of(cls, training: np.ndarray, validation: np.ndarray) -> Self:
        """From the mean features (N, D) of training and of validation images."""
        mean = tuple(float(f"{x:.5g}") for x in training.mean(axis=0))
        distance = float(np.sqrt(np.square(training - mean).sum(axis=1).mean()))
        bare = cls(mean=mean, distance=distance or 1.0, limit=0.0, images=len(validation))
        logs, count = np.log(np.maximum(bare.score(validation), 1e-12)), len(validation)
        if count < 3:
            return bare
        beyond = logs.mean() + stdtrit(count - 1, 1 - SHARE) * logs.std(ddof=1) * np.sqrt(1 + 1 / count)
        return replace(bare, limit=float(np.exp(beyond)))

    def score(self, features: np.ndarray) -> np.ndarray:
        """The novelty (N,) of images with these mean features (N, D)."""
        return np.linalg.norm(features - np.array(self.mean), axis=1) / self.distance

    def beyond(self, score: float) -> bool:
        """Whether this novelty is beyond the limit."""
        return 0 < self.limit < score

    def write(self, run: Path) -> None:
        """Write novelty.json of a run."""
        write_json(run / FILE, asdict(self))

    @classmethod
    def read(cls, run: Path) -> Self | None:
        """That of a run, or None if it has none, as older runs. ValueError if the file is damaged."""
        return read_json(run / FILE, cls) if (run / FILE).exists() else None


@torch.no_grad()
def measure_novelty(model: Model, batches: Batches, rows: Sequence[int], accelerator: Accelerator) -> Novelty:
    """The novelty of a model's data: of some of its training ``rows``, and of the validation split."""

    def means(rows: Sequence[int]) -> np.ndarray:
        some = drawn_rows(rows, min(IMAGES, len(rows)), model.config.seed)
        reader = Batches(batches.dataset, batches.store, captions=False)
        loaded = reader.loader(in_order(some, 32))
        return np.concatenate([mean_features(model, one.inputs.to(accelerator.device)) for one in loaded])

    return Novelty.of(means(rows), means(batches.dataset.rows("val")))


def mean_features(model: Model, inputs: Tensor) -> np.ndarray:
    """The mean over locations (N, D) of what the captioner reads of features or images, as ``Model.features``."""
    return model.features(inputs).float().mean(1).cpu().numpy()


def doubts(name: str, words: Sequence[str], longest: int, novelty: Novelty | None, score: float | None) -> list[str]:
    """Sentences that say why a caption of ``words`` should not be trusted; ``longest`` is the limit of its length."""
    found = []
    if novelty is not None and score is not None and novelty.beyond(score):
        found.append(
            f"{name} is unlike the images that this model learned from (novelty {score:.1f}, the limit is "
            f"{novelty.limit:.1f}): do not trust its caption"
        )
    if again := repeated(words):
        found.append(f"the caption of {name} repeats {again!r}: the model is lost")
    elif len(words) >= longest:
        found.append(f"the caption of {name} does not end within {longest} words, the limit of the search")
    return found


def repeated(words: Sequence[str]) -> str:
    """The first phrase of at most four words that is repeated TIMES times in a row, or nothing."""
    for start, size in _phrases(len(words)):
        phrase = list(words[start : start + size])
        if list(words[start : start + TIMES * size]) == phrase * TIMES:
            return " ".join(phrase)
    return ""


def _phrases(count: int) -> Iterable[tuple[int, int]]:
    """Start and size of each phrase that TIMES times fits into ``count`` words."""
    return ((start, size) for start in range(count) for size in range(1, 5) if start + TIMES * size <= count)
