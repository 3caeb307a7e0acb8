"""How fast a captioner trains and captions, beside a textbook arrangement and beside the floor of the machine.

    attend bench                       # some twenty minutes on two cores
    attend bench --sizes lite --parts train,search

All that is compared runs in one process, in turn, round after round; a ratio is taken within each round, and the table
has the median of the rounds with the lowest and the highest. The losses of both arrangements must agree first.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from attend.runs import environment, write_json, write_text
from experiments.beds import DTYPES, KINDS, Bed, SearchBed
from experiments.floor import SIZES, Size, measure

SEARCH_IMAGES = 32
PARTS = ("train", "memory", "search")


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bench(out: Path, *, sizes: Sequence[str], parts: Sequence[str], rounds: int, precision: str | None) -> list[Path]:
    """Measure, and write bench.json and one table a part; returns the files."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision or best_precision(device)
    results: dict[str, Any] = {"environment": environment(), "device": str(device), "precision": precision}
    results |= {"threads": torch.get_num_threads(), "rounds": rounds}
    functions = {"train": train, "memory": memory, "search": search}
    for part in parts:
        results[part] = []
        planned = [(size, kind) for size in sizes for kind in (KINDS if part != "search" else KINDS[:1])]
        for size, kind in tqdm(planned, desc=part, unit="bed", disable=None):
            results[part].append(functions[part](SIZES[size], kind, device, precision, rounds))
            write_json(out / "bench.json", results)
    tables = [table(title, results[title]) for title in parts]
    write_text(out / "bench.md", "\n".join(tables))
    print(*tables, sep="\n")
    return [out / "bench.json", out / "bench.md"]


def best_precision(device: torch.device) -> str:
    """In which this machine multiplies matrices faster; fp32 where it makes less than a tenth of a difference."""
    seconds = {}
    for name, dtype in DTYPES.items():
        left, right = (torch.randn(1024, 1024, device=device, dtype=dtype) for _ in range(2))
        seconds[name] = min(clock(lambda left=left, right=right: left @ right, device) for _ in range(5))
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"


def train(size: Size, kind: str, device: torch.device, precision: str, rounds: int) -> dict[str, Any]:
    """A training step, ours, the textbook's and the floor's, in turn."""
    bed = Bed(size, kind, device, precision)
    ours, theirs = bed.losses()
    if abs(ours - theirs) > 1e-4 * abs(theirs):
        raise RuntimeError(f"the arrangements disagree at {size.name}, {kind}: the losses are {ours} and {theirs}")
    calls = measure(size, bed.live, bed.parameters, device, DTYPES[precision])

    def floor() -> None:
        for _, call, times in calls:
            for _ in range(times):
                call()

    seconds = in_turn({"ours": bed.ours, "textbook": bed.plain, "floor": floor}, rounds, device)
    return {
        "size": size.name,
        "attention": kind,
        "loss": [ours, theirs],
        "seconds": seconds,
        "tokens a second": bed.tokens / statistics.median(seconds["ours"]),
        "textbook's": bed.tokens / statistics.median(seconds["textbook"]),
        "times the textbook": ratio(seconds, "textbook", "ours"),
        "times the floor": ratio(seconds, "ours", "floor"),
        "floor": {what: times * clock(call, device) for what, call, times in calls},
    }


def search(size: Size, kind: str, device: torch.device, precision: str, rounds: int) -> dict[str, Any]:
    """A beam of 5 over some images."""
    checked = SearchBed(size, device, "fp32", 4).exact()
    if checked.ours() != checked.plain():
        raise RuntimeError(f"the arrangements write different captions at {size.name}")
    bed = SearchBed(size, device, precision, SEARCH_IMAGES)
    seconds = in_turn({"ours": bed.ours, "textbook": bed.plain}, rounds, device)
    return {
        "size": size.name,
        "images a second": SEARCH_IMAGES / statistics.median(seconds["ours"]),
        "textbook's": SEARCH_IMAGES / statistics.median(seconds["textbook"]),
        "seconds": seconds,
        "times the textbook": ratio(seconds, "textbook", "ours"),
    }


def memory(size: Size, kind: str, device: torch.device, precision: str, rounds: int) -> dict[str, Any]:
    """Bytes of a step at its peak beyond model and data, gradients and optimiser included; a process for each."""
    found = {}
    for whose in ("ours", "plain"):
        code = f"from experiments.bench import peak; print(peak({size.name!r}, {kind!r}, {precision!r}, {whose!r}))"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[whose] = int(ran.stdout.splitlines()[-1])
    return {
        "size": size.name,
        "attention": kind,
        "MiB": found["ours"] / 2**20,
        "textbook's": found["plain"] / 2**20,
        "share of the textbook's": found["ours"] / found["plain"],
    }


def peak(size: str, kind: str, precision: str, whose: str) -> int:
    """What ``memory`` asks of a fresh process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bed = Bed(SIZES[size], kind, device, precision)
    _ = bed.textbook, bed.optimisers
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
    else:
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    for _ in range(2):
        getattr(bed, whose)()
    return (torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM")) - before


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def in_turn(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            seconds[name].append(clock(call, device))
    return {name: values[1:] for name, values in seconds.items()}


def clock(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, what it started on the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    before = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - before


def ratio(seconds: dict[str, list[float]], above: str, below: str) -> dict[str, float]:
    """Of two calls, within each round."""
    return vars(Spread.of([a / b for a, b in zip(seconds[above], seconds[below], strict=True)]))


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Markdown: what is a number or has a median."""
    names = [name for name, value in rows[0].items() if not isinstance(value, list | dict) or "median" in value]
    lines = [f"| {title}: {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    for row in rows:
        lines.append(f"| {' | '.join(_cell(row[name]) for name in names)} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return str(Spread(**value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
