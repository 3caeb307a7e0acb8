"""Evaluate a finished run again: another split, beam, decoding or control."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from attend.config import Decode, Intervention
from attend.config.section import Paths, within
from attend.config.setting import HEADLINE, Setting
from attend.data.batches import Batches
from attend.data.prepared import Prepared, dataset_of
from attend.encoder.features import ensure_store
from attend.evaluation.bounds import evaluate_bounds
from attend.evaluation.cause import evaluate_cause
from attend.evaluation.controls import check_look
from attend.evaluation.evaluate import evaluate, headline, write_looks
from attend.evaluation.generate import generate
from attend.model import Model
from attend.paths import plain_name
from attend.runs.files import read_json, write_json
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease
from attend.runs.processes import accelerator
from attend.runs.scores import read_bounds, read_scores


def evaluate_run(
    folder: Path | str, setting: Setting = HEADLINE, *, data: str | None = None, again: bool = True
) -> tuple[Path, dict[str, Any]]:
    """Evaluate the best model of a finished run again; returns the evaluation's folder and scores.

    ``data`` is the dataset's folder if it has moved. If ``again`` is False, an existing evaluation with the same number
    of draws is read instead.
    """
    run = RunFolder(folder)
    config = run.config()
    dataset, split = _given(run, data, setting.split)
    decode, beam = config.way(setting.decode, setting.beam)
    if not dataset.captioned:
        return _captioned_alone(run, dataset, setting, decode, beam)
    setting = setting._replace(decode=decode, beam=beam, split=split)
    look, draws = setting.look, setting.draws
    check_look(config.attention, look, decode, dataset.boxes, len(dataset.rows(split)))
    target, weights = run.evaluation(split, decode, beam, look), look or config.attention.weights
    if not again and (target / "scores.json").exists():
        scores = read_scores(target / "scores.json")
        if scores.get("draws", {"n": 1})["n"] == draws:
            return target, scores
    if draws > 1 and decode != "sample" and beam and weights != "random":
        raise ValueError(
            f"draws is {draws}, but decode {decode!r} with beam {beam} is not random: decode 'sample' samples the "
            "glimpses, and beam 0 the words"
        )
    with _reopened(run, dataset, boxes=weights == "oracle") as (model, batches, lease, device):
        return target, evaluate(model, batches, run, lease, device, setting)


def _captioned_alone(
    run: RunFolder, dataset: Prepared, setting: Setting, decode: Decode, beam: int
) -> tuple[Path, dict[str, Any]]:
    """Caption a dataset that has no captions: captions.json and attention.h5, below the name of the dataset."""
    for name in ("look", "draws", "split"):
        if getattr(setting, name) != getattr(HEADLINE, name):
            raise ValueError(f"{dataset.folder} has no captions, so --{name} has no effect: leave it out")
    name = plain_name(re.sub(r"[^\w.]", "_", dataset.about["name"]), f"the name of {dataset.folder}")
    with _reopened(run, dataset) as (model, batches, lease, device):
        rows, target = dataset.rows("test"), run.evaluation(name, decode, beam)
        hypotheses = generate(model, batches, rows, device, decode, beam)
        lease.check()
        write_looks(target, batches, rows, hypotheses)
        scores = {"split": name, "decode": decode, "beam": beam, "images": len(rows), "captions": {}, "given": {}}
        scores["missing"] = {"captions": "the images have no captions"}
        write_json(target / "scores.json", scores)
        return target, scores


def evaluate_bound(
    folder: Path | str, draws: int, *, data: str | None = None, split: str | None = None, again: bool = True
) -> tuple[Path, dict[str, Any]]:
    """Bound the likelihood of given captions under the best model of a run, from ``draws`` paths per caption.

    Returns the folder written and its scores. If ``again`` is False, existing bounds are read instead.
    """
    within(draws, Paths, "bound")
    run = RunFolder(folder)
    config = run.config()
    if config.attention.weights in ("oracle", "random"):
        raise ValueError(
            f"{run.path} has {config.attention.weights} weights, which are shown where a caption's words are or drawn "
            "for each: it gives captions no likelihood to bound, name another run"
        )
    dataset, split = _given(run, data, split)
    target = run.bound(split, draws)
    if not again and (target / "scores.json").exists():
        return target, read_bounds(target / "scores.json")
    with _reopened(run, dataset) as (model, batches, lease, device):
        return target, evaluate_bounds(model, batches, run, lease, device, split=split, draws=draws)


def evaluate_intervention(
    folder: Path | str,
    intervention: Intervention,
    *,
    decode: Decode | None = None,
    data: str | None = None,
    split: str | None = None,
    again: bool = True,
) -> tuple[Path, dict[str, Any]]:
    """Move the attention of a run's best model at single words, or remove what it attends to.

    Returns the folder written and its scores. If ``again`` is False, existing ones are read instead.
    """
    run = RunFolder(folder)
    config = run.config()
    decode, _ = config.way(decode)
    if decode not in ("expected", "argmax"):
        raise ValueError(
            f"look {intervention!r} moves attention under decode 'expected' or 'argmax', and this is {decode!r}: "
            "say which with --decode"
        )
    if config.attention.weights in ("oracle", "random"):
        raise ValueError(
            f"{run.path} has {config.attention.weights} weights, which are shown for each word and not its own: there "
            "is nothing to move, name another run"
        )
    dataset, split = _given(run, data, split)
    target = run.intervention(split, decode, intervention)
    if not again and (target / "scores.json").exists():
        return target, read_json(target / "scores.json", dict)
    with _reopened(run, dataset) as (model, batches, lease, device):
        found = evaluate_cause(
            model, batches, run, lease, device, split=split, decode=decode, intervention=intervention
        )
        return target, found


def check_words(run: RunFolder, model: Model, dataset: Prepared) -> None:
    """Raise ValueError if the model of a run was trained on another dataset."""
    if dataset.captioned and model.vocabulary != dataset.vocabulary:
        raise ValueError(f"{dataset.folder} has another vocabulary than {run.path}: name the dataset it was trained on")


def _given(run: RunFolder, data: str | None, split: str | None) -> tuple[Prepared, str]:
    """The dataset of a run, and one of its splits, which must not be empty."""
    dataset = dataset_of(run, data)
    split = split or headline(dataset)
    dataset.rows(split)  # an empty split is reported now, not after its features
    return dataset, split


@contextlib.contextmanager
def _reopened(
    run: RunFolder, dataset: Prepared, *, boxes: bool = False
) -> Iterator[tuple[Model, Batches, Lease, Accelerator]]:
    """The best model of a run and its data, while the run is held."""
    model = Model.read(run)
    check_words(run, model, dataset)
    with Lease(run.path) as lease:
        device = accelerator()
        store = ensure_store(dataset, model.encoder, device.device)
        batches = Batches(dataset, store, boxes=boxes)
        yield model.to(device.device), batches, lease, device
