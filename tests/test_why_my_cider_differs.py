"""Every number of docs/why-my-cider-differs.md, computed again: by attend, by pycocoevalcap, and by plain equations."""

from __future__ import annotations

import re
from collections import Counter
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest
from attend.analysis.human_judgement import Judgement, agreement
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from scipy.stats import kendalltau

import attend
from attend.metrics.captions import tokenise

PAGE = (Path(__file__).parents[1] / "docs/why-my-cider-differs.md").read_text()
ROWS = {
    row[0]: row[1:]
    for line in PAGE.splitlines()
    if line.startswith("| ") and len(row := [cell.strip() for cell in line.strip("|").split("|")]) > 1
}
CAPTIONS = {image: ROWS[image][0] for image in ("dog", "cat", "man", "car")}
REFERENCES = {image: ROWS[image][1].split(" / ") for image in CAPTIONS}
TOKENS = {image: tokenise(some, tokeniser="simple") for image, some in REFERENCES.items()}
SHORT = dict(zip(CAPTIONS, ("a dog runs", "a cat on", "a man rides", "a car on"), strict=True))
FAST = {"metrics": ("bleu", "rouge_l", "cider"), "tokeniser": "simple"}
OUTSIDE = REFERENCES | {"dog": [*REFERENCES["dog"], "outside"]}


def ours(captions=CAPTIONS, references=REFERENCES):
    return attend.score(captions, {image: references[image] for image in captions}, **FAST)


def theirs(captions=CAPTIONS, references=TOKENS) -> dict[str, float]:
    """CIDEr of each image from pycocoevalcap, on tokens."""
    sides = {i: references[i] for i in captions}, {i: [caption] for i, caption in captions.items()}
    return dict(zip(captions, Cider().compute_score(*sides)[1].tolist(), strict=True))


def cider(captions=CAPTIONS) -> dict[str, float]:
    """CIDEr of Vedantam et al. (2015), equation 2 times 10: cosines of tf-idf vectors, nothing cut and no penalty."""

    def ngrams(text: str, n: int) -> Counter:
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    def vector(text: str, n: int) -> dict:
        return {one: times * log(len(captions) / max(1, found[one])) for one, times in ngrams(text, n).items()}

    found = Counter(
        one for some in TOKENS.values() for one in {g for r in some for n in (1, 2, 3, 4) for g in ngrams(r, n)}
    )
    scores = {}
    for image, caption in captions.items():
        cosines = []
        for reference in TOKENS[image]:
            for n in (1, 2, 3, 4):
                a, b = vector(caption, n), vector(reference, n)
                lengths = sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
                cosines.append(sum(v * b.get(one, 0) for one, v in a.items()) / lengths if lengths else 0)
        scores[image] = 10 * float(np.mean(cosines))
    return scores


def shown(row: str, *values: float) -> bool:
    """Whether the numbers of a row of the page are these, rounded as printed."""
    cells = [cell for cell in ROWS[row] if cell]
    return [f"{value:.{len(cell.partition('.')[2])}f}" for cell, value in zip(cells, values, strict=True)] == cells


def mean(scores: dict[str, float]) -> float:
    return float(np.mean([*scores.values()]))


def test_the_cider_of_the_four():
    assert "CIDEr is 2.996" in PAGE and "299.6" in PAGE
    assert round(ours()["cider"].value, 3) == 2.996 and mean(theirs()) == pytest.approx(ours()["cider"].value)


def test_the_tokeniser():
    lower = {image: [reference.lower() for reference in some] for image, some in REFERENCES.items()}
    treebank, spaces, raw = [row for row in ROWS if row.startswith(("the Penn", "lower case, split", "split at"))]
    assert shown(treebank, mean(theirs())) and shown(spaces, mean(theirs(CAPTIONS, lower)))
    assert shown(raw, mean(theirs(CAPTIONS, REFERENCES)))


@pytest.mark.slow
def test_the_tokens_of_the_treebank_are_the_simple_ones_here():
    for some in (list(CAPTIONS.values()), *REFERENCES.values()):
        assert tokenise(some, tokeniser="ptb") == tokenise(some, tokeniser="simple")


@pytest.mark.parametrize("caption", [row for row in ROWS if row.startswith(("a dog runs", "dog dog"))])
def test_cider_and_cider_d(caption):
    captions = CAPTIONS | {"dog": caption}
    assert shown(caption, cider(captions)["dog"], theirs(captions)["dog"])
    assert ours(captions).of_images["cider"][0] == pytest.approx(theirs(captions)["dog"])


def test_the_length_penalty_of_cider_d():
    """A caption of the reference and d other words costs exp(-d^2 / 72) times what CIDEr says."""
    assert "exp(-d² / 72)" in PAGE
    captions = {"dog": "a dog runs on the grass xx yy zz", "cat": "x", "man": "x", "car": "x"}
    one = {image: some[:1] for image, some in TOKENS.items()}
    exact = {"dog": 3 * ["a dog runs on the grass"]} | {i: some[:1] for i, some in one.items() if i != "dog"}
    assert theirs(captions, one)["dog"] == pytest.approx(theirs(captions, exact)["dog"])
    longer = theirs(captions | {"dog": "a dog runs on the grass" + " xx" * 6}, one)["dog"]
    assert longer < theirs(captions, one)["dog"] * exp(-(36 - 9) / 72)


def test_the_document_frequencies():
    pair = {image: CAPTIONS[image] for image in ("dog", "cat")}
    assert shown("all four", *(theirs()[image] for image in pair)) and shown("dog and cat", *theirs(pair).values())
    assert shown("dog alone", *theirs({"dog": CAPTIONS["dog"]}).values())
    assert list(ours(pair).of_images["cider"]) == pytest.approx([*theirs(pair).values()])


def test_the_brevity_penalty():
    long, short = ours(), ours(SHORT)
    assert shown("BLEU-1 of the four long captions", 100 * long["bleu1"].value, 100 * long["bleu1"].value)
    assert long["length_ratio"].value == pytest.approx(21 / 20)
    assert shown("BLEU-1 of the four short captions", 100, 100 * short["bleu1"].value)
    assert short["bleu1"].value == pytest.approx(exp(1 - 20 / 12)) and "exp(1 - 20/12)" in PAGE and "12 of 12" in PAGE
    assert short["length_ratio"].value == pytest.approx(12 / 20) and "here 0.60" in PAGE
    sides = TOKENS, {image: [caption] for image, caption in SHORT.items()}
    assert Bleu(4).compute_score(*sides, verbose=0)[0][0] == pytest.approx(exp(1 - 20 / 12))


def test_the_average_over_references():
    for row, references in (("two", REFERENCES), ('two and "outside"', OUTSIDE)):
        dog = {name: some[0] for name, some in ours(references=references).of_images.items()}
        assert shown(row, 100 * dog["bleu1"], 100 * dog["rouge_l"], dog["cider"])
    assert theirs(CAPTIONS, TOKENS | {"dog": [*TOKENS["dog"], "outside"]})["dog"] == pytest.approx(dog["cider"])
    first = {image: some[:1] for image, some in REFERENCES.items()}
    found, alone = ours(), ours(references=first)
    assert f"CIDEr of all four is {alone['cider'].value:.3f} instead of {found['cider'].value:.3f}" in PAGE
    assert f"BLEU-4 {100 * alone['bleu4'].value:.1f} instead of {100 * found['bleu4'].value:.1f}" in PAGE


def test_the_average_over_images():
    found = ours()
    of_images = f"{100 * np.mean(found.of_images['bleu4']):.1f}"
    assert f"is {100 * found['bleu4'].value:.1f}, and the mean of their four BLEU-4 is {of_images}" in " ".join(
        PAGE.split()
    )


def test_the_average_over_raters():
    numbers = re.search(r"scores ([\d., ]+?) and\s+three ratings each: (.+?)\. Against", PAGE, re.S)
    scores = [float(one) for one in numbers[1].split(",")]
    ratings = [tuple(map(int, one.split(","))) for one in re.findall(r"\(([\d, ]+)\)", numbers[2])]
    judged = [
        Judgement(image=str(n), number="0", caption="", ratings=some, references=()) for n, some in enumerate(ratings)
    ]
    single = agreement(scores, judged, variant="c", resamples=50).value
    averaged = kendalltau(scores, [np.mean(some) for some in ratings], variant="c").statistic
    assert f"tau-c is {single:.3f}; against the mean rating\nof each caption it is {averaged:.3f}" in PAGE


def test_no_number_of_the_page_is_left_out():
    """The decimals of the page outside of its tables are those that the tests above look up."""
    prose = "\n".join(line for line in PAGE.splitlines() if not line.startswith("|"))
    found = re.findall(r"\d+\.\d+", prose)
    assert sorted(set(found)) == sorted(
        {"2.996", "299.6", "0.60", "5.075", "44.4", "50.1", "25.0", "0.2", "0.5", "0.3", "0.8", "0.648", "1.000"}
    )
