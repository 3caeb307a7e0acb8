"""Python files of the user: they are run here, what they declare is checked, and their errors name their lines."""

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from attend.experiments.cli.errors import sentence

from attend.paths import plain_name, quoted, regular

Result = TypeVar("Result")
Check = Callable[[Any], bool]
LONG = 300
"""Characters of a message of the user's code that are reported."""
INTERRUPTIONS = (KeyboardInterrupt, GeneratorExit, BrokenPipeError)
"""What ends a command without anybody's fault."""
FILES: set[str] = set()
"""The files of the user that were run."""


class Blamed(ValueError):
    """An error of the user's code, in one sentence that names file and line."""


class Declared:
    """The base of the dataclasses that a file of the user may declare: it checks name and types of the fields.

    ``SHAPES`` has by field a check of its value, and what the value must be in words. ``RETURNS`` has by field the type
    that its function returns. ``PASS`` are errors of the program that cross the user's functions unchanged.
    """

    SHAPES: ClassVar[Mapping[str, tuple[Check, str]]]
    RETURNS: ClassVar[Mapping[str, type]]
    PASS: ClassVar[tuple[type[BaseException], ...]] = ()

    def __post_init__(self) -> None:
        what = type(self).__name__.lower()
        plain_name(self.name, f"the {what}")
        for field, (fits, expected) in self.SHAPES.items():
            if not fits(value := getattr(self, field)):
                raise ValueError(f"`{field}` of the {what} {self.name} is {quoted(value)}, but must be {expected}")


def optional(fits: Check) -> Check:
    return lambda value: value is None or fits(value)


def of(kind: type) -> Check:
    """Whether a value is of a type; true and false are no numbers."""
    return lambda value: isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def whole(least: int, most: int) -> Check:
    return lambda value: of(int)(value) and least <= value <= most


def by_name(fits: Check) -> Check:
    """Whether a mapping has names as keys, and values that fit."""
    return lambda value: isinstance(value, Mapping) and all(of(str)(one) and fits(value[one]) for one in value)


def several(fits: Check) -> Check:
    """Whether a sequence, which is no text, has members that fit."""
    return lambda value: isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(map(fits, value))


def executed(file: Path) -> ModuleType:
    """The module of a file, which is run. ValueError names the line that fails."""
    FILES.add(str(file))
    module = ModuleType(f"file_of_the_user_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look up the module of their class
    with blaming(str(file)):
        exec(compile(regular(file).read_bytes(), str(file), "exec"), module.__dict__)
    return module


def declaration(file: Path, what: str, kind: type[Result], *arguments: object) -> Result:
    """What the function ``what`` of a file declares. Its own functions are blamed wherever they are called."""
    if not callable(declare := getattr(executed(file), what, None)):
        raise ValueError(f"{file} declares no {what}: define `{what}(...)` in it, as experiments/quickstart.py does")
    found = blamed(file, declare, kind)(*arguments)
    for field, returns in kind.RETURNS.items():
        if (function := getattr(found, field)) is not None:
            object.__setattr__(found, field, blamed(file, function, returns, kind.PASS))
    return found


def blamed(file: Path, function: Callable, returns: type, passing: tuple = ()) -> Callable:
    """A function of the user's file. Whatever it raises is a Blamed error, and so is a result that is not what it
    ``returns``."""
    code, name = getattr(function, "__code__", None), getattr(function, "__name__", "a function")
    line = f", line {code.co_firstlineno}" if code and code.co_filename == str(file) else ""

    @functools.wraps(function)
    def call(*arguments: object, **options: object) -> Any:
        with blaming(f"{file}{line}", passing):
            found = function(*arguments, **options)
            if not isinstance(found, returns):
                raise ValueError(f"{name} returns {type(found).__name__}: return a {returns.__name__}")
            return found

    return call


@contextlib.contextmanager
def blaming(place: str, passing: tuple = ()) -> Iterator[None]:
    """Turn errors of the user's code into Blamed ones, which name the line, or ``place`` if none of its lines is in the
    traceback. An interruption passes, and errors of the types ``passing``."""
    try:
        yield
    except (*INTERRUPTIONS, *passing):
        raise
    except BaseException as error:
        raise blame(error) or Blamed(f"{place}: {reason(error)}") from error


def blame(error: BaseException) -> Blamed | None:
    """The same error as a sentence that names the line of the user's code, if it comes from there; else None."""
    if isinstance(error, (*INTERRUPTIONS, Blamed)):
        return error if isinstance(error, Blamed) else None
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename, error.lineno))
    for file, line in reversed(places):
        if file in FILES:
            return Blamed(f"{file}{f', line {line}' if line else ''}: {reason(error)}")
    return None


def reason(error: BaseException) -> str:
    """What an error says, in one line that ends."""
    if isinstance(error, SystemExit):
        return "it ends the program with sys.exit: return from the function, or raise ValueError with the reason"
    if isinstance(error, OSError | MemoryError):
        return sentence(error)
    try:
        said = " ".join(str(error).split())
    except Exception:  # a class of the user, whose own words fail
        said = ""
    kind = "" if type(error) is ValueError and said else type(error).__name__
    said = ": ".join(filter(None, [kind, said]))
    return said if len(said) <= LONG else f"{said[: LONG - 3]}..."
