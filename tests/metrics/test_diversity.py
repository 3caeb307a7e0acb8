"""Diversity of captions: small sets counted by hand, and mBLEU again from pycocoevalcap's own scorer."""

from __future__ import annotations

from math import exp

import pytest

from attend.metrics.diversity import diversity, mbleu, novelty


def words(*captions):
    return [tuple(caption.split()) for caption in captions]


def test_distinct_captions_and_words_by_hand():
    """Three of four captions differ, and they use a, dog, runs, cat, sits: 5 of 20 words."""
    found = diversity(words("a dog runs", "a cat sits", "a dog runs", "a dog sits"), vocabulary=20)
    assert found == {"distinct_captions": 0.75, "words_used": 5, "vocabulary_used": 0.25}


def test_one_caption_for_every_image():
    found = diversity(words(*["a dog"] * 10))
    assert found == {"distinct_captions": 0.1, "words_used": 2}


def test_empty_captions_use_no_words():
    assert diversity([(), ()], vocabulary=7) == {"distinct_captions": 0.5, "words_used": 0, "vocabulary_used": 0}
    with pytest.raises(ValueError, match="no captions"):
        diversity([])


def test_a_caption_is_novel_if_training_does_not_have_it_word_for_word():
    """Another order, one word more and one less are novel; nothing at all is not."""
    said = words("a dog runs", "runs a dog", "a dog runs fast", "a dog", "", "a dog runs")
    assert novelty(said, iter(words("the cat", "a dog runs"))) == [0, 1, 1, 1, 0, 0]
    assert novelty(said, []) == [1, 1, 1, 1, 0, 1]


def test_mbleu_by_hand():
    """Two samples of one image: 'a dog runs on grass' and 'a dog runs on sand' share 4, 3, 2, 1 n-grams."""
    two = [words("a dog runs on grass"), words("a dog runs on sand")]
    assert mbleu(two) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))


def test_mbleu_has_the_brevity_penalty_of_bleu():
    """Samples of 4, 8 and 8 words, the first the beginning of the others: every n-gram matches, 20 words against 24."""
    long = words("a b c d e f g h")
    assert mbleu([words("a b c d"), long, long]) == pytest.approx(exp(1 - 24 / 20))


def test_equal_samples_have_an_mbleu_of_1_and_samples_without_a_common_word_of_0():
    assert mbleu([words("a b c d")] * 3) == pytest.approx(1)
    assert mbleu([words("a b"), words("c d")]) < 1e-3


def test_mbleu_is_pycocoevalcaps_bleu_of_each_sample_against_the_others():
    from pycocoevalcap.bleu.bleu import Bleu

    samples = [
        words("a dog runs on the grass", "two cats sit on a mat"),
        words("a dog runs in the park", "two cats sit here"),
        words("the dog runs on the grass today", "a cat sits on a mat"),
    ]
    texts = [[" ".join(caption) for caption in some] for some in samples]
    hypotheses = {(n, k): [texts[k][n]] for n in range(2) for k in range(3)}
    others = {(n, k): [texts[j][n] for j in range(3) if j != k] for n in range(2) for k in range(3)}
    corpus, _ = Bleu(4).compute_score(others, hypotheses, verbose=0)
    assert mbleu(samples) == pytest.approx(corpus[3], rel=1e-9) and 0.1 < corpus[3] < 0.9


def test_mbleu_needs_two_samples_of_the_same_images():
    with pytest.raises(ValueError, match="draw 2 or more"):
        mbleu([words("a dog")])
    with pytest.raises(ValueError):
        mbleu([words("a dog"), words("a dog", "a cat")])
