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

from attend.attention.select import Policy
from attend.attention.simplex import at_least_fp32
from attend.captioner.captioner import Captioner, decoding
from attend.captioner.search import NEVER, Hypotheses, ancestral, beam_search
from attend.captioner.unrolled import Readout
from attend.config import Config
from attend.data.batches import Batch
from attend.data.prepared import Prepared
from attend.data.text import END
from attend.estimators import Learner
from attend.estimators.baselines import Average
from attend.estimators.noise import Noise
from attend.evaluation.health import entropy
from attend.metrics.captions import DocumentFrequencies, bleu_statistics, cider_d, corpus_bleu, tokenise
from attend.training.objective import Loss, doubly_stochastic, loss_of

Score = Callable[[Sequence[int], Sequence[Sequence[Sequence[int]]]], np.ndarray]
"""(rows of N images, their captions as lists of words with the end mark (N, S)) -> a score for each caption, (N, S)."""


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
    """-score of sampled captions, ``train.reward_samples`` for each image, without dropout."""

    def __init__(self, settings: Config, score: Score) -> None:
        self.settings, self.score = settings, score
        self.samples, self.length = settings.train.reward_samples, settings.search.max_length
        self.greedy, self.mass = settings.train.reward_baseline == "greedy", settings.train.reward.endswith("+mass")

    def shape(self, batch: Batch) -> tuple[int, int, int]:
        return len(batch.whole), self.samples, self.length

    def loss(
        self, captioner: Captioner, features: Tensor, batch: Batch, noise: Noise, learner: Learner, average: Average
    ) -> tuple[Readout, Loss]:
        """Sample captions, score them, and weigh the log-probability of their words and glimpses."""
        policy, found = self.sample(captioner, features, noise)
        words, path = (part.unflatten(0, (-1, self.samples)) for part in (found.words, found.glimpses))
        lengths = found.lengths.view(-1, self.samples).cpu()
        u = captioner(features, words, lengths, policy.along(path.clamp(min=0)))
        scores = self.scores(batch, words, lengths, u.weights)
        level = self.level(captioner, features, batch) if self.greedy else None
        return u, self.surrogate(u, scores, level, len(batch.whole))

    @torch.no_grad()
    def sample(self, captioner: Captioner, features: Tensor, noise: Noise) -> tuple[Policy, Hypotheses]:
        """A caption in each of N S rows, words and glimpses drawn with noise (N, S, T), and the policy that drew."""
        repeated = features.repeat_interleave(self.samples, 0)
        glimpses = noise.glimpse.flatten(0, 1)[:, None]
        policy = decoding(self.settings.drawn, self.settings.attention.top, glimpses)
        found = ancestral(captioner, repeated, policy, noise.words.flatten(0, 1), max_length=self.length)
        return policy, found

    def scores(self, batch: Batch, words: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
        """The reward of captions (N, S, T) that attended with weights (N, S, T, L): (N, S). Mass has a gradient."""
        if not len(words):  # the share of a process that has no images
            return weights.new_zeros(words.shape[:2])
        spelled = zip(words.tolist(), lengths.tolist(), strict=True)
        captions = [[caption[:end] for caption, end in zip(*image, strict=True)] for image in spelled]
        precise = torch.promote_types(weights.dtype, torch.float32)
        scores = torch.from_numpy(self.score(batch.rows.tolist(), captions)).to(weights.device, precise)
        if not self.mass:
            return scores
        return scores + self.settings.train.reward_mass * mass_in_boxes(weights, words, lengths, batch)

    @torch.no_grad()
    def level(self, captioner: Captioner, features: Tensor, batch: Batch) -> Tensor:
        """The reward of the greedy caption of each image, (N, 1)."""
        decode = "argmax" if self.settings.decode == "sample" else self.settings.decode
        policy = decoding(decode, self.settings.attention.top)
        if not len(features):
            return features.new_zeros(0, 1)
        best = beam_search(captioner, features, policy, beam=1, max_length=self.length, length_power=0.0)
        words, lengths, weights = (part[:, None] for part in (best.words, best.lengths.cpu(), best.weights))
        return self.scores(batch, words, lengths, weights)

    def surrogate(self, u: Readout, reward: Tensor, level: Tensor | None, images: int) -> Loss:
        """The loss whose gradient estimates that of the expected negative reward, a mean over images and samples.

        reward (N, S); level (N, 1) is subtracted from it, None for the mean of the image's other samples. Penalty and
        entropy bonus are means over captions as well. ``images`` counts those of the whole minibatch.
        """
        settings, captions, fixed = self.settings, images * self.samples, reward.detach()
        if level is None:
            level = (fixed.sum(1, keepdim=True) - fixed) / (fixed.shape[1] - 1)
        log_p = u.spread(allowed(u)).sum(-1) + settings.estimator.scale * u.log_probs.sum(-1)
        terms = {"surrogate": ((level - fixed) * log_p).sum() / captions}
        if reward.requires_grad:
            terms["direct"] = (fixed - reward).sum() / captions  # 0, with the gradient of the reward itself
        if settings.objective.doubly_stochastic:
            penalty = doubly_stochastic(u, settings.objective, each=1.0)
            terms["doubly_stochastic"] = settings.objective.doubly_stochastic * penalty / captions
        if u.log_prob is not None:
            terms["entropy_bonus"] = -settings.estimator.entropy * entropy(u.weights).sum() / captions
        length = max(1.0, u.layout.lengths.sum() / max(1, len(u.layout.lengths) * self.samples))
        shown = {"nll": u.costs.sum().detach() / (length * captions), "reward": fixed.sum() / captions}
        return Loss(sum(terms.values()), shown | terms)


def allowed(u: Readout) -> Tensor:
    """log p of each word (M,) among the words that may be generated: what ``ancestral`` draws from. 0 at padding."""
    logits = at_least_fp32(u.logits).index_fill(1, torch.tensor(NEVER, device=u.logits.device), -torch.inf)
    targets = u.targets if u.layout.mask is None else torch.where(u.layout.mask, u.targets, NEVER[-1] + 1)
    log_p = -F.cross_entropy(logits, targets, reduction="none")
    return log_p if u.layout.mask is None else torch.where(u.layout.mask, log_p, 0)


def mass_in_boxes(weights: Tensor, words: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Attention mass in the boxes of the named things, a mean over the words of a caption that name one: (N, S).

    The boxes of a word are those that the given captions of the image have for it; a caption that names none has 0.
    weights (N, S, T, L), words (N, S, T), lengths (N, S) on the host.
    """
    given, shares = batch.words.flatten(1), batch.shares.flatten(1, 2)  # (N, C T), (N, C T, L)
    real = torch.arange(words.shape[2], device=words.device) < lengths.to(words.device)[..., None]
    boxes = torch.zeros_like(weights)
    for n, (some, one, share) in enumerate(zip(words, given, shares, strict=True)):
        same = some[..., None] == one  # (S, T, C T)
        boxes[n] = (same[..., None] * share).amax(2) * real[n, ..., None]
    named = boxes.sum(-1) > 0
    return ((weights * boxes).sum(-1) * named).sum(-1) / named.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class CaptionScore:
    """The score of each caption alone against the references of its image: CIDEr-D with the document frequencies of the
    training captions, or BLEU-4. The end mark is a word of both sides, so that a caption that breaks off scores less.
    """

    dataset: Prepared
    metric: str

    @cached_property
    def references(self) -> dict[int, list[str]]:
        """Training captions by row, as simple tokens with the end mark."""
        rows = self.dataset.rows("train")
        captions = [caption.raw for row in rows for caption in self.dataset.examples[row].captions]
        tokens = iter(tokenise(captions, tokeniser="simple"))
        return {row: [f"{next(tokens)} {END}" for _ in self.dataset.examples[row].captions] for row in rows}

    @cached_property
    def frequencies(self) -> DocumentFrequencies:
        images = ([caption.split() for caption in image] for image in self.references.values())
        return DocumentFrequencies.of(images, name="training captions with their end marks")

    def __call__(self, rows: Sequence[int], captions: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
        vocabulary = self.dataset.vocabulary
        hyps = [" ".join(vocabulary.words[word] for word in caption) for some in captions for caption in some]
        refs = [self.references[row] for row, some in zip(rows, captions, strict=True) for _ in some]
        if self.metric == "cider":
            scores = cider_d(hyps, refs, self.frequencies)
        else:
            scores = corpus_bleu(bleu_statistics(hyps, refs))["bleu4"]
        return np.array(scores, np.float32).reshape(len(rows), -1)


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
