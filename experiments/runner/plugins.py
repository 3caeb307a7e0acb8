"""`--plugin FILE.py`: run files of the user before the verb, in this process and in its workers."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from attend.experiments.cli.errors import EXPECTED
from attend.experiments.runner import declared
from attend.experiments.runner.declared import Blamed, executed, reason

VARIABLE = "ATTEND_PLUGINS"
"""The environment variable that passes the files to the workers."""


def take(arguments: Sequence[str]) -> list[str]:
    """Run the files of `--plugin FILE.py` and return the other arguments. ValueError if a file fails."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin", action="append", nargs="?", const="")
    known, rest = parser.parse_known_args(arguments)
    if known.plugin:
        os.environ[VARIABLE] = os.pathsep.join(known.plugin)
        load()
    return rest


def load() -> None:
    """Run the files of the environment variable."""
    for file in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        if not Path(file).is_file():
            raise ValueError(f"--plugin {file!r} is no file: give a Python file, as --plugin mine.py")
        executed(Path(file))


def blame(error: BaseException) -> Blamed | None:
    """The same error as a sentence about the user's code, if it comes from there or if a plugin may be its cause."""
    files = os.environ.get(VARIABLE)
    if (found := declared.blame(error)) or not files:
        return found
    if isinstance(error, EXPECTED) or not isinstance(error, Exception):
        return None
    return Blamed(f"something that --plugin {files} adds does not fit ({reason(error)}): --debug shows where")
