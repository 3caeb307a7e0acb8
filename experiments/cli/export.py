"""`attend export`"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from attend.experiments.cli.common import Runs, named

from attend.config.section import Count

To = Literal["tensorboard", "wandb", "mlflow", "csv"]
"""The keys of export.trackers.TRACKERS."""

OPEN = {
    "tensorboard": "open it: tensorboard --logdir {out}",
    "wandb": "upload it: wandb sync {out}/wandb/offline-run-*",
    "mlflow": "open it: mlflow server --backend-store-uri sqlite:///{out}/mlflow.db",
    "csv": "the tables: {out}",
}


@dataclass(frozen=True, kw_only=True)
class Export:
    """Replay runs into TensorBoard, Weights & Biases, MLflow or CSV: metrics, scores and pictures of the gaze.

    Run folders are only read. An export replaces the earlier export of the same run.
    """

    runs: Runs
    """run folders, or folders of them"""
    to: To
    """tracker to replay into"""
    out: Path | None = None
    """folder of the tracker; if not given, exports/<tracker> in the current folder"""
    follow: bool = False
    """go on while runs train, until all of them are finished"""
    images: Count = 4
    """images of each evaluation whose gaze is drawn; 0 draws none"""
    data: Path | None = None
    """prepared dataset of the runs, if it has moved since training"""


def export(command: Export) -> None:
    from attend.experiments.export.replay import replay
    from attend.experiments.export.trackers import TRACKERS, check_installed

    named(command.runs)
    check_installed(command.to)
    out = command.out or Path("exports") / command.to
    begin = partial(TRACKERS[command.to], out=out)
    replay(command.runs, begin, follow=command.follow, images=command.images, data=command.data)
    print(OPEN[command.to].format(out=out))
