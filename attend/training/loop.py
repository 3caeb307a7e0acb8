"""Training: the loop, readable as the algorithm."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from attend.bars import bar, say
from attend.chance import torch_generator
from attend.config import Config
from attend.config.setting import Setting
from attend.data.batches import MAXIMUM_LENGTH, Batch, Batches, drawn_rows, epoch_rows, longest
from attend.data.prepared import Prepared
from attend.data.stores import Store
from attend.data.text import Vocabulary
from attend.encoder.features import ensure_store
from attend.estimators import Learner
from attend.estimators.baselines import BASELINES, Average
from attend.estimators.noise import Noise
from attend.evaluation import health
from attend.evaluation.evaluate import evaluate, score_quickly
from attend.evaluation.generate import IMAGES, check_search, generate
from attend.evaluation.novelty import measure_novelty
from attend.evaluation.teacher_forced import TeacherForced, teacher_forced
from attend.kernels.capture import CudaGraphs
from attend.model import Model, take
from attend.runs.checkpoint import Progress, read_checkpoint, read_progress, write_checkpoint
from attend.runs.files import read_json
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease, clear
from attend.runs.processes import accelerator, check_memory, of_main, open_run, share, summed
from attend.runs.provenance import Environment
from attend.training import graphs, optimiser
from attend.training.objective import Counts
from attend.training.progress import Meters, means
from attend.training.reward import reads_boxes, reward_of
from attend.training.run import check_start
from attend.training.start import BUDGET, begin
from attend.training.update import Update


class Trainer:
    """Model, data and optimiser of one run, and the loop over them. Without a lease, another process writes."""

    def __init__(self, config: Config, run: RunFolder, lease: Lease | None, accelerator: Accelerator) -> None:
        self.config, self.run, self.lease, self.accelerator = config, run, lease, accelerator
        dataset = Prepared(config.data)
        self.rows = drawn_rows(dataset.rows("train"), config.train.training_images, config.seed)
        dataset.rows("val")  # an empty split is said now, not after an epoch
        boxes, reward = reads_boxes(config, dataset), reward_of(config, dataset)
        if lease is not None:
            device = {"device": str(accelerator.device), "processes": accelerator.num_processes}
            facts = {"precision": config.train.precision, "data_fingerprint": dataset.about["fingerprint"]}
            run.note(lease, **device, **facts, threads=torch.get_num_threads())
            keep_vocabulary(run, dataset.vocabulary)
        with accelerator.main_process_first():  # it reads the weights and computes the features, the others find them
            self.model = Model.build(config, dataset.vocabulary)
            if config.start is not None and not run.last.exists():
                started = begin(self.model, RunFolder(config.start))
                if lease is not None:
                    run.note(lease, start=started)
            config.check_fits(math.prod(self.model.encoder.grid), longest(dataset, "train"))  # before long work
            self._check_memory(dataset)
            store = self.store(dataset)
        self.batches = Batches(dataset, store, boxes=boxes)
        self.part = share(accelerator)
        self.model.to(accelerator.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.learner = Learner(config, self.model.encoder.width, len(dataset.vocabulary)).to(accelerator.device)
        captured = graphs.wanted(config, self.model, self.learner, accelerator)
        self.update = Update(config, self.model, reward, self.learner, accelerator, capturable=captured)
        self.progress, self.meters = Progress(), Meters()
        if run.last.exists():
            self.resume()
        self.take = graphs.Graphs(self.update, CudaGraphs()) if captured else self.update
        if lease is not None:
            run.cut_log(self.progress.logged)

    def store(self, dataset: Prepared) -> Store:
        """What the encoder makes of the images, or squares of them, computed where it is not there yet."""
        return ensure_store(dataset, self.model.encoder, self.accelerator.device)

    def train(self, after_epoch: Callable[[], object] | None = None) -> None:
        """Epochs until they are over or validation has stalled; every one ends with validation and a checkpoint.

        Then ``after_epoch`` is called, and also where a run goes on that has epochs behind it: what it raises ends the
        run.
        """
        if after_epoch is not None and self.progress.epoch:
            after_epoch()
        settings, progress = self.config.train, self.progress
        while progress.epoch < settings.epochs and not self.stalled and not self.reached:
            self.epoch()
            score, nll = self.validate()
            better = (score, -nll) > (progress.best, -progress.best_nll)
            progress.stale = 0 if better else progress.stale + 1
            if better:
                progress.best, progress.best_nll = score, nll
            progress.epoch, progress.position = progress.epoch + 1, 0
            if settings.lower_after and progress.stale and progress.stale % settings.lower_after == 0:
                optimiser.lower(self.update.optimiser, settings.lower_by)
                self.take.rates_changed()
            kept = settings.keep_every > 0 and progress.epoch % settings.keep_every == 0
            for path, due in ((self.run.best, better), (self.run.kept(progress.epoch), kept)):
                if due and self.lease is not None:
                    self.lease.check()
                    state = self.model.identity() | {"epoch": progress.epoch, "score": score}
                    write_checkpoint(path, self.model.tensors(), state, self.lease.check)
            self.checkpoint()
            if after_epoch is not None:
                after_epoch()
        if self.stalled and progress.epoch < settings.epochs:
            say(
                f"{self.run.path}: stops after epoch {progress.epoch} of {settings.epochs}, since validation has not "
                f"improved for {progress.stale} (train.patience)"
            )

    @property
    def stalled(self) -> bool:
        """Whether validation has not improved for ``patience`` epochs."""
        return 0 < self.config.train.patience <= self.progress.stale

    @property
    def reached(self) -> bool:
        """Whether validation has reached the ``target``."""
        return 0 < self.config.train.target <= self.progress.best

    @property
    def epochs(self) -> float:
        """Epochs of training so far, parts of one counted."""
        batches = math.ceil(len(self.rows) / self.config.train.images)
        return self.progress.epoch + self.progress.position / batches

    def epoch(self) -> None:
        """One pass over the training images, from where the last checkpoint left it."""
        settings, progress = self.config.train, self.progress
        batches = epoch_rows(self.rows, settings.images, self.config.seed, progress.epoch)
        saved = time.monotonic()
        steps = bar(
            len(batches), f"epoch {progress.epoch + 1}/{settings.epochs}", "step", done=progress.position,
            where=str(self.run.path), beyond=(settings.epochs - progress.epoch - 1) * len(batches), note=self.note,
        )  # fmt: skip
        own = Batches(self.batches.dataset, self.batches.store, boxes=self.batches.boxes, part=self.part)
        loader = own.loader(batches[progress.position :], settings.workers)
        with steps:
            for _ in batches[progress.position :]:
                before = time.perf_counter()
                batch = next(loader)
                waited = time.perf_counter() - before
                self.step(batch)
                progress.step, progress.position = progress.step + 1, progress.position + 1
                due = progress.step % settings.log_every == 0 or progress.position == len(batches)
                if due:
                    self.check()  # the only time that the loop waits for the device
                took = time.perf_counter() - before
                self.meters.add(steps=1, wait_seconds=waited, step_seconds=took)
                progress.train_seconds += took
                if progress.step % settings.log_every == 0:
                    nll = self.log_training(self.epochs)
                    steps.set_postfix(nll=f"{nll:.3f}", refresh=False)
                steps.update()
                if self.agreed(time.monotonic() - saved > 60 * settings.checkpoint_minutes):
                    self.checkpoint()
                    saved = time.monotonic()

    def step(self, batch: Batch) -> None:
        """One minibatch, of which ``batch`` is this process's share, with the chance of this step. Nothing here waits
        for the device."""
        config, step = self.config, self.progress.step
        self.model.captioner.train()
        shape, locations = self.update.reward.shape(batch), math.prod(self.model.encoder.grid)
        noise = Noise.draw(config, shape, config.seed, step, locations, self.epochs).part(self.part)
        if config.attention.weights == "random":
            stream = torch_generator("random weights of a step", config.seed, step)
            batch = replace(batch, shares=torch.rand((*shape, locations), generator=stream)[self.part])
        due = (step + 1) % config.train.log_every == 0
        told = self.take(batch, noise, health_due=due)
        words = Counts.of(batch.whole).words
        sums = {name: words * term for name, term in {"loss": told.loss, **told.terms}.items()}
        if told.top5 is not None:
            sums["accuracy_top5"] = told.top5
        self.meters.add(words=words, **sums, attention_gradient=told.attention_gradient)
        self.meters.watch(step, told.loss)
        if due:
            self.health = told.health.clone()

    def note(self) -> str:
        """The loss of the words since the last line of metrics.jsonl, for a line of progress."""
        nll = self.meters.own_mean("nll")
        return "" if nll is None or self.accelerator.num_processes > 1 else f"nll {nll:.3f}"

    def agreed(self, due: bool) -> bool:
        """What the main process says. Several processes ask it when they log, and else nothing is due."""
        if self.accelerator.num_processes == 1:
            return due
        return self.progress.step % self.config.train.log_every == 0 and of_main(lambda: due, self.accelerator)

    def check(self) -> None:
        """Raise ValueError if a loss since the last check was not finite."""
        self.meters.check(self.accelerator.gather)

    def log_training(self, epoch: float) -> float:
        """One line of metrics.jsonl: means since the last, and the health of attention in the last minibatch.

        Returns the mean nll.
        """
        values = means(self.meters.read(partial(summed, found=self.accelerator)))
        values["learning_rate"] = self.update.optimiser.param_groups[0]["lr"]
        average = self.update.average.values()
        if average and self.learner.baseline is not BASELINES["average-per-place"] and average[0] is not None:
            values["baseline"] = average[0]
        values |= health.means(self.accelerator.reduce(self.health, "sum"))
        self.meters = Meters()
        self.log(epoch=round(epoch, 4), split="train", **values)
        return values["nll"]

    def log(self, **record: Any) -> None:
        """One line of metrics.jsonl."""
        if self.lease is not None:
            self.run.log(self.lease, step=self.progress.step, **record)

    def validate(self) -> tuple[float, float]:
        """Score given and generated captions of the validation split, and log both.

        Returns the score that is monitored, of which more is better, and the nats per word.
        """
        config, dataset = self.config, self.batches.dataset
        rows = dataset.rows("val")
        rows = rows[: config.train.validation_images or len(rows)]
        given = TeacherForced(dataset, boxes=False)
        sampled = self.learner.rule.validated_sampled
        mixed = config.estimator.mixed_at(self.progress.epoch + 1)
        decode, semi = ("sample", mixed) if sampled else (config.decode, 0.0)
        for batch, u in teacher_forced(self.model, self.batches, rows, self.accelerator, decode, semi):
            given.add(batch, u)
        scores = given.gather(self.accelerator).scores()
        values = {name: scores["given"][name] for name in ("nll", "top1", "top5")} | scores["health"]
        if config.train.monitor != "nll":
            beam = config.train.validation_beam
            said = generate(self.model, self.batches, rows, self.accelerator, config.decode, beam)
            values |= of_main(partial(score_quickly, dataset, said), self.accelerator)
        learned = config.attention.weights == "learned"
        values["collapsed"] = health.standstill(scores["health"], learned, self.run.metrics()) == "collapsed"
        if values["collapsed"]:
            say(
                f"warning: after epoch {self.progress.epoch + 1} attention is the same at every word again "
                f"(change {values['change']:.4f}): it has collapsed"
            )
        self.log(epoch=self.progress.epoch + 1, split="val", **values)
        shown = ", ".join(f"{n} {values[n]:.3f}" for n in ("nll", "bleu4", "cider") if n in values)
        say(f"{self.run.path}: epoch {self.progress.epoch + 1}, validation {shown}")
        return -values["nll"] if config.train.monitor == "nll" else values[config.train.monitor], values["nll"]

    def checkpoint(self) -> None:
        """Write all that resume needs, whole or not at all."""
        self.check()
        self.progress.meters = dict(self.meters.read(partial(summed, found=self.accelerator)))
        if self.lease is None:
            return
        self.lease.check()
        self.progress.average = self.update.average.values()
        self.progress.logged = self.run.logged()
        tensors, groups = optimiser.packed(self.update.optimiser)
        state = self.model.identity() | {
            "progress": asdict(self.progress),
            "groups": groups,
        }
        tensors |= {f"learner.{name}": tensor for name, tensor in self.learner.state_dict().items()}
        write_checkpoint(self.run.last, self.model.tensors() | tensors, state, self.lease.check)

    def _check_memory(self, dataset: Prepared) -> None:
        """ValueError if a minibatch, or the search of captions, cannot fit into memory.

        Counted are the features (N, L, D) and the logits (M, V) of all words of the K samples of a minibatch.
        """
        config, encoder, device = self.config, self.model.encoder, self.accelerator.device
        images = min(config.train.images, len(self.rows))
        words = sum(min(len(c.tokens), MAXIMUM_LENGTH) for row in self.rows for c in dataset.examples[row].captions)
        logits = images * words / len(self.rows) * config.samples * len(dataset.vocabulary)
        bytes_ = int(4 * images * math.prod(encoder.grid) * encoder.width + 2 * logits)
        check_memory(bytes_, device, f"a minibatch of {images} images", "set train.images to fewer")
        if config.attention.weights != "oracle":  # which generates no captions
            for beam in {config.search.beam, config.train.validation_beam}:
                check_search(self.model, device, beam, min(IMAGES, len(dataset.rows("val"))), math.prod(encoder.grid))

    def resume(self) -> None:
        """Go back to the last checkpoint."""
        tensors, state = read_checkpoint(self.run.last)
        if "progress" not in state or "groups" not in state:
            raise ValueError(
                f"{self.run.last} holds the weights of {self.run.best.name} alone: remove it to start again"
            )
        if "average" not in state["progress"]:
            raise ValueError(
                f"{self.run.last} was written by an older version, and this one cannot resume it: remove "
                f"{self.run.path} to train it again"
            )
        self.model.load(tensors, state, str(self.run.last))
        own = {f"learner.{name}": tensor for name, tensor in self.learner.state_dict().items()}
        take(own, tensors, str(self.run.last))
        self.progress = progress = read_progress(state)
        try:
            optimiser.unpack(self.update.optimiser, tensors, state["groups"])
            batches = math.ceil(len(self.rows) / self.config.train.images)
            epoch, position, step = progress.epoch, progress.position, progress.step
            if position > batches or step != epoch * batches + position or epoch > self.config.train.epochs:
                raise ValueError(
                    f"it stands at epoch {epoch}, position {position} and step {step}, which is no place in "
                    f"{self.config.train.epochs} epochs of {batches} steps"
                )
        except ValueError as error:
            raise ValueError(
                f"{self.run.last} does not fit its run ({error}): restore it, or train anew with --again"
            ) from None
        self.update.average = Average.of(self.progress.average, self.accelerator.device)
        self.meters = Meters(self.progress.meters)
        say(f"{self.run.path}: resumed at epoch {self.progress.epoch + 1}, step {self.progress.step}")


def train(
    config: Config,
    folder: Path | str,
    *,
    split: str | None = None,
    after_epoch: Callable[[], object] | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Train a run from wherever it stands, evaluate its best model, and return the headline scores.

    These are of ``split``; none is test, or val where there is no test split. ``after_epoch`` is called after each, and
    what it raises ends the run, which stays as it is. A finished run is not repeated, but goes on if there are more
    epochs; with ``again`` it is put aside and trained anew. Raises ValueError for what the user can mend: data,
    weights, another configuration or another process in the folder. Processes that were launched together train one
    run.
    """
    run = RunFolder(folder)
    if not again and run.done(config):
        clear(run.path)
        return run.scores()
    check_start(config, run, again=again)  # before anything is computed
    found = accelerator(several=True)
    with open_run(run, config, found, again=again) as lease:
        trainer = Trainer(config, run, lease, found)
        trainer.train(after_epoch)
        found.wait_for_everyone()  # the best model may still be being written
        model = Model.read(run).to(found.device)
        scores = evaluate(model, trainer.batches, run, lease, found, Setting(split=split))
        scores |= {"parameters": count(trainer.update.parameters), "epochs": trainer.progress.epoch}
        scores |= {"train_seconds": round(trainer.progress.train_seconds, 1)}
        if lease is not None:
            started = read_json(run.path / "environment.json", Environment).get("start", {})
            scores |= {name: started[name] for name in BUDGET if name in started}
            measure_novelty(model, trainer.batches, trainer.rows, found).write(run.path)
            run.finish(lease, scores)
    return scores


def keep_vocabulary(run: RunFolder, vocabulary: Vocabulary) -> None:
    """The run keeps its own vocabulary, so that it can caption without its dataset; ValueError if it has another."""
    path = run.path / "vocabulary.json"
    if path.exists() and Vocabulary.read(path) != vocabulary:
        raise ValueError(
            f"{path} differs from the dataset's vocabulary: prepare the data as before, or start a new run"
        )
    vocabulary.write(path)


def count(parameters: list[torch.nn.Parameter]) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in parameters)
