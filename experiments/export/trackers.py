"""The trackers that runs are exported to: TensorBoard, Weights & Biases and MLflow by accelerate's trackers, and CSV.

An export replaces the one before it: a tracker begins by removing what was exported of the same run earlier.
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attend.analysis.records import Record
from attend.experiments.export.replay import Point, Tracker, run_name
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from attend.config.text import fields, to_dict
from attend.runs.files import write_rows

DPI = 150
"""Pixels per inch of a picture."""


def settings(record: Record) -> dict[str, int | float | str]:
    """The settings of a run by their dotted names, as values that every tracker takes."""
    values: dict[str, Any] = {}
    for name in fields():
        value = to_dict(record.config)
        for part in name.split("."):
            value = value[part]
        values[name] = value if isinstance(value, int | float | str) else str(value).lower()
    return values


def identity(record: Record) -> str:
    """A name for a run that no other run of this machine has, by its folder."""
    return hashlib.sha256(str(record.folder).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def pixels(figure: Figure) -> np.ndarray:
    """A figure as (height, width, 3) bytes."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def folder_of(record: Record, out: Path) -> Path:
    """Where a run is exported to below ``out``; ValueError if that is the folder of a run."""
    folder = out / run_name(record)
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} is a run folder, which an export does not write into: choose another --out")
    return folder


def accelerated(kind: str, /, *arguments: Any, **options: Any) -> Any:
    """A tracker of accelerate, started."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    from attend.runs.processes import accelerator

    accelerator()  # the trackers ask it whether this is the main process
    tracker = LOGGER_TYPE_TO_CLASS[kind](*arguments, **options)
    getattr(tracker, "start", lambda: None)()  # older versions start by themselves
    return tracker


class TensorBoard:
    """Event files in OUT/<experiment>/<variant>/seed<k>, and the settings beside the headline scores as hparams."""

    pictures = True

    def __init__(self, record: Record, out: Path) -> None:
        folder = folder_of(record, out)
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self.tracker = accelerated("tensorboard", run_name(record), out)

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self.tracker.log(point.named, step=point.step, walltime=point.time)

    def draw(self, name: str, figure: Figure, step: int) -> None:
        self.tracker.log_images({name: pixels(figure)[None]}, step=step, dataformats="NHWC")

    def close(self, record: Record) -> None:
        parts = record.scores or {}
        metrics = {
            f"headline/{name}": value
            for part in ("captions", "given", "grounding")
            for name, value in (parts.get(part) or {}).items()
            if value is not None
        }
        self.tracker.tracker.add_hparams(settings(record), metrics, run_name=".")
        self.tracker.finish()


class WeightsAndBiases:
    """A run of the project that is called as the experiment, in OUT/wandb; offline unless WANDB_MODE says otherwise."""

    pictures = True

    def __init__(self, record: Record, out: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        mode, own = os.environ.get("WANDB_MODE", "offline"), identity(record)
        for folder in (out / "wandb").glob(f"offline-run-*-{own}"):
            shutil.rmtree(folder)
        out.mkdir(parents=True, exist_ok=True)
        self.tracker = accelerated(
            "wandb", record.experiment, name=f"{record.variant}/seed{record.seed}", group=record.variant, id=own,
            dir=str(out), mode=mode, config=settings(record), reinit="create_new",
            settings={"silent": True, "console": "off", "disable_git": True, "disable_code": True},
        )  # fmt: skip

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self.tracker.log(point.named | {"_timestamp": point.time}, step=point.step)

    def draw(self, name: str, figure: Figure, step: int) -> None:
        self.tracker.log_images({name: [pixels(figure)]}, step=step)

    def close(self, record: Record) -> None:
        self.tracker.finish()


class MLflow:
    """A run of the MLflow experiment of the same name, in OUT/mlflow.db unless MLFLOW_TRACKING_URI names a store."""

    pictures = True

    def __init__(self, record: Record, out: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they report each table of a new database
        out.mkdir(parents=True, exist_ok=True)
        own = "MLFLOW_TRACKING_URI" not in os.environ
        if own:
            mlflow.set_tracking_uri(f"sqlite:///{(out / 'mlflow.db').resolve()}")
        self.client, self.experiment = mlflow.MlflowClient(), record.experiment
        known = self.client.get_experiment_by_name(record.experiment)
        place = (out / "artifacts").resolve().as_uri() if own else None
        number = known.experiment_id if known else self.client.create_experiment(record.experiment, place)
        for run in self.client.search_runs([number], f"tags.`attend.run` = '{identity(record)}'"):
            self.client.delete_run(run.info.run_id)
            if own:  # its pictures too, which MLflow keeps
                shutil.rmtree(out / "artifacts" / run.info.run_id, ignore_errors=True)
        tags = {"attend.run": identity(record), "attend.folder": str(record.folder)}
        options = {"run_name": f"{record.variant}/seed{record.seed}", "tags": tags}
        tracker = accelerated("mlflow", record.experiment, **options)
        self.run = tracker.tracker.info.run_id
        tracker.store_init_configuration(settings(record))
        tracker.finish()

    @contextlib.contextmanager
    def _resumed(self) -> Iterator[Any]:
        """The tracker of the run: MLflow has one run at a time, and several may be followed."""
        tracker = accelerated("mlflow", self.experiment, run_id=self.run)
        try:
            yield tracker
        finally:
            tracker.finish()

    def log(self, points: Sequence[Point]) -> None:
        with self._resumed() as tracker:
            for point in points:
                tracker.log(point.named, step=point.step, timestamp=int(1000 * point.time))

    def draw(self, name: str, figure: Figure, step: int) -> None:
        with self._resumed() as tracker:
            tracker.log_figure(figure, f"{name}.png", save_kwargs={"dpi": DPI})

    def close(self, record: Record) -> None:
        self.client.set_terminated(self.run, "FINISHED" if record.finished else "KILLED")


class Tables:
    """OUT/<experiment>/<variant>/seed<k>: metrics.csv, a row for each line of metrics.jsonl, and scores.csv."""

    pictures = False

    def __init__(self, record: Record, out: Path) -> None:
        self.folder = folder_of(record, out)
        self.points: list[Point] = []

    def log(self, points: Sequence[Point]) -> None:
        self.points += points
        self._write()

    def _write(self) -> None:
        logged, scored = ([one for one in self.points if one.evaluation == which] for which in (False, True))
        names = [*dict.fromkeys(name for one in logged for name in one.values)]
        rows = [(one.of, one.step, one.time, *(one.values.get(name, "") for name in names)) for one in logged]
        write_rows(self.folder / "metrics.csv", [("split", "step", "time", *names), *rows])
        rows = [(one.of, *item) for one in scored for item in one.values.items()]
        write_rows(self.folder / "scores.csv", [("evaluation", "score", "value"), *rows])

    def draw(self, name: str, figure: Figure, step: int) -> None:
        """Nothing: tables have no ``pictures``."""

    def close(self, record: Record) -> None:
        self._write()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "csv": Tables,
}


def check_installed(name: str) -> None:
    """Raise ValueError with the command that installs a tracker's package if it is missing."""
    if name != "csv" and importlib.util.find_spec(name) is None:
        raise ValueError(f"--to {name} needs the package {name}: pip install {name}")
