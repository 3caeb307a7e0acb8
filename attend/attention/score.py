"""Score: how well each location fits what the decoder asks for, e = f(a, h)."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attend import kernels
from attend.attention.simplex import at_least_fp32
from attend.config import catalogue
from attend.kernels.maps import LoopLinear

BLOCK = {"cpu": 2**19, "cuda": 2**26}
"""Units of the score that are in memory at once: 2 MiB of fp32 fit the cache of a CPU."""
FEW = 2**16
"""Units that are simply kept: fewer operations are then worth more than fewer bytes."""
LARGE = 20.0
"""Keys below it may be used by their exponentials: where exp(-2 q) leaves fp32, tanh(k + q) is -1 or 1 for all of
them."""


@dataclass(frozen=True)
class Keys:
    """k = W a (N, L, A), and ``falling`` exp(-2 k), from which a CPU computes tanh(k + q) without an exponential per
    unit; None if it does not. Cut by images."""

    plain: Tensor
    falling: Tensor | None = None

    @classmethod
    def of(cls, plain: Tensor, activation: str) -> Self:
        """Keys with their exponentials, where these are used and can be: on a CPU, for tanh, of keys below LARGE."""
        known = plain.detach()
        used = activation == "tanh" and known.device.type == "cpu" and known.numel() and known.abs().amax() < LARGE
        return cls(plain, torch.exp(-2 * known) if used else None)

    def __len__(self) -> int:
        return len(self.plain)

    def __getitem__(self, images: slice) -> Self:
        return Keys(self.plain[images], None if self.falling is None else self.falling[images])


@dataclass(frozen=True)
class Activation:
    """``plain``: x -> scale unit(scale x) + shift. ``slope`` is the unit's as a function of its value. Unit and slope
    work in place."""

    plain: Callable[[Tensor], Tensor]
    unit: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    scale: float = 1.0
    shift: float = 0.0


ACTIVATIONS = {
    # tanh(x) = 2 sigmoid(2 x) - 1: three times as fast as torch's tanh, and as exact in a sum over many units
    "tanh": Activation(
        torch.tanh, torch.Tensor.sigmoid_, lambda unit: unit.addcmul_(unit, unit, value=-1), scale=2.0, shift=-1.0
    ),
    "relu": Activation(torch.relu, torch.Tensor.relu_, torch.Tensor.sign_),
}


def additive(keys: Tensor | Keys, query: Tensor, vector: Tensor, activation: str = "tanh") -> Tensor:
    """e_i = v . activation(k_i + q), for keys k = W a (N, L, A), queries q = U h + b (N, R, A), v (A,) -> (N, R, L).

    The R rows of an image (captions, samples, beams) share its keys by view. In fp32 or better. On CUDA it is one
    kernel (``attend.kernels.additive``).

    Source: Bahdanau et al. (2015); Xu et al. (2015), equation 4.
    """
    falling = keys.falling if isinstance(keys, Keys) else None
    keys = at_least_fp32(plain(keys))
    query, vector = query.to(keys.dtype), vector.to(keys.dtype)
    with _full_precision(keys.device.type):
        if kernels.run_on(keys):
            from attend.kernels.additive import additive_scores  # it needs Triton

            return additive_scores(keys, query, vector, activation == "tanh")
        if query.shape[:2].numel() * keys.shape[1:].numel() <= FEW:
            return ACTIVATIONS[activation].plain(keys[:, None] + query[:, :, None]) @ vector
        return _Additive.apply(keys, query, vector, ACTIVATIONS[activation], falling)


def _full_precision(device: str) -> contextlib.AbstractContextManager:
    """Autocast switched off, if it is on. Tensors without data (``meta``) have none."""
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


class _Additive(torch.autograd.Function):
    """The N R L A units are never kept: they are computed a block at a time, and once more for the gradient, which is
    less work than to write and to read them."""

    @staticmethod
    def forward(
        ctx, keys: Tensor, query: Tensor, vector: Tensor, activation: Activation, falling: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(keys, query, vector, falling)
        ctx.activation = activation
        scores = query.new_empty(*query.shape[:2], keys.shape[1])
        for images, units in _units(keys, query, activation, falling):
            torch.matmul(units, activation.scale * vector, out=scores[images])
        return scores.add_(activation.shift * vector.sum())

    @staticmethod
    @once_differentiable
    def backward(ctx, slopes: Tensor):
        keys, query, vector, falling = ctx.saved_tensors
        activation, scale = ctx.activation, ctx.activation.scale
        of_keys, of_query, of_vector = torch.empty_like(keys), torch.empty_like(query), torch.zeros_like(vector)
        for images, units in _units(keys, query, activation, falling):
            above = slopes[images]  # (n, R, L)
            of_vector += above.flatten() @ units.flatten(0, 2)
            moved = activation.slope(units).mul_(above[..., None])
            torch.sum(moved, 2, out=of_query[images])
            torch.sum(moved, 1, out=of_keys[images])
        outer = scale**2 * vector
        of_vector = scale * of_vector + activation.shift * slopes.sum()
        return of_keys.mul_(outer), of_query.mul_(outer), of_vector, None, None


def _units(
    keys: Tensor, query: Tensor, activation: Activation, falling: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """unit(scale (k_i + q)) for some images at a time: which, and (n, R, L, A), overwritten by the next."""
    images, rows, locations, width = *query.shape[:2], *keys.shape[1:]
    some = max(1, BLOCK.get(keys.device.type, BLOCK["cuda"]) // max(1, rows * locations * width))
    query = activation.scale * query if falling is None else torch.exp(-2 * query)
    one = query.new_ones(())
    buffer = query.new_empty(min(some, images), rows, locations, width)
    for start in range(0, images, some):
        block = slice(start, min(start + some, images))
        out = buffer[: block.stop - start]
        if falling is None:
            torch.add(query[block, :, None], keys[block, None], alpha=activation.scale, out=out)
            yield block, activation.unit(out)
        else:  # sigmoid(2 (k + q)) = 1 / (1 + exp(-2 k) exp(-2 q))
            torch.addcmul(one, query[block, :, None], falling[block, None], out=out)
            yield block, out.reciprocal_()


def plain(keys: Tensor | Keys | None) -> Tensor | None:
    """The keys alone."""
    return keys.plain if isinstance(keys, Keys) else keys


def dot(keys: Tensor, query: Tensor) -> Tensor:
    """e_i = k_i . q / sqrt(A), for keys (..., L, A) and queries (..., R, A) -> (..., R, L).

    Source: Vaswani et al. (2017), section 3.2.1.
    """
    return query @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5


class AdditiveScore(nn.Module):
    """The parameters W, U, b and v of e_i = v . tanh(W a_i + U h + b), as in ``additive``.

    ``keys`` is computed once per image, ``forward`` at every word.

    Args:
        features: D of the features a.
        hidden: H of the query h.
        width: A units.
        activation: "tanh" or "relu".
        heads: 1, since several heads need ``DotScore``.

    Raises:
        ValueError: an unknown activation, or several heads.
    """

    def __init__(
        self, features: int, hidden: int, width: int = 512, *, activation: str = "tanh", heads: int = 1
    ) -> None:
        super().__init__()
        _one_head(heads)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}, but must be one of {', '.join(ACTIVATIONS)}")
        self.activation = activation
        self.key = nn.Linear(features, width, bias=False)
        self.query = LoopLinear(hidden, width)
        self.vector = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))

    def keys(self, features: Tensor) -> Keys:
        """W a: (N, L, D) -> (N, L, A)."""
        return Keys.of(at_least_fp32(self.key(features)), self.activation)

    def forward(self, keys: Tensor | Keys, hidden: Tensor) -> Tensor:
        """(N, L, A) and (N, R, H) -> (N, R, L)."""
        return additive(keys, self.query(hidden), self.vector, self.activation)


class BilinearScore(nn.Module):
    """The parameter W of e_i = h . W a_i. W a_i is as wide as h, so ``width`` and ``activation`` are not read.

    Source: Luong et al. (2015), section 3.1, "general".
    """

    def __init__(
        self, features: int, hidden: int, width: int | None = None, *, activation: str | None = None, heads: int = 1
    ) -> None:
        super().__init__()
        _one_head(heads)
        self.key = nn.Linear(features, hidden, bias=False)

    def keys(self, features: Tensor) -> Tensor:
        """W a: (N, L, D) -> (N, L, H)."""
        return self.key(features)

    def forward(self, keys: Tensor, hidden: Tensor) -> Tensor:
        """(N, L, H) and (N, R, H) -> (N, R, L)."""
        return hidden @ keys.transpose(-1, -2)


class DotScore(nn.Module):
    """The parameters W, U and b of ``dot``. K heads share out the A units. Each head scores with its own units.

    ``activation`` is not read. The ``Attention`` around it needs the same ``heads``.
    """

    def __init__(
        self, features: int, hidden: int, width: int = 512, *, heads: int = 1, activation: str | None = None
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not divide into {heads} heads: choose a multiple")
        self.heads = heads
        self.key = nn.Linear(features, width, bias=False)
        self.query = LoopLinear(hidden, width)

    def keys(self, features: Tensor) -> Tensor:
        """W a by heads: (N, L, D) -> (N K, L, A/K)."""
        return by_head(self.key(features), self.heads)

    def forward(self, keys: Tensor, hidden: Tensor) -> Tensor:
        """(N K, L, A/K) and (N, R, H) -> (N K, R, L)."""
        return dot(keys, by_head(self.query(hidden), self.heads))


def _one_head(heads: int) -> None:
    if heads != 1:
        raise ValueError(f"heads is {heads}, but this score has one: use DotScore for several")


def by_head(values: Tensor, heads: int) -> Tensor:
    """(N, R, K x width) -> (N K, R, width): each head of an image stands where an image stood."""
    if heads == 1:
        return values
    return values.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)


SCORES = {"additive": AdditiveScore, "bilinear": BilinearScore, "dot": DotScore}


def add(name: str, kind: type[nn.Module]) -> None:
    """Add a score of your own under a name that configurations then know.

    ``kind`` is a module with ``keys`` and ``forward`` as those of ``AdditiveScore``. It is built with the keywords
    features, hidden, width, activation and heads, and takes those that it does not read as ``**_``. ValueError if it is
    no such module.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and hasattr(kind, "keys")):
        raise ValueError(f"score.add was given {kind!r} as {name!r}: give a class of torch.nn.Module with `keys`")
    SCORES[name] = kind
    catalogue.SCORES.append(name)
