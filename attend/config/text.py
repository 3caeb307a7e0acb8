"""Settings by name: a configuration as nested plain values, as text, and compared with another."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, Literal

from attend.config import Config, require


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain values, as in config.json."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any], origin: str = "configuration") -> Config:
    """The inverse of ``to_dict``; unknown fields and wrong types raise ValueError naming ``origin``."""
    try:
        return _build(Config, values, "")
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None


def replace(config: Config, settings: dict[str, str | int | float | bool | None]) -> Config:
    """A copy with fields set by dotted names: ``{"train.epochs": "3"}``; text is read as the field's type."""
    values = to_dict(config)
    for name, value in settings.items():
        check_field(name)
        *parents, leaf = name.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    return _build(Config, values, "")


def fields(kind: type = Config, prefix: str = "") -> list[str]:
    """The dotted names of all fields."""
    names: list[str] = []
    for name, hint in typing.get_type_hints(kind).items():
        nested = dataclasses.is_dataclass(hint)
        names += fields(hint, f"{prefix}{name}.") if nested else [prefix + name]
    return names


def check_field(name: str) -> None:
    """Raise ValueError, with a suggestion, where a dotted name is no field's."""
    if name not in fields():
        raise ValueError(f"unknown field {name!r}{_suggest(name)}")


def difference(ours: Config, theirs: Config) -> str:
    """The fields in which two configurations differ, as "train.epochs 3 (was 5), ..."."""
    new, old = _flat(to_dict(ours)), _flat(to_dict(theirs))
    return ", ".join(f"{name} {new[name]!r} (was {old[name]!r})" for name in new if new[name] != old[name])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _suggest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, fields(), n=1)
    return f"; did you mean {close[0]}?" if close else "; `attend train soft --help` lists all fields"


def _build(kind: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'the configuration'} is {values!r}, but must be an object")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise ValueError(f"unknown field {prefix + name!r}{_suggest(prefix + name)}")
    built = {
        name: _build(hints[name], value, f"{prefix}{name}.")
        if dataclasses.is_dataclass(hints[name])
        else _read(hints[name], value, prefix + name)
        for name, value in values.items()
    }
    return kind(**built)


def _read(hint: Any, value: Any, name: str) -> Any:
    """One value as its declared type; text is accepted for every type, as on a command line."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _read(hint, value, name)
    if origin is Literal:
        require(value in arguments, name, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        parts = value.replace(",", " ").split() if isinstance(value, str) else value
        require(
            isinstance(parts, list | tuple) and len(parts) == len(arguments),
            name, value, f"{len(arguments)} numbers",
        )  # fmt: skip
        return tuple(_read(kind, part, name) for kind, part in zip(arguments, parts, strict=True))
    if hint is bool:
        known = {"true": True, "false": False, True: True, False: False}
        key = value.lower() if isinstance(value, str) else value
        require(isinstance(key, bool | str) and key in known, name, value, "true or false")
        return known[key]
    try:
        read = hint(value) if isinstance(value, str) or (hint is float and type(value) is int) else value
    except (ValueError, OverflowError):
        read = None
    words = {int: "a whole number", float: "a finite number", str: "text"}
    require(type(read) is hint and (hint is not float or math.isfinite(read)), name, value, words[hint])
    return read
