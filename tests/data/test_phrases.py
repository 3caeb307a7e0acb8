"""The phrases of captions beside a prepared dataset: written, read again, and no part of its fingerprint."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from attend.data.examples import Phrase
from attend.data.phrases import read_phrases, write_phrases
from attend.data.prepared import fingerprint, write_prepared
from attend.data.sources.entities import join_entities
from attend.data.sources.scenes import CONTENT_KINDS, WORD_KINDS, write_scenes
from tests.data.sources.test_entities import BALL, DOGS, folder, source  # noqa: F401  the fixture


def test_phrases_of_entities_follow_the_tokens_of_the_caption(folder, tmp_path):  # noqa: F811
    read = join_entities(
        source("TWO DOGS, chase a ball in the park", "Two cats", "The ball isnt that near the sheep-dog's nose"), folder
    )
    write_phrases(tmp_path, read.examples)
    dogs, cats, ball = read_phrases(tmp_path)["7_abc.jpg"]
    assert dogs == (
        Phrase("1", ("people",), 0, 2, DOGS, "dogs"),
        Phrase("2", ("other",), 3, 5, BALL, "ball"),
        Phrase("3", ("scene",), 6, 8, (), "park"),
    )
    assert cats is None
    assert ball[-1] == Phrase("1", ("people", "animals"), 5, 9, DOGS, "dog")


def test_a_word_written_together_is_part_of_both_phrases(folder, tmp_path):  # noqa: F811
    (folder / "Sentences" / "7.txt").write_text("[/EN#1/people A sheep] [/EN#2/other dog] runs")
    read = join_entities(source("a sheepdog runs"), folder)
    assert [one[:4] for one in read.examples[0].captions[0].phrases] == [
        ("1", ("people",), 0, 2), ("2", ("other",), 1, 2),
    ]  # fmt: skip


def test_phrases_change_neither_fingerprint_nor_examples(tmp_path):
    with_them = write_scenes(tmp_path, train=3, val=1, test=1, size=64)
    bare = [replace(e, captions=tuple(replace(c, phrases=None) for c in e.captions)) for e in with_them.examples]
    assert bare == with_them.examples
    assert fingerprint(bare, with_them.root) == fingerprint(with_them.examples, with_them.root)
    first = write_prepared(replace(with_them, examples=bare), tmp_path, 1)
    before = (tmp_path / "examples.jsonl").read_bytes()
    assert not (tmp_path / "phrases.jsonl").exists()
    with pytest.raises(ValueError, match=r"has no phrases.jsonl, .*: prepare it again by the same command"):
        read_phrases(tmp_path)
    second = write_prepared(with_them, tmp_path, 1)
    assert (tmp_path / "examples.jsonl").read_bytes() == before
    assert first.about["fingerprint"] == second.about["fingerprint"]
    phrases = read_phrases(tmp_path)
    assert phrases == {e.image: tuple(_headed(c) for c in e.captions) for e in with_them.examples}
    assert read_phrases(tmp_path, {"test_00000.jpg"}).keys() == {"test_00000.jpg"}


def _headed(caption):
    return tuple(one._replace(head=caption.tokens[one.stop - 1]) for one in caption.phrases)


def test_the_phrases_of_the_built_in_world_are_its_words_with_boxes(tmp_path):
    content = {word for kind in CONTENT_KINDS for word in WORD_KINDS[kind]}
    for example in write_scenes(tmp_path, train=4, val=0, test=0, size=64).examples:
        for caption in example.captions:
            subject, neighbour = sorted(caption.phrases, key=lambda one: one.types, reverse=True)
            assert (subject.types, neighbour.types) == (("subject",), ("neighbour",))
            assert (subject.stop - subject.start, neighbour.stop - neighbour.start) == (3, 2)
            spoken = {t for one in caption.phrases for t in range(one.start, one.stop)}
            assert spoken == {t for t, token in enumerate(caption.tokens) if token in content}
            for one in caption.phrases:
                assert all(caption.boxes[t] == one.boxes for t in range(one.start, one.stop))


@pytest.mark.parametrize(
    "line",
    ["{", "null", '{"image": "a"}', '{"image": "a", "boxes": [], "captions": []}',
     '{"image": "a", "boxes": {}, "captions": [[["1", ["people"], 3, 2, "dog"]]]}',
     '{"image": "a", "boxes": {}, "captions": [[["1", ["people"], 0, 2]]]}',
     '{"image": "a", "boxes": {}, "captions": [[["1", ["people"], "0", 2, "dog"]]]}'],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, line):
    good = json.dumps({"image": "b", "boxes": {}, "captions": [None]})
    (tmp_path / "phrases.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*phrases.jsonl is damaged: run `attend prepare` again"):
        read_phrases(tmp_path)
