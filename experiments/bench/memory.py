"""Memory of a step at its peak, in processes of their own.

Two numbers: the bytes of all tensors that are alive at once, as torch's profiler (or CUDA's allocator) counts them, and
by how much the process grows while it takes its first two steps. The second has what the allocator wastes, and torch's
own buffers. Neither counts model, data and Adam's moments.
"""

import contextlib
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

import torch
from attend.experiments.bench.beds import bed_of
from attend.experiments.bench.floor import Size
from torch.profiler import ProfilerActivity, profile


def peaks(requests: Sequence[tuple[Size, str, str]], device: torch.device, precision: str) -> list[dict[str, int]]:
    """Bytes of (size, kind, whose), ``tensors`` and ``resident``, each after the other in one fresh process.

    ``resident`` means something for the first alone. For kinds see ``bed_of``.
    """
    measure = partial(_measure, device=device, precision=precision)
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return list(pool.map(measure, *zip(*requests, strict=True)))
    except Exception as error:
        raise RuntimeError(f"memory could not be measured: {type(error).__name__}: {error}") from error


def _measure(size: Size, kind: str, whose: str, device: torch.device, precision: str) -> dict[str, int]:
    bed, moments = bed_of(size, kind, device, precision), 0
    if not kind.isdigit():
        _ = bed.textbook, bed.optimiser, bed.plain_optimiser
        moments = 2 * 4 * bed.parameters
    call = getattr(bed, whose)
    gc.collect()
    if device.type == "cuda":
        found = peak(lambda: (call(), call()), device) - moments
        return {"tensors": found, "resident": found}
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak counts from here
    call(), call()
    return {"resident": _status("VmHWM") - before - moments, "tensors": tensors(call)}


def peak(call: Callable[[], object], device: torch.device) -> int:
    """Peak bytes that a call has allocated, beyond those before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    return tensors(call)


def tensors(call: Callable[[], object]) -> int:
    """Bytes that a call on the CPU has allocated at once and not yet freed, at most."""
    with _hushed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(f"{folder}/trace.json").read_text("utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    return max(accumulate((change for _, change in changes), initial=0))


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Silence the messages of the profiler's library to stderr at each start and stop."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept), os.close(nowhere)


def _status(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
