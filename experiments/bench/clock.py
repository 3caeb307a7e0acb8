"""Setup, clocks and tables of all measurements."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attend.analysis.tables.text import markdown
from attend.experiments.bench.floor import Size

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Sizes, device, precision and rounds of a measurement; ``data`` is a prepared dataset, None the built-in world."""

    sizes: Sequence[Size]
    rounds: int
    device: torch.device
    precision: str
    data: Path | None = None


def best_precision(device: torch.device) -> str:
    """The precision in which this machine multiplies matrices faster; fp32 if the difference is less than a tenth."""
    seconds = {}
    for name, dtype in DTYPES.items():
        left, right = (torch.randn(1024, 1024, device=device, dtype=dtype) for _ in range(2))
        seconds[name] = min(clock(lambda left=left, right=right: left @ right, device) for _ in range(3))
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"


def clock(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, including its work on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    before = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - before


def in_turn(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            seconds[name].append(clock(call, device))
    return {name: values[1:] for name, values in seconds.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum over rounds."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> dict[str, float]:
    """The ratio of the seconds of two calls, taken within each round."""
    return spread([a / b for a, b in zip(seconds[above], seconds[below], strict=True)])


def table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the values that are strings, numbers or have a median."""
    names = [name for name, value in rows[0].items() if not isinstance(value, list | dict) or "median" in value]
    cells = [[_cell(row[name]) for name in names] for row in rows]
    return f"{title}:\n\n" + markdown([names, *cells], left=range(len(names)))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "{median:.2f} [{low:.2f}, {high:.2f}]".format(**value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
