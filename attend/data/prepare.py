"""From a source of images and captions to a prepared dataset: `attend prepare`, and the first step of experiments."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from attend import bars
from attend.data.examples import SPLITS, Example, Source
from attend.data.images import gather_images
from attend.data.prepared import Prepared, refuse_other, write_prepared
from attend.data.sources.classic import Classic, count_long, frequent_words, unpacking, write_classic
from attend.data.sources.entities import join_entities
from attend.data.sources.readers import UNREADABLE, Reading, read_source
from attend.data.sources.sampling import draw_captions
from attend.data.sources.scenes import SCENES, write_scenes


def prepare_scenes(out: Path, *, minimum_count: int = 5, **world: int) -> Prepared:
    """The built-in world. Raises ValueError if the folder holds another dataset, before anything is drawn."""
    refuse_other(out, name=SCENES)
    return write_prepared(write_scenes(out, **world), out, minimum_count)


def prepare_dataset(
    source: Path,
    out: Path,
    reading: Reading | None = None,
    *,
    entities: Path | None = None,
    minimum_count: int = 5,
    captions_per_image: int | None = None,
    caption_seed: int = 0,
) -> Prepared:
    """A dataset on disk; boxes of Flickr30k Entities are joined where ``entities`` (or source/entities) has them.

    With ``captions_per_image`` every image has as many captions, drawn by ``caption_seed``.
    """
    with unpacking(out):
        read = read_source(source, reading, unpack=out)
        beside = source / "entities"
        if entities is None and (beside / "Sentences").is_dir():
            entities = beside
        if entities is not None:
            read = join_entities(read, entities)
        if captions_per_image is not None:
            read = draw_captions(read, captions_per_image, caption_seed)
        return write_prepared(replace(read, notes=[*read.notes, *_shortcomings(read)]), out, minimum_count)


def prepare_images(source: Path, out: Path) -> Prepared:
    """Images without captions, below a folder: a dataset to caption with a trained run, and not to learn from.

    Unreadable images are left out and named. Raises ValueError if there is no readable image.
    """
    files, unreadable = gather_images([source])
    names = sorted(file.relative_to(source).as_posix() for file in files)
    skipped = {UNREADABLE: [str(file) for file in unreadable]} if unreadable else {}
    examples = [Example(image=name, split="test", captions=()) for name in names]
    read = Source(name=source.resolve().name, root=source, examples=examples, words=(), skipped=skipped)
    return write_prepared(read, out, minimum_count=1)


def _shortcomings(read: Source) -> Iterator[str]:
    """Sentences on empty splits and long captions, and what training and scores do with them."""
    from attend.data.batches import MAXIMUM_LENGTH

    filled = {example.split for example in read.examples}
    if "val" not in filled:
        yield "the val split is empty, and `attend train` needs it to choose the best epoch: give it some images"
    if "test" not in filled:
        yield "the test split is empty, so `attend train` scores its runs on val"
    if long := sum(len(caption.tokens) > MAXIMUM_LENGTH for e in read.examples for caption in e.captions):
        yield f"{long} captions have more than {MAXIMUM_LENGTH} words and are read up to there"


def write_classic_files(source: Path, out: Path, classic: Classic, reading: Reading | None = None) -> list[Path]:
    """The classic input files of a source, in the order of its caption file; says what is in them, to stderr."""
    if out.resolve() in (source.resolve(), source.resolve().parent if source.is_file() else None):
        raise ValueError(f"{out} holds the captions; next time these files would be read instead: choose another --out")
    with unpacking(out, keep=False):
        read = read_source(source, replace(reading or Reading(), in_order=False), unpack=out)
        files = write_classic(read, out, classic)
    words = {one: len(frequent_words(read.examples, classic.minimum_count, one)) for one in ("all", "train")}
    counts = Counter(example.split for example in read.examples)
    lines = [
        f"{read.name}: {', '.join(f'{counts[split]} {split}' for split in SPLITS)} images",
        f"words seen more than {classic.minimum_count} times: {words['all']} in all captions, {words['train']} in "
        f"those of train alone; the word map counts {classic.count}",
    ]
    passed, cut = count_long(read.examples, classic.maximum_length)
    if passed or cut:
        lines.append(
            f"captions of more than {classic.maximum_length - 2} words: {passed} passed over, and {cut} of images "
            "without a shorter one cut"
        )
    _say(lines + read.notes, read.skipped)
    return files


def say(dataset: Prepared) -> None:
    """Report to stderr the size of the dataset, its notes, and what was left out."""
    about = dataset.about
    splits = ", ".join(f"{count} {split}" for split, count in about["splits"].items())
    lines = [f"{about['name']}: {splits} images, {about['captions']} captions, {about['words']} words"]
    _say(lines + about["notes"], about["skipped"])


def _say(lines: list[str], skipped: dict[str, list[str]]) -> None:
    for reason, names in skipped.items():
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"skipped {len(names)}: {reason} ({some})")
    bars.say(*lines)
