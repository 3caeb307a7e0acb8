"""A checkpoint: one safetensors file with the weights, and the state as JSON in its header."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from attend.runs.files import write_bytes

KIND = "attend checkpoint 1"
IDENTITY = {"vocabulary", "encoder"}
"""What a checkpoint must agree on with the model it is read into."""


def write_checkpoint(
    path: Path, tensors: dict[str, Tensor], state: dict[str, Any], check: Callable[[], object] | None = None
) -> None:
    """One safetensors file with the state as JSON in its header, whole or not at all; not where ``check`` raises, which
    is asked last: a process may be frozen while it writes, and the run be another's when it goes on."""
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, metadata={"kind": KIND, "state": json.dumps(state)}), check)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state; ValueError where the file is missing or no checkpoint of ours."""
    with _opened(path) as (file, state):
        return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118


def read_state(path: Path) -> dict[str, Any]:
    """The state alone, without the tensors; ValueError as for both."""
    with _opened(path) as (_, state):
        return state


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[safe_open, dict[str, Any]]]:
    if not path.exists():
        raise ValueError(f"{path} does not exist: train the run first (`attend train`), or name another one")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("kind") != KIND:
                raise ValueError(f"{path} is a safetensors file but no checkpoint of attend: name a run's own")
            state = json.loads(about.get("state", "null"))
            if not isinstance(state, dict) or not state.keys() >= IDENTITY:
                raise ValueError(f"{path} does not say what it was trained with: restore it or train again")
            yield file, state
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint ({error}): restore it or train again") from None
