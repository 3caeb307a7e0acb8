"""A checkpoint: one safetensors file with the weights, and the state as JSON in its header.

The state is read without torch.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from safetensors import SafetensorError, safe_open

from attend.documents import Amount, Count, Finite, parsed, typed
from attend.paths import encodable, quoted, regular
from attend.runs.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

KIND = "attend checkpoint 1"


@dataclass
class Progress:
    """Where a run stands: with the weights and the optimiser, all that resume needs (noise is keyed by seed and step).

    ``position`` is the next minibatch of ``epoch``; ``best`` the best validation score so far (higher is better) and
    ``best_nll`` the nats per word of the same epoch, which decide between equal scores; ``stale`` the epochs since;
    ``average`` the moving average of the baseline, None at a place that has not started; ``meters`` the sums since the
    last line of metrics.jsonl; ``logged`` its length; ``train_seconds`` the duration of all steps.
    """

    epoch: Count = 0
    position: Count = 0
    step: Count = 0
    best: float = -math.inf
    best_nll: float = math.inf
    stale: Count = 0
    average: list[Finite | None] = field(default_factory=list)
    meters: dict[str, float] = field(default_factory=dict)
    logged: Count = 0
    train_seconds: Amount = 0.0

    def __post_init__(self) -> None:
        if math.isnan(self.best) or math.isnan(self.best_nll):
            raise ValueError("progress.best and progress.best_nll must be numbers")
        if self.meters and not all(0 <= self.meters.get(name, -1) < math.inf for name in ("words", "steps")):
            raise ValueError("progress.meters must count words and steps")


class Group(TypedDict):
    """Weights of one learning rate, by number, as the optimiser has them; its other settings are not read."""

    lr: Amount
    params: list[int]


class State(TypedDict):
    """The state beside the weights: the fingerprints that a model must share, and what resume needs (last only)."""

    vocabulary: str
    encoder: str | None
    epoch: NotRequired[Count]
    progress: NotRequired[Progress]
    groups: NotRequired[list[Group]]


def read_progress(state: State) -> Progress:
    """Where the run of a state stood. The state has been checked when it was read."""
    if "progress" not in state:
        raise ValueError("a run's last checkpoint holds weights alone: remove it to start the run again")
    return typed(state["progress"], Progress)


def write_checkpoint(
    path: Path, tensors: dict[str, Tensor], state: dict[str, Any], check: Callable[[], object] | None = None
) -> None:
    """Write one safetensors file with the state as JSON in its header, whole or not at all.

    ``check`` is called last. If it raises, nothing is written: a process may be frozen while it writes, and another
    process may have taken over the run before it goes on.
    """
    from safetensors.torch import save

    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, metadata={"kind": KIND, "state": json.dumps(state)}), check)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], State]:
    """The tensors and the state; ValueError if the file is missing or no checkpoint of ours."""
    with _opened(path) as (file, state):
        return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118


def read_state(path: Path) -> State:
    """The state alone, without the tensors; ValueError as for both."""
    with _opened(path, "numpy") as (_, state):
        return state


@contextlib.contextmanager
def _opened(path: Path, framework: str = "pt") -> Iterator[tuple[safe_open, State]]:
    if not path.exists():
        raise ValueError(f"{path} does not exist: train the run first (`attend train`), or name another one")
    if not encodable(str(path)):
        raise ValueError(
            f"the folder {quoted(str(path.parent))} is no UTF-8, so no checkpoint is read there: rename it"
        )
    try:
        with safe_open(regular(path), framework=framework) as file:
            about = file.metadata() or {}
            kind = about.get("kind", "")
            if kind != KIND and kind.startswith(KIND.rstrip("1")):
                raise ValueError(
                    f"{path} is an {quoted(kind)[1:-1]}, and this version reads {KIND}: use the version that wrote it"
                )
            if kind != KIND:
                raise ValueError(f"{path} is a safetensors file but no checkpoint of attend: name a run's own")
            try:
                state = parsed(about.get("state", "null"), State)
            except ValueError as error:
                raise ValueError(
                    f"{path} does not say what it was trained with: restore it or train again ({error})"
                ) from None
            yield file, state
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is no checkpoint ({' '.join(str(error).split())}): restore it or train again"
        ) from None
