"""Options, checks and output that several verbs of `attend` share, and the question before a long command starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from attend.bars import say
from attend.config import LARGEST
from attend.config.section import Workers
from attend.config.text import check_field

if TYPE_CHECKING:
    from attend.experiments.runner import runner


OneRun = Annotated[Positional[Path], arg(metavar="RUN")]
Runs = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")]
Images = Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE [IMAGE ...]", help_behavior_hint="(required)")]


@dataclass(frozen=True, kw_only=True)
class Queued:
    """Options of a queue of runs, which several machines can share."""

    data: Path | None = None
    """folder of the prepared dataset, or of Flickr8k as distributed; if not given, the built-in world is made"""
    out: Path = Path("runs")
    """folder of all experiments"""
    workers: Workers | None = None
    """runs at the same time; if not given, one per core, or one in all if there is a GPU"""
    storage: str | None = None
    """storage of the queue of runs: sqlite:///FILE (one machine), postgresql://USER@HOST/NAME or journal:///FILE (a
    shared disk); if not given, an SQLite file in --out. The same command on another machine that shares --out joins the
    work. The password of a server is read from PGPASSWORD or ~/.pgpass: others can read a command line"""
    only: str | None = None
    """variants of an experiment, or kinds of attention of a study, separated by commas; if not given, all"""
    set: UseAppendAction[tuple[str, ...]] = ()
    """set a field of all runs, as in train.epochs=3; can be repeated"""
    yes: bool = False
    """start without asking; without a terminal the program never asks"""
    dry_run: bool = False
    """print the plan (runs, steps, time and disk) and stop; missing data are prepared first"""
    tiny: bool = False
    """run a tiny copy that takes seconds and learns nothing, as a check that everything works"""


def agreed(runs: Sequence[runner.Run], command: Queued) -> bool:
    """Report what these runs will cost, and return whether they shall start."""
    from attend.data.prepared import Prepared
    from attend.runs.files import temporary

    for data in dict.fromkeys(one.config.data for one in runs):
        Prepared(data)  # before torch is imported
    temporary()
    from attend.experiments.runner.estimate import estimate

    plan = estimate(runs, command.workers) if runs else None
    text = plan.text() if plan else "nothing is left to run"
    if command.dry_run:
        print(text)
        return False
    return confirmed(text, command.yes or plan is None or not plan.seconds)


def confirmed(text: str, yes: bool) -> bool:
    """Print the plan to stderr and ask whether to go on; Enter is a yes, the end of the input a no.

    With ``yes``, or if stdin or stderr is no terminal, nothing waits for an answer.
    """
    say(text)
    if yes or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print("Go on? [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in ("", "y", "yes")


def settings_of(command: Queued) -> dict[str, str]:
    """The settings of --set."""
    settings = {}
    for one in command.set:
        name, equals, value = one.partition("=")
        if not equals:
            raise ValueError(f"--set {one!r} is no setting: write it as train.epochs=3")
        settings[name] = value
        check_field(name)  # before any data are made
    if command.tiny and command.data is not None:
        raise ValueError("--data has no effect with --tiny, which is of the built-in world: leave one of them out")
    return settings


def check_run(run: Path, data: Path | None = None) -> None:
    """ValueError if there is no such run, or not its dataset; before torch is imported."""
    from attend.data.prepared import dataset_of
    from attend.runs.folder import RunFolder

    dataset_of(RunFolder(run), data)


def named(runs: Sequence[Path]) -> None:
    if not runs:
        raise ValueError("no run is named: give run folders, or folders of them, as runs/quickstart")


def beside(runs: Sequence[Path]) -> Path:
    """The folder that holds all runs that are named, for what is made of them: the deepest one they share."""
    shared, here = Path(os.path.commonpath([*map(os.path.abspath, runs)])), Path.cwd()
    if shared == Path(shared.anchor):
        return Path()
    return shared.relative_to(here) if shared.is_relative_to(here) else shared


def at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and not least <= value <= LARGEST:
            raise ValueError(f"{name} is {value}, but must be {least} to {LARGEST}")


def summary(scores: dict) -> str:
    """One line of an evaluation: the scores to read first."""
    shown = {"bleu4": "BLEU-4", "meteor": "METEOR", "cider": "CIDEr"}
    captions, given, grounding = (scores.get(part) or {} for part in ("captions", "given", "grounding"))
    parts = [f"{title} {captions[name]:.3f}" for name, title in shown.items() if captions.get(name) is not None]
    if given.get("nll") is not None:
        parts.append(f"{given['nll']:.3f} nats per word")
    else:
        parts.append(f"{scores['images']:,} images captioned, without captions to score them by")
    if grounding.get("mass") is not None:
        parts.append(f"attention mass in boxes {grounding['mass']:.3f}")
    if scores.get("collapsed"):
        parts.append("attention has collapsed")
    if scores.get("unmoved"):
        parts.append("attention has not moved yet: it is the same at every word")
    look = f", looking {scores['look']}" if "look" in scores else ""
    return f"{scores['split']}, {scores['decode']}, beam {scores['beam']}{look}: " + ", ".join(parts)
