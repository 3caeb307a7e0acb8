"""Ask before something long starts, where there is somebody to ask."""

from __future__ import annotations

import sys


def agreed(text: str, yes: bool) -> bool:
    """Say what is to come, to stderr, and whether it shall.

    Asked is only at a terminal, where Enter is a yes and the end of the input a no: with ``yes``, or where stdin or
    stderr is none, nothing waits for an answer.
    """
    print(text, file=sys.stderr)
    if yes or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print("Go on? [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in ("", "y", "yes")
