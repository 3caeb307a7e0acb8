"""`attend bench`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attend.config.section import Positive

SIZES = ("flickr8k", "lite", "coco", "quickstart", "tiny")
PARTS = (
    "train", "captured", "operations", "kernels", "samples", "decoders", "memory", "search", "features", "waiting",
    "stores", "scoring", "startup", "processes", "growth",
)  # fmt: skip
"""The keys of the tables of ``experiments.bench``, without torch."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure speed and memory, beside a textbook implementation and beside the lower bound of this machine."""

    sizes: str = "flickr8k,lite,coco"
    """sizes to measure, separated by commas: flickr8k, lite, coco, quickstart, tiny"""
    parts: str | None = None
    """parts to measure, separated by commas: train, captured, operations, kernels, samples, decoders, memory, search,
    features, waiting, stores, scoring, startup, processes, growth; if not given, all"""
    rounds: Positive = 5
    """rounds of measurement; the table has their median, minimum and maximum"""
    device: Literal["cpu", "cuda"] | None = None
    """where to measure; if not given, on the GPU if there is one. For a GPU that is not here the plan is shown"""
    precision: Literal["fp32", "bf16"] | None = None
    """precision of all but the textbook; if not given, the faster one on this machine"""
    data: Path | None = None
    """prepared dataset for the parts that read images and captions; if not given, the built-in world"""
    out: Path = Path("runs/bench")
    """folder for bench.json, bench.md and growth.png"""


def bench(command: Bench) -> None:
    parts = ",".join(PARTS) if command.parts is None else command.parts
    chosen = {"sizes": command.sizes.split(","), "parts": parts.split(",")}
    for name, known in (("sizes", SIZES), ("parts", PARTS)):
        for one in chosen[name]:
            if one not in known:
                raise ValueError(f"unknown {name} {one!r}: known are {', '.join(known)}")
    from attend.experiments.bench.run import bench as measure

    options = {"rounds": command.rounds, "precision": command.precision, "data": command.data}
    options |= {"device": command.device}
    print(*measure(command.out, **chosen, **options), sep="\n")
