"""Rewards: a training step raises the likelihood of given captions, or the score of sampled captions.

Self-critical training samples words and glimpses together and charges both with the score of the caption:

    grad E[-R] = E[(b - R) grad (sum_t log p(y_t) + log alpha_t(s_t))] - E[grad R]

The last term is there only if the reward has a gradient of its own, as attention mass in the boxes has.

Source: Rennie et al. (2017); leave-one-out (RLOO): Kool et al. (2019). Differs: glimpses are sampled and charged too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attend.attention.select import Forced, Policy, Sample
from attend.attention.simplex import at_least_fp32
from attend.captioner.captioner import Captioner, decoding
from attend.captioner.search import NEVER, Hypotheses, ancestral, beam_search
from attend.captioner.unrolled import Readout
from attend.config import Config
from attend.data.batches import Batch
from attend.data.prepared import Prepared
from attend.estimators import Learner
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.evaluation.evaluate import training_frequencies
from attend.evaluation.health import entropy
from attend.metrics.captions import DocumentFrequencies, score_captions
from attend.training.objective import Counts, Loss, doubly_stochastic, loss_of

Score = Callable[[Sequence[int], Sequence[Sequence[Sequence[int]]]], np.ndarray]
"""(rows of N images, their captions as words (N, S)) -> a score for each caption, (N, S)."""


class Likelihood:
    """-log p of the given captions."""

    def shape(self, batch: Batch) -> tuple[int, int, int]:
        """Images, captions and words that noise is drawn for, of the whole minibatch."""
        return *batch.whole.shape, batch.words.shape[-1]

    def loss(
        self, captioner: Captioner, features: Tensor, batch: Batch, noise: Noise, learner: Learner, average: Average
    ) -> tuple[Readout, Loss]:
        return loss_of(captioner, features, batch, noise, learner, average)


class SelfCritical:
    """-score of sampled captions, ``settings.train.reward_samples`` for each image, without dropout."""

    def __init__(self, settings: Config, score: Score) -> None:
        self.settings, self.score = settings, score
        self.samples, self.length = settings.train.reward_samples, settings.search.max_length

    def shape(self, batch: Batch) -> tuple[int, int, int]:
        return len(batch.whole), self.samples, self.length

    def loss(
        self, captioner: Captioner, features: Tensor, batch: Batch, noise: Noise, learner: Learner, average: Average
    ) -> tuple[Readout, Loss]:
        """Sample captions, score them, and weigh the log-probability of their words and glimpses."""
        found = self.sample(captioner, features, noise)
        words, lengths = found.words.unflatten(0, (-1, self.samples)), found.lengths.view(-1, self.samples).cpu()
        rows = batch.rows.tolist()
        scores = torch.from_numpy(self.score(rows, spelled(words, lengths))).to(features)
        level = None
        if self.settings.train.reward_baseline == "greedy":
            best = beam_search(captioner, features, self.policy(None), beam=1, max_length=self.length, length_power=0.0)
            plain = spelled(best.words[:, None], best.lengths[:, None].cpu())
            level = torch.from_numpy(self.score(rows, plain)).to(features)
        path = found.glimpses.unflatten(0, (-1, self.samples))
        policy = Forced(path.clamp(min=0)) if learner.hard else self.policy(None)
        u = captioner(features, words, lengths, policy)
        mass = None
        if self.settings.train.reward.endswith("+mass"):
            mass = mass_in_boxes(u, words, batch)
        return u, self.surrogate(u, scores, level, mass, Counts.of(batch.whole).words, len(batch.whole))

    def policy(self, noise: Tensor | None) -> Policy:
        """How the glimpses of a generated caption are chosen: sampled with noise, likeliest without."""
        attention = self.settings.attention
        if not attention.hard:
            return decoding(attention.select, attention.top)
        return decoding("argmax") if noise is None else Sample(noise)

    @torch.no_grad()
    def sample(self, captioner: Captioner, features: Tensor, noise: Noise) -> Hypotheses:
        """A caption in each of N S rows, words and glimpses drawn with noise (N, S, T)."""
        repeated = features.repeat_interleave(self.samples, 0)
        glimpses = noise.glimpse.flatten(0, 1)[:, None]
        drawn = noise.words.flatten(0, 1)
        return ancestral(captioner, repeated, self.policy(glimpses), drawn, max_length=self.length)

    def surrogate(
        self, u: Readout, scores: Tensor, level: Tensor | None, mass: Tensor | None, words: int, images: int
    ) -> Loss:
        """The loss whose gradient estimates that of the expected negative score, a mean over images and samples.

        scores (N, S); level (N, 1), the score of the baseline's caption, None for the mean of the other samples; mass
        (N, S) is added to the scores, and has a gradient. The rest is divided as the objective of given captions is.
        """
        settings, captions = self.settings, images * scores.shape[1]
        reward = scores if mass is None else scores + settings.train.reward_mass * mass
        fixed = reward.detach()
        if level is None:
            level = (fixed.sum(1, keepdim=True) - fixed) / (fixed.shape[1] - 1)
        log_p = u.spread(allowed(u)).sum(-1) + settings.estimator.scale * u.log_probs.sum(-1)
        terms = {"surrogate": ((level - fixed) * log_p).sum() / captions}
        if mass is not None:
            terms["mass"] = -settings.train.reward_mass * mass.sum() / captions
        if settings.objective.doubly_stochastic:
            penalty = doubly_stochastic(u, settings.objective)
            terms["doubly_stochastic"] = settings.objective.doubly_stochastic * penalty / words
        if settings.attention.hard:
            terms["entropy_bonus"] = -settings.estimator.entropy * entropy(u.weights).sum() / words
        total = sum(terms.values())
        said = max(1, int(u.layout.lengths.sum()))
        shown = {"nll": u.costs.sum().detach() / said, "reward": fixed.sum() / captions}
        return Loss(total, shown | terms)


def allowed(u: Readout) -> Tensor:
    """log p of each word (M,) among the words that may be generated: what ``ancestral`` draws from. 0 at padding."""
    logits = at_least_fp32(u.logits).index_fill(1, torch.tensor(NEVER, device=u.logits.device), -torch.inf)
    targets = u.targets if u.layout.mask is None else torch.where(u.layout.mask, u.targets, NEVER[-1] + 1)
    log_p = -F.cross_entropy(logits, targets, reduction="none")
    return log_p if u.layout.mask is None else torch.where(u.layout.mask, log_p, 0)


def mass_in_boxes(u: Readout, words: Tensor, batch: Batch) -> Tensor:
    """Attention mass in the boxes of the named things, a mean over the words of a caption that name one: (N, S).

    The boxes of a word are those that the given captions of the image have for it; a caption that names none has 0.
    """
    images, length = len(words), words.shape[-1]
    given = batch.words.flatten(1)  # (N, C T)
    same = words.flatten(1)[:, :, None] == given[:, None]  # (N, S T, C T)
    shares = batch.shares.flatten(1, 2)  # (N, C T, L)
    boxes = torch.stack([(one[:, :, None] * share).amax(1) for one, share in zip(same, shares, strict=True)])
    boxes = boxes.view(images, -1, length, shares.shape[-1]) * u.real[..., None]
    named = boxes.sum(-1) > 0
    inside = (u.weights * boxes).sum(-1)
    return (inside * named).sum(-1) / named.sum(-1).clamp(min=1)


def spelled(words: Tensor, lengths: Tensor) -> list[list[list[int]]]:
    """Captions as lists of words, from (N, S, T) and lengths (N, S)."""
    pairs = zip(words.tolist(), lengths.tolist(), strict=True)
    return [[caption[:end] for caption, end in zip(some, ends, strict=True)] for some, ends in pairs]


@dataclass(frozen=True)
class CaptionScore:
    """The score of captions against the references of their images: CIDEr-D with the document frequencies of the
    training captions, or BLEU-4, of each caption alone, on simple tokens."""

    dataset: Prepared
    metric: str

    @cached_property
    def frequencies(self) -> DocumentFrequencies:
        return training_frequencies(self.dataset, "simple")

    def __call__(self, rows: Sequence[int], captions: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
        vocabulary, examples = self.dataset.vocabulary, self.dataset.examples
        hypotheses, references = {}, {}
        for row, some in zip(rows, captions, strict=True):
            raw = [caption.raw for caption in examples[row].captions]
            for number, words in enumerate(some):
                hypotheses[f"{row} {number}"] = " ".join(vocabulary.decode(words))
                references[f"{row} {number}"] = raw
        metrics = ("cider",) if self.metric == "cider" else ("bleu",)
        scores = score_captions(
            hypotheses, references, metrics=metrics, frequencies=self.frequencies, tokeniser="simple"
        )  # fmt: skip
        name = "cider_frozen" if self.metric == "cider" else "bleu4"
        return np.array(scores.images[name], np.float32).reshape(len(rows), -1)


def reward_of(settings: Config, dataset: Prepared) -> Likelihood | SelfCritical:
    """What ``train.reward`` names."""
    name = settings.train.reward
    if name == "likelihood":
        return Likelihood()
    return SelfCritical(settings, CaptionScore(dataset, name.removesuffix("+mass")))


def reads_boxes(config: Config, dataset: Prepared) -> bool:
    """Whether training reads boxes. ValueError if it does and the dataset has none."""
    reasons = {
        "objective.supervised": config.objective.supervised > 0,
        "attention.weights 'oracle'": config.attention.weights == "oracle",
        f"train.reward {config.train.reward!r}": config.train.reward.endswith("+mass"),
    }
    for name, needed in reasons.items():
        if needed and not dataset.boxes:
            raise ValueError(f"{name} needs boxes, and {config.data} has none: use scenes")
    return any(reasons.values())
