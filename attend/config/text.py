"""Settings by name: a configuration as nested plain values, as text, and compared with another."""

import contextlib
import dataclasses
import difflib
import operator
import typing
from functools import cache, reduce
from typing import Any

from attend.config import Config
from attend.config.catalogue import ours
from attend.documents import choices, typed

to_dict = dataclasses.asdict
"""Nested plain values, as in config.json."""


def from_dict(values: dict[str, Any], origin: str = "configuration") -> Config:
    """The inverse of ``to_dict``; unknown fields and wrong types raise ValueError naming ``origin``."""
    try:
        return _build(values)
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None


def replace(config: Config, settings: dict[str, str | int | float | bool | None]) -> Config:
    """A copy with fields set by dotted names: ``{"train.epochs": "3"}``; text is read as the field's type."""
    values, hints = to_dict(config), _hints()
    for name, value in settings.items():
        check_field(name)
        *parents, leaf = name.split(".")
        plain = _from_text(hints[name], value) if isinstance(value, str) else value
        reduce(operator.getitem, parents, values)[leaf] = plain
    return _build(values)


def fields() -> list[str]:
    """The dotted names of all fields."""
    return list(_hints())


@cache
def _hints(kind: type = Config, prefix: str = "") -> dict[str, Any]:
    """The declared type of every field, by its dotted name."""
    hints: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        hints |= _hints(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {prefix + name: hint}
    return hints


def check_field(name: str) -> None:
    """Raise ValueError, with a suggestion, where a dotted name is no field's."""
    if name not in _hints():
        close = difflib.get_close_matches(name, fields(), n=1)
        hint = f"did you mean {close[0]}?" if close else "`attend train soft --help-all` lists all fields"
        raise ValueError(f"unknown field {name!r}; {hint}")


def changes(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configurations differ, by dotted name: our value and theirs."""
    new, old = _flat(to_dict(ours)), _flat(to_dict(theirs))
    return {name: (new[name], old[name]) for name in new if new[name] != old[name]}


def difference(ours: Config, theirs: Config) -> str:
    """The same as text, "train.epochs 3 (was 5), ..."."""
    return ", ".join(f"{name} {new!r} (was {old!r})" for name, (new, old) in changes(ours, theirs).items())


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _build(values: Any) -> Config:
    """A configuration from nested plain values. msgspec passes over unknown fields, so they are refused here."""
    if not isinstance(values, dict):
        return typed(values, Config, "the configuration")
    for name in _flat(values):
        if name not in Config.__dataclass_fields__:
            check_field(name)
    return typed(_ours(values), Config)


def _ours(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same with our names in place of those of today's papers."""
    return {
        name: _ours(value, f"{prefix}{name}.") if isinstance(value, dict) else ours(prefix + name, value)
        for name, value in values.items()
    }


def _from_text(hint: Any, text: str) -> Any:
    """Text from a command line as the plain value that a field's type is read from."""
    kinds = choices(hint)
    if type(None) in kinds and text.lower() == "none":
        return None
    if bool in kinds:
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in kinds:
        if typing.get_origin(kind) is tuple:
            return [_from_text(typing.get_args(kind)[0], part) for part in text.replace(",", " ").split()]
        if kind in (int, float):
            with contextlib.suppress(ValueError, OverflowError):
                return kind(text)
    return text
