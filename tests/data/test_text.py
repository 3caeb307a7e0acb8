"""Tokens and vocabularies, against counts done by hand and by collections.Counter."""

import json
import random
from collections import Counter

import pytest

from attend.data.examples import Caption, Example
from attend.data.text import SPECIALS, Vocabulary, tokenise


def example(*raws, split="train"):
    captions = tuple(Caption(raw=raw, tokens=tokenise(raw)) for raw in raws)
    return Example(image=f"{raws[0]}.jpg", split=split, captions=captions)


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("A Black dog, running .", "a black dog running"),
        ("two dogs' 3 balls; T-shirt & co.", "two dogs 3 balls t shirt co"),
        ("3.5 snow_boards", "3 5 snow boards"),
        ("The dog's and the dog 's", "the dog 's and the dog 's"),
        ("it’s five o'clock", "it 's five o'clock"),
        ("they don't, I can't, we'll", "they do n't i ca n't we 'll"),
        ("a 'slide' and 'dogs'", "a slide and dogs"),
        ("Ein ÜBERGROẞER Ärger", "ein übergroßer ärger"),
        ("cafe\u0301", "café"),
        ("हिन्दी में, 犬", "हिन्दी में 犬"),
        ("  ... — !'\n", ""),
    ],
)
def test_tokens_by_hand(raw, tokens):
    assert tokenise(raw) == tuple(tokens.split())


def test_a_caption_with_and_without_a_space_before_its_endings_is_one():
    assert tokenise("a dog's ball isn't here") == tokenise("a dog 's ball is n't here")


def test_any_text_gives_words_that_are_tokens_themselves():
    rng = random.Random(0)
    alphabet = "aB7'’n't s.-_\u0301éß犬हि\n\t\x00\ud800<>"
    for _ in range(2000):
        tokens = tokenise("".join(rng.choices(alphabet, k=12)))
        assert all(tokens)
        assert not set("".join(tokens)) & set(" .-_\n\t\x00<>’")
        assert tokenise(" ".join(tokens)) == tokens


def test_words_are_counted_in_training_captions_only():
    examples = [
        example("a dog and a cat", "a dog runs"),
        example("a cat and a bird"),
        example("zebra zebra zebra zebra", split="val"),
        example("bird bird bird bird", split="test"),
    ]
    by_hand = Counter({"a": 5, "dog": 2, "and": 2, "cat": 2, "runs": 1, "bird": 1})
    counted = Counter(word for e in examples[:2] for c in e.captions for word in c.raw.split())
    assert counted == by_hand
    assert Vocabulary.build(examples, minimum_count=2).words == (*SPECIALS, "a", "and", "cat", "dog")
    assert Vocabulary.build(examples, minimum_count=1).words == (
        *(*SPECIALS, "a", "and", "cat", "dog"),
        *("bird", "runs"),
    )


def test_building_agrees_with_a_counter_and_not_with_the_order_of_examples():
    rng = random.Random(1)
    words = [f"w{i}" for i in range(60)]
    examples = [example(" ".join(rng.choices(words, range(1, 61), k=20))) for _ in range(40)]
    counts = Counter(token for e in examples for c in e.captions for token in c.tokens)
    expected = [w for w, n in sorted(sorted(counts.items()), key=lambda wn: wn[1], reverse=True) if n >= 5]
    built = Vocabulary.build(examples)
    assert list(built.words[4:]) == expected
    assert Vocabulary.build(reversed(examples)) == built


@pytest.mark.parametrize(
    ("examples", "minimum_count", "says"),
    [
        ([], 1, "training split"),
        ([example("a dog", split="val")], 1, "training split"),
        ([example("a dog")], 2, "lower the minimum count"),
        ([example("a dog")], 0, "at least 1"),
    ],
)
def test_a_vocabulary_without_words_is_an_error(examples, minimum_count, says):
    with pytest.raises(ValueError, match=says):
        Vocabulary.build(examples, minimum_count=minimum_count)


def test_encoding_and_decoding():
    v = Vocabulary((*SPECIALS, "a", "dog", "runs"))
    assert (v.words[v.pad], v.words[v.start], v.words[v.end], v.words[v.unk]) == SPECIALS
    assert v.pad == 0
    assert len(v) == 7
    assert v.encode(("a", "dog", "flies")) == [4, 5, v.unk]
    assert v.decode([v.start, 4, 5, v.end, 6, 6]) == ("a", "dog")
    assert v.decode([v.start, 4, v.unk, 6, v.pad]) == ("a", "runs")
    assert v.decode(v.encode(("a", "dog", "runs"))) == ("a", "dog", "runs")
    assert v.decode([]) == v.decode([v.end, 99]) == ()
    for outside in (7, -1):
        with pytest.raises(ValueError, match="outside"):
            v.decode([outside])


def test_the_file_gives_the_same_vocabulary(tmp_path):
    v = Vocabulary((*SPECIALS, "a", "été", "犬"))
    v.write(tmp_path / "vocabulary.json")
    read = Vocabulary.read(tmp_path / "vocabulary.json")
    assert read == v
    assert read.fingerprint() == v.fingerprint()
    assert [f.name for f in tmp_path.iterdir()] == ["vocabulary.json"]


def test_the_fingerprint_tells_vocabularies_apart():
    a, b = Vocabulary((*SPECIALS, "a", "dog")), Vocabulary((*SPECIALS, "dog", "a"))
    assert a != b
    assert a.fingerprint() != b.fingerprint()
    assert Vocabulary((*SPECIALS, "adog")).fingerprint() != a.fingerprint()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.json"
    old = Vocabulary((*SPECIALS, "a"))
    old.write(path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("attend.runs.files.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Vocabulary((*SPECIALS, "b")).write(path)
    assert Vocabulary.read(path) == old


SOUND = {"kind": "vocabulary", "words": [*SPECIALS, "a"]}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "3", "[" * 100_000, json.dumps(SOUND)[:-5]),
        json.dumps(SOUND["words"]),
        json.dumps({"words": SOUND["words"]}),
        json.dumps(SOUND | {"words": "abc"}),
        json.dumps(SOUND | {"words": []}),
        json.dumps(SOUND | {"words": ["a", *SPECIALS]}),
        json.dumps(SOUND | {"words": [*SPECIALS[:3], "a"]}),
        json.dumps(SOUND | {"words": [*SPECIALS, "a", "a"]}),
        json.dumps(SOUND | {"words": [*SPECIALS, "<pad>"]}),
        json.dumps(SOUND | {"words": [*SPECIALS, 3]}),
        json.dumps(SOUND | {"words": [*SPECIALS, ["a"]]}),
        json.dumps(SOUND | {"words": [*SPECIALS, ""]}),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "vocabulary.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="build it again") as refused:
        Vocabulary.read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_binary_or_missing_file_is_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="build it again"):
        Vocabulary.read(tmp_path / "binary")
    with pytest.raises(FileNotFoundError, match="build it again"):
        Vocabulary.read(tmp_path / "missing")
