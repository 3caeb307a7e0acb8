"""`attend prepare`"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attend.experiments.cli.common import at_least
from msgspec import Meta
from tyro.conf import Positional, arg

from attend.config import Encoder
from attend.config.section import Count, Seed, Tokens

if TYPE_CHECKING:
    from attend.data.sources.readers import Reading


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Turn a dataset, or the built-in world `scenes`, into a prepared folder: examples, vocabulary and stores."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """folder of a dataset, its caption file, or `scenes`"""
    out: Path
    """folder to write"""
    images: Path | None = None
    """folder of the images, if they do not lie beside the captions"""
    entities: Path | None = None
    """folder of Flickr30k Entities (Annotations/ and Sentences/), for the boxes of the words"""
    layout: Literal["karpathy", "flickr8k", "kaggle", "coco", "classic", "csv", "json", "images"] | None = None
    """layout of the captions; if not given, recognised from the files; images: a folder of images without captions, to
    be captioned by `attend evaluate RUN --data`"""
    split: tuple[float, float, float] = (80, 10, 10)
    """shares of train, val and test, also as 0.8 0.1 0.1; used to split images if the dataset has no splits"""
    split_seed: Seed = 0
    """seed of these splits"""
    captions_per_image: Annotated[int, Meta(ge=1, le=1000, description="1 to 1000")] | None = None
    """captions per image: sampled if an image has more, repeated if it has fewer; if not given, all"""
    caption_seed: Seed = 0
    """seed of these captions"""
    minimum_count: Count = 5
    """occurrences in the training captions that a word needs to enter the vocabulary"""
    classic: str | None = None
    """write the classic input files (HDF5 and JSON) under this name, as flickr8k, instead of a prepared folder"""
    count: Literal["all", "train"] = "all"
    """captions in which the classic word map counts words; it keeps those that occur more than minimum-count times"""
    maximum_length: Tokens = 52
    """tokens per caption in the classic files, with the start and end marks"""
    strict: bool = False
    """treat stray entries and missing or unreadable images as errors, instead of skipping them"""
    restval: bool = True
    """join COCO's restval to the training split"""
    features: bool = False
    """compute the encoder's features now, instead of in the first run"""
    compress: bool = False
    """compress the features: a quarter of the disk if most are 0, as after a ReLU, and half the reading speed"""
    encoder: Encoder = field(default_factory=Encoder)


NEEDS = {
    "caption_seed": "captions_per_image",
    "encoder": "features",
    "compress": "features",
    "count": "classic",
    "maximum_length": "classic",
}
"""Options of `prepare` that need another one."""
READING = ("images", "layout", "strict", "restval", "split_seed")
CAPTIONS = ("minimum_count", "captions_per_image", "caption_seed")
CLASSIC = ("maximum_length", "count")


def prepare(command: Prepare) -> None:
    from attend.data import prepare as sources

    reading = sources.Reading(shares=command.split, **_options(command, READING))
    if command.classic is not None:
        _write_classic_files(command, reading)
        return
    at_least(1, minimum_count=command.minimum_count)
    if command.source == Path(sources.SCENES) and not command.source.exists():
        _without_effect(command, "the built-in world", ("minimum_count", "features", "compress", "encoder"))
        dataset = sources.prepare_scenes(command.out, minimum_count=command.minimum_count)
    elif command.layout == "images":
        _without_effect(command, "images without captions", ("layout", "features", "compress", "encoder"))
        dataset = sources.prepare_images(command.source, command.out)
    else:
        given = _options(command, ("entities", *CAPTIONS))
        _without_effect(command, "a prepared folder", ("split", *READING, *given, "features", "compress", "encoder"))
        dataset = sources.prepare_dataset(command.source, command.out, reading, **given)
    sources.say(dataset)
    if command.features:
        from attend.encoder.features import store_features  # it needs torch

        print(store_features(dataset, command.encoder, compress=command.compress))
    print(command.out)


def _write_classic_files(command: Prepare, reading: "Reading") -> None:
    from attend.data.prepare import Classic, write_classic_files

    _without_effect(command, "the classic files", ("split", *READING, *CAPTIONS, *CLASSIC))
    if command.captions_per_image is None:
        raise ValueError("classic files hold equally many captions of every image: give --captions-per-image")
    classic = Classic(name=command.classic, **_options(command, CAPTIONS + CLASSIC))
    for file in write_classic_files(command.source, command.out, classic, reading):
        print(file)


def _options(command: Prepare, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(command, name) for name in names}


def _without_effect(command: Prepare, what: str, used: Sequence[str]) -> None:
    """ValueError for an option that has no effect."""
    plain = Prepare(source=command.source, out=command.out)
    given = [one.name for one in fields(command) if getattr(command, one.name) != getattr(plain, one.name)]
    for name in given:
        option, needed = (f"--{one.replace('_', '-')}" for one in (name, NEEDS.get(name, name)))
        if NEEDS.get(name, name) not in given:
            raise ValueError(f"{option} has no effect without {needed}: leave it out, or give both")
        if name not in ("classic", *used):
            raise ValueError(f"{option} has no effect on {what}: leave it out")
