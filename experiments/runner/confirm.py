"""`attend run --from-study`: train the best trials of a study again, on seeds that the study did not use.

The score of a best trial is too good on average, since it is the maximum of many; both scores are reported.
"""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from attend.analysis.records import Record
from attend.analysis.tables.text import markdown
from attend.experiments.runner.experiment import Experiment, Setting
from attend.experiments.runner.queue import Queue
from attend.experiments.runner.study import OBJECTIVES, Study, spent
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from attend.config.text import replace as with_fields
from attend.runs.files import write_json, write_text

FRESH = 1000
"""The first seed of the confirmation; the study uses the seeds of its configurations, from 0 on."""
SEEDS = 5
"""Seeds of each variant, unless --seeds gives another number."""
COLUMNS = ("bleu4", "meteor", "cider", "mass", "pointing", "nll")


def confirmation(study: Study, queues: Mapping[str, Queue], best: int, out: Path) -> Experiment:
    """An experiment with the ``best`` trials of each kind as variants. ValueError if there are fewer."""
    variants, winners, trials = {}, {}, {}
    for kind, queue in queues.items():
        chosen = ranked(study, queue)[:best]
        if len(chosen) < best:
            raise ValueError(
                f"{queue.name} has {len(chosen)} completed trials, and --best is {best}: run `attend study` first"
            )
        trials[kind] = spent(queue.jobs())
        for rank, trial in enumerate(chosen, 1):
            config = study.config(FixedTrial(trial.params), kind)
            variants[f"{kind}-best{rank}"] = with_fields(config, {"seed": config.seed + FRESH})
            winners[f"{kind}-best{rank}"] = trial
    name = f"{study.name}-confirmed"
    write_json(out / name / "study.json", {"study": study.name, "trials": sum(trials.values()), "of": trials})
    return Experiment(
        name=name,
        variants=variants,
        seeds=dict.fromkeys(variants, SEEDS),
        also=dict.fromkeys(variants, (Setting(split="val"),)),
        columns=COLUMNS,
        prepare=study.prepare,
        conclude=partial(apart, study, winners, trials),
    )


def ranked(study: Study, queue: Queue) -> list[FrozenTrial]:
    """Completed trials, the best first. With several objectives, the Pareto front sorted by the first."""
    complete = [job.trial for job in queue.jobs().values() if job.state == "done"]
    complete = [trial for trial in complete if trial.state == TrialState.COMPLETE]
    if len(study.objectives) > 1:
        front = {trial.number for trial in queue.study.best_trials}
        complete = [trial for trial in complete if trial.number in front]
    sign = -1 if OBJECTIVES[study.objectives[0]].direction == "maximize" else 1
    return sorted(complete, key=lambda trial: (sign * trial.values[0], trial.number))


def apart(
    study: Study, winners: Mapping[str, FrozenTrial], trials: Mapping[str, int], records: Sequence[Record], folder: Path
) -> list[Path]:
    """Tuned-on and confirmed scores of each winner, in a table of their own."""
    tuned_on = "Tuned on (val, one seed, the best of these trials)"
    rows = [("Winner", "Trials", "Objective", tuned_on, "Confirmed (val)", "Confirmed (headline)", "Seeds")]
    for variant, trial in winners.items():
        runs = [record for record in records if record.variant == variant and record.finished]
        for name, tuned in zip(study.objectives, trial.values, strict=True):
            val = [one.scores for run in runs for one in run.evaluations if one.split == "val" and one.look is None]
            cells = [_several(name, scores) for scores in (val, [run.scores for run in runs])]
            kind = variant.rpartition("-best")[0]
            winner = f"{variant} (trial {trial.user_attrs['job']})"
            rows.append((winner, trials[kind], name, f"{tuned:.4f}", *cells, len(runs)))
    text = markdown(rows, left=(0, 2))
    print(text)
    write_text(folder / "confirmed.md", text)
    return [folder / "confirmed.md"]


def _several(name: str, scores: Sequence[dict]) -> str:
    values = []
    for one in scores:
        with contextlib.suppress(ValueError):  # a run that does not have this score
            values.append(OBJECTIVES[name].read(one))
    if not values:
        return "–"
    return f"{sum(values) / len(values):.4f} [{min(values):.4f}, {max(values):.4f}]"
