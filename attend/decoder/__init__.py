"""Decoders by name."""

from __future__ import annotations

from attend.decoder.gru import ResidualGRU
from attend.decoder.lstm import LSTM

DECODERS = {"lstm": LSTM, "gru-residual": ResidualGRU}
