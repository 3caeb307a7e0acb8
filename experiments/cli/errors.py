"""Report an error in one plain sentence: the problem, its place, and the way out."""

import errno

from attend.runs.files import no_temporary

EXPECTED = (ValueError, OSError, ImportError, RuntimeError, MemoryError)
"""Errors of the user or of the machine. Any other error is a mistake in the program and shows its traceback."""

DISK = {
    errno.ENOSPC: "the disk is full{at}: free some space and run the same command again",
    errno.EDQUOT: "the disk is full for this user{at}: free some space and run the same command again",
    errno.EROFS: "the disk is read-only{at}: choose a folder that can be written",
    errno.EACCES: "no permission{at}: change it, or choose another file or folder",
    errno.EPERM: "no permission{at}: change it, or choose another file or folder",
    errno.ENOENT: "there is no file{at}: check the name, or make it again",
    errno.EEXIST: "there is a file{at} where a folder is needed: choose another folder, or move the file away",
    errno.ENOTDIR: "a file stands where a folder is needed{at}: choose another folder, or move the file away",
    errno.ENAMETOOLONG: "a name is too long{at}: give the file or its folder a shorter name",
    errno.EISDIR: "there is a folder{at} where a file is needed: name a file",
}
LOST = "another process of this run has ended, and says why"


def sentence(error: BaseException) -> str:
    """One plain sentence about an error."""
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error.strerror):
        return no_temporary(error)
    if isinstance(error, UnicodeEncodeError):
        part = ascii(error.object[max(0, error.start - 40) : error.start + 40])
        return f"{part} cannot be written as {error.encoding}: give the file another name, or set PYTHONUTF8=1"
    if isinstance(error, OSError) and error.errno in DISK:
        return DISK[error.errno].format(at=f" at {error.filename}" if error.filename else "")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}; try again, and --debug shows where it failed"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return (
            "there is not enough memory for this: take smaller sizes (attention.width, decoder.hidden, "
            "decoder.embedding, encoder.size), a narrower beam, or fewer images at once"
        )
    if type(error).__name__ == "DistBackendError" or "gloo" in str(error):
        return LOST
    text = " ".join(str(error).split()) or type(error).__name__
    ours = (
        not isinstance(error, RuntimeError | ImportError)
        or "pip install" in text
        or type(error).__module__ != "builtins"
    )
    return text if ours else f"{text}; --debug shows where it failed"
