"""How an error is told: one plain sentence, with what is wrong, where, and the way out."""

from __future__ import annotations

import errno

EXPECTED = (ValueError, OSError, ImportError, RuntimeError)
"""What the world and the user can get wrong; anything else is a mistake in the program and shows its traceback."""


def sentence(error: BaseException) -> str:
    """One plain sentence for what went wrong."""
    if isinstance(error, OSError):
        where = f" at {error.filename}" if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"the disk is full{where}: free some space and run the same command again"
        if error.errno == errno.EROFS:
            return f"the disk is read-only{where}: choose another folder with --out"
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"no permission{where}: change it, or choose another file or folder"
        if error.strerror:
            return f"{error.filename or 'a file'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
