"""Decoders by name."""

from attend.decoder.adaptive import Adaptive
from attend.decoder.gru import ResidualGRU
from attend.decoder.lstm import LSTM
from attend.decoder.transformer import Transformer

DECODERS = {"lstm": LSTM, "gru-residual": ResidualGRU, "adaptive": Adaptive, "transformer": Transformer}
