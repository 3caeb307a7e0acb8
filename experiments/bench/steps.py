"""Training steps and beam search of ours, beside the textbook arrangement and beside the floor."""

import statistics
from collections.abc import Iterator
from typing import Any

from attend.experiments.bench.beds import KINDS, Bed, SearchBed
from attend.experiments.bench.clock import DTYPES, Setup, clock, in_turn, ratio
from attend.experiments.bench.floor import measure
from attend.experiments.bench.memory import peaks

SEARCH_IMAGES = 16


def train(setup: Setup) -> Iterator[dict[str, Any]]:
    """A training step, ours, the textbook's and the floor's, in turn. The losses must agree first."""
    for size in setup.sizes:
        medians = {}
        for kind in KINDS:
            bed = Bed(size, kind, setup.device, setup.precision)
            ours, theirs = bed.losses()
            if abs(ours - theirs) > 1e-4 * abs(theirs):
                raise RuntimeError(f"the arrangements disagree at {size.name}, {kind}: losses {ours} and {theirs}")
            calls = measure(size, bed.live, bed.parameters, setup.device, DTYPES[setup.precision])

            def floor(calls: list[tuple] = calls) -> None:
                for _, call, times in calls:
                    for _ in range(times):
                        call()

            seconds = in_turn({"ours": bed.ours, "textbook": bed.plain, "floor": floor}, setup.rounds, setup.device)
            medians[kind] = statistics.median(seconds["ours"])
            yield {
                "size": size.name,
                "attention": kind,
                "words a second": bed.tokens / medians[kind],
                "textbook's": bed.tokens / statistics.median(seconds["textbook"]),
                "times the textbook": ratio(seconds, "textbook", "ours"),
                "share of the floor": ratio(seconds, "floor", "ours"),
                "time of soft": medians[kind] / medians["soft"],
                "losses": [ours, theirs],
                "seconds": seconds,
                "floor": {what: times * clock(call, setup.device) for what, call, times in calls},
            }


def samples(setup: Setup) -> Iterator[dict[str, Any]]:
    """A training step of hard attention with five samples of each caption, beside one with one, for either feed."""
    for size in setup.sizes:
        for feed in ("glimpse", "expected"):
            beds = {}
            for number in (1, 5):
                changed = {"estimator.samples": number, "attention.feed": feed}
                beds[number] = Bed(size, "hard", setup.device, setup.precision, changed)
            seconds = in_turn({str(number): bed.ours for number, bed in beds.items()}, setup.rounds, setup.device)
            yield {
                "size": size.name,
                "feed": feed,
                "one sample, s": statistics.median(seconds["1"]),
                "five, s": statistics.median(seconds["5"]),
                "times one": ratio(seconds, "5", "1"),
                "seconds": seconds,
            }


def memory(setup: Setup) -> Iterator[dict[str, Any]]:
    """What a step needs at its peak; each measured in a process of its own."""
    for size in setup.sizes:
        for kind in KINDS:
            both = [peaks([(size, kind, whose)], setup.device, setup.precision)[0] for whose in ("ours", "plain")]
            row: dict[str, Any] = {"size": size.name, "attention": kind}
            for what, name in (("tensors", "MiB of tensors"), ("resident", "MiB of the process")):
                ours, theirs = (found[what] / 2**20 for found in both)
                row |= {name: ours, f"textbook's {what}": theirs, f"share of {what}": ours / theirs}
            yield row


def search(setup: Setup) -> Iterator[dict[str, Any]]:
    """A beam of 5 over some images. The captions must agree first."""
    for size in setup.sizes:
        checked = SearchBed(size, setup.device, "fp32", 4).exact()
        if checked.ours() != checked.plain():
            raise RuntimeError(f"the arrangements write different captions at {size.name}")
        bed = SearchBed(size, setup.device, setup.precision, SEARCH_IMAGES)
        seconds = in_turn({"ours": bed.ours, "textbook": bed.plain}, setup.rounds, setup.device)
        yield {
            "size": size.name,
            "images a second": SEARCH_IMAGES / statistics.median(seconds["ours"]),
            "textbook's": SEARCH_IMAGES / statistics.median(seconds["textbook"]),
            "times the textbook": ratio(seconds, "textbook", "ours"),
            "seconds": seconds,
        }
