"""Small tensors on one thread: many threads only wait for each other."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_configure():
    import torch

    torch.set_num_threads(1)
