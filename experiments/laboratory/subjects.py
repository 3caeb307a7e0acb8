"""The subjects of gradient estimation: a model at fixed weights and a fixed minibatch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from attend.captioner.captioner import Captioner
from attend.config import Attention, Config, Decoder
from attend.data.batches import Batch, Batches, epoch_rows
from attend.encoder.features import ensure_store
from attend.evaluation.saved import check_words, dataset_of
from attend.model import Model, build_captioner
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator

TINY = {"locations": 4, "features": 6, "words": 9}
CAPTIONS = [[[4, 5, 2], [6, 2, 0]], [[7, 8, 2], [8, 4, 2]]]
"""Captions of the tiny minibatch: two images with two captions each, with end mark and padding."""
FEEDS = ("glimpse", "expected")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A captioner, its settings, and the minibatch: features (N, L, D) and captions. ``seed`` is that of the draws."""

    settings: Config
    captioner: Captioner
    features: Tensor
    batch: Batch
    checkpoint: str
    seed: int

    @property
    def feed(self) -> str:
        return self.captioner.feed

    @property
    def longest(self) -> int:
        """The number of words of the longest caption."""
        return self.batch.words.shape[-1]

    @property
    def sizes(self) -> tuple[int, int]:
        """The feature dimension and the size of the vocabulary."""
        return self.features.shape[-1], self.captioner.decoder.embedding.num_embeddings

    def under(self, settings: Config) -> Captioner:
        """The same weights in a captioner with other settings. New modules are initialised from the settings' seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            captioner = build_captioner(settings, *self.sizes)
        captioner = captioner.to(self.features.device, self.features.dtype)
        captioner.load_state_dict(self.captioner.state_dict(), strict=False, assign=True)
        return captioner


def tiny(seed: int) -> Iterator[Subject]:
    """For each feed, a captioner in float64 with few enough paths to sum over: four locations and three words.

    Its random weights are large, so that its costs depend on the glimpses, unlike those of a fresh model.
    """
    generator = torch.Generator().manual_seed(seed)
    settings = Config(
        seed=seed, attention=Attention(width=8, select="sample"), decoder=Decoder(embedding=6, hidden=8, dropout=0.0)
    )
    shape = (len(CAPTIONS), TINY["locations"], TINY["features"])
    features = torch.randn(shape, generator=generator, dtype=torch.float64)
    words = torch.tensor(CAPTIONS)
    batch = Batch.of(features, words, (words > 0).sum(-1))
    captioner = build_captioner(settings, TINY["features"], TINY["words"]).double()
    with torch.no_grad():
        for parameter in captioner.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    whole = Subject(
        settings=settings, captioner=captioner, features=features, batch=batch, checkpoint="drawn", seed=seed
    )
    for feed in FEEDS:
        fed = replace(settings, attention=replace(settings.attention, feed=feed))
        yield replace(whole, settings=fed, captioner=whole.under(fed))


def checkpoints(run: RunFolder) -> list[str]:
    """The names of a run's checkpoints in the order of training: fresh, those of epochs, best and last."""
    epochs = [int(path.stem.removeprefix("epoch")) for path in (run.path / "checkpoint").glob("epoch*.safetensors")]
    known = [*(f"epoch{epoch}" for epoch in sorted(epochs)), "best", "last"]
    return ["fresh", *(name for name in known if _file(run, name).exists())]


def _file(run: RunFolder, name: str) -> Path:
    return run.best.with_name(f"{name}.safetensors")


def trained(
    folder: Path, names: str, *, images: int, split: str, seed: int, data: Path | None = None
) -> Iterator[Subject]:
    """The models of a run at its checkpoints, on a random minibatch of one of its splits.

    ``names`` of checkpoints are separated by commas, or "all". Problems of the run are raised before the first model.
    """
    run = RunFolder(folder)
    config = run.config()
    if not config.attention.hard:
        raise ValueError(
            f"{run.path} has soft attention (attention.select {config.attention.select!r}), whose gradient is exact "
            "and needs no estimator: name a run with attention.select sample"
        )
    dataset = dataset_of(run, data)
    device = accelerator().device
    best = Model.read(run)
    check_words(run, best, dataset)
    there = checkpoints(run)
    wanted = there if names == "all" else names.split(",")
    for name in wanted:
        if name not in there:
            raise ValueError(f"{run.path} has no checkpoint {name!r}: it has {', '.join(there)}")
    rows = epoch_rows(dataset.rows(split), images, seed, 0)[0]
    batch = Batches(dataset, ensure_store(dataset, best.encoder, device))[rows].to(device)
    for name in wanted:
        model = Model.build(config, best.vocabulary) if name == "fresh" else Model.read(run, _file(run, name))
        model.to(device)
        with torch.no_grad():
            features = model.features(batch.inputs)
        about = {"settings": config, "checkpoint": name, "seed": seed}
        yield Subject(captioner=model.captioner, features=features.float(), batch=batch, **about)
