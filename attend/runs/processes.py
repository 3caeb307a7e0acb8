"""Several processes that train one run: each computes its images of every minibatch, and all take the same step.

Random numbers are drawn for the whole minibatch, and sums and means are over the images of all processes, so two
processes give the result of one. With one process nothing here has an effect. Only the main process writes files and
messages. When it ends, the launcher ends the others.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from itertools import zip_longest
from typing import TypeVar

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object

from attend.bars import say
from attend.config import Config
from attend.runs.folder import RunFolder
from attend.runs.launch import launched
from attend.runs.lease import Lease

Some = TypeVar("Some")
PATIENCE = timedelta(days=7)
"""How long a process waits for another: the main one computes features and scores captions while the others wait."""


def accelerator(*, several: bool = False) -> Accelerator:
    """The device, as accelerate finds it, and with ``several`` the processes that were launched together.

    Raises ValueError for more of them than are wanted, or than there are devices, or if the environment that
    describes them makes no sense.
    """
    _, processes, here = launched()
    together = processes > 1
    devices = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    on_cpu = not devices or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    if together and not on_cpu and here > devices:
        raise ValueError(
            f"{here} processes were launched on a machine with {devices} devices: launch {devices}, or set "
            "ACCELERATE_USE_CPU=true"
        )
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False  # products in bf16 add up in fp32
    found = Accelerator(
        cpu=together and on_cpu,  # or processes on a machine without a device do not find each other
        mixed_precision="no",  # train.precision says it, whatever accelerate is configured for
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    if found.num_processes > 1 and not several:
        raise ValueError("this is for one process: start it without torchrun or `accelerate launch`")
    if together and found.num_processes != processes:
        raise ValueError(f"accelerate does not join {processes} processes on {found.device.type}: launch one")
    if several and found.num_processes == 1 and {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys():
        say("`accelerate launch` starts one process alone on a CPU: torchrun starts several")
    return found


def check_memory(needed: int, device: torch.device, what: str, remedy: str) -> None:
    """ValueError if something needs more bytes than the device has in all, free or not."""
    cuda = device.type == "cuda"
    total = torch.cuda.get_device_properties(device).total_memory if cuda else psutil.virtual_memory().total
    if needed > total:
        raise ValueError(f"{what} needs {needed / 1e9:,.1f} GB at least, and there are {total / 1e9:,.1f}: {remedy}")


@contextmanager
def open_run(run: RunFolder, config: Config, found: Accelerator, *, again: bool = False) -> Iterator[Lease | None]:
    """The run folder, held by the main process; the others get no lease, and are silent until they fail."""
    if found.is_main_process:
        with run.open(config, again=again) as lease:
            found.wait_for_everyone()
            yield lease
    else:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            found.wait_for_everyone()
            yield None
    found.wait_for_everyone()


def share(found: Accelerator) -> slice:
    """Which items of a list this process takes: they are dealt out, so that shares of a sorted list are alike."""
    return slice(found.process_index, None, found.num_processes)


def gather(own: list[Some], found: Accelerator) -> list[Some]:
    """The list whose items were dealt out by ``share``, from what each process made of its own."""
    nothing = object()
    rounds = zip_longest(*gather_object([own]), fillvalue=nothing)
    return [item for one in rounds for item in one if item is not nothing]


def of_main(function: Callable[[], Some], found: Accelerator) -> Some:
    """What the function returns in the main process, which alone calls it."""
    return broadcast_object_list([function() if found.is_main_process else None])[0]


def summed(values: dict[str, float], found: Accelerator) -> dict[str, float]:
    """Each number summed over all processes."""
    if found.num_processes == 1:
        return values
    own = torch.tensor(list(values.values()), dtype=torch.float64, device=found.device)
    return dict(zip(values, found.reduce(own, "sum").tolist(), strict=True))


def sum_gradients(parameters: Sequence[torch.nn.Parameter], found: Accelerator) -> None:
    """Sum the gradients over all processes, as one vector. What has none in any process has none after it."""
    if found.num_processes == 1:
        return
    some = torch.tensor([float(p.grad is not None) for p in parameters], device=found.device)
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    total = found.reduce(torch.cat([some, *map(torch.flatten, own)]), "sum")
    some, *totals = total.split([len(some), *map(torch.numel, own)])
    for parameter, total, has in zip(parameters, totals, some.tolist(), strict=True):
        parameter.grad = total.view_as(parameter) if has else None
