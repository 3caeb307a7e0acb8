"""The scores of an evaluation and of bounds, as scores.json holds them."""

from pathlib import Path
from typing import NotRequired, TypedDict

from attend.documents import Count, Finite
from attend.runs.files import read_json

REMEDY = "restore it, or remove it and evaluate again"
Part = dict[str, Finite | None]
"""Name -> score, as a fraction, in nats or as a share; null if there is none."""


class Draws(TypedDict):
    """Scores that depend on chance, over ``n`` draws: their mean, and beside it their standard deviation."""

    n: Count
    mean: Part


class Scores(TypedDict):
    """The scores of one evaluation."""

    split: str
    decode: str
    beam: Count
    images: Count
    captions: Part
    given: Part
    health: NotRequired[Part | None]
    grounding: NotRequired[Part | None]
    diversity: NotRequired[Part | None]
    hallucination: NotRequired[Part | None]
    draws: NotRequired[Draws]
    look: NotRequired[str]
    missing: NotRequired[dict[str, str]]
    notes: NotRequired[dict[str, str]]
    collapsed: NotRequired[bool]
    unmoved: NotRequired[bool]
    data_fingerprint: NotRequired[str]
    parameters: NotRequired[Count | None]
    epochs: NotRequired[Count | None]
    train_seconds: NotRequired[Finite | None]
    epochs_before: NotRequired[Finite]
    seconds_before: NotRequired[Finite]


class Bound(TypedDict):
    """One bound in nats per word; the standard errors and the decrease from the bound before are not always known."""

    nats: Finite
    error: NotRequired[Finite | None]
    less: NotRequired[Finite | None]
    less_error: NotRequired[Finite | None]


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
