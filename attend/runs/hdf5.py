"""HDF5 files that are read: all that they hold lies in them, and is no larger than they can hold.

An HDF5 file can name other files (by links, virtual arrays and external storage), and can declare arrays that are far
larger than it is. A file from elsewhere could so show any file of this machine, or fill its memory. Both are refused
when the array is asked for, so a file of many arrays costs nothing more to open.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from attend.paths import quoted, regular

MOST = 2**32
"""Bytes of an array that is read as a whole."""
UNPACKED = 1032
"""Bytes that deflate makes of one byte, at most. LZF and szip make fewer."""
PACKING = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF, h5py.h5z.FILTER_SZIP)
FILTERS = (*PACKING, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
FEW = 16
"""Values of an attribute."""


class Part:
    """A group of an HDF5 file that is open for reading; ValueError for what leads out of the file or is not in it."""

    def __init__(self, group: h5py.Group, size: int) -> None:
        self._group, self._size = group, size
        self._arrays: dict[str, h5py.Dataset] = {}

    @classmethod
    def open(cls, path: Path | str, **options: Any) -> Self:
        """A whole file, which ``close`` closes."""
        return cls(h5py.File(regular(path), "r", **options), os.path.getsize(path))

    def close(self) -> None:
        self._group.file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)

    def __contains__(self, name: str) -> bool:
        return bool(name) and self._group.id.links.exists(name.encode())

    def part(self, name: str) -> "Part":
        """A group in this one."""
        return Part(self._member(name, h5py.Group, "group"), self._size)

    def array(self, name: str) -> h5py.Dataset:
        """An array of numbers or text, to be read in parts."""
        if name not in self._arrays:
            found = self._member(name, h5py.Dataset, "array")
            _check(found, name, self._size)
            self._arrays[name] = found
        return self._arrays[name]

    def values(self, name: str) -> np.ndarray:
        """An array of numbers as a whole."""
        found = self.array(name)
        if found.dtype.kind not in "iuf" or found.nbytes > MOST:
            raise ValueError(f"{quoted(name)} is no array of numbers of up to {MOST / 1e9:.0f} GB")
        return found[:]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts as a whole. Several may be one text in the file, so they are counted as they are read."""
        found = self.array(name)
        if found.ndim != 1 or found.dtype.kind in "iuf" or found.nbytes > MOST:
            raise ValueError(f"{quoted(name)} is no list of texts")
        texts: list[str] = []
        step = max(1, MOST // self._size)
        for start in range(0, len(found), step):
            texts.extend(found.asstr()[start : start + step].tolist())
            if sum(map(len, texts)) > max(self._size, found.nbytes):
                raise ValueError(f"{quoted(name)} is larger than the file")
        return tuple(texts)

    def attribute(self, name: str) -> Any:
        """An attribute of a few values; None if there is none of that name."""
        if name not in self._group.attrs:
            return None
        if math.prod(self._group.attrs.get_id(name).shape or ()) > FEW:
            raise ValueError(f"its attribute {quoted(name)} has too many values")
        return self._group.attrs[name]

    def text(self, name: str) -> str:
        """An attribute that is text."""
        value = self.attribute(name)
        if not isinstance(value, str):
            raise ValueError(f"its attribute {quoted(name)} is no text")
        return value

    def numbers(self, name: str, count: int) -> tuple[int | float, ...]:
        """An attribute that is so many finite numbers."""
        value = np.asarray(self.attribute(name))
        if value.shape != (count,) or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise ValueError(f"its attribute {quoted(name)} is not {count} numbers")
        return tuple(value.tolist())

    def _member(self, name: str, kind: type, what: str) -> Any:
        if name not in self:
            raise ValueError(f"it has no {quoted(name)}")
        if self._group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{quoted(name)} is a link, perhaps to another file")
        found = self._group[name]
        if not isinstance(found, kind):
            raise ValueError(f"{quoted(name)} is no {what}")
        return found


@contextlib.contextmanager
def opened(path: Path | str, fault: str, remedy: str) -> Iterator[Part]:
    """A whole file for reading; what is wrong with it becomes one ValueError, as in ``refusing``."""
    regular(path)  # which says what is wrong in words of its own
    with refusing(path, fault, remedy), contextlib.closing(Part.open(path)) as part:
        yield part


@contextlib.contextmanager
def refusing(path: Path | str, fault: str, remedy: str) -> Iterator[None]:
    """Whatever h5py says of a damaged file becomes one ValueError: "<path> <fault> (<why>): <remedy>"."""
    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        if isinstance(error, OSError) and error.filename:  # of another file, which is written meanwhile
            raise
        raise ValueError(f"{path} {fault} ({' '.join(str(error).split())}): {remedy}") from None


def _check(array: h5py.Dataset, name: str, size: int) -> None:
    """Raise ValueError for an array that a file of ``size`` bytes cannot hold itself."""
    plan = array.id.get_create_plist()  # before its shape, which may be that of other files
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"{quoted(name)} lies in another file")
    if array.dtype.kind not in "iuf" and h5py.check_string_dtype(array.dtype) is None:
        raise ValueError(f"{quoted(name)} holds neither numbers nor text")
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    packed = sum(one in PACKING for one in filters)
    if packed > 1 or not set(filters) <= {*FILTERS}:
        raise ValueError(f"{quoted(name)} is packed in a way that is not read")
    chunk = math.prod(array.chunks or (0,)) * array.dtype.itemsize
    stored = min(array.id.get_storage_size(), size) * (UNPACKED if packed else 1)
    if array.nbytes and max(array.nbytes, chunk) > stored:
        raise ValueError(
            f"{quoted(name)} declares {max(array.nbytes, chunk):,} bytes, and the file has no room for them"
        )
