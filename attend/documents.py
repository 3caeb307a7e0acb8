"""JSON documents read as types: a field of a wrong type is one sentence that names it, wherever the document is read.

``msgspec`` decides whether a value is of a type. It reads plain dataclasses, named tuples and typed dictionaries, so
our records need no base class, and it never takes text or a fraction for a whole number. ``cattrs`` reads the same
types, but it converts by default ("3" becomes 3), and it is pure Python, which every line of examples.jsonl would pay
for. The text itself is parsed by ``json``: it accepts the -Infinity in the checkpoint of a run that was never
validated, and the halves of characters in old files.
"""

import json
import re
import reprlib
import sys
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")
_LARGEST = sys.float_info.max
Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST, description="a finite number")]
Amount = Annotated[float, Meta(ge=0, le=_LARGEST, description="a finite number of 0 or more")]
Count = Annotated[int, Meta(ge=0, le=2**53, description="a whole number of 0 or more")]
Positive = Annotated[int, Meta(ge=1, le=2**53, description="a whole number of 1 or more")]
DEEPEST = 100
"""Levels of a document that are read. Ours have seven."""

EXPECTED = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", type(None): "null"}
MISSING = re.compile(r"Object missing required field `(.*?)`")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def parsed(text: str | bytes, kind: type[T] = Any) -> T:
    """JSON as a value of a type; ValueError says in one sentence what is wrong."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if len(text) > DEEPEST and _deep(value, text):
        raise ValueError("it is nested too deeply")
    return typed(value, kind)


def _deep(value: Any, text: str | bytes) -> bool:
    """Whether a value has more than DEEPEST levels; most texts have too few brackets for that."""
    brackets = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    level, levels = [value], 0
    if sum(map(text.count, brackets)) <= DEEPEST:
        return False
    while level and levels <= DEEPEST:
        level = [one for some in level if isinstance(some, dict | list) for one in _inner(some)]
        levels += 1
    return levels > DEEPEST


def _inner(value: dict | list) -> Any:
    return value.values() if isinstance(value, dict) else value


def typed(value: Any, kind: type[T], name: str = "") -> T:
    """A value from JSON as a value of a type; ValueError names the field, its value and what was expected.

    A typed dictionary declares the fields that we rely on: its value is returned as it is, with all other fields.
    """
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        refused = error.__cause__  # a class that refuses its values says why
        raise ValueError(
            str(refused) if isinstance(refused, ValueError) else _fault(value, kind, name, error)
        ) from None
    return value if typing.is_typeddict(kind) else found


def _fault(value: Any, kind: Any, name: str, error: msgspec.ValidationError) -> str:
    """The innermost field that is not of its type, in one sentence."""
    for part, inner, its in _parts(value, kind):
        try:
            msgspec.convert(inner, its)
        except msgspec.ValidationError as within:
            return _fault(inner, its, (name + part).lstrip("."), within)
    if missing := MISSING.match(str(error)):
        return f"{name}.{missing[1]} is missing".lstrip(".")
    if typing.get_origin(kind) is typing.Annotated and isinstance(value, str | bool | None):  # no number at all
        kind = typing.get_args(kind)[0]
    return f"{name or 'it'} is {_SHORT.repr(value)}, but must be {expected(kind)}"


def _parts(value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """The parts of a value: how the name of each goes on, its value and its type."""
    kind = next((one for one in choices(kind) if one is not type(None)), kind)
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if isinstance(value, dict):
        fields = {} if origin is dict or not isinstance(kind, type) else _hints(kind)
        for key, one in value.items():
            if key in fields or (origin is dict and inner):
                yield f".{_SHORT.repr(key)[1:-1]}", one, inner[1] if origin is dict else fields[key]
    elif isinstance(value, list | tuple) and origin in (list, tuple) and inner:
        several = origin is list or inner[-1] is ...
        if several or len(value) == len(inner):
            yield from ((f"[{i}]", one, inner[0] if several else inner[i]) for i, one in enumerate(value))


def _hints(kind: type) -> dict[str, Any]:
    """The declared type of each field, with its bounds and without NotRequired."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {n: typing.get_args(h)[0] if typing.get_origin(h) is typing.NotRequired else h for n, h in hints.items()}


def choices(kind: Any) -> tuple:
    """The types of a union, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def expected(kind: Any) -> str:
    """A type in words."""
    if len(several := choices(kind)) > 1:
        return " or ".join(map(expected, several))
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is typing.Annotated:
        return inner[1].description or f"{expected(inner[0])} of {inner[1].ge} or more"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (list, tuple):
        return f"a list of {len(inner)} values" if origin is tuple and inner and inner[-1] is not ... else "a list"
    return EXPECTED.get(origin, "an object")
