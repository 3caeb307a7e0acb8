"""Tables: the sections of a configuration, and the options of each verb, as the help of `attend` has them."""

from __future__ import annotations

import html
import inspect
from typing import get_type_hints

from attend.experiments.cli.help import Option, options

from attend.config import LARGEST, Config
from attend.config.presets import PRESETS

FREE = {"TEXT": "text", "PATH": "path"}
OFF = "turn off: "
"""How the help begins the text of a flag that sets a setting to false."""


def settings_page() -> str:
    """Every setting of a run, by section: meaning and unit, range, default."""
    text = [
        "# Settings",
        "A run is a configuration of these settings: `attend train soft --encoder.name resnet50`, `train.epochs=3` in "
        "`attend run --set`, or `config.json` in its run folder. A setting is checked when it is read. One that does "
        f"not go with another is refused in one sentence. No number is above {LARGEST:,}, unless its range says so.",
        "The defaults are those of `attend.config.Config`. A [preset](verbs.md#train) changes some of them.",
    ]
    every, hints = options(Config), get_type_hints(Config)
    for section in dict.fromkeys(one.section for one in every):
        kind = hints[section] if section else Config
        text += [f"## {section or 'The run'}", inspect.getdoc(kind), table([o for o in every if o.section == section])]
    return "\n\n".join(text) + "\n"


def verbs_page() -> str:
    """Every verb of the program, with its options."""
    from attend.experiments.cli.main import VERBS

    text = [
        "# Verbs",
        "The program is `attend VERB ...`. `attend VERB --help-all` prints the same options. For any verb, `--debug` "
        "shows the traceback of an error, and `--plugin FILE.py` runs a file first that adds "
        "[a score or an estimator](../your-own-attention-or-estimator.md).",
    ]
    for verb, (kind, _) in VERBS.items():
        text += [f"## {verb}", _prose(inspect.getdoc(kind) or "")]
        if verb == "train":
            text += [_presets(), "Beside the options below it has every [setting](settings.md) as an option."]
        own = [one for one in options(kind) if not one.section]
        text.append(table(own, command=verb))
    return "\n\n".join(part for part in text if part) + "\n"


def table(rows: list[Option], command: str = "") -> str:
    """A Markdown table. Each name is an anchor: settings.md#encoder.name, and with ``command`` verbs.md#run-seeds.

    With ``command``, the verb, options are named as they are written on the command line.
    """
    lines = [f"| {'option' if command else 'setting'} | meaning | range | default |", "| --- | --- | --- | --- |"]
    for one in rows:
        name = one.flag if command else f"{one.section}.{one.field}".lstrip(".")
        anchor = f"{command}-{one.field}" if command else name
        default = f"`{one.default}`" if one.default else "required" if one.needed else "" if command else "`none`"
        about, limits = one.about, one.range or FREE.get(one.metavar, "")
        if not one.metavar and not command:  # true or false, which on a command line is a flag
            default = "`true`" if about.startswith(OFF) else "`false`"
            about, limits = about.removeprefix(OFF), "true or false"
        lines.append(f"| `{name}`{{#{anchor}}} | {_cell(about)} | {_cell(limits)} | {default} |")
    return _stacking(lines, "stacking options")


def _stacking(lines: list[str], style: str = "stacking") -> str:
    """A table whose cells stand below each other where the screen is narrow (site.css)."""
    return "\n".join([f'<div class="{style}" markdown>', "", *lines, "", "</div>"])


def _cell(text: str) -> str:
    """Prose in a cell: no character of it is markup, but for code in backticks."""
    parts = html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;").split("`")
    parts[::2] = [prose.replace("_", "&#95;") for prose in parts[::2]]
    parts[1::2] = [html.unescape(code).replace("|", "\\|") for code in parts[1::2]]
    return "`".join(parts)


def _prose(text: str) -> str:
    """A docstring: its line breaks are spaces."""
    return "\n\n".join(html.escape(" ".join(part.split()), quote=False) for part in text.split("\n\n"))


def _presets() -> str:
    lines = ["| preset | what it is | differs from `soft` |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {_cell(one.about)} | {_cell(one.differences)} |" for name, one in PRESETS.items()]
    return _stacking(lines)
