"""The program `attend`: read the command line, call the verb, and report an error in one sentence."""

import contextlib
import io
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import fields

import tyro
from attend.experiments.cli.bench import Bench, bench
from attend.experiments.cli.caption import Caption, caption
from attend.experiments.cli.errors import EXPECTED, LOST, sentence
from attend.experiments.cli.estimators import Estimators, estimators
from attend.experiments.cli.evaluate import Evaluate, evaluate
from attend.experiments.cli.plot import Plot, plot
from attend.experiments.cli.prepare import Prepare, prepare
from attend.experiments.cli.report import Report, report
from attend.experiments.cli.run import Run, run
from attend.experiments.cli.score import Score, score
from attend.experiments.cli.study import Study, study
from attend.experiments.cli.table import Table, table
from attend.experiments.cli.train import Train, train
from attend.experiments.runner import plugins

from attend.config import Config
from attend.config.presets import PRESETS

VERBS: dict[str, tuple[type, Callable]] = {
    "prepare": (Prepare, prepare),
    "train": (Train, train),
    "evaluate": (Evaluate, evaluate),
    "caption": (Caption, caption),
    "run": (Run, run),
    "study": (Study, study),
    "estimators": (Estimators, estimators),
    "bench": (Bench, bench),
    "table": (Table, table),
    "score": (Score, score),
    "plot": (Plot, plot),
    "report": (Report, report),
}
"""The options of each verb, and what it does."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; exit status 2 and one plain sentence on error, a traceback only with --debug."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        try:
            arguments = plugins.take(arguments)
            _dispatch(arguments)
        finally:
            sys.stdout.flush()  # a reader that is gone is found out here, not at the interpreter's end
    except KeyboardInterrupt:
        _fail("interrupted: the same command goes on from the last checkpoint", 130)
    except BrokenPipeError:  # whoever read the output, as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except EXPECTED as error:
        if debug:
            raise
        _fail(sentence(error))


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    verb, *rest = arguments
    if verb not in VERBS:
        raise ValueError(f"unknown verb {verb!r}: `attend --help` lists them")
    kind, function = VERBS[verb]
    if verb != "train":
        if _launched():
            raise ValueError(f"`attend {verb}` is for one process: start it without torchrun or `accelerate launch`")
        function(_parse(kind, rest, f"attend {verb}"))
    elif rest and rest[0] in PRESETS:
        function(_parse(kind, rest[1:], f"attend train {rest[0]}", PRESETS[rest[0]].config), rest[0])
    elif not rest or rest[0] in ("-h", "--help"):
        changes = {n: f" Differs from soft: {one.differences}." for n, one in PRESETS.items() if one.differences}
        presets = {name: one.about + changes.get(name, "") for name, one in PRESETS.items()}
        print(f"attend train PRESET [--FIELD VALUE ...]\n\n{_list(presets)}\n")
        print("`attend train soft --help` shows every field with its unit and default.")
    else:
        raise ValueError(f"unknown preset {rest[0]!r}: known are {', '.join(PRESETS)}")


def _parse(kind: type, arguments: list[str], program: str, default: Config | None = None):
    """Read the options of a verb with tyro. An error of tyro becomes one sentence."""
    said, options = io.StringIO(), {}
    if default is not None:
        options["default"] = kind(**{one.name: getattr(default, one.name) for one in fields(default)})
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=program, args=arguments, **options)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"{_plain(said.getvalue())}; see `{program} --help`") from None
        sys.stderr.write(said.getvalue())
        raise


def _plain(panel: str) -> str:
    """The core of tyro's framed message: its first paragraph, and the option that it suggests."""
    lines = [line.strip("│ \n") for line in panel.splitlines() if line.strip() and line[0] not in "╭╰"]
    paragraphs = re.split(r"\n[─-]+\n", "\n".join(lines))
    framed = any(line.startswith("╭") for line in panel.splitlines())
    gist = " ".join(paragraphs[0 if framed or len(paragraphs) == 1 else 1].split())  # else the first is a title
    gist = re.sub(r"^Error parsing (?!--)[\w.-]+: ", "", gist)
    meant = re.search(r"meant:.*?(--[\w.-]+)", " ".join(lines))
    return gist.rstrip(".") + (f", did you mean {meant[1]}?" if meant else "")


def _fail(sentence: str, status: int = 2) -> None:
    rank = int(os.environ["RANK"]) if _launched() else 0
    if rank or sentence == LOST:
        time.sleep(5)  # what another process says too, it says first, and this one is ended meanwhile
    if rank:
        sentence = f"process {rank}: {sentence}"
    print(f"attend: {sentence}", file=sys.stderr)
    sys.exit(status)


def _launched() -> bool:
    """Whether this is one of several processes, as torchrun and `accelerate launch` start them."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def _usage() -> str:
    verbs = {name: kind.__doc__.split("\n")[0] for name, (kind, _) in VERBS.items()}
    return (
        "attend VERB ...  soft and hard attention for image captioning\n\n"
        + _list(verbs)
        + "\n\n`attend VERB --help` shows every field; --debug shows the traceback of an error,\n"
        "and --plugin FILE.py runs a file of yours first (docs/your-own-attention-or-estimator.md)."
    )


def _list(entries: dict[str, str]) -> str:
    lines, width = [], max(map(len, entries)) + 2
    for name, text in entries.items():
        lines += textwrap.wrap(text, 100, initial_indent=f"  {name:<{width}}", subsequent_indent=" " * (width + 2))
    return "\n".join(lines)
