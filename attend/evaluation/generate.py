"""Captions from a model for the images of a split."""

import math
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from attend.bars import bar
from attend.captioner.captioner import decoding
from attend.captioner.replay import capture_words
from attend.captioner.search import Hypotheses, ancestral, beam_search
from attend.chance import uniform
from attend.config import Decode
from attend.data.batches import Batches, in_order
from attend.model import Model
from attend.runs.evaluations import Hypothesis
from attend.runs.processes import check_memory, gather, share

IMAGES = 32
"""Images that are captioned at once."""


def hypotheses_of(
    model: Model,
    features: Tensor,
    rows: Sequence[int],
    decode: Decode,
    beam: int,
    draw: int = 0,
    shown: Tensor | None = None,
) -> list[Hypothesis]:
    """Captions for features (N, L, D), by beam search or, if ``beam`` is 0, sampled word by word from the model.

    Random numbers are keyed by seed, draw and row, and do not depend on the other images. ``shown`` (N, T, L) is the
    input of a control at each word.
    """
    search, attention, look = model.config.search, model.config.attention, model.captioner.attention.look
    hypotheses, noise = beam or 1, None

    def chance(stream: str, *shape: int) -> Tensor:
        keys = ((model.config.seed, draw, row) for row in rows)
        drawn = [torch.from_numpy(uniform((search.max_length, *shape), stream, *key)) for key in keys]
        return torch.stack(drawn).to(features.device)  # (N, T, ...)

    if decode == "sample":
        noise = chance("glimpses of a caption", hypotheses, *attention.looks).transpose(1, 2)  # (N, K, T, ...)
        if look == "first":  # the first word has one hypothesis, and all others come from it
            noise = noise[:, :1].expand_as(noise)
    if shown is not None:
        shown = shown[:, None].expand(-1, hypotheses, -1, -1)
    if look == "random":
        shown = chance("random weights of a caption", hypotheses, features.shape[1]).transpose(1, 2)
    policy = decoding(decode, attention.top, noise)
    rest = {"max_length": search.max_length, "length_power": search.length_power, "shown": shown}
    if beam == 0:
        found = ancestral(model.captioner, features, policy, chance("words of a caption"), **rest)
    else:
        found = beam_search(model.captioner, features, policy, beam=beam, **rest)
    return [_hypothesis(model, found, n, row) for n, row in enumerate(rows)]


def _hypothesis(model: Model, found: Hypotheses, n: int, row: int) -> Hypothesis:
    """The caption of image n, on the host."""
    words = model.vocabulary.decode(found.words[n, : int(found.lengths[n])].tolist())
    real = slice(0, len(words))  # the end mark is no word
    glimpses = found.glimpses[n, real].cpu().numpy()
    return Hypothesis(
        row=row,
        words=words,
        score=float(found.score[n]),
        weights=found.weights[n, real].float().cpu().numpy(),
        glimpses=glimpses if (glimpses >= 0).all() and len(glimpses) else None,
        gates=None if model.config.decoder.gate == "none" else found.gates[n, real].float().cpu().numpy(),
    )


def check_search(model: Model, device: torch.device, beam: int, images: int, locations: int) -> None:
    """ValueError if a search cannot fit into memory.

    Counted are the weights (N, K, T, L) of K hypotheses and the logits (N, K, V) of a word, before and after softmax.
    """
    longest, width = model.config.search.max_length, beam or 1
    sizes = longest * locations + 2 * len(model.vocabulary)
    what = f"a search with search.beam {beam} and search.max_length {longest} over {images} images at once"
    check_memory(4 * images * width * sizes, device, what, "give a narrower beam or shorter captions")


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
    """One caption per row, in their order. ``shown`` has the input of a control for each row, (T, L).

    Several processes share the minibatches.
    """
    locations = math.prod(batches.store.provenance["grid"])
    check_search(model, accelerator.device, beam, min(IMAGES, len(rows)), locations)
    model.captioner.eval()
    if model.config.train.graphs:
        capture_words(model.captioner, accelerator.device)
    reader = Batches(batches.dataset, batches.store, captions=False)
    pieces, captions = in_order(rows, IMAGES)[share(accelerator)], []
    with bar(sum(map(len, pieces)), f"captions ({decode}, beam {beam})", "image") as progress:
        for batch in reader.loader(pieces):
            with model.autocast():
                features = model.features(batch.inputs.to(accelerator.device))
                some = batch.rows.tolist()
                seen = None if shown is None else torch.stack([shown[row] for row in some]).to(features.device)
                captions.append(hypotheses_of(model, features, some, decode, beam, draw, seen))
            progress.update(len(batch.rows))
    return [one for piece in gather(captions, accelerator) for one in piece]
