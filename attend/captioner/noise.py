"""All chance of a training step, drawn before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from attend import config


@dataclass(frozen=True, kw_only=True)
class Noise:
    """All chance in one pass, drawn before it: for N images x C captions x T words.

    glimpse (N, R, T; with K heads (N, R, T, K)) in [0, 1) picks the samples, soft (N, R) marks rows that take the
    expected context, places (N, R, T, L) in [0, 1) are numbers for every location, where an estimator needs them,
    and drop_hidden (N, C, T, H), drop_deep and drop_words (N, C, T, E) are dropout factors (0 or 1/(1-p)), None
    without dropout. R = C, or as many rows as there are samples of all captions: they share dropout.
    """

    glimpse: Tensor
    soft: Tensor
    places: Tensor | None = None
    drop_hidden: Tensor | None = None
    drop_deep: Tensor | None = None
    drop_words: Tensor | None = None

    @classmethod
    def draw(
        cls, settings: config.Config, shape: tuple[int, int, int], seed: int, step: int, locations: int = 0
    ) -> Noise:
        """The noise of a training step, keyed by seed and step alone, on the CPU for every device.

        ``locations`` L is needed where the estimator draws a number for each of them.
        """
        key = np.random.SeedSequence([seed, step]).generate_state(1)[0]  # torch's generator reads 32 bits
        generator = torch.Generator().manual_seed(int(key))
        images, captions, length = shape
        coins = torch.rand(1 if settings.estimator.coin == "minibatch" else images, generator=generator)
        rows = captions * settings.samples
        soft = (coins < settings.estimator.mixed)[:, None].expand(images, rows)
        glimpse = torch.rand((images, rows, length, *settings.attention.looks), generator=generator)
        places = torch.rand((images, rows, length, locations), generator=generator) if settings.noisy else None

        def drop(probability: float, width: int) -> Tensor | None:
            keep = 1 - probability
            return None if keep == 1 else torch.empty(*shape, width).bernoulli_(keep, generator=generator).div_(keep)

        decoder = settings.decoder
        return cls(
            glimpse=glimpse,
            soft=soft,
            places=places,
            drop_hidden=drop(decoder.dropout, decoder.hidden),
            drop_deep=drop(decoder.dropout, decoder.embedding),
            drop_words=drop(decoder.dropout_words, decoder.embedding),
        )

    def part(self, images: slice) -> Noise:
        """That of some of the images."""
        return self._each(lambda drawn: drawn[images])

    def to(self, device: torch.device) -> Noise:
        return self._each(lambda drawn: drawn.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Noise:
        drawn = {f.name: getattr(self, f.name) for f in fields(self)}
        return Noise(**{name: None if t is None else change(t) for name, t in drawn.items()})
