"""Measure how fast a captioner trains and captions, beside a textbook implementation and the floor of the machine.

    attend bench                                       # everything: some twenty minutes on two cores
    attend bench --parts train,search --sizes lite

All compared calls run in one process, in turn, for several rounds. A ratio is taken within each round, and the tables
report median, minimum and maximum over rounds.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from attend.experiments.bench.around import processes, scoring, startup
from attend.experiments.bench.captured import captured
from attend.experiments.bench.clock import Setup, best_precision, table
from attend.experiments.bench.data import features, stores, waiting
from attend.experiments.bench.decoders import decoders
from attend.experiments.bench.floor import SIZES
from attend.experiments.bench.growth import draw, exponents, growth
from attend.experiments.bench.operations import kernels, operations
from attend.experiments.bench.steps import memory, samples, search, train
from tqdm import tqdm

from attend.bars import say
from attend.data.prepared import Prepared
from attend.runs.files import write_json, write_text
from attend.runs.provenance import environment

PARTS: dict[str, Callable[[Setup], Iterator[dict[str, Any]]]] = {
    part.__name__: part
    for part in (
        train, captured, operations, kernels, samples, decoders, memory, search, features, waiting, stores, scoring,
        startup, processes, growth,
    )
}  # fmt: skip


def bench(
    out: Path,
    *,
    sizes: Sequence[str],
    parts: Sequence[str],
    rounds: int,
    precision: str | None,
    data: Path | None,
    device: str | None = None,
) -> list[Path]:
    """Measure, and write bench.json with every number and bench.md with the tables; returns the files.

    Both are written again after every part, so that an error in a later part loses nothing. For a GPU that this machine
    does not have, the plan is shown, and no file is written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        say("this machine has no GPU; with one, `attend bench --device cuda` times such steps:")
        plan = Setup(sizes=[SIZES[name] for name in sizes], rounds=rounds, device=torch.device("cpu"), precision="fp32")
        print(table("plan", list(captured(plan))))
        return []
    if data is not None:
        Prepared(data)  # what is wrong with it is said now
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    setup = Setup(
        sizes=[SIZES[name] for name in sizes], rounds=rounds, device=device, data=data,
        precision=precision or best_precision(device),
    )  # fmt: skip
    results: dict[str, Any] = {"environment": environment(), "device": str(device), "precision": setup.precision}
    results |= {"threads": torch.get_num_threads(), "rounds": rounds}
    files, tables = [out / "bench.json", out / "bench.md"], []
    for part in tqdm(parts, unit="part", disable=None):
        results[part] = []
        for row in PARTS[part](setup):
            results[part].append(row)
            shown = ", ".join(str(value) for value in row.values() if isinstance(value, str))
            say(f"{part}: {shown or 'done'}")
        tables.append(table(part, results[part]))
        if part == "growth":
            tables.append(table("growth by powers", exponents(results[part])))
            files += draw(results[part], out / "growth")
        write_json(files[0], results)
        write_text(files[1], "\n".join(tables))
    print(*tables, sep="\n")
    return files
