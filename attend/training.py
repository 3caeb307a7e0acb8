"""Training: the loop, readable as the algorithm."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from attend.captioner import Captioner, Trace
from attend.config import Config, Decode
from attend.data.batches import Batch, Batches, epoch_rows
from attend.data.prepared import Prepared
from attend.data.text import Vocabulary
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES, MovingAverage
from attend.evaluation import Given, collapsed, evaluate, generate, score_quickly, traces
from attend.glimpses import check_fits, taken
from attend.model import Model, read_checkpoint, write_checkpoint
from attend.noise import Noise
from attend.objective import Loss, health, negative_log_likelihood, objective, ranks
from attend.prepare import ensure_store
from attend.runs import Lease, RunFolder, read_scores

OPTIMISERS = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "sgd": partial(torch.optim.SGD, fused=True),
}


@dataclass
class Progress:
    """Where a run stands: with the weights and the optimiser, all that resume needs (noise is keyed by seed and step).

    ``position`` is the next minibatch of ``epoch``; ``best`` the best validation score so far (higher is better),
    ``stale`` the epochs since; ``meters`` the sums since the last line of metrics.jsonl; ``logged`` its length.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    best: float = -math.inf
    stale: int = 0
    baseline: float | None = None
    places: list[float] = field(default_factory=list)
    meters: dict[str, float] = field(default_factory=dict)
    logged: int = 0


class Trainer:
    """Model, data and optimiser of one run, and the loop over them."""

    def __init__(self, config: Config, run: RunFolder, lease: Lease) -> None:
        self.config, self.run, self.lease = config, run, lease
        self.accelerator = accelerator()
        dataset = Prepared(config.data)
        dataset.rows("train"), dataset.rows("val")  # an empty split is said now, not after an epoch
        oracle = config.attention.weights == "oracle"
        if oracle and not dataset.boxes:
            raise ValueError(f"attention.weights 'oracle' needs boxes, and {config.data} has none: use scenes")
        facts = {"device": str(self.accelerator.device), "precision": config.train.precision}
        run.note(lease, **facts, threads=torch.get_num_threads(), data_fingerprint=dataset.about["fingerprint"])
        vocabulary = dataset.vocabulary
        keep_vocabulary(run, vocabulary)
        self.model = Model.build(config, vocabulary)
        store = ensure_store(dataset, self.model.encoder, self.accelerator.device)
        self.batches = Batches(dataset, store, boxes=oracle)
        check_fits(config, math.prod(self.model.encoder.grid), self.batches.longest("train"))
        self.model.to(self.accelerator.device)
        self.parameters = [p for p in self.model.captioner.parameters() if p.requires_grad]
        groups = [{"params": self.parameters, "lr": config.train.learning_rate}]
        if self.model.tuned:
            tuned = self.model.encoder.tuned()
            groups.append({"params": tuned, "lr": config.train.encoder_learning_rate})
            self.parameters = self.parameters + tuned
        self.optimiser = OPTIMISERS[config.train.optimiser](groups)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser,
            mode="max",
            factor=config.train.lower_by,
            patience=config.train.lower_after - 1 if config.train.lower_after else 10**9,
            threshold=0.0,
        )
        self.baseline = MovingAverage(config.estimator.decay)
        self.progress = Progress()
        if run.last.exists():
            self.resume()
        run.cut_log(self.progress.logged)

    def train(self) -> None:
        """Epochs until they are over or validation has stalled; every one ends with validation and a checkpoint."""
        settings, progress = self.config.train, self.progress
        while progress.epoch < settings.epochs and not self.stalled:
            self.epoch()
            score = self.validate()
            better = score > progress.best
            progress.best, progress.stale = (score, 0) if better else (progress.best, progress.stale + 1)
            progress.epoch, progress.position = progress.epoch + 1, 0
            self.schedule.step(score)
            kept = settings.keep_every > 0 and progress.epoch % settings.keep_every == 0
            for path, due in ((self.run.best, better), (self.run.kept(progress.epoch), kept)):
                if due:
                    self.lease.check()
                    state = self.model.identity() | {"epoch": progress.epoch, "score": score}
                    write_checkpoint(path, self.model.tensors(), state)
            self.checkpoint()

    @property
    def stalled(self) -> bool:
        """Whether validation has not improved for ``patience`` epochs."""
        return 0 < self.config.train.patience <= self.progress.stale

    def epoch(self) -> None:
        """One pass over the training images, from where the last checkpoint left it."""
        settings, progress = self.config.train, self.progress
        batches = epoch_rows(self.batches.dataset.rows("train"), settings.images, self.config.seed, progress.epoch)
        saved = time.monotonic()
        bar = tqdm(
            total=len(batches), initial=progress.position, unit="step", disable=None, leave=False,
            desc=f"epoch {progress.epoch + 1}/{settings.epochs}",
        )  # fmt: skip
        loader = self.batches.loader(batches[progress.position :], settings.workers)
        with bar:
            for _ in batches[progress.position :]:
                before = time.perf_counter()
                batch = next(loader).to(self.accelerator.device)
                waited = time.perf_counter() - before
                meters = self.step(batch)
                meters |= {"steps": 1, "wait_seconds": waited, "step_seconds": time.perf_counter() - before}
                for name, value in meters.items():
                    progress.meters[name] = progress.meters.get(name, 0.0) + value
                progress.step, progress.position = progress.step + 1, progress.position + 1
                if progress.step % settings.log_every == 0:
                    self.log_training(batch, progress.epoch + progress.position / len(batches))
                bar.update()
                bar.set_postfix(nll=f"{meters['nll'] / meters['words']:.3f}", refresh=False)
                if time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                    self.checkpoint()
                    saved = time.monotonic()

    def step(self, batch: Batch) -> dict[str, float]:
        """One minibatch: features, trace, loss, gradient, update. Returns sums for the meters."""
        config = self.config
        self.model.captioner.train()
        shape, locations = tuple(batch.words.shape), math.prod(self.model.encoder.grid)
        noise = Noise.draw(config, shape, config.seed, self.progress.step, locations)
        noise = noise.to(self.accelerator.device)
        with self.model.autocast():
            trace, loss = loss_of(self.model.captioner, self.model.features(batch.inputs), batch, noise, self.baseline)
        if not math.isfinite(value := float(loss.total.detach())):
            raise ValueError(
                f"the loss is {value} at step {self.progress.step}: lower train.learning_rate or use precision fp32"
            )
        self.accelerator.backward(loss.total)
        attention = norm(self.model.captioner.attention.parameters())
        if config.train.clip:
            self.accelerator.clip_grad_norm_(self.parameters, config.train.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()  # now, so that gradients and the next step's activations are never there together
        words = int(trace.captions.sum())
        self.last_trace = trace
        return {
            "words": words,
            "loss": value * words,
            "accuracy_top5": int((ranks(trace) < 5).sum()) / trace.samples,
            "attention_gradient": attention,
            **{name: float(term.detach()) * words for name, term in loss.terms.items()},
        }

    def log_training(self, batch, epoch: float) -> None:
        """One line of metrics.jsonl: means since the last, and the health of attention in the last minibatch."""
        sums = self.progress.meters
        steps, words = sums.pop("steps"), sums.pop("words")
        per_step = ("attention_gradient", "wait_seconds", "step_seconds")
        values = {name: total / (steps if name in per_step else words) for name, total in sums.items()}
        values["tokens_per_second"] = words / sums["step_seconds"]
        values["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        if self.baseline.value is not None:
            values["baseline"] = self.baseline.value
        values |= health(self.last_trace)
        self.progress.meters = {}
        self.run.log(self.lease, step=self.progress.step, epoch=round(epoch, 4), split="train", **values)

    def validate(self) -> float:
        """Score given and generated captions of the validation split, log both, and return what is monitored."""
        config, dataset = self.config, self.batches.dataset
        rows = dataset.rows("val")
        rows = rows[: config.train.validation_images or len(rows)]
        given = Given(dataset, self.batches, grounding=False)
        sampled = config.attention.hard and ESTIMATORS[config.estimator.name].validated_sampled
        decode, semi = ("sample", config.estimator.mixed) if sampled else (config.decode, 0.0)
        for batch, trace in traces(self.model, self.batches, rows, self.accelerator, decode, semi):
            given.add(batch, trace)
        scores = given.scores()
        values = {name: scores["given"][name] for name in ("nll", "top1", "top5")} | scores["health"]
        if config.train.monitor != "nll":
            beam = config.train.validation_beam
            said = generate(self.model, self.batches, rows, self.accelerator, config.decode, beam)
            values |= score_quickly(dataset, said)
        values["collapsed"] = collapsed(scores["health"], config.attention.weights == "learned")
        if values["collapsed"]:
            tqdm.write(
                f"warning: after epoch {self.progress.epoch + 1} attention looks the same at every word "
                f"(change {values['change']:.4f}): it has collapsed",
                file=sys.stderr,
            )
        self.run.log(self.lease, step=self.progress.step, epoch=self.progress.epoch + 1, split="val", **values)
        shown = ", ".join(f"{n} {values[n]:.3f}" for n in ("nll", "bleu4", "cider") if n in values)
        tqdm.write(f"{self.run.path}: epoch {self.progress.epoch + 1}, validation {shown}", file=sys.stderr)
        return -values["nll"] if config.train.monitor == "nll" else values[config.train.monitor]

    def checkpoint(self) -> None:
        """Write all that resume needs, whole or not at all."""
        self.lease.check()
        self.progress.baseline, self.progress.places = self.baseline.value, self.baseline.places
        self.progress.logged = self.run.logged()
        packed = self.optimiser.state_dict()
        tensors = {
            f"optimiser.{index}.{name}": torch.as_tensor(value)
            for index, values in packed["state"].items()
            for name, value in values.items()
        }
        state = self.model.identity() | {
            "progress": asdict(self.progress),
            "groups": packed["param_groups"],
            "schedule": self.schedule.state_dict(),
        }
        write_checkpoint(self.run.last, self.model.tensors() | tensors, state)

    def resume(self) -> None:
        """Go back to the last checkpoint."""
        tensors, state = read_checkpoint(self.run.last)
        if "progress" not in state:
            raise ValueError(
                f"{self.run.last} holds the weights of {self.run.best.name} alone: remove it to start again"
            )
        self.model.load(tensors, state, str(self.run.last))
        self.optimiser.load_state_dict({"state": _unpack(tensors), "param_groups": state["groups"]})
        self.schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**state["progress"])
        self.baseline.value, self.baseline.places = self.progress.baseline, self.progress.places
        tqdm.write(
            f"{self.run.path}: resumed at epoch {self.progress.epoch + 1}, step {self.progress.step}", file=sys.stderr
        )


def loss_of(
    captioner: Captioner, features: Tensor, batch: Batch, noise: Noise, average: MovingAverage
) -> tuple[Trace, Loss]:
    """One minibatch, seen as the captioner's settings have it, and its loss; ``average`` takes it in."""
    config, given = captioner.settings, (features, batch.words, batch.lengths)
    if config.attention.hard:
        trace = taken(captioner, *given, noise=noise, shares=batch.shares)
    else:
        trace = captioner(*given, select=config.attention.select, noise=noise, shares=batch.shares)
    return trace, objective(trace, config, average, rollout=_rollout(captioner, *given, noise))


@torch.no_grad()
def _rollout(captioner: Captioner, features: Tensor, words: Tensor, lengths: Tensor, noise: Noise) -> Tensor | None:
    """Costs (N, C, T) of the pass without samples that the baseline asks for, under the same dropout."""
    config, rule = captioner.settings, captioner.settings.estimator
    select = BASELINES[rule.baseline].rollout if config.attention.hard and rule.name == "reinforce" else None
    if select is None:
        return None
    trace = captioner(features, words, lengths, select=select, noise=noise)
    return trace.spread(negative_log_likelihood(trace))


def train(config: Config, folder: Path | str) -> dict[str, Any]:
    """Train a run from wherever it stands, evaluate its best model, and return the headline scores.

    A finished run is not repeated. Raises ValueError for what the user can mend: data, weights, another
    configuration or another process in the folder.
    """
    run = RunFolder(folder)
    if run.finished:
        run.same(config)
        return run.scores()
    with run.open(config) as lease:
        trainer = Trainer(config, run, lease)
        trainer.train()
        model = Model.read(run).to(trainer.accelerator.device)
        scores = evaluate(
            model, trainer.batches, run, lease, trainer.accelerator, split=headline(trainer.batches.dataset)
        )
        run.finish(lease, scores | {"parameters": count(trainer.parameters), "epochs": trainer.progress.epoch})
    return scores


def headline(dataset: Prepared) -> str:
    """The split of the headline scores: test, or val where there is no test split."""
    return "test" if dataset.about["splits"]["test"] else "val"


def accelerator() -> Accelerator:
    """The device, as accelerate finds it."""
    found = Accelerator()
    if found.num_processes > 1:
        raise ValueError("a run is trained by one process so far: start it without `accelerate launch`")
    return found


def keep_vocabulary(run: RunFolder, vocabulary: Vocabulary) -> None:
    """The run keeps its own vocabulary, so that it can caption without its dataset; ValueError if it has another."""
    path = run.path / "vocabulary.json"
    if path.exists() and Vocabulary.read(path) != vocabulary:
        raise ValueError(
            f"{path} differs from the dataset's vocabulary: prepare the data as before, or start a new run"
        )
    vocabulary.write(path)


def norm(parameters) -> float:
    """Norm of the gradients of some parameters; 0 where there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def count(parameters: list[torch.nn.Parameter]) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in parameters)


def _unpack(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimiser's state from the names of a checkpoint."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    return state


def dataset_of(run: RunFolder, data: Path | str | None = None) -> Prepared:
    """The dataset a run was trained on, in its own place or in another."""
    own = run.config().data
    if data is None and not Path(own).exists():
        raise ValueError(f"{run.path} was trained on {own}, which is not here: say where it is with --data")
    return Prepared(data or own)


def check_words(run: RunFolder, model: Model, dataset: Prepared) -> None:
    """Raise ValueError where a dataset is not the one that the model of a run was trained on."""
    if model.vocabulary != dataset.vocabulary:
        raise ValueError(f"{dataset.folder} has another vocabulary than {run.path}: name the dataset it was trained on")


def evaluate_run(
    folder: Path | str,
    *,
    data: str | None = None,
    split: str | None = None,
    decode: Decode | None = None,
    beam: int | None = None,
    draws: int = 1,
    again: bool = True,
) -> tuple[Path, dict[str, Any]]:
    """Evaluate the best model of a run in one more way; returns the folder written and its scores.

    ``data`` is another place of its dataset. With ``again`` False an evaluation that is there, of as many draws, is
    only read.
    """
    run = RunFolder(folder)
    config = run.config()
    dataset = dataset_of(run, data)
    split, (decode, beam) = split or headline(dataset), config.way(decode, beam)
    dataset.rows(split)  # an empty split is said now, not after its features
    target = run.evaluation(split, decode, beam)
    if not again and (target / "scores.json").exists():
        scores = read_scores(target / "scores.json")
        if scores.get("draws", {"n": 1})["n"] == draws:
            return target, scores
    if draws > 1 and decode != "sample" and beam:
        raise ValueError(
            f"draws is {draws}, but decode {decode!r} with beam {beam} always says the same: decode 'sample' draws the "
            "glimpses, and beam 0 the words"
        )
    model = Model.read(run)
    check_words(run, model, dataset)
    with Lease(run.path) as lease:
        device = accelerator()
        store = ensure_store(dataset, model.encoder, device.device)
        batches = Batches(dataset, store, boxes=config.attention.weights == "oracle")
        model.to(device.device)
        return target, evaluate(model, batches, run, lease, device, split=split, decode=decode, beam=beam, draws=draws)
