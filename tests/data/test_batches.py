"""Minibatches and the prepared dataset they come from."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from attend.data.batches import MAXIMUM_LENGTH, Batches, drawn_rows, epoch_rows, in_order, pad_captions
from attend.data.examples import Caption, Example, Examples, Source, write_examples
from attend.data.prepared import Prepared, write_prepared
from attend.data.stores import Store, fill_store
from attend.data.text import SPECIALS, Vocabulary
from attend.geometry import Geometry

VOCABULARY = Vocabulary((*SPECIALS, "a", "b", "c"))
A, B, C, END, UNK = 4, 5, 6, 2, 3
SIZE = (40, 20)


def caption(text: str, boxes=None) -> Caption:
    return Caption(raw=text, tokens=tuple(text.split()), boxes=boxes)


def world(seed: int = 0, images: int = 9) -> list[Example]:
    """Images with one to four captions, the first with none, of different length; some words have boxes."""
    chance = random.Random(seed)

    def one() -> Caption:
        words = chance.choices("abc", k=chance.randint(1, 6))
        boxes = tuple(
            ((x := chance.random() / 2, y := chance.random() / 2, x + 0.4, y + 0.3),) if chance.random() < 0.5 else None
            for _ in words
        )
        return caption(" ".join(words), boxes)

    splits = ["train"] * (images - 3) + ["val", "val", "test"]
    return [
        Example(image=f"{i}.png", split=split, captions=tuple(one() for _ in range(chance.randint(1, 4) if i else 0)))
        for i, split in enumerate(splits)
    ]


def source(root: Path, examples: list[Example], **more) -> Source:
    """The examples with empty files as their images."""
    root.mkdir(parents=True, exist_ok=True)
    for example in examples:
        (root / example.image).touch()
    return Source(name="world", root=root, examples=examples, **more)


@pytest.fixture
def batches(tmp_path):
    """Batches over ``world``, with a store whose inputs are the number of the row."""
    dataset = write_prepared(source(tmp_path / "images", world()), tmp_path / "out", 1)

    def produce(rows):
        affine = Geometry.of("squash", SIZE, (2, 3)).affine
        count = len(rows)
        return {
            "inputs": np.ones((count, 6, 5), np.float16) * np.array(rows, np.float16)[:, None, None],
            "size": np.tile(SIZE, (count, 1)),
            "affine": np.tile(affine, (count, 1)),
        }

    list(fill_store(tmp_path / "store", len(dataset.examples), {"grid": (2, 3)}, produce, 4))
    return Batches(dataset, Store(tmp_path / "store"), boxes=True)


def test_captions_are_padded_as_by_hand():
    words, lengths, order = pad_captions([[caption("a"), caption("a dog b")], [caption("c c")]], VOCABULARY)
    assert words.tolist() == [[[A, UNK, B, END], [A, END, 0, 0]], [[C, C, END, 0], [0, 0, 0, 0]]]
    assert lengths.tolist() == [[4, 2], [3, 0]]
    assert order.tolist() == [[1, 0], [0, -1]]


def test_captions_of_equal_length_keep_their_order():
    order = pad_captions([[caption("a"), caption("b"), caption("a b"), caption("c")]], VOCABULARY)[2]
    assert order.tolist() == [[2, 0, 1, 3]]


def test_images_without_captions_are_rows_of_padding():
    words, lengths, order = pad_captions([[], []], VOCABULARY)
    assert words.shape == (2, 0, 0) and lengths.shape == order.shape == (2, 0)


@pytest.mark.parametrize("length, read", [(MAXIMUM_LENGTH, MAXIMUM_LENGTH), (MAXIMUM_LENGTH + 1, MAXIMUM_LENGTH)])
def test_a_long_caption_is_cut_and_still_ends(length, read):
    words, lengths, _ = pad_captions([[caption("a " * length)]], VOCABULARY)
    assert lengths.tolist() == [[read + 1]] and words[0, 0].tolist() == [A] * read + [END]


def test_a_batch_is_longest_first_and_points_back_to_its_captions(batches):
    rows = [7, 0, 3, 5, 1]
    batch = batches[rows]
    assert sorted(batch.rows.tolist()) == sorted(rows)
    assert (batch.lengths.max(1).values.diff() <= 0).all() and (batch.lengths.diff(dim=1) <= 0).all()
    assert batch.words.shape[-1] == batch.lengths.max()
    examples, vocabulary = batches.dataset.examples, batches.dataset.vocabulary
    seen = []
    for n, row in enumerate(batch.rows.tolist()):
        assert (batch.inputs[n] == row).all()
        for c, place in enumerate(batch.order[n].tolist()):
            length = int(batch.lengths[n, c])
            assert (batch.words[n, c, length:] == vocabulary.pad).all()
            assert (place == -1) == (length == 0)
            if length:
                seen.append((row, place))
                assert vocabulary.decode(batch.words[n, c]) == examples[row].captions[place].tokens
                assert batch.words[n, c, length - 1] == vocabulary.end
    assert sorted(seen) == [(row, i) for row in sorted(rows) for i in range(len(examples[row].captions))]


def test_shares_are_those_of_the_words_boxes(batches):
    batch, boxed = batches[list(range(9))], 0
    geometry = Geometry.of("squash", SIZE, (2, 3))
    assert batch.shares.shape == (*batch.words.shape, 6)
    for n, c, t in np.ndindex(*batch.words.shape):
        place = int(batch.order[n, c])
        found = batches.dataset.examples[int(batch.rows[n])].captions[place].boxes if place >= 0 else ()
        boxes = found[t] if t < len(found) else None
        truth = geometry.shares(boxes) if boxes else np.zeros(6)
        boxed += boxes is not None
        assert np.allclose(batch.shares[n, c, t], truth, atol=1e-6)
    assert boxed > 10


def test_a_part_of_a_minibatch_has_its_shares_and_no_images_have_none(batches):
    whole, rows = batches[list(range(9))].shares, list(range(9))
    for part in (slice(1, None, 2), slice(9, None, 10)):
        own = Batches(batches.dataset, batches.store, boxes=True, part=part)[rows].shares
        assert np.array_equal(own, whole[part]) and own.shape[1:] == whole.shape[1:]


def test_the_geometry_of_a_row_is_the_one_it_was_stored_with(batches):
    assert batches.geometry(8) == Geometry.of("squash", SIZE, (2, 3))


def test_images_can_be_read_without_their_captions_in_the_order_asked_for(batches):
    batch = Batches(batches.dataset, batches.store, captions=False)[[5, 0, 7]]
    assert batch.rows.tolist() == [5, 0, 7] and batch.shares is None and batch.words.numel() == 0
    assert batch.inputs[:, 0, 0].tolist() == [5, 0, 7]


def test_a_batch_of_images_that_all_lack_captions_can_be_read(batches):
    assert not batches.dataset.examples[0].captions
    assert Batches(batches.dataset, batches.store)[[0]].lengths.shape == (1, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_reads_every_caption_once(batches, workers):
    plan = epoch_rows(range(9), 4, seed=3, epoch=1)
    seen = [
        (row, place)
        for batch in batches.loader(plan, workers)
        for row, places in zip(batch.rows.tolist(), batch.order.tolist(), strict=True)
        for place in places
        if place >= 0
    ]
    examples = batches.dataset.examples
    assert sorted(seen) == [(row, i) for row in range(9) for i in range(len(examples[row].captions))]


def test_an_epoch_is_a_permutation_keyed_by_seed_and_epoch():
    rows = list(range(100, 150))
    plans = {(seed, epoch): epoch_rows(rows, 8, seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len({str(plan) for plan in plans.values()}) == 9
    for (seed, epoch), plan in plans.items():
        assert [len(piece) for piece in plan] == [8] * 6 + [2]
        assert sorted(row for piece in plan for row in piece) == rows
        assert plan == epoch_rows(rows, 8, seed, epoch)


def test_a_part_of_the_rows_is_drawn_by_the_seed_in_order_and_is_part_of_a_larger_one():
    rows = list(range(100, 150))
    parts = {seed: {count: drawn_rows(rows, count, seed) for count in (1, 20, 49)} for seed in range(3)}
    for seed, part in parts.items():
        assert [len(one) for one in part.values()] == [1, 20, 49]
        assert all(one == sorted(set(one)) and set(one) <= set(rows) for one in part.values())
        assert set(part[1]) < set(part[20]) < set(part[49])
        assert part[20] == drawn_rows(rows, 20, seed)
    assert len({str(part[20]) for part in parts.values()}) == 3
    assert drawn_rows(rows, 0, 0) == drawn_rows(rows, 50, 1) == rows
    assert set(parts[0][20]) != set(epoch_rows(rows, 20, 0, 0)[0])  # not just the images an epoch begins with
    with pytest.raises(ValueError, match=r"training_images is 51, but the training split has 50: 0 takes all"):
        drawn_rows(rows, 51, 0)


def test_pieces_in_order():
    assert in_order([5, 3, 4, 1, 2], 2) == [[5, 3], [4, 1], [2]]


def test_a_prepared_dataset_reads_back_what_was_written(tmp_path):
    made = source(tmp_path / "out" / "images", world(), skipped={"lost": ["x.png"]})
    dataset = write_prepared(made, tmp_path / "out", 1)
    assert list(dataset.examples) == made.examples and dataset.boxes
    assert dataset.about["splits"] == {"train": 6, "val": 2, "test": 1} and dataset.about["skipped"] == made.skipped
    assert dataset.rows("val") == [6, 7]
    moved = (tmp_path / "out").rename(tmp_path / "moved")  # images inside the folder move with it
    assert Prepared(moved).image(8) == moved / "images" / "8.png"


def test_another_dataset_does_not_overwrite_a_prepared_one(tmp_path):
    made = source(tmp_path, world())
    image = tmp_path / made.examples[0].image
    image.write_bytes(b"one picture")
    write_prepared(made, tmp_path / "out", 1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match="holds another prepared dataset"):
        write_prepared(source(tmp_path, world(seed=1)), tmp_path / "out", 1)
    write_prepared(made, tmp_path / "out", 1)
    image.write_bytes(b"two picture")  # under the same name, of the same size
    with pytest.raises(ValueError, match="holds another prepared dataset"):
        write_prepared(made, tmp_path / "out", 1)
    image.write_bytes(b"one picture")
    said = Counter(token for e in made.examples if e.split == "train" for c in e.captions for token in c.tokens)
    often = max(said.values())
    with pytest.raises(ValueError, match="this dataset with another vocabulary"):
        write_prepared(made, tmp_path / "out", often)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_memory_does_not_grow_with_the_examples(tmp_path):
    words = tuple(f"word{i}" for i in range(10))
    captions = tuple(Caption(raw=" ".join(words), tokens=words) for _ in range(5))
    write_examples(
        tmp_path / "e.jsonl", (Example(image=f"{i}.jpg", split="train", captions=captions) for i in range(5000))
    )
    tracemalloc.start()
    examples = Examples(tmp_path / "e.jsonl")
    assert [examples[row].image for row in (4999, 0, 17)] == ["4999.jpg", "0.jpg", "17.jpg"]
    assert examples[-1].captions == captions and sum(1 for _ in examples) == 5000
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100 * 5000  # bytes; an example is a thousand


def test_what_is_no_prepared_dataset_or_lacks_a_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no prepared dataset: make it with `attend prepare"):
        Prepared(tmp_path)
    dataset = write_prepared(source(tmp_path, world()[:6]), tmp_path / "out", 1)
    with pytest.raises(ValueError, match="no images in its val split"):
        dataset.rows("val")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_one_sentence_whoever_reads_it(batches, workers):
    path = batches.store.folder / "00001.h5"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"00001\.h5") as refused:
        list(batches.loader([[0, 1], [4, 5]], workers))
    assert "\n" not in str(refused.value) and "Traceback" not in str(refused.value)
