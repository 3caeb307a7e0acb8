"""How an estimator takes its glimpses of a minibatch, if it draws them one by one or takes every path."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attend import config
from attend.attention.select import Forced, Policy, Sample
from attend.captioner.captioner import Captioner, decoding
from attend.captioner.layout import OnDevice
from attend.captioner.unrolled import EveryLocation, Readout
from attend.config import check_enumerable
from attend.estimators.noise import Noise


@dataclass(frozen=True)
class Given:
    """Given captions of N images: features (N, L, D), words (N, C, T), lengths (N, C) on the host, and what a control
    is shown (N, C, T, L). Captured passes have lengths on the device."""

    features: Tensor
    words: Tensor
    lengths: Tensor | OnDevice
    shown: Tensor | None = None

    @property
    def real(self) -> Tensor:
        """(N, C, T) whether a word is real."""
        if isinstance(self.lengths, OnDevice):
            return self.lengths.real(self.words.shape[2])
        return (self.lengths[..., None] > torch.arange(self.words.shape[2])).to(self.words.device)

    def unroll(self, captioner: Captioner, policy: Policy, samples: int, noise: Noise | None = None) -> Readout:
        """The captions under a policy, with the dropout of ``noise``."""
        given, drop = (self.features, self.words, self.lengths), None if noise is None else noise.drop
        return captioner(*given, policy, samples=samples, drop=drop, shown=self.shown)


Take = Callable[[Captioner, Given, Noise, config.Config, nn.Module | None], Readout]


def softly(
    captioner: Captioner, given: Given, noise: Noise, settings: config.Config, learned: nn.Module | None
) -> Readout:
    """No glimpse: the expected context, under all weights or the largest."""
    return given.unroll(captioner, decoding(settings.attention.select, settings.attention.top), 1, noise)


def under(policy: Callable[[Noise, config.Config], Policy]) -> Take:
    """Every path on its own, under a policy made of the noise."""

    def take(
        captioner: Captioner, given: Given, noise: Noise, settings: config.Config, learned: nn.Module | None
    ) -> Readout:
        return given.unroll(captioner, policy(noise, settings), settings.samples, noise)

    return take


@under
def samples(noise: Noise, settings: config.Config) -> Policy:
    """One by one from alpha."""
    return Sample(noise.glimpse, noise.mixed)


def every_path(
    captioner: Captioner, given: Given, noise: Noise, settings: config.Config, learned: nn.Module | None
) -> Readout:
    """All L^T paths of a caption; every location of every word if words are apart."""
    if captioner.apart:
        return given.unroll(captioner, EveryLocation(), 1, noise)
    path = paths_of(given.features.shape[1], given.words)
    return given.unroll(captioner, Forced(path), path.shape[1] // given.words.shape[1], noise)


def paths_of(locations: int, words: Tensor) -> Tensor:
    """All L^T paths, (N, C L^T, T), for words (N, C, T). Raises ValueError beyond ENUMERATED."""
    images, captions, length = words.shape
    check_enumerable(locations, length)
    paths = torch.cartesian_prod(*[torch.arange(locations, device=words.device)] * length).view(-1, length)
    return paths.expand(images, captions, -1, -1).flatten(1, 2)
