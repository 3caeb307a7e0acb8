"""Captions from a model for the images of a split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from attend.attention import select as selections
from attend.attention.attention import Select, rows_of_heads
from attend.captioner.search import Choose, Found, ancestral, beam_search
from attend.config import Attention, Decode
from attend.data.batches import Batches, in_order
from attend.model import Model
from attend.runs.evaluations import Hypothesis
from attend.runs.processes import gather, share

IMAGES = 32
"""Images that are searched or traced at once."""


def noise(shape: tuple[int, ...], *key: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on the key alone; a shape with more rows begins with the same."""
    return torch.from_numpy(np.random.default_rng(key).random(shape, dtype=np.float32))


def chooser(
    decode: Decode, noise: Tensor | None = None, heads: int = 1, top: int = Attention.top, first: bool = False
) -> Choose:
    """The selection of each step of search.

    ``sample`` uses noise (N, T, K) of N images, T steps and K hypotheses, and of the heads where there are several;
    with ``first`` all use that of the first step, which has one hypothesis.
    """
    if decode == "marginal":
        return lambda step, rows: None
    if decode == "top-k":
        return lambda step, rows: partial(selections.top_k, top=top)
    if decode != "sample":
        return lambda step, rows: selections.SELECTIONS[decode]

    def sampled(step: int, rows: int) -> Select:
        chance = noise[:, :1, 0].expand(-1, rows, *noise.shape[3:]) if first else noise[:, step, :rows]
        return partial(selections.sample, noise=rows_of_heads(chance, heads))

    return sampled


def say(
    model: Model,
    features: Tensor,
    rows: Sequence[int],
    decode: Decode,
    beam: int,
    draw: int = 0,
    shown: Tensor | None = None,
) -> list[Hypothesis]:
    """Captions for features (N, L, D), by beam search or, where ``beam`` is 0, word by word from the model.

    Chance is keyed by seed, draw and row: not by the images beside it. ``shown`` (N, T, L) is what a control is shown
    at each word.
    """
    memory = model.captioner.attention.memory(features)
    search, attention, look = model.config.search, model.config.attention, model.captioner.attention.look

    def chance(*shape: int, key: tuple[int, ...] = ()) -> Tensor:
        drawn = [noise((search.max_length, *shape), model.config.seed, draw, row, *key) for row in rows]
        return torch.stack(drawn).to(features.device)

    looks = chance(beam or 1, *attention.looks) if decode == "sample" else None
    choose = chooser(decode, looks, attention.heads, attention.top, look == "first")
    seen = None if shown is None else shown[:, :, None].expand(-1, -1, beam or 1, -1)
    if look == "random":
        seen = chance(beam or 1, features.shape[1], key=(2,))
    rest = (search.max_length, search.length_power, seen)
    if beam == 0:
        found = ancestral(model.captioner, memory, choose, chance(key=(1,)), *rest)
    else:
        found = beam_search(model.captioner, memory, choose, beam, *rest)
    return [_said(model, found, n, row) for n, row in enumerate(rows)]


def _said(model: Model, found: Found, n: int, row: int) -> Hypothesis:
    words = model.vocabulary.decode(found.words[n, : int(found.lengths[n])].tolist())
    spoken = slice(0, len(words))  # the end mark is no word
    glimpses = found.glimpses[n, spoken].cpu().numpy()
    return Hypothesis(
        row=row,
        words=words,
        score=float(found.score[n]),
        weights=found.weights[n, spoken].float().cpu().numpy(),
        glimpses=glimpses if (glimpses >= 0).all() and len(glimpses) else None,
        gates=None if model.config.decoder.gate == "none" else found.gates[n, spoken].float().cpu().numpy(),
    )


@torch.no_grad()
def generate(
    model: Model,
    batches: Batches,
    rows: Sequence[int],
    accelerator: Accelerator,
    decode: Decode,
    beam: int,
    draw: int = 0,
    shown: dict[int, Tensor] | None = None,
) -> list[Hypothesis]:
    """One caption for each row, in their order; ``shown`` has for each row what ``say`` is to show (T, L).

    Minibatches are dealt out to processes.
    """
    model.captioner.eval()
    reader = Batches(batches.dataset, batches.store, captions=False)
    pieces, said = in_order(rows, IMAGES)[share(accelerator)], []
    with tqdm(
        total=sum(map(len, pieces)), desc=f"captions ({decode}, beam {beam})", unit="image", disable=None, leave=False
    ) as bar:
        for batch in reader.loader(pieces):
            with model.autocast():
                features = model.features(batch.inputs.to(accelerator.device))
                some = batch.rows.tolist()
                seen = None if shown is None else torch.stack([shown[row] for row in some]).to(features.device)
                said.append(say(model, features, some, decode, beam, draw, seen))
            bar.update(len(batch.rows))
    return [one for piece in gather(said, accelerator) for one in piece]
