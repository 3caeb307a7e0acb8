"""The gate to the disk: names that come out of a file or a declaration, and files that may be no files.

A name that somebody wrote may lead anywhere, and a path may lead to a pipe that never ends. Whatever turns such a name
into a path, or opens such a path, passes it through here first.
"""

import os
import re
import stat
from pathlib import Path

LONGEST = 200
"""Bytes of a name: file systems take 255, and what is written beside it has a longer name than the file."""

_SHOWN = 60
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def inside(folder: Path, name: str, what: str) -> Path:
    """The path of a name below a folder; ValueError where the name leads out of it, and says so.

    ``name`` may have folders in it ("val/1.jpg"). Links that lie on the disk are followed: whoever made them could
    have copied the files.
    """
    parts = re.split(r"[/\\]", name)
    if not name or name.startswith(("/", "\\")) or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise ValueError(f"{what} is named {quoted(name)}, which leads out of {folder}: name a file inside it")
    return folder / name


def plain_name(name: str, what: str) -> str:
    """A name that is to become one folder or file: returned as it is; ValueError says what it may not contain."""
    fault = (
        "is no text" if not isinstance(name, str)
        else "is empty" if not name.strip()
        else "would be another folder" if name in (".", "..")
        else "contains a slash" if "/" in name or "\\" in name
        else "contains a control character" if _CONTROL.search(name)
        else "is no UTF-8" if not encodable(name)
        else f"has more than {LONGEST} bytes" if len(name.encode()) > LONGEST
        else None
    )  # fmt: skip
    if fault:
        raise ValueError(f"{what} {quoted(name)} {fault}: it becomes the name of a folder, so choose a plain word")
    return name


def regular(path: Path | str) -> Path:
    """The path of a file that ends: returned as it is; ValueError for a pipe, a socket, a device or a folder.

    Whatever is opened for reading passes through here: ``open(regular(path))``. A path where nothing is passes: whoever
    opens it says so in words of their own.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return path
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path} is a folder, not a file: name a file")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is a pipe or a device, not a file: write its content into a file, and name that")
    return path


def quoted(name: object) -> str:
    """A name as a message quotes it: short, and without what a terminal would obey."""
    text = ascii(name) if not isinstance(name, str) or not encodable(name) else repr(name)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def encodable(name: str) -> bool:
    """False for a name that is no UTF-8, in which Python keeps the bytes as halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
