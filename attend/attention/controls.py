"""Controls: weights that are not learned, to say what attention adds.

A *training control* stands in place of the scores from the first step on, in a model without attention parameters; an
*evaluation control* in one that was trained with its own. ``uniform``, ``centre``, ``random`` and ``oracle`` are both;
``shuffled`` is of evaluation alone, since it needs a model that has learned to look. No gradient passes through any.
The frozen first glimpse (``first``) may stand in either place too, but it is learned, at one word (``Captioner``).
"""

import torch
from torch import Tensor

from attend.geometry import centre_weights

CONTROLS = {
    "uniform": None,
    "centre": None,
    "random": "a random number for each word and location",
    "oracle": "the boxes of the words: use data that has them (scenes)",
    "shuffled": "the weights of another image (attend.evaluation.controls)",
}
"""By name, and what each is shown at every word (``seen`` in ``Attention.weights``)."""


def weights(look: str, shape: tuple[int, ...], mask: Tensor | None, shown: Tensor | None, like: Tensor) -> Tensor:
    """The weights (N, R, L) of a control by its name, of the device and precision of ``like``.

    Raises ValueError if the control needs an input that is not ``shown``.
    """
    if look == "uniform":
        return uniform(shape, mask, like=like)
    if shown is None:
        raise ValueError(f"{look} attention needs {CONTROLS[look]}")
    return random(shown, mask) if look == "random" else oracle(shown, mask)


def uniform(shape: tuple[int, ...], mask: Tensor | None = None, like: Tensor | None = None) -> Tensor:
    """alpha_i = 1/L, the mean feature; over the locations that ``mask`` keeps, where it is given.

    A training and an evaluation control.
    """
    weights = torch.ones(shape, device=None if like is None else like.device)
    if like is not None and like.dtype == torch.float64:
        weights = weights.double()
    if mask is not None:
        weights = weights * mask
    return weights / weights.sum(-1, keepdim=True)


def oracle(shares: Tensor, mask: Tensor | None = None) -> Tensor:
    """Weights in proportion to how much of each cell the word's boxes cover; uniform where a word has no box.

    Both over the locations that ``mask`` keeps, where it is given. A training and an evaluation control, of given
    captions alone: it sees the boxes of the word that is still to be said.
    """
    shares = shares if mask is None else shares * mask
    total = shares.sum(-1, keepdim=True)
    return torch.where(total > 0, shares / total.clamp(min=1e-12), uniform(shares.shape, mask, like=shares))


def centre(grid: tuple[int, int]) -> Tensor:
    """alpha (L,) of a Gaussian at the centre of a grid, the same as in the tables (``geometry.centre_weights``).

    A training and an evaluation control.
    """
    return torch.from_numpy(centre_weights(grid)).float()


def random(noise: Tensor, mask: Tensor | None = None) -> Tensor:
    """Weights from the flat Dirichlet, -log(1 - u_i) normalised, for ``noise`` u (..., L) in [0, 1).

    A training and an evaluation control.
    """
    return oracle(-torch.log1p(-noise), mask)
