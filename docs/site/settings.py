"""Tables of settings: the sections of a configuration, and the options of each verb, from their dataclasses."""

from __future__ import annotations

import ast
import html
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from attend.config import LARGEST, Config
from attend.config.presets import PRESETS

POSITIONAL = get_args(Positional[int])[1]
KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path"}


@dataclass(frozen=True)
class Setting:
    """One row of a table: its name, the values it takes, its default and what it means."""

    name: str
    values: str
    default: str
    meaning: str
    positional: bool = False
    aliases: tuple[str, ...] = ()


def settings(kind: type) -> Iterator[tuple[type, list[Setting]]]:
    """The sections of a configuration, itself first, each with its settings by their full names."""
    hints = get_type_hints(kind)
    nested = {one.name: hints[one.name] for one in fields(kind) if is_dataclass(hints[one.name])}
    yield kind, [one for one in options(kind, command=False) if one.name not in nested]
    for name, section in nested.items():
        yield section, [Setting(f"{name}.{one.name}", *_rest(one)) for one in options(section, command=False)]


def options(kind: type, *, command: bool = True) -> list[Setting]:
    """The fields of a dataclass. With ``command``, by the names that they have on a command line.

    Sections are left out then, since their settings have a table of their own.
    """
    hints, meanings = get_type_hints(kind, include_extras=True), docstrings(kind)
    found = []
    for one in fields(kind):
        hint = hints[one.name]
        if command and is_dataclass(hint):
            continue
        extras = _extras(hint) if command else ()
        positional = POSITIONAL in extras
        name = _label(one.name, extras, positional) if command else one.name
        aliases = tuple(alias for extra in extras for alias in getattr(extra, "aliases", None) or ())
        found.append(Setting(name, values(hint), _default(one), meanings.get(one.name, ""), positional, aliases))
    return found


def _label(name: str, extras: tuple[Any, ...], positional: bool) -> str:
    """What a field is called on a command line: RUN or --dry-run, unless its ``tyro.conf.arg`` names it otherwise."""
    attribute = "metavar" if positional else "name"
    given = [word for extra in extras if isinstance(word := getattr(extra, attribute, None), str)]
    name = given[0] if given else name.upper() if positional else name
    return name if positional else f"--{name.replace('_', '-')}"


def docstrings(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass, inherited fields included."""
    found = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
            for field, text in pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def values(hint: Any) -> str:
    """The values that a type takes, in words: its choices, or its kind and range."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [extra.description for extra in parts[1:] if getattr(extra, "description", None)]
        return ", ".join([values(parts[0]), *ranges])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in parts)
    if origin in (Union, UnionType):
        one_of = [part for part in parts if part is not NoneType]
        joined = ", " if all(get_origin(part) is Literal for part in one_of) else " or "
        return joined.join(map(values, one_of)) + ("; or none" if len(one_of) < len(parts) else "")
    if origin is tuple:
        return f"{values(parts[0])}; several" if parts[-1] is ... else f"{len(parts)} of: {values(parts[0])}"
    return KINDS.get(hint, getattr(hint, "__name__", str(hint)))


def _extras(hint: Any) -> tuple[Any, ...]:
    """What is annotated to a type, at any depth."""
    own = hint.__metadata__ if get_origin(hint) is Annotated else ()
    return (*own, *(extra for part in get_args(hint) for extra in _extras(part)))


def _default(field: Field) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    default = field.default_factory() if field.default is MISSING else field.default
    if default is None or default == ():
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _rest(one: Setting) -> tuple[str, str, str]:
    return one.values, one.default, one.meaning


def table(rows: list[Setting], first: str) -> str:
    """A Markdown table. Each name is an anchor, so a page can link to settings.md#encoder.name."""
    lines = [f"| {first} | meaning | values | default |", "| --- | --- | --- | --- |"]
    for one in rows:
        anchor = "" if one.positional else f"{{#{one.name.lstrip('-')}}}"
        aliases = "".join(f", `{alias}`" for alias in one.aliases)
        lines.append(f"| `{one.name}`{anchor}{aliases} | {_cell(one.meaning)} | {_cell(one.values)} | {one.default} |")
    return _stacking(lines)


def _stacking(lines: list[str]) -> str:
    """A table whose cells stand below each other where the screen is narrow (site.css)."""
    return "\n".join(['<div class="stacking" markdown>', "", *lines, "", "</div>"])


def _cell(text: str) -> str:
    """Prose in a cell: no character of it is markup, but for code in backticks."""
    parts = html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;").split("`")
    parts[::2] = [prose.replace("_", "&#95;") for prose in parts[::2]]
    parts[1::2] = [html.unescape(code).replace("|", "\\|") for code in parts[1::2]]
    return "`".join(parts)


def settings_page() -> str:
    """Every setting of a run, by section: meaning and unit, values and range, default."""
    text = [
        "# Settings",
        "A run is a configuration of these settings: `attend train soft --encoder.name resnet50`, `train.epochs=3` in "
        "`attend run --set`, or `config.json` in its run folder. A setting is checked when it is read. One that does "
        f"not go with another is refused in one sentence. Numbers are at most {LARGEST:,}.",
        "The defaults are those of `attend.config.Config`. A [preset](verbs.md#train) changes some of them.",
    ]
    for kind, rows in settings(Config):
        name = "The run" if kind is Config else kind.__name__.lower()
        text += [f"## {name}", inspect.getdoc(kind), table(rows, "setting")]
    return "\n\n".join(text) + "\n"


def verbs_page() -> str:
    """Every verb of the program, with its options."""
    from attend.experiments.cli.main import VERBS

    text = [
        "# Verbs",
        "The program is `attend VERB ...`. `attend VERB --help` prints the same options. For any verb, `--debug` shows "
        "the traceback of an error, and `--plugin FILE.py` runs a file first that adds "
        "[a score or an estimator](../your-own-attention-or-estimator.md).",
    ]
    for verb, (kind, _) in VERBS.items():
        summary, _, rest = (inspect.getdoc(kind) or "").partition("\n\n")
        text += [f"## {verb}", _prose(summary), _prose(rest)]
        if verb == "train":
            text += [_presets(), "Beside the options below it has every [setting](settings.md) as an option."]
        text.append(table([one for one in options(kind)], "option").replace("{#", f"{{#{verb}-"))
    return "\n\n".join(part for part in text if part) + "\n"


def _prose(text: str) -> str:
    """A docstring: its line breaks are spaces."""
    return "\n\n".join(html.escape(" ".join(part.split()), quote=False) for part in text.split("\n\n"))


def _presets() -> str:
    lines = ["| preset | what it is | differs from `soft` |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {_cell(one.about)} | {_cell(one.differences)} |" for name, one in PRESETS.items()]
    return _stacking(lines)
