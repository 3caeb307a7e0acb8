"""The scores of an evaluation and of bounds, as scores.json holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attend.runs.files import number, read_json

SCORES = {"split": str, "decode": str, "beam": int, "images": int, "captions": dict, "given": dict}
"""What every scores.json holds; beside these health and grounding, which may be null, draws, look, missing metrics."""


def read_scores(path: Path) -> dict[str, Any]:
    """The scores of an evaluation; ValueError where the file holds something else."""
    scores = read_json(path)
    try:
        draws = scores.get("draws", {"n": 1, "mean": {}})
        parts = [scores["captions"], scores["given"], *(scores.get(one) or {} for one in ("health", "grounding"))]
        sound = all(value is None or number(value) for part in (*parts, draws["mean"]) for value in part.values())
        sound &= all(type(scores[name]) is kind for name, kind in SCORES.items()) and type(draws["n"]) is int
        sound &= isinstance(scores.get("missing", {}), dict) and isinstance(scores.get("look", ""), str)
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} holds no scores of an evaluation: restore it, or remove it and evaluate again")
    return scores


def read_bounds(path: Path) -> dict[str, Any]:
    """The scores of bounds; ValueError where the file holds something else."""
    scores = read_json(path)
    try:
        sound = all(number(bound["nats"]) for bound in (scores["bounds"]["bound"], *scores["bounds"].values()))
    except (AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} holds no bounds: restore it, or remove it and evaluate again")
    return scores
