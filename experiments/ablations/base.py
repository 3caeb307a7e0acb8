"""What the ablations share: each is a table of settings, applied to soft and to hard attention.

Their settings are those of the quickstart's models on the built-in world, on 7 x 7 cells of raw features, and those of
flickr8k on photographs; everything that a table does not name stays as it is there.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from attend.analysis.tables.comparison import DEFAULT
from attend.experiments import flickr8k, quickstart
from attend.experiments.runner.experiment import Experiment, Setting

from attend.config import Config
from attend.config.text import replace

Settings = dict[str, str | int | float | bool | None]
"""Values by dotted names, as of --set."""
TINY: Settings = {"train.epochs": 1, "search.max_length": 6}
"""What the tiny twins set besides: a model that has learned nothing says as much in few words."""
SEEDS = 3
"""Of each variant on the built-in world; photographs, where a model takes an hour or two on a core, have one."""


def learners(data: Path | None, tiny: bool) -> dict[str, Config]:
    """Soft and hard attention before an ablation changes anything, on 7 x 7 cells and each from nothing."""
    made = quickstart.learners(None, tiny) if tiny or data is None else flickr8k.experiment(data, tiny).variants
    return {kind: made[kind] for kind in ("soft", "hard")}


def ablation(
    name: str,
    *,
    soft: Mapping[str, Settings] | None = None,
    hard: Mapping[str, Settings] | None = None,
    small: Settings | None = None,
    also: Sequence[Setting] = (),
    columns: Sequence[str] = (*DEFAULT, "nll", "entropy", "maximum"),
) -> Callable[[Path | None, bool], Experiment]:
    """An ``experiment(data, tiny)`` with a variant for each row of settings, soft-<row> and hard-<row>.

    Each variant is evaluated ``also`` in these ways. The tiny twin has the first and the last row of each kind, one
    seed, one epoch, and the settings ``small``.
    """

    def experiment(data: Path | None, tiny: bool) -> Experiment:
        variants = {}
        for kind, config in learners(data, tiny).items():
            rows = {"soft": soft, "hard": hard}[kind] or {}
            if tiny:
                names = [*rows]
                rows = {row: rows[row] | TINY | (small or {}) for row in names[:1] + names[-1:]}
            variants |= {f"{kind}-{row}": replace(config, settings) for row, settings in rows.items()}
        return of_variants(name, variants, data, tiny, also=also, columns=columns)

    return experiment


def of_variants(
    name: str,
    variants: Mapping[str, Config],
    data: Path | None,
    tiny: bool,
    *,
    after: Mapping[str, str] | None = None,
    also: Sequence[Setting] = (),
    columns: Sequence[str] = (*DEFAULT, "nll", "entropy"),
) -> Experiment:
    """The experiment of an ablation's variants, with as many seeds and the data that all ablations have."""
    return Experiment(
        name=f"{name}-tiny" if tiny else name,
        variants=variants,
        seeds=dict.fromkeys(variants, 1 if tiny or data else SEEDS),
        also=dict.fromkeys(variants, also),
        after=after or {},
        columns=columns,
        prepare=partial(flickr8k.prepare, data, tiny),
    )
