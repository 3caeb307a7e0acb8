"""Experiments: the configurations of some variants and seeds, and the files that declare them."""

import ast
import contextlib
import importlib
import importlib.util
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeVar

from attend.analysis.records import Record

from attend.config import Config
from attend.config.setting import Setting
from attend.config.text import replace as with_fields

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question about some variants, and the runs that answer it.

    ``seeds`` says how many seeds each variant has, ``also`` how a variant is evaluated beyond its headline, ``after``
    which variant's run of the same seed a variant's run begins from (``Config.start``),
    ``bound`` from how many paths its likelihood is bounded (none: not at all), ``columns`` which scores its table shows
    (none: the usual ones), ``published`` of which dataset published scores stand beside them; ``prepare`` makes the
    data that are not there, and ``conclude`` writes what else follows from the records, into a folder, and returns the
    files. Without variants nothing is trained, and ``conclude``, given no records, is all of it.
    """

    name: str
    variants: Mapping[str, Config]
    seeds: Mapping[str, int]
    also: Mapping[str, Sequence[Setting]] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    bound: int | None = None
    columns: Sequence[str] | None = None
    published: str | None = None
    prepare: Callable[[], object] | None = None
    conclude: Callable[[Sequence[Record], Path], list[Path]] | None = None

    def with_settings(self, settings: Mapping[str, str]) -> Self:
        """The same experiment with fields of all variants set by dotted names."""
        changed = {name: with_fields(one, dict(settings)) for name, one in self.variants.items()}
        return replace(self, variants=changed)

    def only(self, names: Sequence[str]) -> Self:
        """The same experiment with these variants, and those they begin from; ValueError for an unknown name."""
        for name in names:
            if name not in self.variants:
                raise ValueError(f"{self.name} has no variant {name!r}: it has {', '.join(self.variants)}")
        wanted = {one for name in names for one in self.line(name)}
        after = {name: source for name, source in self.after.items() if name in wanted}
        return replace(self, variants={n: c for n, c in self.variants.items() if n in wanted}, after=after)

    def line(self, name: str) -> list[str]:
        """A variant, the one it begins from, and so on. ValueError if ``after`` names none, or goes in a circle."""
        line = [name]
        while (source := self.after.get(line[-1])) is not None:
            if source not in self.variants or source in line:
                why = "is no variant" if source not in self.variants else "begins from it in turn"
                raise ValueError(f"{self.name}: {line[-1]!r} begins after {source!r}, which {why}: correct `after`")
            line.append(source)
        return line


ABLATIONS = (
    "table1", "doubly_stochastic", "gate", "deep_output", "baseline", "reward_scale", "entropy", "semi_sampling",
    "temperature", "decoding", "grid", "encoders", "tuning", "activation", "cell", "beam", "early_stopping",
    "training_size", "warm_start", "reward", "normalise", "minibatch",
)  # fmt: skip
EXPERIMENTS = {
    name: f"attend.experiments.{name}"
    for name in (
        "quickstart",
        "flickr8k",
        "world",
        "arrangements",
        "bound_or_variance",
        "metric_validity",
        "cause",
        "screen",
        "photographs",
        "speedrun",
    )
} | {name: f"attend.experiments.ablations.{name}" for name in ABLATIONS}
"""By name, the module whose ``experiment(data, tiny)`` declares it."""


def catalogue(known: Mapping[str, str]) -> str:
    """The names, each with the first line of its file."""
    lines = []
    for name, module in known.items():
        with open(importlib.util.find_spec(module).origin, encoding="utf-8") as file:
            about = ast.get_docstring(ast.parse(file.read()))
        lines.append(f"  {name:<{max(map(len, known))}}  {about.splitlines()[0]}")
    return "\n".join(lines)


def load(name: str, data: Path | None, tiny: bool) -> Experiment:
    """The experiment of a name, or of a file of the user (path/to/mine.py). ValueError explains what is wrong."""
    return find(name, EXPERIMENTS, "experiment", Experiment, data, tiny)


def find(name: str, known: Mapping[str, str], what: str, kind: type[Found], data: Path | None, tiny: bool) -> Found:
    """The result of the function ``what``(data, tiny) in the module of a known name, or in a file of the user."""
    if name in known:
        return getattr(importlib.import_module(known[name]), what)(data, tiny)
    file = Path(name)
    if file.suffix != ".py":
        raise ValueError(f"unknown {what} {name!r}: known are {', '.join(known)}; or give a file, as mine.py")
    if not file.is_file():
        raise ValueError(f"there is no file {file}: check the name")
    with blaming(file):
        spec = importlib.util.spec_from_file_location(f"experiments_of_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    if not callable(declare := getattr(module, what, None)):
        raise ValueError(f"{file} declares no {what}: define `{what}(...)` in it, as experiments/quickstart.py does")
    with blaming(file):
        found = declare(data, tiny)
    if not isinstance(found, kind):
        raise ValueError(f"{file}: {what}(data, tiny) returns {type(found).__name__}: return a {kind.__name__}")
    return found


@contextlib.contextmanager
def blaming(file: Path) -> Iterator[None]:
    """Turn errors in a file of the user into one sentence with the line."""
    try:
        yield
    except Exception as error:
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
        if isinstance(error, SyntaxError):
            lines = [error.lineno]
        where = f", line {lines[-1]}" if lines else ""
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{file}{where}: {kind}{error}") from error
