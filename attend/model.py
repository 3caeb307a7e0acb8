"""Encoder, captioner and vocabulary together: built from a configuration, or read from a run's checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attend.attention.attention import Attention
from attend.attention.score import SCORES
from attend.attention.simplex import SIMPLEXES
from attend.bars import say
from attend.captioner.captioner import Captioner
from attend.config import Config, Look
from attend.data.embeddings import read_embeddings
from attend.data.text import Vocabulary
from attend.decoder import DECODERS
from attend.encoder.encoder import Encoder
from attend.paths import quoted
from attend.runs.checkpoint import read_checkpoint
from attend.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Model:
    """What turns images into captions."""

    config: Config
    vocabulary: Vocabulary
    encoder: Encoder
    captioner: Captioner

    @classmethod
    def build(cls, config: Config, vocabulary: Vocabulary) -> Model:
        """A fresh model, its weights drawn from ``config.seed``. Raises ValueError as Encoder does.

        How many words have pretrained embeddings, where they are asked for, is said to stderr.
        """
        model = cls._bare(config, vocabulary, config.encoder.weights)
        if config.decoder.embeddings:
            table, known = read_embeddings(Path(config.decoder.embeddings), vocabulary, config.decoder.embedding)
            rows, count = torch.from_numpy(known), f"{known.sum()} of {len(known)}"
            say(f"{config.decoder.embeddings}: embeddings of {count} words of the vocabulary")
            with torch.no_grad():
                model.captioner.decoder.embedding.weight[rows] = torch.from_numpy(table)[rows]
        return model

    @classmethod
    def _bare(cls, config: Config, vocabulary: Vocabulary, weights: str) -> Model:
        """A model that has read no embeddings, and ``weights`` into its encoder."""
        seed = config.seed if config.encoder.tune_blocks else 0
        encoder = Encoder(replace(config.encoder, weights=weights), seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            captioner = build_captioner(config, encoder.width, len(vocabulary), encoder.grid)
        return cls(config=config, vocabulary=vocabulary, encoder=encoder, captioner=captioner)

    @classmethod
    def read(cls, run: RunFolder, checkpoint: Path | None = None) -> Model:
        """The best model of a run, or that of another of its checkpoints; that of a tuned encoder holds all of it, so
        no other weights are read.

        Raises ValueError where checkpoint, vocabulary or encoder do not fit.
        """
        config, path = run.config(), checkpoint or run.best
        vocabulary = Vocabulary.read(run.path / "vocabulary.json")
        tensors, state = read_checkpoint(path)
        if state["vocabulary"] != vocabulary.fingerprint():
            raise ValueError(
                f"{run.path / 'vocabulary.json'} is not the vocabulary {path} was trained with: restore the file"
            )
        weights = str(run.encoder) if run.encoder.exists() else config.encoder.weights
        model = cls._bare(config, vocabulary, "random" if config.encoder.tune_blocks else weights)
        model.load(tensors, state, str(path))
        return model

    def looking(self, look: Look) -> Model:
        """The same model under an evaluation control instead of its own weights, or frozen at its first glimpse."""
        captioner = copy.deepcopy(self.captioner)
        captioner.attention.look = look
        return replace(self, captioner=captioner)

    @property
    def tuned(self) -> bool:
        """Whether blocks of the encoder are trained too."""
        return self.config.encoder.tune_blocks > 0

    def to(self, device: torch.device) -> Model:
        self.encoder.to(device)
        self.captioner.to(device)
        return self

    def features(self, inputs: Tensor) -> Tensor:
        """Features (N, L, D) from what the store holds: images for a tuned encoder, else features."""
        return self.normalised(self.encoder(inputs) if self.tuned else inputs)

    def normalised(self, features: Tensor) -> Tensor:
        """What the captioner reads of the encoder's features (N, L, D), in the precision of the pass.

        Normalised by layer, a_i is (a_i - mean_d a_id) / deviation_d a_id: layer normalisation without parameters.
        """
        if self.config.encoder.normalise == "layer":
            features = F.layer_norm(features.float(), features.shape[-1:])
        low = torch.is_autocast_enabled(features.device.type)
        return features.to(torch.get_autocast_dtype(features.device.type) if low else torch.float32)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass: matrix products in bfloat16 where the configuration says so."""
        device = next(self.captioner.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def tensors(self) -> dict[str, Tensor]:
        """All weights that a checkpoint keeps: the captioner's, and the encoder's where it is tuned."""
        parts = {"captioner": self.captioner} | ({"encoder": self.encoder} if self.tuned else {})
        return {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}

    def identity(self) -> dict[str, Any]:
        """The fingerprints of IDENTITY; none of an encoder that the checkpoint itself holds."""
        return {
            "vocabulary": self.vocabulary.fingerprint(),
            "encoder": None if self.tuned else self.encoder.fingerprint(),
        }

    def load(self, tensors: dict[str, Tensor], state: dict[str, Any], origin: str) -> None:
        """Take over a checkpoint's weights; ValueError says what does not fit."""
        for name, ours in self.identity().items():
            if state[name] != ours:
                raise ValueError(
                    f"{origin} was trained with another {name} (its fingerprint is {quoted(state[name])}, this one's "
                    f"{ours!r}): "
                    f"use the {name} of that run"
                )
        take(self.tensors(), tensors, origin)


def take(own: dict[str, Tensor], tensors: dict[str, Tensor], origin: str) -> None:
    """Copy the tensors of a checkpoint into our own of these names; ValueError names one that does not fit."""
    for name, ours in own.items():
        theirs = tensors.get(name)
        if theirs is None or theirs.shape != ours.shape or theirs.is_floating_point() != ours.is_floating_point():
            raise ValueError(f"{origin} does not fit its configuration: {name} is missing or has another shape or type")
    for name, ours in own.items():
        ours.copy_(tensors[name])


def build_captioner(config: Config, features: int, vocabulary: int, grid: tuple[int, int] | None = None) -> Captioner:
    """A captioner for features (N, L, D) and V words, its weights drawn from torch's generator.

    The modules take plain keywords; this is where they meet the configuration.
    """
    settings, words = config.attention, config.decoder
    score, simplex = None, SIMPLEXES[settings.simplex]
    if settings.learned:
        plain = {"width": settings.width, "activation": settings.activation, "heads": settings.heads}
        score = SCORES[settings.score](features=features, hidden=words.hidden, **plain)
    if settings.simplex == "entmax":
        simplex = partial(simplex, power=settings.power)
    attention = Attention(
        score, features, simplex=simplex, temperature=settings.temperature, heads=settings.heads,
        look=settings.weights, grid=grid,
    )  # fmt: skip
    options = {"embedding": words.embedding, "hidden": words.hidden, "embedding_range": words.embedding_range}
    decoder = DECODERS[words.cell](features, vocabulary, **options | words.options)
    attention.reads_scores = getattr(decoder, "reads_scores", False)
    decoder.embedding.weight.requires_grad_(not words.freeze_embeddings)
    return Captioner(attention, decoder, feed=settings.feed)
