"""The scores of an evaluation and of bounds, as scores.json holds them."""

from pathlib import Path
from typing import NotRequired, TypedDict

from attend.runs.files import read_json

REMEDY = "restore it, or remove it and evaluate again"
Part = dict[str, float | None]
"""Name -> score, as a fraction, in nats or as a share; null if there is none."""


class Draws(TypedDict):
    """Scores that depend on chance, over ``n`` draws: their mean, and beside it their standard deviation."""

    n: int
    mean: Part


class Scores(TypedDict):
    """The scores of one evaluation."""

    split: str
    decode: str
    beam: int
    images: int
    captions: Part
    given: Part
    health: NotRequired[Part | None]
    grounding: NotRequired[Part | None]
    diversity: NotRequired[Part | None]
    hallucination: NotRequired[Part | None]
    draws: NotRequired[Draws]
    look: NotRequired[str]
    missing: NotRequired[dict[str, str]]
    collapsed: NotRequired[bool]
    unmoved: NotRequired[bool]
    data_fingerprint: NotRequired[str]
    parameters: NotRequired[int | None]
    epochs: NotRequired[int | None]
    train_seconds: NotRequired[float | None]
    epochs_before: NotRequired[int]
    seconds_before: NotRequired[float]


class Bound(TypedDict):
    """One bound in nats per word; the standard errors and the decrease from the bound before are not always known."""

    nats: float
    error: NotRequired[float | None]
    less: NotRequired[float | None]
    less_error: NotRequired[float | None]


class Bounds(TypedDict):
    """Bounds of the likelihood of given captions, by name."""

    bounds: dict[str, Bound]


def read_scores(path: Path) -> Scores:
    """The scores of an evaluation; ValueError if the file holds something else."""
    return read_json(path, Scores, "holds no scores of an evaluation", REMEDY)


def read_bounds(path: Path) -> Bounds:
    """The scores of bounds; ValueError if the file holds something else."""
    found = read_json(path, Bounds, "holds no bounds", REMEDY)
    if not found["bounds"]:
        raise ValueError(f"{path} holds no bounds: {REMEDY} (bounds is empty)")
    return found
