"""Triton kernels of what plain torch does in many small ones. Each file says what it computes; the plain form, which
runs everywhere, stands where it is used."""

from importlib.util import find_spec

import torch
from torch import Tensor

TRITON = find_spec("triton") is not None
"""It comes with torch for CUDA on Linux."""
DEVICES = {"cuda"}
"""Types of devices that kernels run on."""


def run_on(where: Tensor | torch.device) -> bool:
    """Whether kernels run on a device, or where a tensor is."""
    device = where.device if isinstance(where, Tensor) else where
    return TRITON and device.type in DEVICES
