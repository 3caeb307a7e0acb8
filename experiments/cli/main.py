"""The program `attend`: read the command line, call the verb, and report an error in one sentence."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import get_args

from attend.experiments.cli.bench import Bench, bench
from attend.experiments.cli.caption import Caption, caption
from attend.experiments.cli.errors import EXPECTED, LOST, sentence
from attend.experiments.cli.estimators import Estimators, estimators
from attend.experiments.cli.evaluate import Evaluate, evaluate
from attend.experiments.cli.export import Export, export
from attend.experiments.cli.help import HELP, entries
from attend.experiments.cli.parsing import parse, unknown
from attend.experiments.cli.plot import Kind, Plot, plot
from attend.experiments.cli.prepare import Prepare, prepare
from attend.experiments.cli.report import Report, report
from attend.experiments.cli.run import Run, run
from attend.experiments.cli.score import Score, score
from attend.experiments.cli.share import Share, share
from attend.experiments.cli.study import Study, study
from attend.experiments.cli.table import Table, table
from attend.experiments.cli.train import Train, defaults, presets, train
from attend.experiments.runner import plugins

from attend import __version__
from attend.bars import say
from attend.config.presets import PRESETS
from attend.runs.launch import launched
from attend.runs.secrets import taken
from attend.streams import lasting

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
    "export": (Export, export),
    "share": (Share, share),
}
"""The options of each verb, and what it does."""
BEGIN = {
    "attend caption flickr8k-hard photo.jpg": "caption a photograph of yours",
    "attend run quickstart": "train soft and hard attention on small pictures, and compare",
    "attend prepare DIR --out data/mine": "read a dataset of yours",
    "attend train hard --data data/mine": "train on it",
}
"""What a newcomer can do at once."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; exit status 2 and one plain sentence on error, a traceback only with --debug."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with lasting() as out:
        try:
            try:
                _dispatch(plugins.take([*map(taken, arguments)]))
            except SystemExit as end:  # after its help
                if not end.code:
                    out.check()
                raise
            out.check()
        except KeyboardInterrupt:
            _fail("interrupted: the same command goes on from the last checkpoint", 130)
        except BaseException as error:
            found = plugins.blame(error) or error
            if debug or not isinstance(found, EXPECTED):
                raise
            _fail(sentence(found))


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in HELP:
        print(_usage())
        return
    if arguments[0] == "--version":
        print(f"attend {__version__}")
        return
    if arguments[0] == "--completion":
        from attend.experiments.cli.completion import script

        kinds, first = {name: kind for name, (kind, _) in VERBS.items()}, {"train": (*PRESETS,), "plot": get_args(Kind)}
        print(script(" ".join(arguments[1:]), kinds, first))
        return
    verb, *rest = arguments
    if verb not in VERBS:
        raise ValueError(f"{unknown('verb', verb, VERBS)}; see `attend --help`")
    kind, function = VERBS[verb]
    several = launched().processes > 1
    if verb != "train":
        if several:
            raise ValueError(f"`attend {verb}` is for one process: start it without torchrun or `accelerate launch`")
        function(parse(kind, rest, f"attend {verb}"))
    elif rest and rest[0] in PRESETS:
        settings = defaults(PRESETS[rest[0]].config, rest[1:])
        function(parse(kind, rest[1:], f"attend train {rest[0]}", settings), rest[0])
    elif not rest or rest[0] in HELP:
        print(presets(everything="--help-all" in rest))
    elif rest[0].startswith("-"):
        raise ValueError(
            f"a preset comes before {rest[0]}: write `attend train hard {rest[0]} ...`; see `attend train --help`"
        )
    else:
        raise ValueError(f"{unknown('preset', rest[0], PRESETS)}; see `attend train --help`")


def _fail(sentence: str, status: int = 2) -> None:
    try:
        rank = launched().rank
    except ValueError:  # which is what is said
        rank = 0
    if rank or sentence == LOST:
        time.sleep(5)  # what another process says too, it says first, and this one is ended meanwhile
    if rank:
        sentence = f"process {rank}: {sentence}"
    say(f"attend: {sentence}")
    sys.exit(status)


def _usage() -> str:
    verbs = {name: kind.__doc__.split("\n")[0] for name, (kind, _) in VERBS.items()}
    return (
        "attend VERB ...  soft and hard attention for image captioning\n\n"
        f"Begin with one of these:\n{entries(BEGIN)}\n\n"
        f"Verbs:\n{entries(verbs)}\n\n"
        "`attend VERB --help` shows the options of a verb, and --help-all all that is known of each.\n"
        "--debug shows the traceback of an error, and --plugin FILE.py runs a file of yours first\n"
        "(docs/your-own-attention-or-estimator.md).\n"
        "`attend --version` prints the version, and `attend --completion bash` (zsh, fish) a script for your shell."
    )
