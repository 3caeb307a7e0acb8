"""Score: how well each location fits what the decoder asks for, e = f(a, h)."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


def additive(keys: Tensor, query: Tensor, vector: Tensor, activation: str = "tanh") -> Tensor:
    """e_i = v . activation(k_i + q), for keys k = W a (N, L, A), queries q = U h + b (N, R, A), v (A,) -> (N, R, L).

    The R rows of an image (captions, samples, beams) share its keys by view. In fp32 or better. On CUDA it is one
    kernel (``attend.kernels.additive``).

    Source: Bahdanau et al. (2015); Xu et al. (2015), equation 4.
    """
    keys = at_least_fp32(keys)
    query, vector = query.to(keys.dtype), vector.to(keys.dtype)
    with _full_precision(keys.device.type):
        if kernels.run_on(keys):
            from attend.kernels.additive import additive_scores  # it needs Triton

            return additive_scores(keys, query, vector, activation == "tanh")
        if query.shape[:2].numel() * keys.shape[1:].numel() <= FEW:
            return ACTIVATIONS[activation].plain(keys[:, None] + query[:, :, None]) @ vector
        return _Additive.apply(keys, query, vector, ACTIVATIONS[activation])


def _full_precision(device: str) -> contextlib.AbstractContextManager:
    """Autocast switched off, if it is on. Tensors without data (``meta``) have none."""
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


class _Additive(torch.autograd.Function):
    """The N R L A units are never kept: they are computed a block at a time, and once more for the gradient, which is
    less work than to write and to read them."""

    @staticmethod
    def forward(ctx, keys: Tensor, query: Tensor, vector: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(keys, query, vector)
        ctx.activation = activation
        scores = query.new_empty(*query.shape[:2], keys.shape[1])
        for images, units in _units(keys, query, activation):
            torch.matmul(units, activation.scale * vector, out=scores[images])
        return scores.add_(activation.shift * vector.sum())

    @staticmethod
    @once_differentiable
    def backward(ctx, slopes: Tensor):
        keys, query, vector = ctx.saved_tensors
        activation, scale = ctx.activation, ctx.activation.scale
        of_keys, of_query, of_vector = torch.empty_like(keys), torch.empty_like(query), torch.zeros_like(vector)
        for images, units in _units(keys, query, activation):
            above = slopes[images, :, None]  # (n, R, 1, L)
            of_vector += torch.matmul(above, units).sum((0, 1, 2))
            units = activation.slope(units)
            torch.matmul(above, units, out=of_query[images, :, None])
            torch.sum(units.mul_(above.transpose(2, 3)), 1, out=of_keys[images])
        outer = scale**2 * vector
        return of_keys.mul_(outer), of_query.mul_(outer), scale * of_vector + activation.shift * slopes.sum(), None


def _units(keys: Tensor, query: Tensor, activation: Activation) -> Iterator[tuple[slice, Tensor]]:
    """unit(scale (k_i + q)) for some images at a time: which, and (n, R, L, A), overwritten by the next."""
    images, rows, locations, width = *query.shape[:2], *keys.shape[1:]
    some = max(1, BLOCK.get(keys.device.type, BLOCK["cuda"]) // max(1, rows * locations * width))
    query = activation.scale * query
    buffer = query.new_empty(min(some, images), rows, locations, width)
    for start in range(0, images, some):
        block = slice(start, min(start + some, images))
        out = buffer[: block.stop - start]
        torch.add(query[block, :, None], keys[block, None], alpha=activation.scale, out=out)
        yield block, activation.unit(out)


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

    def keys(self, features: Tensor) -> Tensor:
        """W a: (N, L, D) -> (N, L, A)."""
        return at_least_fp32(self.key(features))

    def forward(self, keys: Tensor, hidden: Tensor) -> Tensor:
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
