"""How this process was started: alone, or as one of several by torchrun or `accelerate launch`."""

import os
from typing import NamedTuple

NUMBERS = {"WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "RANK": -1, "LOCAL_RANK": -1, "MASTER_PORT": 1}
"""Variables that hold whole numbers, and the least value of each. A rank of -1 means one process."""
NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What each of several processes needs to find the others."""
REMEDY = "torchrun sets it for each of several processes, and one process needs none: unset it"


class Launch(NamedTuple):
    """The number of this process, and how many there are, in all and on this machine."""

    rank: int = 0
    processes: int = 1
    here: int = 1


def launched() -> Launch:
    """How this process was started, by the environment. ValueError if its variables make no sense."""
    found = {name: _number(name, least) for name, least in NUMBERS.items() if os.environ.get(name)}
    processes = found.get("WORLD_SIZE", 1)
    if processes == 1:
        return Launch()
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise ValueError(f"WORLD_SIZE is {processes}, but the process has no {', '.join(missing)}: {REMEDY}")
    here = found.get("LOCAL_WORLD_SIZE", 1)
    for name, most in (("RANK", processes), ("LOCAL_RANK", found.get("LOCAL_WORLD_SIZE", processes))):
        if not 0 <= found[name] < most:
            raise ValueError(f"{name} is {found[name]}, but must be 0 to {most - 1}, of {most} processes: {REMEDY}")
    return Launch(found["RANK"], processes, here)


def _number(name: str, least: int) -> int:
    text = os.environ[name].strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10) or int(text) < least:
        raise ValueError(f"{name} is {text[:40]!r}, but must be a whole number of {least} or more: {REMEDY}")
    return int(text)
