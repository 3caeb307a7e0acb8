"""Configurations by name: what `attend train PRESET` starts from."""

from __future__ import annotations

from attend.config import Attention, Config, Estimator, Objective, Train

SOFT = Config(objective=Objective(doubly_stochastic=1.0))
HARD = Config(attention=Attention(select="sample"), estimator=Estimator())
UNIFORM = Config(attention=Attention(weights="uniform"))
ORACLE = Config(attention=Attention(weights="oracle"), train=Train(monitor="nll"))

PRESETS = {
    "soft": ("Soft attention: the decoder reads the expected feature.", SOFT),
    "hard": ("Hard attention: one sampled glimpse a word, trained with REINFORCE.", HARD),
    "uniform": ("Control: the decoder reads the mean feature at every word.", UNIFORM),
    "oracle": ("Control: the decoder reads where the word to come lies (needs boxes; given captions only).", ORACLE),
}
