"""Runs that are trained one after another by all processes that were launched: torchrun ... -m tests.several JOBS."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from attend.config.text import from_dict
from attend.evaluation import generate, teacher_forced
from attend.metrics import captions
from attend.training import loop as training
from tests.forks import no_java


def killed_at(place: int | None, step: Callable) -> Callable:
    """The step of a trainer; at this one SIGKILL ends the main process."""

    def stepped(trainer, batch):
        if trainer.progress.step == place and trainer.lease:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(trainer, batch)

    return stepped


def main(jobs: Path) -> None:
    captions.find_java, generate.IMAGES, teacher_forced.IMAGES = no_java, 2, 2
    evaluate, step = training.evaluate, training.Trainer.step
    for job in json.loads(jobs.read_text()):
        training.evaluate = evaluate if job["evaluated"] else lambda *_, **__: {}
        training.Trainer.step = killed_at(job.get("kill"), step)
        training.train(from_dict(job["config"]), job["folder"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
