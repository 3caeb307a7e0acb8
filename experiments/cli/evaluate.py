"""`attend evaluate`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from attend.experiments.cli.common import OneRun, check_run, summary

from attend.config import Decode, Intervention, Look
from attend.config.section import Beam, Paths, Repetitions
from attend.config.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate the best model of a run again: another split, beam, decoding or control."""

    run: OneRun
    """run folder"""
    split: Literal["train", "val", "test"] | None = None
    """split to caption; if not given, test, or val if there is no test split"""
    decode: Decode | None = None
    """decoding context; if not given, the run's own"""
    beam: Beam | None = None
    """beam width; 1 is greedy search, 0 samples every word from the model; if not given, the run's own"""
    draws: Repetitions = 1
    """repetitions of a random evaluation (`sample`, a beam of 0 or random weights). scores.json has mean and standard
    deviation"""
    look: Look | Intervention | None = None
    """replace the model's attention by a control, or intervene at single words (redirect, without). Controls: uniform,
    centre (a Gaussian), random (sampled for every word), shuffled (the model's attention to another image of the split
    at the same word), oracle (the boxes of the given captions, so it generates none) or first (the model's attention at
    the first word, for all words). Interventions at single words of given captions: redirect (attention is moved to
    another object's box: does the model name that?) or without (the attended cells are removed: how much less likely is
    the word?)"""
    bound: Paths | None = None
    """bound the likelihood of the given captions, with this number of paths per caption, instead of captioning. Reports
    nats per token of the bound that hard attention learns from, of the bounds from 1, 5, 50 and all paths, and of the
    exact sum if it can be computed"""
    data: Path | None = None
    """prepared dataset, if it has moved since training"""


def evaluate(command: Evaluate) -> None:
    _check_options(command)
    check_run(command.run, command.data)
    from attend.evaluation import saved

    setting = Setting(**{name: getattr(command, name) for name in Setting._fields})
    data = None if command.data is None else str(command.data)
    if command.bound is not None:
        print(*bounds(*saved.evaluate_bound(command.run, command.bound, data=data, split=command.split)), sep="\n")
        return
    if command.look in get_args(Intervention):
        folder, scores = saved.evaluate_intervention(
            command.run, command.look, decode=command.decode, data=data, split=command.split
        )
        print(*intervened(folder, scores), sep="\n")
        return
    folder, scores = saved.evaluate_run(command.run, setting, data=data)
    print(f"{folder}: {summary(scores)}")


def _check_options(command: Evaluate) -> None:
    """ValueError if two options exclude each other."""
    without, why = (), ""
    if command.bound is not None:
        without, why = ("decode", "beam", "draws", "look"), "--bound, which captions nothing"
    elif command.look in get_args(Intervention):
        without, why = ("beam", "draws"), f"--look {command.look}"
    for name in without:
        if getattr(command, name) != getattr(Evaluate, name):
            raise ValueError(f"--{name} has no effect with {why}: leave one of them out")


def intervened(folder: Path, scores: dict) -> list[str]:
    """The folder, and a line for each way in which the words were looked at."""
    means = scores["means"]
    lines = [
        f"{folder}: {scores['split']}, {scores['words']:,} words with another object beside theirs, {scores['decode']}"
    ]
    for way in dict.fromkeys(name.partition(", ")[0] for name in means):
        log_p, said, _, other = (means[f"{way}, {what}"] for what in ("log p", "said", "other log p", "said other"))
        lines.append(f"  {way:<16}log p {log_p:7.3f}, says the word {said:6.1%}, the other object's {other:6.1%}")
    return lines


def bounds(folder: Path, scores: dict) -> list[str]:
    """The folder of the bounds, and a line for each of them."""
    titles = {"bound": "J, the bound" + (", exactly" if scores["exact"] else ""), "marginal": "-log p(y), exactly"}
    lines = [
        f"{folder}: {scores['split']}, {scores['draws']} paths of each of {scores['captions']} captions; in nats per "
        "token, with standard error over images, and as perplexity"
    ]
    for name, bound in scores["bounds"].items():
        title = titles.get(name) or f"K = {name.removeprefix('weighted')}"
        error = "" if bound["error"] is None else f" +- {bound['error']:.4f}"
        lines.append(f"  {title:<22}{bound['nats']:.4f}{error}, {bound['perplexity']:.2f}")
    lines += [f"  no {name}: {why}" for name, why in scores["missing"].items()]
    return lines + [f"  {note}" for note in scores["notes"].values()]
