"""Work that is captured in a CUDA graph once and replayed: the host launches one graph, not hundreds of kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from attend.bars import say

Result = TypeVar("Result")


def say_refused(what: str, error: RuntimeError) -> None:
    """Report work that could not be captured, and why, to stderr."""
    first = str(error).strip().splitlines()[0]
    say(f"{what} cannot be captured in a CUDA graph, and runs without ({first})")


class Capture(Protocol):
    """How work is captured. It reads and writes tensors that keep their places, and nothing of the host."""

    def staged(self, part: Tensor) -> Tensor:
        """A tensor of the host from where a copy to the device need not be waited for."""

    def warm(self, work: Callable[[], Result]) -> Result:
        """Do the work, so that everything that is made on first use is made."""

    def record(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Capture the work without doing it; what is returned does it, and returns the same tensors each time."""


class CudaGraphs:
    """Captures in CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def staged(self, part: Tensor) -> Tensor:
        return part if part.is_cuda else part.pin_memory()

    def warm(self, work: Callable[[], Result]) -> Result:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*capturable=True")  # an optimiser that takes a step without a graph
            result = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Result]) -> Callable[[], Result]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            result = work()

        def replay() -> Result:
            graph.replay()
            return result

        return replay
