"""Training steps and beam search of every decoder, and given captions at once beside a loop over their words."""

import statistics
from collections.abc import Iterator
from typing import Any

from attend.experiments.bench.beds import KINDS, Bed, Changes, SearchBed
from attend.experiments.bench.clock import Setup, in_turn, ratio
from attend.experiments.bench.floor import Size
from attend.experiments.bench.steps import SEARCH_IMAGES

from attend.decoder import DECODERS

PLAIN = {"decoder.gate": "none", "decoder.readout": "linear"}


def decoders(setup: Setup) -> Iterator[dict[str, Any]]:
    """A training step of each decoder, and the same step with a loop over the words of given captions."""
    for size in setup.sizes:
        for cell in DECODERS:
            changed = {"decoder.cell": cell} | ({} if cell == "lstm" else PLAIN)
            for kind in KINDS:
                beds = [Bed(size, kind, setup.device, setup.precision, changed) for _ in range(2)]
                calls = {"ours": beds[0].ours}
                if beds[0].captioner.decoder.at_once:
                    beds[1].captioner.decoder.at_once = ()
                    calls["loop"] = beds[1].ours
                seconds = in_turn(calls, setup.rounds, setup.device)
                yield {
                    "size": size.name,
                    "decoder": cell,
                    "attention": kind,
                    "parameters": beds[0].parameters,
                    "words a second": beds[0].tokens / statistics.median(seconds["ours"]),
                    "times a loop": ratio(seconds, "loop", "ours") if "loop" in calls else "",
                    "images a second": _searched(setup, size, changed) if kind == "soft" else "",
                    "seconds": seconds,
                }


def _searched(setup: Setup, size: Size, changed: Changes) -> float:
    """Images that a beam of 5 captions in a second."""
    bed = SearchBed(size, setup.device, setup.precision, SEARCH_IMAGES, changed=changed)
    return SEARCH_IMAGES / statistics.median(in_turn({"ours": bed.ours}, setup.rounds, setup.device)["ours"])
