"""`attend --completion SHELL`: a script with which a shell completes verbs, presets, options and their choices."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass
from typing import Annotated, Any, Union

import tyro
from tyro.conf import arg, subcommand

SHELLS = ("bash", "zsh", "fish")
SPEC = "COMPLETION_SPEC = "
"""How the line begins in which tyro's scripts hold all options."""
ARGUMENT, PIPE = '($python_cmd -c "$pycode" ', '(printf %s "$pycode" | $python_cmd - '
"""How tyro's script for fish starts Python, and how ours does: an argument may have 128 kB, and ours has 400."""


def script(shell: str, verbs: Mapping[str, type], first: Mapping[str, Sequence[str]]) -> str:
    """The completion script of a shell, for verbs with their options. ``first`` has the words that may follow a verb.

    Raises ValueError for a shell that tyro writes no script for.
    """
    if shell not in SHELLS:
        raise ValueError(f"--completion {shell!r} is no shell that can be completed: give {', '.join(SHELLS)}")
    kinds = {name: _chosen(kind, first[name]) if name in first else kind for name, kind in verbs.items()}
    written = io.StringIO()
    try:
        with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
            tyro.cli(_union(kinds), prog="attend", args=["--tyro-print-completion", shell])
    except AssertionError:
        raise ValueError(f"this version of tyro writes no script for {shell}: pip install --upgrade tyro") from None
    lines = written.getvalue().replace("complete -F", "complete -o default -F").splitlines()  # else names of files
    # A description is shown on one line. The script splits what it has at the ends of lines.
    lines = [line.replace("\\n", " ") if line.startswith(SPEC) else line for line in lines]
    return "\n".join(line.replace(ARGUMENT, PIPE) for line in lines)


def _chosen(kind: type, words: Sequence[str]) -> type:
    """The options of a verb that takes one of some words first: tyro completes subcommands, but not their like."""
    return make_dataclass(kind.__name__, [("first", Annotated[_union(dict.fromkeys(words, kind)), arg(name="")])])


def _union(kinds: Mapping[str, type]) -> Any:
    parts = tuple(Annotated[kind, subcommand(name, prefix_name=False)] for name, kind in kinds.items())
    return Union[parts]  # noqa: UP007
