"""What each verb of `attend` does."""

from __future__ import annotations

from collections.abc import Callable

from attend.experiments.cli.bench import Bench, bench
from attend.experiments.cli.caption import Caption, caption
from attend.experiments.cli.estimators import Estimators, estimators
from attend.experiments.cli.evaluate import Evaluate, evaluate
from attend.experiments.cli.plot import Plot, plot
from attend.experiments.cli.prepare import Prepare, prepare
from attend.experiments.cli.report import Report, report
from attend.experiments.cli.run import Run, run
from attend.experiments.cli.study import Study, study
from attend.experiments.cli.table import Table, table
from attend.experiments.cli.train import Train, train

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
    "plot": (Plot, plot),
    "report": (Report, report),
}
