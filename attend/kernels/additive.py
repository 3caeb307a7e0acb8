"""The additive score and its gradient in one kernel each, which never store the (N, R, L, A) units.

    e_nrl = sum_a v_a g(k_nla + q_nra),    g = tanh or relu

A program of the forward kernel has a row (n, r) and a block of locations, and sums over blocks of units. Backward, one
kernel has a row and a block of units and sums over locations, for q and for its share of v; another has a location and
sums over the rows of its image, for k. Every sum is taken in one place in a fixed order, so results are the same each
time. Units are computed in each kernel again.

The plain form is ``attention.score.additive``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from attend.kernels.tanh import tanh

UNITS, LOCATIONS = 64, 16
"""Units and locations of a block."""


@triton.jit
def _unit(x, TANH: tl.constexpr):
    """g(x)."""
    if TANH:
        return tanh(x)
    return tl.maximum(x, 0)


@triton.jit
def _slope(unit, TANH: tl.constexpr):
    """g' as a function of g."""
    if TANH:
        return 1 - unit * unit
    return tl.where(unit > 0, 1, 0).to(unit.dtype)


@triton.jit
def _forward(
    keys, query, vector, scores, rows, locations, width,
    TANH: tl.constexpr, UNITS: tl.constexpr, LOCATIONS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * LOCATIONS + tl.arange(0, LOCATIONS)
    exists = place < locations
    key = keys + (row // rows * locations + place)[:, None] * width
    total = tl.zeros((LOCATIONS,), dtype=scores.dtype.element_ty)
    for start in range(0, width, UNITS):
        a = start + tl.arange(0, UNITS)
        known = a < width
        q = tl.load(query + row * width + a, mask=known, other=0)
        v = tl.load(vector + a, mask=known, other=0)
        k = tl.load(key + a[None, :], mask=exists[:, None] & known[None, :], other=0)
        total += tl.sum(_unit(k + q[None, :], TANH) * v[None, :], axis=1)
    tl.store(scores + row * locations + place, total, mask=exists)


@triton.jit
def _of_query(
    keys, query, vector, slopes, of_query, of_vector, rows, locations, width,
    TANH: tl.constexpr, UNITS: tl.constexpr, LOCATIONS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    a = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    known = a < width
    q = tl.load(query + row * width + a, mask=known, other=0)
    v = tl.load(vector + a, mask=known, other=0)
    by_query = tl.zeros((UNITS,), dtype=of_query.dtype.element_ty)
    by_vector = tl.zeros((UNITS,), dtype=of_query.dtype.element_ty)
    for start in range(0, locations, LOCATIONS):
        place = start + tl.arange(0, LOCATIONS)
        exists = place < locations
        key = keys + (row // rows * locations + place)[:, None] * width
        k = tl.load(key + a[None, :], mask=exists[:, None] & known[None, :], other=0)
        above = tl.load(slopes + row * locations + place, mask=exists, other=0)
        unit = _unit(k + q[None, :], TANH)
        by_query += tl.sum(above[:, None] * _slope(unit, TANH), axis=0)
        by_vector += tl.sum(above[:, None] * unit, axis=0)
    tl.store(of_query + row * width + a, by_query * v, mask=known)
    tl.store(of_vector + row * width + a, by_vector, mask=known)


@triton.jit
def _of_keys(
    keys, query, vector, slopes, of_keys, rows, locations, width,
    TANH: tl.constexpr, UNITS: tl.constexpr, LOCATIONS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * LOCATIONS + tl.arange(0, LOCATIONS)
    a = tl.program_id(2) * UNITS + tl.arange(0, UNITS)
    exists, known = place < locations, a < width
    both = exists[:, None] & known[None, :]
    at = (image * locations + place)[:, None] * width + a[None, :]
    k = tl.load(keys + at, mask=both, other=0)
    total = tl.zeros((LOCATIONS, UNITS), dtype=of_keys.dtype.element_ty)
    for r in range(0, rows):
        row = image * rows + r
        q = tl.load(query + row * width + a, mask=known, other=0)
        above = tl.load(slopes + row * locations + place, mask=exists, other=0)
        total += above[:, None] * _slope(_unit(k + q[None, :], TANH), TANH)
    v = tl.load(vector + a, mask=known, other=0)
    tl.store(of_keys + at, total * v[None, :], mask=both)


@torch.library.custom_op("attend::additive_scores", mutates_args=())
def additive_scores(keys: Tensor, query: Tensor, vector: Tensor, tanh: bool) -> Tensor:
    """e (N, R, L) for keys (N, L, A), queries (N, R, A) and v (A,), all of one type, fp32 or fp64."""
    keys, query, vector = keys.contiguous(), query.contiguous(), vector.contiguous()
    (images, rows, width), locations = query.shape, keys.shape[1]
    scores = query.new_empty(images, rows, locations)
    if scores.numel():
        grid = (images * rows, triton.cdiv(locations, LOCATIONS))
        _forward[grid](keys, query, vector, scores, rows, locations, width, tanh, UNITS, LOCATIONS)
    return scores


@torch.library.custom_op("attend::additive_gradient", mutates_args=())
def additive_gradient(
    keys: Tensor, query: Tensor, vector: Tensor, slopes: Tensor, tanh: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of keys and query, and of v a share for each row (N R, A), under slopes (N, R, L)."""
    keys, query, vector, slopes = (part.contiguous() for part in (keys, query, vector, slopes))
    (images, rows, width), locations = query.shape, keys.shape[1]
    of_keys, of_query = torch.empty_like(keys), torch.empty_like(query)
    of_vector = query.new_empty(images * rows, width)
    sizes = (rows, locations, width, tanh, UNITS, LOCATIONS)
    blocks = triton.cdiv(width, UNITS)
    if query.numel():
        given = (keys, query, vector, slopes)
        _of_query[(images * rows, blocks)](*given, of_query, of_vector, *sizes)
        _of_keys[(images, triton.cdiv(locations, LOCATIONS), blocks)](*given, of_keys, *sizes)
    else:
        of_keys.zero_()
    return of_keys, of_query, of_vector


@additive_scores.register_fake
def _(keys: Tensor, query: Tensor, vector: Tensor, tanh: bool) -> Tensor:
    return query.new_empty(*query.shape[:2], keys.shape[1])


@additive_gradient.register_fake
def _(keys: Tensor, query: Tensor, vector: Tensor, slopes: Tensor, tanh: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(keys), torch.empty_like(query), query.new_empty(query.shape[:2].numel(), query.shape[2])


def _keep(ctx, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.tanh = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, slopes: Tensor) -> tuple:
    of_keys, of_query, of_vector = additive_gradient(*ctx.saved_tensors, slopes, ctx.tanh)
    return of_keys, of_query, of_vector.sum(0), None


additive_scores.register_autograd(_backward, setup_context=_keep)
