"""Train one run by the name of a preset: `attend.train`, and what `attend train` does.

All that can be wrong with the arguments is found before torch is imported.
"""

import re
from pathlib import Path
from typing import Any

from attend.bars import say
from attend.config import Config
from attend.config.presets import PRESETS
from attend.config.text import changes, replace
from attend.data.prepared import Prepared
from attend.paths import encodable, quoted
from attend.runs.files import temporary
from attend.runs.finished import FinishedRun
from attend.runs.folder import RunFolder
from attend.runs.launch import launched
from attend.runs.lease import clear

Value = str | int | float | bool | tuple[int, ...] | None
"""The value of a setting; text is read as on the command line."""
LISTED, NAMED = 4, 3
"""Changed settings that are listed, and that a proposed name contains, at most."""


def train(
    preset: str = "soft",
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    name: str | None = None,
    epochs: int | None = None,
    again: bool = False,
    **settings: Value,
) -> FinishedRun:
    """Train and evaluate one run, or go on with it, as `attend train PRESET` does; returns the finished run.

        run = attend.train("hard", data="data/mine", out="runs/mine", epochs=20, **{"encoder.name": "resnet50"})
        run.scores["captions"]["cider"], run.metrics, run.path

    Args:
        preset: name of a preset: soft, hard, uniform ... (``attend.config.presets.PRESETS``).
        data: folder of a prepared dataset; None is data/scenes.
        out: run folder; None is runs/train/<name>/seed<k>.
        name: name of the run below runs/train; None is that of the preset.
        epochs: passes over the training images, ``train.epochs``. More than a finished run has go on with it.
        again: put a finished run, or one of other settings, aside and train anew.
        settings: other settings by dotted name, as of `attend train --help`; ``seed=1`` is one too.

    A run that is finished is read, and one that was interrupted goes on from its last checkpoint.

    Raises:
        ValueError: unknown names, values that do not fit, data that cannot be read, a folder with other settings.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}: known are {', '.join(PRESETS)}")
    given = {"data": None if data is None else str(data), "train.epochs": epochs}
    settings |= {name: value for name, value in given.items() if value is not None}
    config = replace(PRESETS[preset].config, settings)
    return train_config(config, preset, out=None if out is None else Path(out), name=name, again=again)


def train_config(config: Config, preset: str, *, out: Path | None, name: str | None, again: bool) -> FinishedRun:
    """Train a configuration in the folder ``out``, or else below runs/train under a name or that of its preset."""
    if out is not None and name is not None:
        raise ValueError(f"--name {name} has no effect with --out {out}: leave one of them out")
    if name is not None and not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"--name {name!r} is no name of a folder: use letters, digits, and . _ + - between them")
    run = RunFolder(out or folder_of(config, name or preset))
    if not again and (run.path / "config.json").exists():
        if not run.shorter_than(config) and (other := changes(config, run.config())):
            raise ValueError(_collision(run, config, None if out else name or preset, other))
        if run.done(config):
            clear(run.path)
            _say(_finished(run))
            return FinishedRun(run.path)
    check_start(config, run, again=again)
    Prepared(config.data)
    from attend.training import loop

    loop.train(config, run.path, again=again)
    return FinishedRun(run.path)


def folder_of(config: Config, name: str) -> Path:
    """The folder of a run by its name, if none is given."""
    return Path("runs") / "train" / name / f"seed{config.seed}"


def check_start(config: Config, run: RunFolder, *, again: bool = False) -> None:
    """ValueError if a run cannot begin with the weights of another as its configuration says, or would fail later: its
    checkpoints need a folder whose name is UTF-8, and its scores need a place for temporary files."""
    name = str(run.path)
    if not encodable(name):
        raise ValueError(f"the run folder {quoted(name)} is no UTF-8, which its checkpoints need: give it another name")
    temporary()
    anew = not run.last.exists() or (again and run.replaceable(config))
    if config.start is not None and anew:
        RunFolder(config.start).ended()
    if config.train.reward != "likelihood" and config.start is None:
        raise ValueError(f"train.reward {config.train.reward!r} needs a model that writes captions: give --from RUN")


def _finished(run: RunFolder) -> str:
    """What to do with a run that is finished."""
    epochs, again = run.config().train.epochs, "--again trains anew and keeps this run aside"
    if not run.stopped_early:
        return f"{run.path} is finished: more --train.epochs than {epochs} go on with it, {again}"
    ended = f"{run.path} is finished: validation stopped improving, so it ended after epoch {run.scores()['epochs']}"
    return f"{ended} of {epochs}, as it would with more epochs (see --train.patience); {again}"


def _collision(run: RunFolder, config: Config, name: str | None, other: dict[str, tuple[Any, Any]]) -> str:
    """The sentence about a folder that has a run with other settings, with a name of its own for the new one."""
    differs = ", ".join(f"{field} {new!r} (was {old!r})" for field, (new, old) in [*other.items()][:LISTED])
    differs += f" and {len(other) - LISTED} more" if len(other) > LISTED else ""
    again = "--again to train anew and keep the run that is there aside"
    own = "give another folder with --out" if name is None else f"add --name {proposal(config, name, other)}"
    return f"{run.path} has another configuration, {differs}: {own} to keep both, or {again}"


def proposal(config: Config, name: str, other: dict[str, tuple[Any, Any]]) -> str:
    """A name for a run from what is new in its settings, whose folder is free or has a run of these settings."""
    parts = [_part(field, new) for field, (new, _) in other.items()][:NAMED]
    wanted = re.sub(r"[^\w.+-]+", "_", "-".join([name, *parts]))
    candidates = (wanted if n == 1 else f"{wanted}-{n}" for n in range(1, 1000))
    for one in candidates:
        run = RunFolder(folder_of(config, one))
        if not run.path.exists() or ((run.path / "config.json").exists() and run.config() == config):
            return one
    return wanted


def _part(field: str, value: Any) -> str:
    """A setting in a name: text by itself (of a path its last part), anything else behind the name of its field."""
    leaf = field.rpartition(".")[2]
    if isinstance(value, str):
        return next((part for part in reversed(Path(value).parts) if not re.fullmatch(r"seed\d+", part)), value)
    return f"{leaf}{'x'.join(map(str, value))}" if isinstance(value, list | tuple) else f"{leaf}{value}"


def _say(sentence: str) -> None:
    """Print to stderr; of several processes the main one speaks."""
    if launched().rank == 0:
        say(sentence)
