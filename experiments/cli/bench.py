"""`attend bench`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attend.experiments.cli.common import at_least


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Speed and memory, beside a textbook arrangement of the same captioner and beside the floor of this machine."""

    sizes: str = "flickr8k,lite,coco"
    """minibatches to measure, separated by commas"""
    parts: str | None = None
    """what to measure, separated by commas, of train, samples, memory, search, features, waiting, stores, scoring,
    startup, processes and growth; none is all of it"""
    rounds: int = 5
    """how often, in turn; the table has the median, the lowest and the highest"""
    precision: Literal["fp32", "bf16"] | None = None
    """of all but the textbook; none is the faster one here"""
    data: Path | None = None
    """a prepared dataset for the parts that read images and captions; none draws the built-in world"""
    out: Path = Path("runs/bench")
    """folder for bench.json, bench.md and growth.png"""


def bench(command: Bench) -> None:
    from attend.experiments.bench.floor import SIZES
    from attend.experiments.bench.run import PARTS
    from attend.experiments.bench.run import bench as measure

    parts = ",".join(PARTS) if command.parts is None else command.parts
    chosen = {"sizes": command.sizes.split(","), "parts": parts.split(",")}
    for name, known in (("sizes", SIZES), ("parts", PARTS)):
        for one in chosen[name]:
            if one not in known:
                raise ValueError(f"unknown {name} {one!r}: known are {', '.join(known)}")
    at_least(1, rounds=command.rounds)
    options = {"rounds": command.rounds, "precision": command.precision, "data": command.data}
    print(*measure(command.out, **chosen, **options), sep="\n")
