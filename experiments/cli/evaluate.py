"""`attend evaluate`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attend.experiments.cli.common import OneRun, at_least, check_beam
from attend.experiments.cli.summaries import bounds, summary

from attend.config import Decode, Look


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score the best model of a run in one more way."""

    run: OneRun
    """a run folder"""
    split: Literal["train", "val", "test"] | None = None
    """images to caption; none is test, or val where there is no test split"""
    decode: Decode | None = None
    """context of decoding; none is the run's own"""
    beam: int | None = None
    """width of the beam; 1 is greedy, 0 draws every word from the model, none is the run's own"""
    draws: int = 1
    """how often `sample`, a beam of 0 or random weights draw; scores.json then holds mean and standard deviation"""
    look: Look | None = None
    """weights in place of the run's own: the evaluation controls uniform, centre (a Gaussian), random (drawn for every
    word), shuffled (what the model looks at in another image of the split, at the same word) and oracle (the boxes of
    given captions, so it writes none); or first, the run's own weights at the first word for all of them"""
    bound: int | None = None
    """instead of captioning, bound the likelihood of the given captions with so many paths of each: nats per token of
    the bound that hard attention learns from, of those from 1, 5, 50 and all paths, and of the exact sum where there
    is one"""
    data: Path | None = None
    """prepared dataset, where it has moved since"""


def evaluate(command: Evaluate) -> None:
    from attend.evaluation import saved as reopen

    options = {name: getattr(command, name) for name in ("split", "decode", "beam", "draws", "look")}
    data = None if command.data is None else str(command.data)
    if command.bound is not None:
        for name in ("decode", "beam", "draws", "look"):
            if getattr(command, name) != getattr(Evaluate, name):
                raise ValueError(f"--{name} has no effect with --bound, which captions nothing: leave one of them out")
        print(*bounds(*reopen.evaluate_bound(command.run, command.bound, data=data, split=command.split)), sep="\n")
        return
    check_beam(command.beam)
    at_least(1, draws=command.draws)
    folder, scores = reopen.evaluate_run(command.run, data=data, **options)
    print(f"{folder}: {summary(scores)}")
