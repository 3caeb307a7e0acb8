"""All chance of a training step, drawn before it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from attend import config
from attend.chance import torch_generator
from attend.data.batches import wider
from attend.decoder.protocol import Dropout


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The random numbers of one pass over N images x C captions x T words, in R = C K rows of K samples.

    glimpse (N, R, T; with several heads (N, R, T, heads)) in [0, 1) draws the samples. soft (N, R) marks rows that take
    the expected context, None if no row does. places (N, R, T, L) in [0, 1) has a number for every location, if the
    estimator needs one. drop has the dropout factors (N, C, T, ...), which the samples of a caption share. words (N, C,
    T) in [0, 1) draws words, if captions are sampled.
    """

    glimpse: Tensor
    soft: Tensor | None = None
    places: Tensor | None = None
    drop: Dropout | None = None
    words: Tensor | None = None

    @classmethod
    def draw(
        cls,
        settings: config.Config,
        shape: tuple[int, int, int],
        seed: int,
        step: int,
        locations: int = 0,
        epoch: float = math.inf,
    ) -> Noise:
        """The noise of a training step, keyed by seed and step alone, on the CPU for every device.

        ``locations`` L is needed if the estimator draws a number for each of them. ``epoch`` is how far training is,
        for the share of soft images.
        """
        generator = torch_generator("training step", seed, step)
        images, captions, length = shape
        coins = torch.rand(1 if settings.estimator.coin == "minibatch" else images, generator=generator)
        rows = captions * settings.samples
        soft = coins < settings.estimator.mixed_at(epoch)
        glimpse = torch.rand((images, rows, length, *settings.attention.looks), generator=generator)
        places = torch.rand((images, rows, length, locations), generator=generator) if settings.noisy else None

        def drop(probability: float, width: int) -> Tensor | None:
            keep = 1 - probability
            return None if keep == 1 else torch.empty(*shape, width).bernoulli_(keep, generator=generator).div_(keep)

        decoder = settings.decoder
        hidden, deep = (drop(decoder.dropout, width) for width in (decoder.hidden, decoder.embedding))
        factors = Dropout(hidden=hidden, deep=deep, words=drop(decoder.dropout_words, decoder.embedding))
        soft = soft[:, None].expand(images, rows) if soft.any() else None
        words = None if settings.train.reward == "likelihood" else torch.rand(shape, generator=generator)
        return cls(glimpse=glimpse, soft=soft, places=places, drop=factors, words=words)

    @property
    def mixed(self) -> Tensor | None:
        """(N, R, T) which words take the expected context."""
        return None if self.soft is None else self.soft[..., None].expand(self.glimpse.shape[:3])

    def widened(self, length: int) -> Noise:
        """The same with zeros up to so many words."""
        return self._each(lambda drawn: wider(drawn, length) if drawn.ndim > 2 else drawn)

    def part(self, images: slice) -> Noise:
        """The noise of some of the images."""
        return self._each(lambda drawn: drawn[images])

    def to(self, device: torch.device) -> Noise:
        return self._each(lambda drawn: drawn.to(device, non_blocking=True))

    def _each(self, change) -> Noise:
        def changed(drawn):
            if isinstance(drawn, Dropout):
                return Dropout(*map(changed, drawn))
            return None if drawn is None else change(drawn)

        return Noise(**{one.name: changed(getattr(self, one.name)) for one in fields(self)})
