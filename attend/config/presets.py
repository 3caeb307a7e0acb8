"""Configurations by name: what `attend train PRESET` starts from."""

from dataclasses import dataclass, replace

from attend.config import Attention, Config, Decoder, Encoder, Estimator, Objective, Search, Train
from attend.config.text import difference


@dataclass(frozen=True)
class Preset:
    """What it is in one sentence, and its settings."""

    about: str
    config: Config

    @property
    def differences(self) -> str:
        """The fields in which it differs from the preset `soft`."""
        return difference(self.config, SOFT)


SOFT = Config(objective=Objective(doubly_stochastic=1.0))
LEARNS_HARD = Estimator(scale=0.1, entropy=0.0)
"""What learned best of what was tried: at scale 1, the gradient of the bound, the samples' noise drowns the signal."""
HARD = Config(attention=Attention(select="sample"), estimator=LEARNS_HARD)
UNIFORM = Config(attention=Attention(weights="uniform"))
ORACLE = Config(attention=Attention(weights="oracle"), train=Train(monitor="nll"))

VGG = Encoder(name="vgg19", stride=16)
"""The fourth block of convolutions before the last pooling: 14 x 14 x 512."""
CODE_CAPTIONS = 16
"""Captions of a minibatch of the released code."""


def code_penalty(locations: int) -> float:
    """alpha_c of the released code, 1, in units of ours, for a number of ``locations``.

    There the square is summed over the captions of a minibatch and averaged over the locations, beside the mean cost of
    a caption.
    """
    return CODE_CAPTIONS / locations


CODE_DIFFERS = (
    "There, unlike here, a minibatch is 16 captions of one length, while ours are 16 images with all their captions, "
    "whose lengths differ (on Flickr8k 12 words padded to 24: lambda_r = B / (10 T) is 0.35 for its 0.15, and longer "
    "captions are charged more for their length alone); RMSprop is that of Graves (2013: centred, momentum 0.9, rate "
    "1e-4), ours is PyTorch's; the first word is a vector of zeros, ours a start mark; and 1e-8 is added inside the "
    "logarithm."
)
PAPER_SOFT = Config(
    encoder=VGG,
    objective=Objective(doubly_stochastic=1.0),
    train=Train(optimiser="rmsprop", monitor="bleu4", patience=10, lower_after=0),
)
PAPER_HARD = replace(
    PAPER_SOFT,
    attention=Attention(select="sample"),
    estimator=Estimator(cost="sentence", baseline="average"),
    objective=Objective(),
)
CODE_SOFT = replace(
    PAPER_SOFT,
    objective=Objective(doubly_stochastic=code_penalty(196)),
    search=Search(beam=1, length_power=0.0),
    train=replace(PAPER_SOFT.train, monitor="nll", clip=0),
)
CODE_HARD = replace(
    CODE_SOFT,
    attention=Attention(select="sample"),
    estimator=Estimator(name="xu2015-code", scale=0.1, entropy=0.002, coin="minibatch"),
    search=Search(decode="expected", beam=1, length_power=0.0),
)
TUTORIAL = Config(
    encoder=Encoder(name="efficientnet_b4", grid=(14, 14)),
    attention=Attention(activation="relu"),
    decoder=Decoder(gate="vector", readout="linear", initial="linear"),
    objective=Objective(doubly_stochastic=1.0, reduce="mean"),
    train=Train(learning_rate=4e-4, monitor="bleu4", patience=20, lower_after=8, lower_by=0.8),
)
RESIDUAL = Config(
    encoder=Encoder(name="inception_resnet_v2", pixels="unit"),
    attention=Attention(score="dot"),
    decoder=Decoder(cell="gru-residual", gate="none", readout="linear"),
)
ADAPTIVE = replace(SOFT, decoder=Decoder(cell="adaptive", gate="none", readout="linear"))
TRANSFORMER = replace(SOFT, decoder=Decoder(cell="transformer", gate="none", readout="linear"))
SCRATCH = Config(
    encoder=Encoder(name="small_cnn", weights="random", tune_blocks=5),
    objective=Objective(doubly_stochastic=1.0),
    train=Train(encoder_learning_rate=1e-3),
)

PRESETS = {
    "soft": Preset("Soft attention: the decoder reads the expected feature.", SOFT),
    "hard": Preset("Hard attention: one sampled glimpse a word, trained with REINFORCE.", HARD),
    "uniform": Preset("Control: the decoder reads the mean feature at every word.", UNIFORM),
    "oracle": Preset("Control: the decoder reads where the next word lies (needs boxes; given captions only).", ORACLE),
    "xu2015-paper": Preset(
        "Hard attention as Xu et al. (2015) describe it: each glimpse is charged with the whole sentence.", PAPER_HARD
    ),
    "xu2015-paper-soft": Preset("Soft attention as Xu et al. (2015) describe it.", PAPER_SOFT),
    "xu2015-code": Preset(
        "Hard attention by the learning rule of their released code, which is another one (there the softmax "
        "multiplies by the temperature, here it divides, so it stays at 1; there the score part and the entropy have "
        f"gradients at padded words too, here those have no glimpse). {CODE_DIFFERS}",
        CODE_HARD,
    ),
    "xu2015-code-soft": Preset(f"Soft attention as their released code trains it. {CODE_DIFFERS}", CODE_SOFT),
    "tutorial": Preset(
        "The arrangement of popular tutorials: EfficientNet-B4 pooled to 14 x 14, ReLU scores, a gate for every "
        "feature, words read from the state alone, and a first state that is a linear map of the mean feature.",
        TUTORIAL,
    ),
    "vgg": Preset(
        "Soft attention on VGG-16 before its last pooling, 14 x 14 x 512.",
        replace(SOFT, encoder=replace(VGG, name="vgg16")),
    ),
    "resnet50": Preset(
        "Soft attention on ResNet-50's last feature map, 7 x 7 x 2048.", replace(SOFT, encoder=Encoder(name="resnet50"))
    ),
    "gru-residual": Preset(
        "A GRU over words, whose output asks InceptionResNetV2's map by dot products; output and context are added and "
        "normalised (--attention.heads for several, --attention.select sample for hard).",
        RESIDUAL,
    ),
    "adaptive": Preset(
        "Adaptive attention (Lu et al., 2017): an LSTM that does not read the context, and a visual sentinel beside "
        "the image (--attention.select sample for hard).",
        ADAPTIVE,
    ),
    "transformer": Preset(
        "A Transformer of two blocks over the words; the last looks at the image (--attention.select sample for hard; "
        "--decoder.looks every or shared for all blocks).",
        TRANSFORMER,
    ),
    "scratch": Preset("Soft attention on a small convolutional network trained from nothing.", SCRATCH),
}
