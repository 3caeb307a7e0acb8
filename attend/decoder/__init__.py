"""Decoders by name."""

from attend.decoder.gru import ResidualGRU
from attend.decoder.lstm import LSTM

DECODERS = {"lstm": LSTM, "gru-residual": ResidualGRU}
