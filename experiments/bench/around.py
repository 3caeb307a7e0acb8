"""What surrounds training: scoring captions, starting the program, and exchanging gradients between processes."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attend.experiments.bench.beds import Bed
from attend.experiments.bench.clock import Setup, clock, in_turn, ratio
from attend.experiments.bench.floor import Size
from attend.experiments.bench.sample import sample
from torch import distributed, nn

from attend.metrics.captions import score_captions, tokenise
from attend.metrics.java import meteor
from attend.runs.files import read_json, write_json

SCORED = 1000
STARTS = {
    "bare interpreter": ["-c", "pass"],
    "import attend": ["-c", "import attend"],
    "attend --help": ["-m", "attend", "--help"],
    "attend train soft --help": ["-m", "attend", "train", "soft", "--help"],
}


def scoring(setup: Setup) -> Iterator[dict[str, Any]]:
    """One caption an image against the others by all metrics, beside METEOR alone on the same tokens."""
    with sample(setup, SCORED) as dataset:
        captions = [[one.raw for one in example.captions] for example in dataset.examples]
    said = {str(row): some[0] for row, some in enumerate(captions)}
    references = {str(row): some[1:] or some for row, some in enumerate(captions)}
    tokens = iter(tokenise([*said.values(), *(one for some in references.values() for one in some)]))
    hypotheses = [next(tokens) for _ in said]
    groups = [[next(tokens) for _ in some] for some in references.values()]
    calls = {
        "all": lambda: score_captions(said, references),
        "meteor": lambda: meteor(hypotheses, groups, time_limit=300),
    }
    seconds = in_turn(calls, setup.rounds, torch.device("cpu"))
    yield {
        "images": len(said),
        "all metrics, s": statistics.median(seconds["all"]),
        "METEOR alone, s": statistics.median(seconds["meteor"]),
        "times METEOR": ratio(seconds, "all", "meteor"),
        "seconds": seconds,
    }


def startup(setup: Setup) -> Iterator[dict[str, Any]]:
    """Seconds until a command has started, printed its output and ended."""
    calls = {
        name: partial(subprocess.run, [sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
        for name, command in STARTS.items()
    }
    seconds = in_turn(calls, 2 * setup.rounds, torch.device("cpu"))
    bare = statistics.median(seconds["bare interpreter"])
    for name, values in seconds.items():
        yield {"command": name, "seconds": (median := statistics.median(values)), "beyond a bare one": median - bare}


def processes(setup: Setup) -> Iterator[dict[str, Any]]:
    """Training steps of two processes on gloo, one thread each, that exchange gradients after every step.

    Each has a minibatch of its own. What more processes would do follows from the bytes of a ring, of which each
    process passes on 2 (k - 1) / k, and from the rate at which two exchange them here.
    """
    for size in setup.sizes:
        with tempfile.TemporaryDirectory(prefix="attend-bench-") as folder:
            arguments = (size, setup.precision, setup.rounds, folder)
            torch.multiprocessing.spawn(_process, arguments, nprocs=2)
            alone, exchange, together, parameters = read_json(Path(folder) / "found.json")
        row = {
            "size": size.name,
            "MiB exchanged": 4 * parameters / 2**20,
            "step without exchange, s": alone,
            "exchange, s": exchange,
            "step, s": together,
            "speed of 2, measured": 2 * alone / together,
        }
        for k in (2, 4, 8, 64):
            row[f"of {k}, predicted"] = k * alone / (alone + exchange * 2 * (k - 1) / k)
        yield row


def _process(rank: int, size: Size, precision: str, rounds: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    device = torch.device("cpu")
    alone = Bed(size, "soft", device, precision, seed=rank)
    together = Bed(size, "soft", device, precision, seed=rank)
    _ = together.optimiser  # of the captioner that is wrapped next
    together.captioner = nn.parallel.DistributedDataParallel(together.captioner)
    gradient = torch.zeros(alone.parameters)
    calls = {"alone": alone.ours, "exchange": lambda: distributed.all_reduce(gradient), "together": together.ours}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            distributed.barrier()
            seconds[name].append(clock(call, device))
    if rank == 0:
        medians = [statistics.median(values[1:]) for values in seconds.values()]
        write_json(Path(folder) / "found.json", [*medians, alone.parameters])
    distributed.barrier()
    distributed.destroy_process_group()
