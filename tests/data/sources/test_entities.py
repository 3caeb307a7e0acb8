"""Boxes meet the words that speak of them, on a small image annotated by hand."""

import random
from pathlib import Path

import pytest

from attend.data.examples import Caption, Example, Source
from attend.data.sources.entities import Phrase, boxes_of, join_entities, phrases
from attend.data.text import tokenise

SENTENCES = """\
[/EN#1/people Two dogs] chase [/EN#2/other a ball] in [/EN#3/scene the park] .
[/EN#2/other The ball] is n't [/EN#0/notvisual that] near [/EN#1/people/animals the sheepdog 's] nose .
Nothing is here .
"""
DOGS = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.25, 1.0, 0.5))  # of an image of 200 x 100 pixels
BALL = ((20 / 200, 20 / 100, 21 / 200, 21 / 100), DOGS[1])


def item(names, box=None):
    named = "".join(f"<name>{name}</name>" for name in names)
    if box is None:
        return f"<object>{named}<scene>0</scene><nobndbox>1</nobndbox></object>"
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object>{named}<bndbox>{corners}</bndbox></object>"


def annotation(*items, size="<size><width>200</width><height>100</height><depth>3</depth></size>"):
    return f"<annotation><filename>7.jpg</filename>{size}{''.join(items)}</annotation>"


ANNOTATION = annotation(
    item([1], (1, 1, 100, 100)),
    item([2], (21, 21, 21, 21)),
    item([1, 2], (101, 26, 200, 50)),
    item([3]),
)


@pytest.fixture
def folder(tmp_path):
    for part in ("Sentences", "Annotations"):
        (tmp_path / part).mkdir()
    (tmp_path / "Sentences" / "7.txt").write_text(SENTENCES)
    (tmp_path / "Annotations" / "7.xml").write_text(ANNOTATION)
    return tmp_path


def source(*raws, image="7_abc.jpg"):
    captions = tuple(Caption(raw=raw, tokens=tokenise(raw)) for raw in raws)
    examples = [Example(image=image, split="train", captions=captions)]
    return Source(name="toy", root=Path("."), examples=examples, notes=["before"])


def boxes(folder, *raws):
    (example,) = join_entities(source(*raws), folder).examples
    return [caption.boxes for caption in example.captions]


def test_phrases_of_a_sentence():
    tokens, found = phrases(SENTENCES.splitlines()[1])
    assert tokens == ("the", "ball", "is", "n't", "that", "near", "the", "sheepdog", "'s", "nose")
    assert found == [
        Phrase("2", ("other",), 0, 2),
        Phrase("0", ("notvisual",), 4, 5),
        Phrase("1", ("people", "animals"), 6, 9),
    ]
    assert phrases("No phrase.") == (("no", "phrase"), [])
    assert phrases("") == ((), [])


def test_the_marks_of_phrases_leave_the_sentence_as_it_is():
    for line in SENTENCES.splitlines():
        plain = " ".join(word.rstrip("]") for word in line.split() if not word.startswith("["))
        assert phrases(line)[0] == tokenise(plain)


def test_boxes_are_fractions_and_may_belong_to_several_chains(folder):
    assert boxes_of(folder / "Annotations" / "7.xml") == {"1": DOGS, "2": BALL}


def test_a_box_drawn_over_the_edge_ends_there(folder):
    path = folder / "Annotations" / "7.xml"
    path.write_text(annotation(item([1], (0, -3, 201, 400))))
    assert boxes_of(path) == {"1": ((0.0, 0.0, 1.0, 1.0),)}


def test_captions_are_joined_by_text_in_any_order(folder):
    first, second = boxes(folder, "the ball isn't that near the sheepdog's nose", "TWO DOGS, chase a ball in the park")
    assert second == (DOGS, DOGS, None, BALL, BALL, None, None, None)
    assert first == (BALL, BALL, None, None, None, None, DOGS, DOGS, DOGS, None)


def test_words_written_apart_meet_the_word_written_together(folder):
    (joined,) = boxes(folder, "The ball is n't that near the sheep-dog's nose")
    assert joined == (BALL, BALL, *4 * [None], *4 * [DOGS], None)


def test_apostrophes_do_not_part_a_caption_from_its_sentence(folder):
    (joined,) = boxes(folder, "The ball isnt that near the sheepdogs nose")
    assert joined == (BALL, BALL, None, None, None, DOGS, DOGS, None)


def test_a_word_across_the_edge_of_a_phrase_speaks_of_it(folder):
    (folder / "Sentences" / "7.txt").write_text("[/EN#1/people A sheep] dog runs")
    (joined,) = boxes(folder, "a sheepdog runs")
    assert joined == (DOGS, DOGS, None)


def test_unmatched_captions_have_no_boxes_and_are_counted(folder):
    joined = join_entities(source("Nothing is here", "Two cats", "Two dogs chase a ball in the park"), folder)
    nothing, cats, dogs = (caption.boxes for caption in joined.examples[0].captions)
    assert nothing == (None, None, None)
    assert cats is None
    assert dogs is not None
    assert joined.notes == [
        "before",
        "2 of 3 captions equal a sentence of Flickr30k Entities; the other 1 have no boxes",
    ]
    assert join_entities(source("Nothing is here"), folder).notes[1:] == [
        "1 of 1 captions equal a sentence of Flickr30k Entities"
    ]


def test_nothing_but_the_boxes_changes(folder):
    before = source("Two dogs chase a ball in the park")
    after = join_entities(before, folder)
    assert (after.name, after.root, after.skipped) == (before.name, before.root, before.skipped)
    assert before.examples[0].captions[0].boxes is None
    assert after.examples[0].captions[0].tokens == before.examples[0].captions[0].tokens


def test_an_image_that_is_not_annotated_has_no_boxes(folder):
    joined = join_entities(source("Nothing is here", image="8_abc.jpg"), folder)
    assert joined.examples[0].captions[0].boxes is None
    assert joined.notes[1].startswith("0 of 1 captions")


def test_images_of_flickr30k_are_named_by_the_number_alone(folder):
    (example,) = join_entities(source("Nothing is here", image="7.jpg"), folder).examples
    assert example.captions[0].boxes is not None


# Wrong input


@pytest.mark.parametrize("part", ["Sentences", "Annotations"])
def test_a_missing_folder_is_refused(folder, part):
    (folder / part).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no folder .*{part}; give the folder"):
        join_entities(source("Nothing is here"), folder)


EXPANDING = '<!DOCTYPE a [<!ENTITY x "0123456789"><!ENTITY y "&x;&x;&x;&x;">]>'
READING = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    "text",
    [
        *("", "no xml", ANNOTATION[:-20], "<annotation/>", "<?xml version='1.0' encoding='none'?><a/>"),
        annotation(size=""),
        annotation(size="<size><width>0</width><height>100</height></size>"),
        annotation(size="<size><width>wide</width><height>100</height></size>"),
        annotation(item([1], (1, 1, "x", 5))),
        annotation(item([1], (1, 1, "", 5))),
        annotation(item([1], (50, 1, 40, 5))),
        annotation(item([1], (1, 50, 5, 40))),
        annotation(item([1], (300, 1, 400, 5))),
        annotation(item([1], ("9" * 4000, 1, 400, 5))),
        annotation("<object><name>1</name><bndbox><xmin>1</xmin></bndbox></object>"),
        *(kind + ANNOTATION for kind in (EXPANDING, READING)),
        *(kind + annotation(item(["&x;"], (1, 1, 5, 5))) for kind in (EXPANDING, READING)),
    ],
)
def test_malformed_annotations_are_refused_in_one_sentence(folder, text):
    (folder / "Annotations" / "7.xml").write_text(text)
    with pytest.raises(ValueError, match=r"7\.xml is malformed") as refused:
        join_entities(source("Nothing is here"), folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        *("[/EN#1/people A dog", "A dog]", "[A dog]", "[/EN#1/people]", "[/EN#x/people A dog]"),
        *("[/EN#1 A dog]", "[/EN#1/people [/EN#2/other A dog]"),
    ],
)
def test_malformed_sentences_are_refused_in_one_sentence(folder, line):
    (folder / "Sentences" / "7.txt").write_text(f"A dog .\n{line}\n")
    with pytest.raises(ValueError, match=r"7\.txt is malformed") as refused:
        join_entities(source("A dog"), folder)
    assert "\n" not in str(refused.value)


def test_any_bytes_at_all_are_read_or_refused(folder):
    rng = random.Random(0)
    refusals = 0
    for path in (folder / "Sentences" / "7.txt", folder / "Annotations" / "7.xml"):
        sound = path.read_bytes()
        for _ in range(200):
            data = bytearray(sound)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(data))
                data[at : at + rng.randint(0, 3)] = bytes(rng.choices(b"[]/#<>&;1a -\x00\xff\n", k=rng.randint(0, 3)))
            path.write_bytes(data)
            try:
                join_entities(source("Nothing is here", "Two dogs chase a ball in the park"), folder)
            except ValueError:
                refusals += 1
        path.write_bytes(sound)
    assert 80 < refusals < 400
