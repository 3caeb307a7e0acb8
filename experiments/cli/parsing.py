"""Read the options of a verb with tyro. An error is one sentence in the words of the option, with the next step."""

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, get_type_hints

import tyro
from attend.experiments.cli.help import HELP, Option, extended, options, page

from attend.config.catalogue import TODAY, ours
from attend.config.section import within

ELSEWHERE = {
    "lr": "train.learning_rate",
    "batch_size": "train.images",
    "beam_size": "search.beam",
    "num_workers": "train.workers",
    "output": "out",
    "output_dir": "out",
}
"""Names that other programs have for options of ours."""


def parse(kind: type, arguments: Sequence[str], program: str, default: Any = None) -> Any:
    """The options of a verb, or the end of the program after its help.

    ``default`` is a configuration that ``kind`` extends. Raises ValueError in one sentence.
    """
    if default is not None:
        default = extended(kind, default)
    if asked := set(arguments) & set(HELP):
        print(page(kind, program, default, everything="--help-all" in asked))
        sys.exit()
    said, arguments = io.StringIO(), list(_in_our_names(arguments))
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.cli(kind, prog=program, args=arguments, **({} if default is None else {"default": default}))
    except SystemExit as stop:
        if stop.code:
            sentence = _mistake(said.getvalue(), options(kind, default), arguments)
            raise ValueError(f"{sentence}; see `{program} --help`") from None
        sys.stderr.write(said.getvalue())
        raise
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if isinstance(value := getattr(command, name, None), int | float):
            within(value, hint, f"--{name.replace('_', '-')}")
    return command


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence about a name that is none of the known ones, with the close one or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown {what} {name!r}: " + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")


def _in_our_names(arguments: Sequence[str]) -> Iterable[str]:
    """The arguments with our names in place of those of today's papers."""
    field = ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if argument.startswith("--"):
            field = name if name in TODAY else ""
            yield f"{flag}={ours(field, value)}" if field and equals else argument
        else:
            yield ours(field, argument)
            field = ""


def _mistake(panel: str, known: Sequence[Option], arguments: Sequence[str]) -> str:
    """What tyro's framed message says, in the words of our options."""
    text = _plain(panel)
    named = {one.flag.split()[0]: one for one in known if not one.positional}
    places = {one.field: one for one in known if one.positional}
    if choice := re.match(r"invalid choice '(.*?)' for argument '(.*?)'", text):
        one = _named(choice[2], named | places)
        return _refused(one, choice[1]) if one else text
    if missing := re.match(r"Missing value for argument '(.*)'\. Expected", text):
        one = _named(missing[1], named | places)
        if one is None or one.positional:
            return f"{one.flag} is missing: {one.about}" if one else text
        few = "too few values" if " " in one.metavar else "no value"
        return f"{one.flag.split()[0]} has {few}: give {one.value}"
    if (wrong := re.match(r"Error parsing (--[\w.-]+):", text)) and wrong[1] in named:
        return _refused(named[wrong[1]], _value(wrong[1], arguments))
    if text.startswith("Missing from "):
        needed = [one for one in known if one.needed and one.flag.split()[0] in text.split()]
        return "; ".join(f"{one.flag} is missing: {one.about}" for one in needed)
    if stray := re.match(r"Unrecognized options: (.*)", text):
        return _stray(stray[1].split(", "), named)
    return text


def _named(argument: str, known: dict[str, Option]) -> Option | None:
    """The option that tyro names, as --out, -o/--out, ('--out',) or the field of what has no flag."""
    return next((known[name] for name in re.findall(r"--[\w.-]+|\w+", argument) if name in known), None)


def _refused(one: Option, value: str) -> str:
    names = one.range.removeprefix("one of ").split(", ")
    close = difflib.get_close_matches(value, names, n=1)
    name = one.metavar if one.positional else one.flag.split()[0]
    return f"{name} is {value!r}, but must be {one.value}" + (f"; did you mean {close[0]}?" if close else "")


def _value(flag: str, arguments: Sequence[str]) -> str:
    """What follows a flag, where it stands last, up to the next flag."""
    found: list[str] = []
    within_flag = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-") and not argument[1:2].isdigit():
            within_flag = name.replace("_", "-") == flag
            found = ([value] if equals else []) if within_flag else found
        elif within_flag:
            found.append(argument)
    return " ".join(found)


def _stray(words: Sequence[str], named: dict[str, Option]) -> str:
    """What is no option, or belongs to none, with the option that may be meant."""
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not flags:
        return f"no option takes {words[0]!r}: leave it out, or name its option before it"
    name = flags[0].lstrip("-").replace("-", "_")
    ends = [flag for flag, one in named.items() if one.name == ELSEWHERE.get(name) or one.name.endswith(f".{name}")]
    close = ends or difflib.get_close_matches(flags[0], named, n=1, cutoff=0.7)
    return f"there is no option {flags[0]}" + (f", did you mean {' or '.join(close)}?" if close else "")


def _plain(panel: str) -> str:
    """The core of tyro's framed message: its first paragraph."""
    lines = [line.strip("│ \n") for line in panel.splitlines() if line.strip() and line[0] not in "╭╰"]
    paragraphs = re.split(r"\n[─-]+\n", "\n".join(lines))
    framed = any(line.startswith("╭") for line in panel.splitlines())
    gist = " ".join(paragraphs[0 if framed or len(paragraphs) == 1 else 1].split())  # else the first is a title
    return re.sub(r"^Error parsing (?!--)[\w.-]+: ", "", gist).rstrip(".")
