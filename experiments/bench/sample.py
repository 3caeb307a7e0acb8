"""Some images with captions for measurements that need files, from the user's dataset or the built-in world."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from attend.experiments.bench.clock import Setup

from attend.data.prepared import Prepared, write_prepared
from attend.data.sources.scenes import write_scenes


@contextlib.contextmanager
def sample(setup: Setup, images: int) -> Iterator[Prepared]:
    """A prepared dataset with this number of images, all in its training split, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="attend-bench-") as folder:
        if setup.data is None:
            source = write_scenes(Path(folder), train=images, val=0, test=0)
            yield write_prepared(source, Path(folder), minimum_count=1)
        else:
            dataset = Prepared(setup.data)
            rows = range(min(images, len(dataset.examples)))
            yield dataset.part([replace(dataset.examples[row], split="train") for row in rows], Path(folder))
