"""`attend study --show`: the best trials of a study, the importance of each parameter, and pictures."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import optuna
from attend.analysis.figures.figures import FIRST, save
from attend.analysis.figures.studies import Range, Trial, histories, importances, pareto, ranked, sliced, slices
from attend.analysis.tables.text import markdown, rows_of
from attend.experiments.runner.queue import Job, Queue
from attend.experiments.runner.storages import address, open_storage, reached
from attend.experiments.runner.study import OBJECTIVES, Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from attend.config import Config
from attend.runs.files import write_rows, write_text

BEST = 5
"""Trials of each kind in the table."""
LEAST = 5
"""Completed trials that importances need."""
GONE = "‡"
ARROWS = {"maximize": "↑", "minimize": "↓"}


def show(study: Study, queues: Mapping[str, Queue], out: Path) -> list[Path]:
    """Print the tables, write them and the pictures below ``out``, and return the files.

    Raises:
        ValueError: no trial is done.
    """
    trials, mattered = trials_of(study, queues, out)
    directions = {name: OBJECTIVES[name].direction for name in study.objectives}
    folder = out / study.name
    files = draw_study(trials, directions, mattered, folder)
    text = [_head(study, trials)]
    for kind, (shares, said) in mattered.items():
        text += _table([trial for trial in trials if trial.kind == kind], kind, directions)
        text.append(f"What mattered{', ' if shares else ': '}{said}{':' if shares else '.'}\n")
        if shares:
            text.append(markdown([("Parameter", "Share"), *((name, f"{one:.2f}") for name, one in shares.items())]))
    if lost := [f"{trial.kind} {trial.number}" for trial in trials if trial.gone]:
        text.append(f"{GONE} The run folder is not there ({', '.join(lost)}): shown is what the storage knows.\n")
    print("\n".join(text))
    text += [f"![{path.stem}]({path.name})\n" for path in files if path.suffix == ".png"]
    more = [folder / "study.md", folder / "trials.csv"]
    write_text(more[0], "\n".join(text))
    write_rows(more[1], rows_of(_rows(trials, directions)))
    return files + more


Mattered = dict[str, tuple[dict[str, float], str]]
"""For each kind: the share of each parameter, and a description of the shares or the reason that there are none."""


def trials_of(study: Study, queues: Mapping[str, Queue], out: Path) -> tuple[list[Trial], Mattered]:
    """The trials of a study and the importances of its parameters. ValueError if no trial is done."""
    jobs = {kind: queue.jobs() for kind, queue in queues.items()}
    trials = [_trial(study, kind, name, job, out) for kind, some in jobs.items() for name, job in some.items()]
    if not any(trial.spent for trial in trials):
        raise ValueError(f"the study {study.name} has no trial that is done: run `attend study` on it without --show")
    directions = {name: OBJECTIVES[name].direction for name in study.objectives}
    return trials, {kind: _importances(some.values(), directions) for kind, some in jobs.items()}


def draw_study(
    trials: Sequence[Trial],
    directions: Mapping[str, str],
    mattered: Mattered,
    folder: Path,
    formats: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Draw history, importances, slices and, for two objectives, the Pareto front; returns the files."""
    files = save(histories(trials, directions)[0].figure, folder / "history", formats=formats)
    for kind, (shares, said) in mattered.items():
        own = [trial for trial in trials if trial.kind == kind]
        if shares:
            drawn = importances(shares, kind, said)
            rows = [("parameter", "share"), *shares.items()]
            files += save(drawn.figure, folder / f"importances-{kind}", formats=formats, numbers=rows)
        if any(trial.ranges for trial in own if trial.state == "complete"):
            for name, direction in directions.items():
                path = folder / (f"slices-{kind}-{name}" if len(directions) > 1 else f"slices-{kind}")
                drawn = slices(own, name, direction)[0].figure
                files += save(drawn, path, formats=formats, numbers=sliced(own, name))
    if len(directions) == 2 and any(trial.state == "complete" for trial in trials):
        files += save(pareto(trials, directions).figure, folder / "pareto", formats=formats)
    return files


def draw_found(folder: Path, out: Path, formats: Sequence[str]) -> list[Path]:
    """Draw every study that the queue in a folder holds, or the one that the folder has the trials of, from the queue
    above it; below ``out`` each has a folder of its own.

    Raises:
        ValueError: there is no queue, it holds no such study, or none of its trials is done.
    """
    above = next((one for one in (folder, folder.parent) if (one / "queue.db").is_file()), None)
    if above is None:
        raise ValueError(f"{folder} has no queue.db and neither has the folder above: give the --out of `attend study`")
    url = address(None, above)
    with reached(url):
        held = optuna.get_all_study_summaries(open_storage(url), include_best_trial=False)
    spaces = {one.study_name: one.user_attrs["space"] for one in held if "space" in one.user_attrs}
    if above != folder:
        spaces = {name: space for name, space in spaces.items() if folder.name in (name, name.rpartition("-")[0])}
    if not spaces:
        of = "" if above == folder else f" of {folder.name}"
        raise ValueError(f"{above / 'queue.db'} holds no study{of}: run `attend study` first")
    kinds: dict[str, dict[str, Queue]] = {}
    for name in sorted(spaces, key=lambda name: (FIRST.get(name.rpartition("-")[2], len(FIRST)), name)):
        title, _, kind = name.rpartition("-")
        kinds.setdefault(title, {})[kind] = Queue(url, name)
    files = []
    for title, queues in kinds.items():
        (first, *others) = [tuple(spaces[f"{title}-{kind}"]["objectives"]) for kind in queues]
        if any(one != first for one in others):
            raise ValueError(f"the kinds of {title} seek different things, so they share no picture: give one's folder")
        study = Study(name=title, kinds=tuple(queues), space=_none, objectives=first)
        trials, mattered = trials_of(study, queues, above)
        directions = {name: OBJECTIVES[name].direction for name in study.objectives}
        files += draw_study(trials, directions, mattered, out / title, formats)
    return files


def _none(trial: object, kind: str) -> Config:
    """The space of a study that is drawn and not known: it makes no trial."""
    raise ValueError(f"the space of {kind} is not known")


def _trial(study: Study, kind: str, name: str, job: Job, out: Path) -> Trial:
    """The record of a job. Its run folder is the one in the storage if it exists, else the one in ``out``."""
    trial, here = job.trial, study.run_folder(out, kind, name)
    state = {"done": "complete" if trial.state == TrialState.COMPLETE else "pruned", "lost": "waiting"}
    noted = Path(trial.user_attrs.get("folder", here))
    folder = next((one for one in (noted, here) if one.is_dir()), noted)
    ended = trial.datetime_start and trial.datetime_complete
    return Trial(
        number=int(name),
        kind=kind,
        state=state.get(job.state, job.state),
        params=trial.params,
        ranges={parameter: _range(one) for parameter, one in trial.distributions.items()},
        values=dict(zip(study.objectives, trial.values, strict=True)) if trial.state == TrialState.COMPLETE else {},
        reports=trial.intermediate_values,
        why=job.error or trial.user_attrs.get("pruned", ""),
        seconds=(trial.datetime_complete - trial.datetime_start).total_seconds() if ended else None,
        folder=folder,
        gone=job.state == "done" and not folder.is_dir(),
    )


def _range(one: BaseDistribution) -> Range:
    if isinstance(one, CategoricalDistribution):
        return Range(choices=tuple(one.choices))
    return Range(low=one.low, high=one.high, log=one.log)


def _head(study: Study, trials: Sequence[Trial]) -> str:
    sought = ", ".join(f"{name} ({OBJECTIVES[name].direction})" for name in study.objectives)
    return (
        f"# {study.name}\n\nSought on validation images: {sought}. {sum(trial.spent for trial in trials)} trials spent "
        "in all. The best of many is too good on average: `attend run --from-study` confirms it on fresh seeds.\n"
    )


def _table(trials: Sequence[Trial], kind: str, directions: Mapping[str, str]) -> list[str]:
    """The number of trials of a kind, and a table of the best."""
    states = Counter(trial.state for trial in trials)
    told = ", ".join(f"{states[one]} {one}" for one in ("failed", "running", "waiting") if states[one])
    counts = f"{states['complete']} completed, {states['pruned']} pruned" + (f"; not counted: {told}" if told else "")
    best = ranked(trials, directions)[:BEST]
    parameters = list(dict.fromkeys(name for trial in best for name in trial.params))
    rows = [
        {"Rank": str(rank), "Trial": f"{trial.number} {GONE}" if trial.gone else str(trial.number)}
        | {f"{name} {ARROWS[aim]}": _cell(trial.values[name]) for name, aim in directions.items()}
        | {name: _cell(trial.params.get(name, "")) for name in parameters}
        for rank, trial in enumerate(best, 1)
    ]
    text = [f"## {kind}: {states['complete'] + states['pruned']} trials spent\n", f"{counts}.\n"]
    if len(directions) > 1 and best:
        text.append("Those that no other beats in all objectives, by the first.\n")
    return [*text, markdown(rows_of(rows))] if best else text


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)


def _importances(jobs: Iterable[Job], directions: Mapping[str, str]) -> tuple[dict[str, float], str]:
    """The share of each parameter, the largest first, and a description or the reason that there are none.

    PED-ANOVA asks how much the better trials' distribution of a parameter differs from that of all; of several
    objectives those count as better that are nearer to the front.

    Source: Watanabe et al. (2023), as Optuna has it.
    """
    trials = [job.trial for job in jobs if job.state == "done" and job.trial.state == TrialState.COMPLETE]
    trials = [trial for trial in trials if all(map(math.isfinite, trial.values))]
    if len(trials) < LEAST:
        return {}, f"{len(trials)} completed trials are too few to say ({LEAST} at least)"
    share = min(0.5, max(0.1, LEAST / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters that only some trials have
        evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
        study = optuna.create_study(directions=list(directions.values()))
        study.add_trials(trials)  # these alone, without other trials of the same jobs
        found = get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(found.values())
    if not total > 0:
        return {}, f"the {len(trials)} completed trials do not differ enough to say"
    said = f"by what the best {math.ceil(share * len(trials))} of {len(trials)} completed trials have in common"
    order = sorted(found, key=lambda name: (-found[name], name))
    return {name: found[name] / total for name in order}, f"{said} (PED-ANOVA)"


def _rows(trials: Sequence[Trial], directions: Mapping[str, str]) -> list[dict[str, object]]:
    """Every trial; columns are named as in Optuna's own tables."""
    parameters = dict.fromkeys(name for trial in trials for name in trial.params)
    return [
        {"kind": trial.kind, "trial": trial.number, "state": trial.state}
        | {f"values_{name}": trial.values.get(name, "") for name in directions}
        | {f"params_{name}": trial.params.get(name, "") for name in parameters}
        | {"reports": len(trial.reports), "last_report": "" if trial.last is None else trial.last}
        | {"seconds": "" if trial.seconds is None else trial.seconds, "why": trial.why}
        | {"folder": trial.folder, "gone": trial.gone}
        for trial in trials
    ]
