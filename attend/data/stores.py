"""Arrays with one row an image, in HDF5 shards: written so that a kill leaves a resumable or a whole store.

A store is a folder: ``store.json`` (how many rows, how many a shard, where they come from) and ``00000.h5``,
``00001.h5`` ... Each shard is written beside its name and renamed into place, so a shard that is there is whole.
"""

import io
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import h5py
import numpy as np

from attend.documents import Count, Positive
from attend.runs import hdf5
from attend.runs.files import read_json, sweep, write_bytes, write_json


def _open_shards() -> int:
    """How many shards are open at once: as many as COCO has, where the system lets a process open twice as many files.

    To open one takes as long as to read ten images.
    """
    try:
        import resource
    except ImportError:  # Windows
        return 128
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 512 if files == resource.RLIM_INFINITY else min(512, files // 2)


OPEN_SHARDS = _open_shards()
SHARD = 256
"""Rows of a shard."""


class _Plan(TypedDict):
    """store.json: how many rows there are, how many a shard has, and where they come from."""

    count: Count
    shard: Positive
    provenance: dict[str, Any]


def fill_store(
    folder: Path,
    count: int,
    provenance: dict[str, Any],
    produce: Callable[[range], dict[str, np.ndarray]],
    shard: int = SHARD,
    compress: bool = False,
) -> Iterator[int]:
    """Write the shards that are missing, and yield the number of rows there are after each.

    Each row is a chunk of its own, with ``compress`` by gzip: a store is the same store with shards of both kinds.
    ``produce`` returns the named arrays (len(rows), ...) of a range of rows. ``provenance`` is kept with the arrays.
    Raises ValueError if the folder holds a store of another origin; its entry "versions" may differ.
    """
    plan = json.loads(json.dumps({"count": count, "shard": shard, "provenance": provenance}))  # as it is read back
    manifest = folder / "store.json"
    if manifest.exists():
        if _origin(read_json(manifest, _Plan, remedy=f"remove {folder} and run again")) != _origin(plan):
            raise ValueError(f"{folder} holds a store made from something else: remove it, or choose another folder")
    else:
        write_json(manifest, plan)
    sweep(folder)
    for start in range(0, count, shard):
        rows = range(start, min(start + shard, count))
        path = _shard(folder, start // shard)
        if not path.exists():
            _write_shard(path, produce(rows), plan["provenance"], compress)
        yield rows.stop


def unwritten(folder: Path, count: int, shard: int = SHARD) -> int:
    """The number of rows that are still to be written of a store of ``count`` rows."""
    starts = range(0, count, shard)
    return sum(min(shard, count - start) for start in starts if not _shard(folder, start // shard).exists())


def _origin(plan: _Plan) -> dict[str, Any]:
    return plan | {"provenance": {k: v for k, v in plan["provenance"].items() if k != "versions"}}


def _shard(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.h5"


def _write_shard(path: Path, arrays: dict[str, np.ndarray], provenance: dict[str, Any], compress: bool) -> None:
    packed = {"compression": "gzip", "compression_opts": 1} if compress else {}
    image = io.BytesIO()  # HDF5 on a disk that runs full takes the process down
    with h5py.File(image, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), fletcher32=True, **packed)
        facts = {key: str(value) for key, value in provenance.items()}
        file.attrs.update(facts | {"arrays": _described(dict(file))})
    write_bytes(path, image.getbuffer())


def _described(arrays: dict[str, h5py.Dataset]) -> str:
    """Name, type and shape of a row of every array."""
    return ", ".join(f"{name} {array.dtype} {array.shape[1:]}" for name, array in arrays.items())


class Store:
    """A whole store, read by row. Handles are opened by each process for itself, so workers may be forked."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "store.json").exists():
            raise ValueError(f"{self.folder} is no store: make it with `attend prepare`")
        plan = read_json(self.folder / "store.json", _Plan, remedy=f"remove {self.folder} and run again")
        self.count, self.shard, self.provenance = plan["count"], plan["shard"], plan["provenance"]
        shards = -(-self.count // self.shard)
        there = sum(file.stem.isdecimal() and int(file.stem) < shards for file in self.folder.glob("*.h5"))
        if there < shards:
            raise ValueError(f"{self.folder} lacks {shards - there} of its shards: run the same `attend prepare` again")
        self._files: OrderedDict[int, hdf5.Part] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return self.count

    def read(self, name: str, rows: list[int] | np.ndarray) -> np.ndarray:
        """Rows of one array, in the order asked for: (len(rows), ...)."""
        if not len(rows):
            return self._array(name, 0)
        return np.stack([self._array(name, *divmod(int(row), self.shard)) for row in rows])

    def _array(self, name: str, number: int, row: int | slice = slice(0, 0)) -> np.ndarray:
        """A row of an array, or none of its rows."""
        with hdf5.refusing(_shard(self.folder, number), "is damaged", "remove it and run `attend prepare` again"):
            return self._file(number).array(name)[row]

    def _file(self, number: int) -> hdf5.Part:
        if self._process != os.getpid():  # handles of the process we were forked from are not ours to use
            self._files, self._process = OrderedDict(), os.getpid()
        if number not in self._files:
            file = hdf5.Part.open(_shard(self.folder, number), rdcc_nbytes=0)
            self._check(file, min(self.shard, self.count - number * self.shard))
            self._files[number] = file
            if len(self._files) > OPEN_SHARDS:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(number)
        return self._files[number]

    def _check(self, file: hdf5.Part, rows: int) -> None:
        """Raise ValueError if a shard is not of this store, or not as it was written."""
        for key, value in self.provenance.items():
            if key != "versions" and str(file.attribute(key)) != str(value):
                raise ValueError(f"its {key} is not the store's")
        arrays = {name: file.array(name) for name in file}
        for name, array in arrays.items():
            if array.dtype.kind not in "iuf" or array.shape[:1] != (rows,):
                raise ValueError(f"{name!r} is no array of {rows} rows of numbers")
        written = file.attribute("arrays")
        if written is not None and written != (held := _described(arrays)):
            raise ValueError(f"it holds {held}, not {written}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": OrderedDict()}
