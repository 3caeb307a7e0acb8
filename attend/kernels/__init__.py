"""Triton kernels of what plain torch does in many small ones. Each file says what it computes; the plain form, which
runs everywhere, stands where it is used."""

from importlib.util import find_spec

from torch import Tensor

TRITON = find_spec("triton") is not None
"""It comes with torch for CUDA on Linux."""
DEVICES = {"cuda"}
"""Types of devices that kernels run on."""


def run_on(tensor: Tensor) -> bool:
    """Whether kernels run where this tensor is."""
    return TRITON and tensor.device.type in DEVICES
