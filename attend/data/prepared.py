"""A dataset as `attend prepare` leaves it: examples.jsonl, vocabulary.json and dataset.json, with the stores beside.

Where the captions' phrases are known, phrases.jsonl has them.
"""

import hashlib
import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from attend.data.examples import SPLITS, Example, Examples, Source, write_examples
from attend.data.phrases import write_phrases
from attend.data.text import SPECIALS, Vocabulary
from attend.documents import Count
from attend.paths import encodable, inside, quoted, regular
from attend.runs.files import read_json, sweep, write_json
from attend.runs.folder import RunFolder


class Splits(TypedDict):
    """Images of each split."""

    train: Count
    val: Count
    test: Count


class About(TypedDict):
    """dataset.json: the name, the folder of the images, how many of everything, and the fingerprints."""

    name: str
    images: str
    splits: Splits
    captions: NotRequired[Count]
    words: Count
    minimum_count: NotRequired[Count]
    skipped: NotRequired[dict[str, list[str]]]
    notes: NotRequired[list[str]]
    fingerprint: str
    vocabulary: str


class Prepared:
    """A prepared dataset. Its images are rows of the stores in the order of ``examples``.

    They lie below ``root``, which is in the folder, or anywhere if dataset.json has its absolute path. Links are
    followed. Raises ValueError if the folder is no prepared dataset.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "dataset.json").exists():
            raise ValueError(
                f"{folder} is no prepared dataset: make it with `attend prepare SOURCE --out {folder}`, where SOURCE "
                "is a folder of yours, or `scenes` for the built-in world"
            )
        self.about = read_json(self.folder / "dataset.json", About, remedy="run `attend prepare` again")
        self.vocabulary = Vocabulary.read(self.folder / "vocabulary.json")
        root = Path(self.about["images"])
        self.root = root if root.is_absolute() else inside(self.folder, str(root), f"the image folder of {self.folder}")

    @cached_property
    def examples(self) -> Examples:
        return Examples(self.folder / "examples.jsonl")

    def rows(self, split: str) -> list[int]:
        """The rows of a split; ValueError if it is empty."""
        rows = [row for row, its in enumerate(self.examples.splits) if its == split]
        if not rows:
            raise ValueError(f"{self.folder} has no images in its {split} split: prepare the data again with some")
        return rows

    def image(self, row: int) -> Path:
        """The file of an image."""
        return self.file(self.examples[row].image)

    def file(self, name: str) -> Path:
        """The file of the image of that name; ValueError if the name leads out of the folder of the images."""
        return inside(self.root, name, f"an image of {self.folder}")

    def part(self, examples: list[Example], folder: Path) -> "Prepared":
        """A dataset of some of the examples, with the same images and vocabulary, which is written into ``folder``."""
        words = self.vocabulary.words[len(SPECIALS) :]
        source = Source(name=self.about["name"], root=self.root, examples=examples, words=words)
        return write_prepared(source, folder, minimum_count=1)

    @property
    def captioned(self) -> bool:
        """Whether there are captions: without any, its images can be captioned and nothing is learned or scored."""
        return self.about.get("captions", 1) > 0

    @property
    def boxes(self) -> bool:
        """Whether any caption has boxes."""
        return self.examples.boxes


def dataset_of(run: RunFolder, data: Path | str | None = None) -> Prepared:
    """The dataset of a run, in its own folder or in ``data``."""
    own = run.config().data
    if data is None and not Path(own).exists():
        raise ValueError(f"{run.path} was trained on {own}, which is not here: say where it is with --data")
    return Prepared(data or own)


def write_prepared(source: Source, folder: Path, minimum_count: int) -> Prepared:
    """Write what was read, dataset.json last: a folder with it is whole.

    Raises ValueError if the training split is empty, the name of an image is no UTF-8, or the folder holds something
    else already.
    """
    if strange := next((e.image for e in source.examples if not encodable(e.image)), None):
        raise ValueError(f"the image {quoted(strange)} of {source.root} has a name that is no UTF-8: rename it")
    if source.words is None:
        vocabulary = Vocabulary.build(source.examples, minimum_count=minimum_count)
    else:
        vocabulary = Vocabulary(SPECIALS + source.words)
    root = Path(source.root).resolve()
    about = {
        "name": source.name,
        "images": os.path.relpath(root, folder.resolve()) if root.is_relative_to(folder.resolve()) else str(root),
        "splits": {split: Counter(e.split for e in source.examples)[split] for split in SPLITS},
        "captions": sum(len(e.captions) for e in source.examples),
        "words": len(vocabulary),
        "minimum_count": minimum_count,
        "skipped": source.skipped,
        "notes": source.notes,
        "fingerprint": fingerprint(source.examples, root),
        "vocabulary": vocabulary.fingerprint(),
    }
    there = refuse_other(folder, fingerprint=about["fingerprint"])
    if there and there["vocabulary"] != about["vocabulary"]:
        raise ValueError(
            f"{folder} holds this dataset with another vocabulary ({there['words']} words, here {about['words']}), "
            "which its runs were trained with: choose another folder, or remove it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    write_examples(folder / "examples.jsonl", source.examples)
    write_phrases(folder, source.examples)
    vocabulary.write(folder / "vocabulary.json")
    write_json(folder / "dataset.json", about)
    return Prepared(folder)


def refuse_other(folder: Path, **facts: Any) -> About | None:
    """dataset.json of the folder, or None if there is none; ValueError if a fact in it differs from those given."""
    if not (folder / "dataset.json").exists():
        return None
    there = read_json(folder / "dataset.json", About, remedy="run `attend prepare` again")
    if any(there[name] != value for name, value in facts.items()):
        raise ValueError(f"{folder} holds another prepared dataset, {there['name']}: choose another or remove it")
    return there


def fingerprint(examples: list[Example], root: Path) -> str:
    """Hash of images (names and content), splits, captions and boxes: equal where the data are."""
    digest = hashlib.sha256()
    for example in examples:
        with open(regular(root / example.image), "rb") as image:
            content = hashlib.file_digest(image, "sha256")
        digest.update(f"{example!r} {content.hexdigest()}".encode())
    return digest.hexdigest()[:16]
