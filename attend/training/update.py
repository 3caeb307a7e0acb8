"""One minibatch on the device: features, pass, loss, gradient, update. Nothing here waits for the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from attend.config import Config
from attend.data.batches import Batch
from attend.estimators import Learner
from attend.estimators.noise import Noise
from attend.evaluation import health
from attend.model import Model
from attend.runs.processes import sum_gradients
from attend.training import optimiser
from attend.training.reward import Likelihood, SelfCritical


@dataclass(frozen=True)
class Told:
    """What a step says of itself: loss and terms, means per word; how many words were among the five likeliest (None
    if no logits were computed); the norm of attention's gradient; and the sums of its health, if they were due."""

    loss: Tensor
    terms: dict[str, Tensor]
    top5: Tensor | None
    attention_gradient: Tensor
    health: Tensor | None


class Update:
    """A step of training: model, reward and learner, the optimiser, and the moving average, which a step moves.

    Minibatch and noise are this process's share, and are moved to the device; counts and sums are those of the whole
    minibatch. ``capturable`` keeps on the device what the optimiser counts.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        reward: Likelihood | SelfCritical,
        learner: Learner,
        accelerator: Accelerator,
        *,
        capturable: bool = False,
    ) -> None:
        self.config, self.model, self.reward = config, model, reward
        self.learner, self.accelerator = learner, accelerator
        tuned = model.encoder.tuned() if model.tuned else []
        captioner = [p for p in model.captioner.parameters() if p.requires_grad]
        self.parameters, self.beside = captioner + tuned, list(learner.parameters())
        self.optimiser = optimiser.make(config.train, captioner + self.beside, tuned, capturable=capturable)
        self.average = learner.start(accelerator.device)

    def rates_changed(self) -> None:
        """A schedule has changed the rates of the optimiser."""

    def __call__(self, batch: Batch, noise: Noise, *, health_due: bool) -> Told:
        batch, noise = batch.to(self.accelerator.device), noise.to(self.accelerator.device)
        with self.model.autocast():
            features = self.model.features(batch.inputs)
            u, loss = self.reward.loss(self.model.captioner, features, batch, noise, self.learner, self.average)
        top5 = None if u.logits is None else ((u.ranks >= 0) & (u.ranks < 5)).sum() / u.samples
        found = health.health_sums(u) if health_due else None
        del u  # so that only what the gradient needs is kept
        loss.total.backward()
        observed = None if loss.observed is None else self.accelerator.reduce(loss.observed, "sum")
        self.average = self.average.after(observed, self.config.estimator.decay)
        sum_gradients([*self.parameters, *self.beside], self.accelerator)
        attention = norm(self.model.captioner.attention.parameters()) / self.accelerator.num_processes
        if self.config.train.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.train.clip)
            if self.beside:
                torch.nn.utils.clip_grad_norm_(self.beside, self.config.train.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()  # now, so that gradients and the next step's activations are never there together
        return Told(loss.total.detach(), {n: t.detach() for n, t in loss.terms.items()}, top5, attention, found)


def norm(parameters) -> Tensor:
    """Norm of the gradients of some parameters, on their device; 0 if there are none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
