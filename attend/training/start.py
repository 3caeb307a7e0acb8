"""Begin a run with the weights of another."""

from typing import Any

from attend.bars import say
from attend.config.text import difference
from attend.model import Model
from attend.runs.checkpoint import read_checkpoint
from attend.runs.folder import RunFolder

TABLES = ("captioner.decoder.embedding.", "captioner.decoder.logits.")
"""Weights with a row per word."""


def begin(model: Model, source: RunFolder) -> dict[str, Any]:
    """Give a model the best weights of a finished run, as far as names and shapes agree.

    Tables of words are taken only from a run with the same vocabulary, since their rows are words. Returns what
    environment.json keeps: the run, one sentence, the names that were taken and not taken, and the run's own budget.

    Raises:
        ValueError: no run, a run that is not finished, or no matrix that fits.
    """
    config = source.ended()
    tensors, state = read_checkpoint(source.best)
    same_words = state["vocabulary"] == model.vocabulary.fingerprint()
    own = model.tensors()
    fits = {name for name, ours in own.items() if name in tensors and tensors[name].shape == ours.shape}
    if not same_words:
        fits = {name for name in fits if not name.startswith(TABLES)}
    if not any(own[name].ndim > 1 for name in fits):
        raise ValueError(
            f"no matrix of {source.path} (decoder {config.decoder.cell}) has the name and shape of one of this model "
            f"(decoder {model.config.decoder.cell}): begin from a run with the same decoder and sizes"
        )
    for name in fits:
        own[name].copy_(tensors[name])
    left = sorted(own.keys() - fits)
    sentence = f"begins with {len(fits)} of {len(own)} weights of {source.path}"
    sentence += f"; not taken: {', '.join(left)}" if left else ""
    sentence += "" if same_words else "; its vocabulary is another"
    sentence += "" if model.identity()["encoder"] == state["encoder"] else "; its encoder is another"
    differs = difference(model.config, config).split(", ")
    changed = [one for one in differs if one.startswith(("decoder.", "encoder.normalise"))]
    sentence += f"; it differs: {', '.join(changed)}" if changed else ""
    say(sentence)
    scores = source.scores()
    return {
        "run": str(source.path),
        "sentence": sentence,
        "taken": sorted(fits),
        "not_taken": left,
        "epochs_before": (scores.get("epochs") or 0) + scores.get("epochs_before", 0),
        "seconds_before": (scores.get("train_seconds") or 0.0) + scores.get("seconds_before", 0.0),
    }


BUDGET = ("epochs_before", "seconds_before")
"""The budget of the runs that a run began from, as scores.json has it."""
