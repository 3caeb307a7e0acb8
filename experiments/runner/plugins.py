"""`--plugin FILE.py`: files of the user's that are run before the verb, here and in the workers it starts."""

from __future__ import annotations

import os
import runpy
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "ATTEND_PLUGINS"
"""Names the files to the workers."""


def take(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--plugin FILE.py`, once these files have been run. ValueError where one cannot be."""
    rest, files = [], []
    given = iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if name == "--plugin":
            files.append(value if equals else next(given, ""))
        else:
            rest.append(argument)
    if files:
        os.environ[VARIABLE] = os.pathsep.join(files)
        load()
    return rest


def load() -> None:
    """Run the files that this process or the one that started it was given."""
    for file in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        if not Path(file).is_file():
            raise ValueError(f"--plugin {file!r} is no file: give a Python file, as --plugin mine.py")
        try:
            runpy.run_path(file)
        except Exception as error:
            raise ValueError(f"--plugin {file} fails: {type(error).__name__}: {error}") from error
