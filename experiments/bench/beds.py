"""What `attend bench` measures: a captioner of ours and the textbook's twin of it on the same random minibatch."""

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Self

import torch
from attend.experiments.bench.floor import Size
from attend.experiments.bench.textbook import Textbook
from torch import Tensor

from attend.attention.select import Expected
from attend.captioner.replay import capture_words
from attend.captioner.search import LAST, beam_search
from attend.config import Attention, Config, Decoder, Estimator, Objective
from attend.config.text import replace
from attend.data.batches import Batch
from attend.estimators import Learner
from attend.estimators.noise import Noise
from attend.evaluation.generate import IMAGES
from attend.model import build_captioner
from attend.training.objective import loss_of
from attend.training.optimiser import OPTIMISERS

KINDS = ("soft", "hard")
Changes = Mapping[str, str | int | float | bool | None]
NOTHING: Changes = MappingProxyType({})


class Bed:
    """A minibatch, and both captioners with the same weights. Everything follows from the size, the kind and ``seed``.

    ``changed`` are fields of the configuration by dotted names; the textbook has the LSTM and one sample alone.

    features (N, L, D), words (N, C, T), lengths (N, C), longest first; ``live`` rows have a word to say at each step.
    """

    def __init__(
        self,
        size: Size,
        kind: str,
        device: torch.device,
        precision: str = "fp32",
        changed: Changes = NOTHING,
        seed: int = 0,
    ) -> None:
        self.size, self.device, self.precision = size, device, precision
        generator = torch.Generator().manual_seed(seed)
        shape = (size.images, size.captions)
        lengths = torch.randint(size.shortest, size.longest + 1, shape, generator=generator).sort(1, descending=True)[0]
        self.lengths = lengths[lengths[:, 0].argsort(descending=True, stable=True)]
        self.shape = (*shape, int(lengths.max()))
        words = torch.randint(4, size.vocabulary, self.shape, generator=generator)  # after the special tokens
        real = torch.arange(self.shape[2]) < self.lengths[..., None]
        self.live = real.sum((0, 1)).tolist()
        self.words = words.where(real, 0).to(device)
        self.features = torch.rand(size.images, size.locations, size.features, generator=generator).to(device)
        hard = kind == "hard"
        rule = Estimator(entropy=0.0, baseline="none", semi=0.0) if hard else Estimator()
        settings = Config(
            attention=Attention(width=size.width, select="sample" if hard else "expected"),
            estimator=rule,  # as the textbook has it
            decoder=Decoder(embedding=size.embedding, hidden=size.hidden),
            objective=Objective(doubly_stochastic=0.0 if hard else 1.0),
        )
        self.settings = replace(settings, dict(changed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.captioner = build_captioner(self.settings, size.features, size.vocabulary).to(device)
        self.learner, self.steps = Learner(self.settings, size.features, size.vocabulary).to(device), 0
        self.average = self.learner.start(device)

    @property
    def tokens(self) -> int:
        """Real words of the minibatch, the end mark counted."""
        return sum(self.live)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.captioner.parameters())

    @cached_property
    def textbook(self) -> Textbook:
        return Textbook(self.captioner, self.settings).to(self.device)

    @cached_property
    def optimiser(self) -> torch.optim.Optimizer:
        return OPTIMISERS["adam"](self.captioner.parameters())

    @cached_property
    def plain_optimiser(self) -> torch.optim.Optimizer:
        """torch's plain Adam, for the textbook."""
        return torch.optim.Adam(self.textbook.parameters())

    def ours(self) -> None:
        """One training step as in ``attend.training``."""
        self.steps += 1
        noise = Noise.draw(self.settings, self.shape, 0, self.steps).to(self.device)
        loss, optimiser = self._our_loss(noise, self.precision), self.optimiser
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.captioner.parameters(), 5.0)
        optimiser.step()
        optimiser.zero_grad()

    def plain(self) -> None:
        """One training step of the textbook arrangement."""
        noise = torch.rand(self.shape, device=self.device) if self.settings.attention.hard else None
        loss = self.textbook.loss(self.features, self.words, self.lengths.to(self.device), noise)
        optimiser = self.plain_optimiser
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.textbook.parameters(), 5.0)
        optimiser.step()

    def losses(self) -> tuple[float, float]:
        """Both losses without dropout on the same noise: what must agree before any clock is started."""
        glimpse = torch.rand(self.shape, generator=torch.Generator().manual_seed(1)).to(self.device)
        noise = Noise(glimpse=glimpse).to(self.device)
        self.textbook.eval()
        chance = glimpse if self.settings.attention.hard else None
        theirs = self.textbook.loss(self.features, self.words, self.lengths.to(self.device), chance)
        self.textbook.train()
        return float(self._our_loss(noise, "fp32").detach()), float(theirs.detach())

    def _our_loss(self, noise: Noise, precision: str) -> Tensor:
        batch = Batch.of(self.features, self.words, self.lengths)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            _, loss = loss_of(self.captioner, self.features, batch, noise, self.learner, self.average)
        return loss.total


class SearchBed(Bed):
    """Captions of ``images`` by a beam of ``beam``, ours all together and the textbook's one after another."""

    def __init__(
        self, size: Size, device: torch.device, precision: str, images: int, beam: int = 5, changed: Changes = NOTHING
    ) -> None:
        super().__init__(size, "soft", device, precision, changed)
        self.captioner.eval()
        capture_words(self.captioner, device)
        self.beam = beam
        generator = torch.Generator().manual_seed(2)
        self.features = torch.rand(images, *self.features.shape[1:], generator=generator)
        self.features = (4 * self.features - 2).to(device)
        with torch.no_grad():  # fresh weights say nothing surely: larger ones, so that captions differ and end
            for parameter in self.captioner.decoder.parameters():
                parameter.mul_(4.0)
        if self.settings.decoder.cell == "lstm":
            self.textbook = Textbook(self.captioner, self.settings).to(device).eval()

    def exact(self) -> Self:
        """For comparing captions: in float64, where rounding decides nothing, and none ends before the last word.

        A hypothesis that has ended keeps its place in our beam while it is among the best; in the textbook it leaves.
        """
        self.captioner.double(), self.textbook.double()
        self.features = self.features.double()
        for logits in (self.captioner.decoder.logits, self.textbook.logits):
            logits.bias.data[LAST] = -1e4
        return self

    def pieces(self) -> None:
        """Ours, as many images at once as an evaluation takes."""
        for features in self.features.split(IMAGES):
            self._search(features)

    def ours(self) -> list[list[int]]:
        return self._search(self.features)

    @torch.no_grad()
    def _search(self, features: Tensor) -> list[list[int]]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = beam_search(self.captioner, features, Expected(), beam=self.beam, max_length=self.size.longest)
        return [words[: int(length)].tolist() for words, length in zip(found.words, found.lengths, strict=True)]

    def plain(self) -> list[list[int]]:
        return self.textbook.beam_search(self.features, self.beam, self.size.longest)


def bed_of(size: Size, kind: str, device: torch.device, precision: str) -> Bed:
    """A bed of soft or hard attention; a kind that is a number is a beam over the size's images."""
    if kind.isdigit():
        return SearchBed(size, device, precision, size.images, int(kind))
    return Bed(size, kind, device, precision)
