"""K different paths of a caption: drawn without replacement, or the likeliest and one of the others.

If the state reads the glimpses (``attention.feed: glimpse``), a set of different paths is found without a gradient by a
beam search over locations, and then forced. If only the readout sees them, the locations of a word are the set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attend import config
from attend.attention.select import Forced, Policy, draw, gumbel, log
from attend.captioner.captioner import SOFT, Captioner, Looking
from attend.captioner.layout import Step
from attend.captioner.unrolled import Readout, Unrolled
from attend.data.text import SPECIALS, START
from attend.decoder.protocol import rows_of
from attend.estimators.noise import Noise
from attend.estimators.take import Given, Take


def different(of_word: Callable[..., Tensor], of_caption: Callable[..., Tensor]) -> Take:
    """K different paths. If words are apart: K locations per word, ``of_word(weights, K, noise)`` (N, C, T, K). Else:
    K paths of each caption, ``of_caption(tree, K, noise)`` (N, C, K, T)."""

    def take(
        captioner: Captioner, given: Given, noise: Noise, settings: config.Config, learned: nn.Module | None
    ) -> Readout:
        several = settings.samples
        if captioner.apart:
            policy = Chosen(lambda weights: of_word(weights, several, noise))
        else:
            policy = Forced(of_caption(Tree(captioner, given, noise), several, noise).flatten(1, 2))
        return given.unroll(captioner, policy, several, noise)

    return take


@dataclass(frozen=True)
class Chosen(Policy):
    """K locations of each word that ``choose`` picks together from its weights (N, C, T, L): (N, C, T, K)."""

    choose: Callable[[Tensor], Tensor]

    def read(self, unrolled: Unrolled, samples: int = 1) -> Readout:
        chosen = self.choose(unrolled.weights.detach())
        return unrolled.glimpsed(Forced(chosen.transpose(2, 3).flatten(1, 2)), samples)


class Tree:
    """The paths of given captions as the leaves of a tree, a location at each word, walked without a gradient.

    A caption that has ended goes on with location 0, so that no path stands for another.
    """

    def __init__(self, captioner: Captioner, given: Given, noise: Noise) -> None:
        self.captioner, self.words = captioner, given.words
        self.memory = captioner.attention.memory(given.features)
        length = self.words.shape[2]
        self.live = given.real  # (N, C, T)
        start = torch.full_like(self.words[..., :1], SPECIALS.index(START))
        previous = torch.cat([start, self.words[..., :-1]], -1)
        place = torch.arange(length, device=self.words.device).expand(self.words.shape)
        self.drive = captioner.decoder.inputs(previous, place, noise.drop).drive  # (N, C, T, gates)

    @torch.no_grad()
    def beam(self, width: int, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The paths (N, C, K, T) of a beam search and their log-probabilities (N, C, K).

        With ``noise`` (N, C K, T, L) in [0, 1) a stochastic beam search: K draws without replacement, by the largest
        of log p + gumbel, where the gumbels of a prefix's extensions are conditioned on their maximum being its own.

        Source: Kool et al. (2019), Stochastic Beams and Where to Find Them, algorithm 1.
        """
        shape = self.words.shape[:2]
        state = self.captioner.decoder.start(self.memory, shape[1])
        log_p = self.drive.new_zeros(*shape, 1)
        reached, paths = torch.zeros_like(log_p), None  # the perturbed log-probability of each prefix
        for t in range(self.words.shape[2]):
            rows = log_p.shape[2]
            extended = log_p[..., None] + self._log_weights(state, t, rows)  # (N, C, K, L)
            perturbed = extended
            if noise is not None:
                drawn = gumbel(noise[:, :, t].unflatten(1, (shape[1], -1))[:, :, :rows])
                perturbed = _conditioned(extended + drawn, reached)
            locations = extended.shape[-1]
            kept = perturbed.flatten(2).topk(min(width, rows * locations)).indices  # (N, C, K')
            parent, place = kept // locations, kept % locations
            log_p, reached = (part.flatten(2).gather(2, kept) for part in (extended, perturbed))
            before = torch.arange(shape[1], device=kept.device)[:, None] * rows
            state = self._step(rows_of(state, (before + parent).flatten(1)), t, place)
            place = place[..., None]
            earlier = [] if paths is None else [paths.gather(2, parent[..., None].expand(*parent.shape, t))]
            paths = torch.cat([*earlier, place], -1)
        return paths, log_p

    @torch.no_grad()
    def another(self, paths: Tensor, log_p: Tensor, noise: Tensor) -> Tensor:
        """A path (N, C, T) drawn from all but ``paths`` (N, C, K, T) of log-probability (N, C, K), with ``noise``
        (N, C, T): at each word a prefix's extensions lose the probability of the paths that go through them."""
        state = self.captioner.decoder.start(self.memory, self.words.shape[1])
        along, prefix, chosen = torch.ones_like(log_p, dtype=torch.bool), log_p.new_zeros(log_p.shape[:2]), []
        for t in range(self.words.shape[2]):
            log_weights = self._log_weights(state, t, 1)[:, :, 0]
            taken_away = torch.where(along, (log_p - prefix[..., None]).exp(), 0.0)
            left = log_weights.exp().scatter_add(-1, paths[..., t], -taken_away).clamp(min=0)
            place = draw(left, noise[:, :, t])
            place = torch.where(self.live[:, :, t], place, 0)
            prefix = prefix + log_weights.gather(-1, place[..., None]).squeeze(-1)
            along = along & (paths[..., t] == place[..., None])
            state = self._step(state, t, place[..., None])
            chosen.append(place)
        return torch.stack(chosen, -1)

    def _log_weights(self, state: tuple, t: int, rows: int) -> Tensor:
        """log alpha at word t for so many prefixes of each caption, (N, C, K, L)."""
        _, word = self._advance(state, t, rows, SOFT)
        weights = word.look.weights.unflatten(1, (-1, rows))
        stay = weights.new_full(weights.shape[-1:], -torch.inf)
        stay[0] = 0.0
        return torch.where(self.live[:, :, t, None, None], log(weights), stay)

    def _step(self, state: tuple, t: int, place: Tensor) -> tuple:
        """The state after word t, read with the glimpses (N, C, K)."""
        return self._advance(state, t, place.shape[2], Forced(place.flatten(1)[:, :, None]))[0]

    def _advance(self, state: tuple, t: int, rows: int, policy: Policy) -> tuple:
        drive = self.drive[:, :, t].repeat_interleave(rows, 1)
        look = Looking(self.captioner.attention, self.memory, policy, Step(t, *drive.shape[:2]))
        return self.captioner.decoder.step(state, drive, look)


def _conditioned(perturbed: Tensor, largest: Tensor) -> Tensor:
    """Gumbels (..., L) shifted so that their maximum is ``largest`` (...), as if drawn under that condition.

    -log(exp(-largest) - exp(-maximum) + exp(-perturbed)), in the stable form of the source's appendix B.3.
    """
    gap = perturbed - perturbed.amax(-1, keepdim=True)
    v = largest[..., None] - perturbed + torch.log1p(-gap.exp().clamp(max=1 - torch.finfo(gap.dtype).eps))
    v = torch.where(gap == 0, -torch.inf, v)
    return largest[..., None] - v.clamp(min=0) - torch.log1p(torch.exp(-v.abs()))


def distinct(weights: Tensor, several: int, noise: Tensor) -> Tensor:
    """K locations without replacement, (..., K): those of the largest log alpha + gumbel, for ``noise`` (..., L)."""
    return (log(weights) + gumbel(noise)).topk(several).indices


def best_and_rest(weights: Tensor, several: int, noise: Tensor) -> Tensor:
    """The locations of the K - 1 largest weights, and one drawn from the others with ``noise`` (...): (..., K)."""
    best = weights.topk(several - 1).indices
    return torch.cat([best, draw(weights.scatter(-1, best, 0.0), noise)[..., None]], -1)


def _likeliest_and_another(tree: Tree, several: int, noise: Noise) -> Tensor:
    best, log_p = tree.beam(several - 1)
    rest = tree.another(best, log_p, noise.glimpse[:, ::several])
    return torch.cat([best, rest[:, :, None]], 2)


without_replacement = different(
    lambda weights, several, noise: distinct(weights, several, noise.places[:, ::several]),
    lambda tree, several, noise: tree.beam(several, noise.places)[0],
)
likeliest_and_another = different(
    lambda weights, several, noise: best_and_rest(weights, several, noise.glimpse[:, ::several]), _likeliest_and_another
)
"""The K - 1 likeliest paths, as far as a beam finds them, and one drawn from the others."""
