"""What each verb of `attend` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attend.experiments.cli.bench import Bench
from attend.experiments.cli.caption import Caption
from attend.experiments.cli.estimators import Estimators
from attend.experiments.cli.evaluate import Evaluate
from attend.experiments.cli.plot import Plot
from attend.experiments.cli.prepare import Prepare
from attend.experiments.cli.report import Report
from attend.experiments.cli.run import Run
from attend.experiments.cli.study import Study
from attend.experiments.cli.table import Table
from attend.experiments.cli.train import Train

if TYPE_CHECKING:
    pass
from attend.experiments.cli.bench import bench
from attend.experiments.cli.caption import caption
from attend.experiments.cli.estimators import estimators
from attend.experiments.cli.evaluate import evaluate
from attend.experiments.cli.plot import plot
from attend.experiments.cli.prepare import prepare
from attend.experiments.cli.report import report
from attend.experiments.cli.run import run
from attend.experiments.cli.study import study
from attend.experiments.cli.table import table
from attend.experiments.cli.train import train

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
