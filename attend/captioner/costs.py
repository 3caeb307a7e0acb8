"""What words cost, -log p(y), from their logits."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PIECE = 2**22
"""Logits that are in fp32 at once: 16 MiB."""


def word_costs(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)_y in nats and in fp32 or better: logits (M, V), targets (M,) -> (M,).

    Logits in bf16 are kept as they are. Their softmax is computed in fp32, some words at a time, and again for the
    gradient.
    """
    if logits.dtype in (torch.float32, torch.float64):
        return F.cross_entropy(logits, targets, reduction="none")
    return _Costs.apply(logits, targets)


class _Costs(torch.autograd.Function):
    """log Z - x_y, with the gradient softmax(x) - [i = y]."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        pieces = logits.split(_words(logits))
        log_z = torch.cat([torch.logsumexp(piece.float(), -1) for piece in pieces])
        ctx.save_for_backward(logits, targets, log_z)
        return log_z - logits.gather(1, targets[:, None]).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slopes: Tensor) -> tuple[Tensor, None]:
        logits, targets, log_z = ctx.saved_tensors
        found, some = torch.empty_like(logits), _words(logits)
        parts = (part.split(some) for part in (logits, targets[:, None], log_z[:, None], slopes[:, None], found))
        for piece, target, log_sum, slope, out in zip(*parts, strict=True):
            p = piece.float().sub_(log_sum).exp_()
            p.scatter_add_(1, target, -torch.ones_like(log_sum))
            out.copy_(p.mul_(slope))
        return found, None


def _words(logits: Tensor) -> int:
    return max(1, PIECE // logits.shape[1])
