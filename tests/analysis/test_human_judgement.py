"""Kendall's tau against counting pairs, files of judgements by hand, and the experiment's tiny twin."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from attend.analysis.human_judgement import Judgement, agreement, read_captions, read_crowd, read_expert, resampled_tau
from attend.experiments import metric_validity
from attend.experiments.cli.main import main

from attend.metrics import captions
from tests.several import no_java

TOKENS = "a.jpg#0\ta dog\na.jpg#1\ta dog runs\nb.jpg#0\ta cat\nb.jpg#1\tA cat sits .\nc.jpg#0\tnothing\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Flickr8k.token.txt").write_text(TOKENS)
    (tmp_path / "ExpertAnnotations.txt").write_text(
        "a.jpg\tb.jpg#1\t1\t2\t4\na.jpg\ta.jpg#0\t4\t4\t4\nb.jpg\tc.jpg#0\t1\t1\t1\n"
    )
    crowd = "a.jpg\tb.jpg#1\t0.5\t2\t2\na.jpg\ta.jpg#1\t1\t3\t0\nb.jpg\ta.jpg#0\t0\t0\t3\n"
    (tmp_path / "CrowdFlowerAnnotations.txt").write_text(crowd)
    return tmp_path


def by_counting(x, y, variant):
    """Both taus from their definitions, pair by pair."""
    concordant = discordant = only_x = only_y = 0
    for i in range(len(x)):
        for j in range(i):
            product = (x[i] - x[j]) * (y[i] - y[j])
            concordant += product > 0
            discordant += product < 0
            only_x += x[i] == x[j] and y[i] != y[j]
            only_y += x[i] != x[j] and y[i] == y[j]
    if variant == "b":
        pairs = concordant + discordant
        return (concordant - discordant) / math.sqrt((pairs + only_x) * (pairs + only_y))
    m = min(len(set(x)), len(set(y)))
    return 2 * (concordant - discordant) / (len(x) ** 2 * (m - 1) / m)


def judged(ratings, images):
    return [
        Judgement(image=image, number=f"x#{i}", caption="", ratings=tuple(some), references=("a",))
        for i, (some, image) in enumerate(zip(ratings, images, strict=True))
    ]


@pytest.mark.parametrize("variant", ["b", "c"])
def test_tau_is_a_count_of_pairs(variant):
    rng = np.random.default_rng(1)
    scores, ratings = rng.integers(0, 6, 25) / 5, rng.integers(1, 5, (25, 3)).tolist()
    found = agreement(scores, judged(ratings, rng.integers(0, 5, 25).astype(str)), variant=variant, resamples=50)
    truth = by_counting(np.repeat(scores, 3), np.concatenate(ratings), variant)
    assert found.value == pytest.approx(truth, abs=1e-12)
    assert found.low < found.value < found.high and found.images == 5


def test_a_tau_by_hand():
    """Of the six pairs three are concordant, one is discordant, one has equal scores and one equal ratings."""
    scores, ratings = [1, 2, 2, 3], [[1], [2], [3], [2]]
    pairs = judged(ratings, "abcd")
    assert agreement(scores, pairs, variant="b", resamples=2).value == pytest.approx((3 - 1) / 5)
    assert agreement(scores, pairs, variant="c", resamples=2).value == pytest.approx(2 * (3 - 1) / (16 * 2 / 3))


@pytest.mark.parametrize("variant", ["b", "c"])
def test_a_resample_is_tau_of_the_repeated_images(variant):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 6, 40)
    x = rng.integers(0, 7, 40).astype(float)
    y = np.clip(x + rng.integers(-3, 4, 40), 1, 4)
    counts = rng.multinomial(6, [1 / 6] * 6, size=8)
    found = resampled_tau(x, y, image, counts.astype(float), variant)
    for tau, times in zip(found, counts, strict=True):
        again = np.concatenate([np.tile(np.flatnonzero(image == a), times[a]) for a in range(6)]).astype(int)
        assert tau == pytest.approx(by_counting(x[again], y[again], variant), abs=1e-12)


@pytest.mark.slow
def test_the_interval_covers_where_images_differ():
    """Of 100 made sets of 25 images, about 95 % of the intervals hold the tau of very many images."""

    def draw(images, seed):
        rng = np.random.default_rng(seed)
        image = np.repeat(np.arange(images), 4)
        shift = np.repeat(rng.normal(0, 1, images), 4)
        rating = rng.integers(0, 4, len(image))
        return rating + shift + rng.normal(0, 1, len(image)), judged([[r] for r in rating.tolist()], image.astype(str))

    truth = agreement(*draw(800, 0), variant="b", resamples=2).value
    found = [agreement(*draw(25, seed), variant="b", resamples=200) for seed in range(1, 101)]
    assert 0.86 <= np.mean([one.low <= truth <= one.high for one in found]) <= 1


def test_an_experts_judgement_of_an_images_own_caption_is_left_out(folder):
    pairs = read_expert(folder / "ExpertAnnotations.txt", read_captions(folder / "Flickr8k.token.txt"))
    assert [(one.image, one.number, one.ratings) for one in pairs] == [
        ("a.jpg", "b.jpg#1", (1, 2, 4)), ("b.jpg", "c.jpg#0", (1, 1, 1)),
    ]  # fmt: skip
    assert pairs[0].caption == "A cat sits ." and pairs[0].references == ("a dog", "a dog runs")


def test_a_caption_that_the_crowd_judged_is_no_reference_of_its_image(folder):
    pairs = read_crowd(folder / "CrowdFlowerAnnotations.txt", read_captions(folder / "Flickr8k.token.txt"))
    assert [one.references for one in pairs] == [("a dog",), ("a dog",), ("a cat", "A cat sits .")]
    assert [one.ratings for one in pairs] == [(0.5,), (1.0,), (0.0,)]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("ExpertAnnotations.txt", None, "ExpertAnnotations.txt is missing: name the folder of Flickr8k as distributed"),
        ("ExpertAnnotations.txt", "a.jpg\tb.jpg#1\t1\t2\n", "line 1 of .* does not have 5 valid columns"),
        ("ExpertAnnotations.txt", "a.jpg\tb.jpg#1\t1\tx\t2\n", "line 1 of .* does not have 5 valid columns"),
        ("ExpertAnnotations.txt", "z.jpg\tb.jpg#1\t1\t1\t2\n", "line 1 of .* names z.jpg, which is not in Flickr8k"),
        ("ExpertAnnotations.txt", "a.jpg\tb.jpg#7\t1\t1\t2\n", "line 1 of .* names b.jpg#7, which is not in"),
        ("ExpertAnnotations.txt", "a.jpg\ta.jpg#0\t4\t4\t4\n", "has 0 judgements"),
        ("Flickr8k.token.txt", None, "Flickr8k.token.txt is missing"),
        ("Flickr8k.token.txt", "a.jpg 0\ta dog\n", "line 1 of .* does not begin with IMAGE#NUMBER"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(folder, name, text, says):
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        read_expert(folder / "ExpertAnnotations.txt", read_captions(folder / "Flickr8k.token.txt"))
    assert "\n" not in str(error.value)


def test_judges_that_are_missing_are_said_and_the_others_go_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "find_java", no_java)
    (folder / "ExpertAnnotations.txt").unlink()
    files = metric_validity.compare(folder, (), tmp_path / "out")
    text = files[0].read_text()
    assert "crowd, tau-b" in text and "experts, tau-c" not in text and "ExpertAnnotations.txt is missing" in text
    assert "METEOR: no Java in this test" in text and "| METEOR | – | 22.2 |" in text
    (folder / "CrowdFlowerAnnotations.txt").unlink()
    with pytest.raises(ValueError, match=r"Expert.* is missing.*CrowdFlower.* is missing"):
        metric_validity.compare(folder, (), tmp_path / "out")


@pytest.mark.slow
def test_the_tiny_twin_writes_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["run", "metric_validity", "--tiny"])
    shown = capsys.readouterr().out
    assert "| Metric | experts, tau-c | Hessel et al. (2021) | crowd, tau-b | Hessel et al. (2021) |" in shown
    assert "| SPICE | – | 44.9 | – | 24.4 |" in shown
    with open(tmp_path / "runs/metric_validity-tiny/metric_validity.csv") as file:
        rows = list(csv.DictReader(file))
    taus = {(row["metric"], row["judges"]): float(row["tau"]) for row in rows}
    assert {judges for _, judges in taus} == {"experts", "crowd"}
    assert taus["BLEU-1", "experts"] > 0.3  # the made people count true words, and so does BLEU-1
    assert all(-1 <= float(row["low"]) <= float(row["tau"]) <= float(row["high"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "metric_validity needs --data DIR"),
        (["--tiny", "--seeds", "2"], "--seeds has no effect on metric_validity-tiny, which trains nothing"),
        (["--tiny", "--set", "train.epochs=3"], "--set has no effect"),
        (["--data", "nowhere"], "Flickr8k.token.txt is missing"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["run", "metric_validity", *arguments])
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
