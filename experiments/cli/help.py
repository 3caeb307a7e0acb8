"""The help of a verb: its options with unit, range and default, from the types and docstrings that declare them."""

from __future__ import annotations

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import docstring_parser
from tyro.conf import Positional

from attend.config.section import LARGEST
from attend.documents import expected

HELP = ("-h", "--help", "--help-all")
WIDTH = 100
COLUMN = 28
"""Where the text of an option begins, unless its name is longer."""
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option as it is shown: its name, the field that it sets, what follows it, its range, its default, its text,
    the section that it is in, and whether it must be given."""

    name: str
    field: str
    metavar: str
    range: str
    default: str
    about: str
    section: str = ""
    positional: bool = False
    needed: bool = False

    @property
    def flag(self) -> str:
        """As it is written on the command line."""
        if self.positional:
            return self.metavar
        return f"--{self.name.replace('_', '-')} {self.metavar}".rstrip()

    @property
    def value(self) -> str:
        """What must follow it, in words."""
        several = self.metavar.split() or [""]
        number = {"N": "whole number", "X": "number"}.get(several[0])
        if number is None:
            return self.range or f"{self.metavar} ({first_sentence(self.about)})"
        first = f"a {number}" if len(several) == 1 else f"{len(several)} {number}s"
        return first if self.range in ("", first) else f"{first}, {self.range}"

    def text(self, everything: bool) -> str:
        """Its line or lines: the first sentence of its text, or all of it, then range and default."""
        limits = "; ".join(filter(None, [self.range, self.default and f"default {self.default}"]))
        about = (self.about if everything else first_sentence(self.about)) + (f" ({limits})" if limits else "")
        head = f"  {self.flag:<{COLUMN - 4}}  "
        return textwrap.fill(about, WIDTH, initial_indent=head, subsequent_indent=" " * COLUMN, break_on_hyphens=False)


def first_sentence(text: str) -> str:
    return re.split(r"(?<!et al)\. ", text, maxsplit=1)[0].rstrip(".")


def options(kind: type, default: object = None) -> list[Option]:
    """The options of a dataclass, those of its sections after its own; ``default`` is an instance of it."""
    found = list(_options(kind, default, ""))
    return sorted(found, key=lambda one: bool(one.section))


def _options(kind: type, default: object, section: str) -> Iterator[Option]:
    texts, hints = _texts(kind), get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint, value = hints[field.name], _default(field, default)
        if is_dataclass(hint):
            yield from _options(hint, value, field.name)
            continue
        marks = [mark for _, some in _leaves(hint) for mark in some]
        called = next((mark.name for mark in marks if getattr(mark, "name", None)), field.name)
        name = f"{section}.{called}" if section else called
        if value is True:  # the flag turns it off
            name = f"{section}.no_{called}" if section else f"no_{called}"
        positional = _marker(Positional) in marks
        metavar = next((mark.metavar for mark in marks if getattr(mark, "metavar", None)), None)
        yield Option(
            name=name,
            field=field.name,
            metavar=metavar or _metavar(hint),
            range=_range(hint),
            default="" if positional else _shown(value, bool(section)),
            needed=value is MISSING,
            about=("turn off: " if value is True else "") + texts[field.name],
            section=section,
            positional=positional,
        )


@cache
def _texts(kind: type) -> dict[str, str]:
    """The docstring of each field, those of base classes too."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if is_dataclass(one):
            parsed = docstring_parser.parse_from_object(one).params
            found |= {text.arg_name: " ".join((text.description or "").split()) for text in parsed}
    return found


def _default(field: Field, instance: object) -> Any:
    if instance is not None:
        return getattr(instance, field.name)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _marker(form: Any) -> Any:
    """What a form of tyro puts into a type."""
    return get_args(form[int])[1]


def _leaves(hint: Any, marks: tuple = ()) -> Iterator[tuple[Any, tuple]]:
    """The types of a hint without None, each with what is noted beside it."""
    if get_origin(hint) is typing.Annotated:
        yield from _leaves(get_args(hint)[0], marks + hint.__metadata__)
    elif get_origin(hint) in (typing.Union, types.UnionType):
        for one in get_args(hint):
            yield from _leaves(one, marks)
    elif hint is not type(None):
        yield hint, marks


def _metavar(hint: Any) -> str:
    kind, marks = next(_leaves(hint))
    if kind is bool:
        return ""
    if get_origin(kind) is tuple:
        return " ".join(_metavar(one) for one in get_args(kind) if one is not ...)
    named = get_origin(kind) is typing.Literal or any(hasattr(mark, "names") for mark in marks)
    return "NAME" if named else METAVARS.get(kind, "VALUE")


def _range(hint: Any) -> str:
    """What the value must be, in the words of the error that refuses another; empty if any text will do."""
    names, texts = [], []
    for kind, marks in _leaves(hint):
        described = [mark.description for mark in marks if getattr(mark, "description", None)]
        if get_origin(kind) is typing.Literal:
            names += map(str, get_args(kind))
        elif get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is typing.Annotated:
            texts.append(f"each {_range(get_args(kind)[0])}")
        elif described or kind in (int, float):
            texts += described or [expected(kind)]
    return " or ".join(([f"one of {', '.join(names)}"] if names else []) + texts)


def _shown(value: object, setting: bool) -> str:
    """The default, empty if there is none. The text of a verb's own option says what happens if it is not given."""
    if value is MISSING or isinstance(value, bool) or value == () or (value is None and not setting):
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


def page(kind: type, program: str, default: object = None, everything: bool = False) -> str:
    """The help of a verb.

    Without ``everything`` an option has the first sentence of its text, and the page has the options of ``kind.FIRST``,
    or all those that are in no section.
    """
    every, first = options(kind, default), getattr(kind, "FIRST", ())
    shown = [one for one in every if everything or (one.name in first if first else not one.section)]
    shown = sorted(shown, key=lambda one: first.index(one.name)) if first and not everything else shown
    places = [one for one in shown if one.positional]
    flags = [one for one in shown if not one.positional]
    needed = [one.flag for one in flags if one.needed]
    usage = " ".join([program, *(one.metavar for one in places), *needed, "[--OPTION VALUE ...]"])
    parts = [usage, "", _wrapped(inspect.getdoc(kind) or ""), ""]
    section = ""
    for one in (*places, *flags):
        if everything and one.section != section:
            section = one.section
            about = inspect.getdoc(get_type_hints(kind)[section]) or ""
            parts += ["", f"{section}: {about}"]
        parts.append(one.text(everything))
    return "\n".join([*parts, "", _last(every, shown, program, everything)]).rstrip()


def _last(every: Sequence[Option], shown: Sequence[Option], program: str, everything: bool) -> str:
    """What the page leaves out."""
    if everything:
        return f"No number is above {LARGEST:,}, unless its range says so."
    if left := len(every) - len(shown):
        return f"`{program} --help-all` shows {left} other options, and more about each."
    cut = any(first_sentence(one.about) != one.about.rstrip(".") for one in shown)
    return f"`{program} --help-all` shows more about each." if cut else ""


def entries(texts: dict[str, str]) -> str:
    """Names and their texts, wrapped in two columns."""
    width = max(map(len, texts)) + 4
    options = {"subsequent_indent": " " * width, "break_on_hyphens": False}
    lines = (
        textwrap.fill(text, WIDTH, initial_indent=f"  {name:<{width - 2}}", **options) for name, text in texts.items()
    )
    return "\n".join(lines)


def extended(kind: type, config: object) -> Any:
    """The settings of a configuration as an instance of the options that extend it."""
    return kind(**{one.name: getattr(config, one.name) for one in fields(config)})


def _wrapped(text: str) -> str:
    """Paragraphs, each wrapped."""
    return "\n\n".join(textwrap.fill(" ".join(one.split()), WIDTH) for one in re.split(r"\n\s*\n", text))
