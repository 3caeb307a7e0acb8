"""How a model learns and is searched: estimator, objective, search and the loop."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from attend.config.catalogue import COMPARED, FACTS, SEVERAL, Facts
from attend.config.section import Beam, Count, Factor, Known, Positive, Section, Share

Decode = Literal["expected", "top-k", "argmax", "sample", "marginal"]
Look = Literal["uniform", "centre", "random", "shuffled", "oracle", "first"]
Intervention = Literal["redirect", "without"]
Rate = Annotated[float, Meta(ge=1e-30, lt=10, description="in [1e-30, 10)")]


@dataclass(frozen=True, kw_only=True)
class Estimator(Section):
    """How hard attention learns; without effect on soft attention."""

    name: Annotated[str, Known(FACTS)] = "reinforce"
    """the rule by which hard attention learns (docs/estimators.md). Exact where feasible: enumeration (of the bound),
    marginal; of several samples: vimco, wake-sleep, sum-and-sample, unordered-set; with a control variate: rebar,
    relax; relaxed: gumbel-softmax, straight-through, gumbel-straight-through; variational samples from a network that
    has read the caption; xu2015-code is the rule of Xu et al.'s released code, with a cost and baseline of its own"""
    samples: Positive | None = None
    """K, glimpse paths sampled per caption. None is as many as the estimator needs: 1, or 5 if it compares them"""
    cost: Literal["to-go", "sentence", "own"] | None = None
    """what reinforce charges a glimpse with: the words from it on, the whole sentence, or its own word. None is to-go,
    and own where attention.feed is expected; own is biased where the state reads the glimpse"""
    baseline: Literal[
        "none",
        "average",
        "average-per-word",
        "average-per-place",
        "leave-one-out",
        "group",
        "learned",
        "soft",
        "self-critical",
    ] = "average-per-word"
    """what reinforce subtracts from the cost (leave-one-out is RLOO, self-critical ReMax, group GRPO and biased). The
    moving averages are of the cost, of the cost per word times the words that remain, and of the cost from each place
    on; leave-one-out is the mean cost of the other samples; group is the mean of all samples, and divides by their
    deviation; learned is the prediction of a critic; soft and self-critical are the cost of a pass with the expected
    context or the likeliest glimpses"""
    rollout: Literal["start", "prefix"] = "start"
    """where the pass of soft and self-critical begins: at the first word, or before each word behind the samples so
    far, which is one pass per word"""
    decay: Share = 0.9
    """decay of the moving average"""
    scale: Factor = 1.0
    """lambda_r, the factor on the score part of what is sampled; 1 is the gradient of the bound. What is computed
    without sampling (enumeration, marginal) is not scaled"""
    entropy: Factor = 0.01
    """weight of the entropy bonus, per nat of entropy of a word's attention"""
    semi: Annotated[float, Meta(ge=0, lt=1, description="in [0, 1): at 1 nothing is sampled")] | None = None
    """probability that an image takes the expected context instead of its samples; none is 0.5, and 0 for estimators
    that do not draw their paths one by one"""
    semi_start: Annotated[float, Meta(ge=0, le=1, description="in [0, 1]")] | None = None
    """that probability at the first step, from which it falls linearly to semi over semi_epochs; none is semi"""
    semi_epochs: Factor = 0.0
    """epochs after which the probability is semi; 0 with semi_start left out"""
    coin: Literal["image", "minibatch"] = "image"
    """what one coin of that probability decides for"""
    relaxation: Annotated[float, Meta(ge=1e-6, le=100, description="0.000001 to 100")] = 1.0
    """tau_g of the Gumbel-softmax, in the estimators that relax a glimpse"""

    def check(self) -> None:
        if self.baseline in COMPARED and self.drawn < 2:
            raise ValueError(
                f"estimator.samples is {self.drawn}, but estimator.baseline {self.baseline!r} is "
                f"{COMPARED[self.baseline]}: give 2 or more"
            )
        if self.baseline == "group" and self.name != "reinforce":
            raise ValueError(
                "estimator.baseline 'group' divides costs by their deviation, for which estimator.name "
                f"{self.name!r} is not made: set estimator.name to reinforce, or choose another baseline"
            )
        if self.rollout == "prefix" and self.baseline not in ("soft", "self-critical"):
            raise ValueError(
                f"estimator.rollout is 'prefix', but estimator.baseline {self.baseline!r} makes no other pass: "
                "leave it out"
            )
        unread = ([] if self.facts.charged else ["cost", "baseline"]) + ([] if self.facts.relaxed else ["relaxation"])
        for name in unread:
            if getattr(self, name) != getattr(Estimator, name):
                raise ValueError(
                    f"estimator.{name} is {getattr(self, name)!r}, but estimator.name {self.name!r} has its own: "
                    f"leave estimator.{name} out"
                )
        if (self.semi_start is None) != (self.semi_epochs == 0):
            raise ValueError(
                f"estimator.semi_start is {self.semi_start} and estimator.semi_epochs {self.semi_epochs}: give both, "
                "or neither"
            )
        if self.semi_start is not None and (not self.facts.mixed or self.semi_start < self.mixed):
            raise ValueError(
                f"estimator.semi_start is {self.semi_start}, but must be no less than estimator.semi ({self.mixed}), "
                "which is 0 for estimators that do not draw their paths one by one"
            )
        if self.semi and not self.facts.mixed:
            raise ValueError(
                f"estimator.semi is {self.semi}, but estimator.name {self.name!r} does not draw its paths one by one: "
                "leave estimator.semi out"
            )
        fewest, most = self.facts.fewest, self.facts.most
        if not fewest <= self.drawn <= most:
            raise ValueError(
                f"estimator.samples is {self.drawn}, but estimator.name {self.name!r} takes "
                f"{fewest if fewest == most else f'{fewest} to {most}'}: leave it out or give as many"
            )

    @property
    def facts(self) -> Facts:
        """What is known of the estimator."""
        return FACTS[self.name]

    @property
    def drawn(self) -> int:
        """K, the paths that are sampled for each caption."""
        if self.samples is not None:
            return self.samples
        return SEVERAL if self.baseline in COMPARED else self.facts.samples

    @property
    def mixed(self) -> float:
        """The probability that an image takes the expected context, resolved; that of the last epochs."""
        return (0.5 if self.facts.mixed else 0.0) if self.semi is None else self.semi

    def mixed_at(self, epoch: float) -> float:
        """The probability that an image takes the expected context after ``epoch`` epochs of training."""
        if self.semi_start is None:
            return self.mixed
        return self.mixed + (self.semi_start - self.mixed) * max(0.0, 1 - epoch / self.semi_epochs)


@dataclass(frozen=True, kw_only=True)
class Objective(Section):
    """What is added to the negative log-likelihood."""

    doubly_stochastic: Factor = 0.0
    """lambda of sum_i (target - sum_t alpha_ti)^2"""
    reduce: Literal["sum", "mean"] = "sum"
    """sum over locations beside the summed cost of a caption (the paper), or mean over both (tutorials)"""
    target: Literal["one", "length"] = "one"
    """what a location's weights should sum to: 1, or words / locations"""
    supervised: Factor = 0.0
    """lambda of the cross-entropy of learned weights to the boxes of each word that has some, in nats"""


@dataclass(frozen=True, kw_only=True)
class Search(Section):
    """How captions are generated."""

    beam: Beam = 3
    """width of the beam; 1 is greedy, 0 draws every word from the model (ancestral sampling)"""
    max_length: Annotated[int, Meta(ge=1, le=1000, description="1 to 1000 words")] = 30
    """words a generated caption has at most"""
    length_power: Annotated[float, Meta(ge=0, le=2, description="in [0, 2]")] = 0.7
    """hypotheses compare by log p / length^power: 1 is the mean a word and likes to repeat itself, 0 likes it short"""
    decode: Decode | None = None
    """context of decoding. None is argmax for hard attention, marginal (sum_s alpha_s p(y|s)) if attention.feed is
    expected, and else what attention.select is"""


@dataclass(frozen=True, kw_only=True)
class Train(Section):
    """The loop."""

    epochs: Positive = 15
    """passes over the training images"""
    images: Positive = 16
    """images in a minibatch, each with all its captions"""
    optimiser: Literal["adam", "adamw", "rmsprop", "adadelta", "sgd"] = "adam"
    """optimiser by name"""
    reward: Literal["likelihood", "cider", "bleu4", "cider+mass", "bleu4+mass"] = "likelihood"
    """what a step raises: the likelihood of the given captions, or the score of sampled ones. The score is for
    self-critical training, which begins with a finished run and has about a tenth of its learning rate; with mass, it
    also has the attention in the boxes of the words"""
    reward_samples: Annotated[int, Meta(ge=2, le=100, description="2 to 100")] = 5
    """captions sampled per image"""
    reward_baseline: Literal["leave-one-out", "greedy"] = "leave-one-out"
    """what is subtracted from a score: the mean of the image's other samples, or the score of its greedy caption"""
    reward_mass: Factor = 1.0
    """factor on the attention mass in the boxes"""
    learning_rate: Rate = 1e-3
    """learning rate of all but the encoder, per step"""
    encoder_learning_rate: Rate = 1e-4
    """learning rate of the encoder's tuned blocks, per step"""
    clip: Factor = 5.0
    """largest norm of the gradient; 0 does not clip"""
    monitor: Literal["cider", "bleu4", "nll"] = "cider"
    """validation score that stops early and lowers the learning rate; cider and bleu4 are of generated captions"""
    patience: Count = 6
    """epochs without a better validation score before stopping; 0 never stops"""
    target: Factor = 0.0
    """validation score (not of nll) at which training stops; 0 never stops"""
    lower_after: Count = 2
    """epochs without a better score before the learning rate is lowered; 0 never lowers it"""
    lower_by: Annotated[float, Meta(gt=0, lt=1, description="between 0 and 1")] = 0.5
    """factor that lowers the learning rate"""
    training_images: Count = 0
    """how many images of the training split to learn from, drawn by the seed; 0 is all. The vocabulary stays that of
    all"""
    validation_images: Count = 0
    """how many images of the validation split to score after an epoch; 0 is all"""
    validation_beam: Annotated[int, Meta(ge=1, le=1000, description="1 to 1000")] = 1
    """width of the beam in validation"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes matrix products in bfloat16 and keeps the weights in fp32"""
    graphs: bool = True
    """on CUDA, capture the whole step once for each shape of a minibatch, and replay it; elsewhere without effect"""
    workers: Annotated[int, Meta(ge=0, le=256, description="0 to 256")] = 0
    """processes that read data; 0 reads in the loop"""
    log_every: Positive = 50
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: Factor = 5.0
    """minutes between two checkpoints; one is also written after every epoch"""
    keep_every: Count = 0
    """epochs between two checkpoints of the weights that are kept for good, to follow training; 0 keeps none"""

    def check(self) -> None:
        if self.target and self.monitor == "nll":
            raise ValueError(
                f"train.target is {self.target}, but train.monitor 'nll' has no target: use cider or bleu4"
            )
        used = {
            "reward_samples": self.reward != "likelihood",
            "reward_baseline": self.reward != "likelihood",
            "reward_mass": self.reward.endswith("+mass"),
        }
        for name, applies in used.items():
            if not applies and getattr(self, name) != getattr(Train, name):
                raise ValueError(
                    f"train.{name} is {getattr(self, name)!r}, which has no effect with train.reward {self.reward!r}: "
                    "leave it out"
                )
