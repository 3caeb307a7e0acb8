"""Experiments: the configurations of some variants and seeds, and the files that declare them."""

import ast
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from attend.analysis.records import Record
from attend.analysis.tables.columns import COLUMNS
from attend.analysis.tables.published import PUBLISHED
from attend.experiments.runner.declared import Declared, by_name, declaration, of, optional, several, whole

from attend.config import Config
from attend.config.section import MOST_SEEDS
from attend.config.setting import Setting
from attend.config.text import replace as with_fields
from attend.documents import typed
from attend.paths import plain_name

Found = TypeVar("Found")


def _is_setting(value: Any) -> bool:
    try:
        return isinstance(value, Setting) and typed(tuple(value), Setting) == value
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Experiment(Declared):
    """A question about some variants, and the runs that answer it.

    ``seeds`` says how many seeds each variant has, ``also`` how a variant is evaluated beyond its headline, ``after``
    which variant's run of the same seed a variant's run begins from (``Config.start``),
    ``bound`` from how many paths its likelihood is bounded (none: not at all), ``columns`` which scores its table shows
    (none: the usual ones), ``published`` of which dataset published scores stand beside them; ``prepare`` makes the
    data that are not there, and ``conclude`` writes what else follows from the records, into a folder, and returns the
    files. Without variants nothing is trained, and ``conclude``, given no records, is all of it.
    """

    SHAPES: ClassVar = {
        "variants": (by_name(of(Config)), "configurations by the names of the variants"),
        "seeds": (by_name(whole(1, MOST_SEEDS)), f"a number of seeds, 1 to {MOST_SEEDS}, for every variant"),
        "also": (by_name(several(_is_setting)), "a list of sound Settings for some variants"),
        "after": (by_name(of(str)), "the name of a variant for some variants"),
        "bound": (optional(whole(1, 1000)), "1 to 1000 paths, or None"),
        "columns": (optional(several(lambda name: name in (*COLUMNS,))), "columns of `attend table`, or None"),
        "published": (optional(lambda name: name in (*PUBLISHED,)), f"one of {', '.join(PUBLISHED)}, or None"),
        "prepare": (optional(callable), "a function, or None"),
        "conclude": (optional(callable), "a function, or None"),
    }
    RETURNS: ClassVar = {"prepare": object, "conclude": list}

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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.variants:
            plain_name(name, f"a variant of {self.name}")
            if name not in self.seeds:
                raise ValueError(f"`seeds` of the experiment {self.name} lacks the variant {name!r}: add its number")
            self.line(name)
        for what in ("seeds", "also", "after"):
            for name in getattr(self, what).keys() - self.variants.keys():
                raise ValueError(
                    f"`{what}` of the experiment {self.name} names {name!r}, which is no variant: it has "
                    f"{', '.join(self.variants)}"
                )

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
        parts = {
            what: {name: value for name, value in getattr(self, what).items() if name in wanted}
            for what in ("variants", "seeds", "also", "after")
        }
        return replace(self, **parts)

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
    return declaration(file, what, kind, data, tiny)
