"""What `attend prepare` and the experiments do first: a source of images and captions -> a prepared dataset."""

from __future__ import annotations

import sys
from pathlib import Path

from attend.config import Encoder
from attend.data.entities import join_entities
from attend.data.prepared import Prepared, write_prepared
from attend.data.readers import read_source
from attend.data.scenes import write_scenes

SCENES = "scenes"


def prepare_scenes(out: Path, *, minimum_count: int = 5, **world: int) -> Prepared:
    """The built-in world. Raises ValueError where the folder holds another dataset, before anything is drawn."""
    if (out / "dataset.json").exists() and (there := Prepared(out).about["name"]) != SCENES:
        raise ValueError(f"{out} holds the dataset {there}: choose another --out, or remove it")
    source = write_scenes(out, **world)
    return write_prepared(source, out, minimum_count)


def prepare_dataset(
    source: Path,
    out: Path,
    *,
    images: Path | None = None,
    entities: Path | None = None,
    layout: str | None = None,
    minimum_count: int = 5,
    strict: bool = False,
    restval: bool = True,
) -> Prepared:
    """A dataset on disk; boxes of Flickr30k Entities are joined where ``entities`` (or source/entities) has them."""
    read = read_source(source, images=images, layout=layout, strict=strict, restval=restval)
    beside = source / "entities"
    if entities is None and (beside / "Sentences").is_dir():
        entities = beside
    if entities is not None:
        read = join_entities(read, entities)
    return write_prepared(read, out, minimum_count)


def say(dataset: Prepared) -> None:
    """What is there, what was left out, and what a user should know; to stderr."""
    about = dataset.about
    splits = ", ".join(f"{count} {split}" for split, count in about["splits"].items())
    lines = [f"{about['name']}: {splits} images, {about['captions']} captions, {about['words']} words"]
    lines += about["notes"]
    for reason, names in about["skipped"].items():
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"skipped {len(names)}: {reason} ({some})")
    print(*lines, sep="\n", file=sys.stderr)


def store_features(dataset: Prepared, encoder: Encoder) -> Path:
    """Compute the features (or squares of pixels, for a tuned encoder) that a run with this encoder reads."""
    from accelerate import Accelerator

    from attend.encoder import Encoder as Backbone
    from attend.prepare import ensure_store

    return ensure_store(dataset, Backbone(encoder), Accelerator().device).folder
