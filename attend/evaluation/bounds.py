"""How likely given captions are under hard attention: the bound that it learns from, tighter ones, and the sum itself.

J = E_s[sum_t l_t] >= E[-log (1/K) sum_k prod_t p(y_t | y_<t, s^k)] >= -log p(y), with l_t = -log p(y_t | y_<t, s_<=t)
and paths s^k drawn as the model draws them; the middle one is J at K = 1 and falls as K grows. The product is over
the whole path: where the state reads the glimpse, a mean of each word's probabilities bounds nothing.

Source: Xu et al. (2015), section 4.1, for J; Burda et al. (2016) for its K paths.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from attend.attention.select import Policy, Sample, draw
from attend.bars import through
from attend.captioner.captioner import Captioner, decoding
from attend.captioner.unrolled import LOGITS, EveryLocation, Readout
from attend.chance import uniform
from attend.config import Config
from attend.data.batches import Batch, Batches, in_order
from attend.estimators.paths import by_path
from attend.estimators.take import Given
from attend.evaluation.generate import IMAGES
from attend.model import Model
from attend.runs.files import write_json
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease

SIZES = (1, 5, 50)
"""K of the bounds that are given, as far as there are draws, beside that of all draws."""
PATHS = 5
"""Paths of each caption that are taken at once, or fewer where their logits would not fit."""
NO_SUM = "attention.feed is 'glimpse', so later words depend on the glimpse and p(y) is a sum over all paths"
SOFT = "soft attention draws no glimpses: its negative log-likelihood is exact, and is every one of these"


def weighted(costs: Tensor, several: int) -> Tensor:
    """-log (1/K) sum_k exp(-c_k) in nats, for K = ``several`` of a caption's path costs (..., draws): (...).

    The mean over all disjoint groups of K draws, in their order, so that groups of 50 are made of groups of 5.
    """
    groups = costs.shape[-1] // several
    grouped = costs[..., : groups * several].double().unflatten(-1, (groups, several))
    return (math.log(several) - torch.logsumexp(-grouped, -1)).mean(-1)


def per_word(nats: np.ndarray, words: np.ndarray, images: np.ndarray) -> tuple[float, float | None]:
    """sum_c nats_c / sum_c words_c over captions (M,), and its standard error over their images (None for one image).

    The captions of an image are no independent witnesses: with x_n and w_n the sums of an image, the variance is
    n / (n - 1) sum_n (x_n - mean w_n)^2 / (sum_n w_n)^2, that of a ratio.
    """
    _, which = np.unique(images, return_inverse=True)
    x, w = (np.bincount(which, weights=values) for values in (nats, words))
    mean, n = x.sum() / w.sum(), len(x)
    error = math.sqrt(n / (n - 1) * ((x - mean * w) ** 2).sum()) / w.sum() if n > 1 else None
    return float(mean), error


def chance(batch: Batch, settings: Config, draws: range) -> Tensor:
    """The noise of some draws of each caption, (N, C, draws, T), keyed by seed, row, caption and draw."""
    pairs = zip(batch.rows.tolist(), batch.order.tolist(), strict=True)
    keys = [(settings.seed, row, place + 1, d + 2) for row, places in pairs for place in places for d in draws]
    shape = (batch.words.shape[2], *settings.attention.looks)
    glimpses = [torch.from_numpy(uniform(shape, "glimpses of a given caption", *key)) for key in keys]
    return torch.stack(glimpses).unflatten(0, (*batch.words.shape[:2], len(draws)))


def one_path(settings: Config) -> Policy | None:
    """The policy of soft attention, which has one path; None for hard attention."""
    return None if settings.attention.hard else decoding(settings.decode, settings.attention.top)


def caption_bounds(
    captioner: Captioner, settings: Config, features: Tensor, batch: Batch, draws: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """For each caption, in float64 nats: J (N, C), -log p(y) (N, C) or None, and the costs of its paths (N, C, draws).

    J and -log p(y) are exact if the state is fed the expected context: then all three are read from the costs of every
    location. Otherwise J is the mean of the draws, and the sum over L^T paths is out of reach. Soft attention has one
    path, whose cost is all three.
    """
    given = Given(features, batch.words, batch.lengths)
    soft = one_path(settings)
    if soft is not None:
        exact = _costs(given.unroll(captioner, soft, 1)).sum((2, 3))
        return exact, exact, exact[..., None].expand(-1, -1, draws)
    drawn = (chance(batch, settings, some).to(features.device) for some in _some(captioner, batch, draws))
    if not captioner.apart:
        noises = ((noise.shape[2], noise.flatten(1, 2)) for noise in drawn)
        paths = torch.cat([_costs(given.unroll(captioner, Sample(noise), k)).sum(-1) for k, noise in noises], -1)
        return paths.mean(-1), None, paths
    u = given.unroll(captioner, EveryLocation(), 1)
    weights, costs = u.weights, _costs(u).transpose(2, 3)  # (N, C, T, L)
    chosen = (draw(weights[..., None, :], noise.transpose(2, 3)) for noise in drawn)
    paths = torch.cat([costs.gather(-1, some).sum(2) for some in chosen], -1)
    bound = (weights.double() * costs).sum((2, 3))
    marginal = -torch.logsumexp(weights.double().log() - costs, -1)  # -log sum_i alpha_i p(y | i)
    return bound, torch.where(u.maps.real, marginal, 0).sum(2), paths


def _costs(u: Readout) -> Tensor:
    """l_t of each sample, (N, C, K, T) in float64, 0 at padding."""
    return by_path(u, u.costs).double()


def _some(captioner: Captioner, batch: Batch, draws: int) -> Iterator[range]:
    """The draws, a few at a time."""
    logits = int(batch.lengths.sum()) * captioner.decoder.logits.out_features
    most = max(1, min(PATHS, LOGITS // logits))
    return (range(first, min(first + most, draws)) for first in range(0, draws, most))


@torch.no_grad()
def evaluate_bounds(
    model: Model, batches: Batches, run: RunFolder, lease: Lease, accelerator: Accelerator, *, split: str, draws: int
) -> dict[str, Any]:
    """Bounds of one split from ``draws`` paths of each given caption; writes evaluations/<split>-bound<draws>/.

    scores.json holds for ``bound`` (J, ``exact`` or the draws' mean), ``weighted<K>`` (of 1: J from the draws) and
    ``marginal`` nats per token, the end mark counted, with their standard error over images, and perplexity.
    """
    start, rows = time.time(), batches.dataset.rows(split)
    model.captioner.eval()
    found: dict[str, list[np.ndarray]] = {}
    pieces = in_order(rows, IMAGES)
    for batch in through(batches.loader(pieces), len(pieces), "bound", "minibatch"):
        batch = batch.to(accelerator.device)
        with model.autocast():
            features = model.features(batch.inputs)
            bound, marginal, costs = caption_bounds(model.captioner, model.config, features, batch, draws)
        values = {"words": batch.lengths, "images": batch.rows[:, None].expand_as(batch.lengths), "bound": bound}
        values |= {f"weighted{size}": weighted(costs, size) for size in sorted({*SIZES, draws}) if size <= draws}
        values |= {} if marginal is None else {"marginal": marginal}
        for name, value in values.items():
            found.setdefault(name, []).append(value.cpu()[batch.lengths > 0].numpy())
    nats = {name: np.concatenate(parts) for name, parts in found.items()}
    words, images = nats.pop("words"), nats.pop("images")
    scores = {
        "split": split,
        "draws": draws,
        "images": len(rows),
        "captions": len(words),
        "words": int(words.sum()),
        "exact": "marginal" in nats,
        "bounds": compared(nats, words, images),
        "missing": {} if "marginal" in nats else {"marginal": NO_SUM},
        "notes": {} if one_path(model.config) is None else {"bound": SOFT},
        "data_fingerprint": batches.dataset.about["fingerprint"],
        "seconds": round(time.time() - start, 1),
    }
    lease.check()
    write_json(run.bound(split, draws) / "scores.json", scores)
    return scores


def compared(nats: dict[str, np.ndarray], words: np.ndarray, images: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Of each bound its mean a word, and how much less that is than the one before, both with standard errors."""
    rows: dict[str, dict[str, float | None]] = {}
    before = None
    for name, costs in nats.items():
        mean, error = per_word(costs, words, images)
        rows[name] = {"nats": mean, "error": error, "perplexity": math.exp(mean)}
        if before is not None:
            rows[name]["less"], rows[name]["less_error"] = per_word(before - costs, words, images)
        before = costs
    return rows
