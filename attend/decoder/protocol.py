"""What all decoders share: the state, dropout factors, and how embeddings start."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attend import config

Drop = tuple[Tensor, Tensor]
"""Dropout factors on the state (..., H) and on the deep output (..., E)."""


class State(NamedTuple):
    """h and c of the LSTM, each (N, R, H); a GRU has no c. ``asked`` is the h that attention keeps asking with, where
    it is frozen at its first glimpse."""

    hidden: Tensor
    cell: Tensor | None = None
    asked: Tensor | None = None

    def first(self, images: int, rows: int) -> State:
        """The first rows of the first images, by view; all of them without one."""
        if self.hidden.shape[:2] == (images, rows):
            return self
        return State(*(None if part is None else part[:images, :rows] for part in self))

    def rows(self, rows: Tensor) -> State:
        """Rows (N, K) of each image."""
        images = torch.arange(len(rows), device=rows.device)[:, None]
        return State(*(None if part is None else part[images, rows] for part in self))


def start_embedding(embedding: nn.Embedding, settings: config.Decoder) -> None:
    """Embeddings from U(-r, r), frozen where the settings say so."""
    nn.init.uniform_(embedding.weight, -settings.embedding_range, settings.embedding_range)
    embedding.weight.requires_grad_(not settings.freeze_embeddings)
