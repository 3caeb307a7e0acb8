"""How unlike the training images an image is: by hand, on samples of a known distribution, and on disk."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attend.evaluation.novelty import Novelty, doubts, repeated


def test_by_hand():
    """Two training images at distance 1 from their mean (1, 0); three at distance 1, 2 and 4 from it."""
    training = np.array([[0.0, 0.0], [2.0, 0.0]])
    validation = np.array([[1.0, 1.0], [1.0, -2.0], [5.0, 0.0]])
    found = Novelty.of(training, validation)
    assert found.mean == (1.0, 0.0) and found.distance == 1.0 and found.images == 3
    np.testing.assert_allclose(found.score(validation), [1, 2, 4])
    low, high = np.log(2) - 22.327 * np.log(2) * np.sqrt(4 / 3), np.log(2) + 22.327 * np.log(2) * np.sqrt(4 / 3)
    assert np.log(found.limit) == pytest.approx(high, rel=1e-3) and low < 0  # t with 2 degrees of freedom, 0.999
    assert found.beyond(found.limit * 1.01) and not found.beyond(found.limit * 0.99)


def test_one_in_a_thousand_is_beyond():
    """Log-normal distances: over many validation sets of 20 the share of new images beyond is 0.001."""
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(400):
        distances = np.exp(rng.normal(0, 0.3, 20))
        found = Novelty.of(np.array([[-1.0], [1.0]]), distances[:, None])
        beyond.append(stats.norm.sf(np.log(found.limit), 0, 0.3))
    assert np.mean(beyond) == pytest.approx(0.001, abs=3 * np.std(beyond) / 20)


def test_too_few_images_give_no_limit():
    found = Novelty.of(np.ones((1, 4)), np.ones((2, 4)))
    assert found.limit == 0 and not found.beyond(1e9)


def test_written_and_read(tmp_path):
    rng = np.random.default_rng(0)
    found = Novelty.of(rng.normal(size=(9, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32))
    found.write(tmp_path)
    assert Novelty.read(tmp_path) == found and Novelty.read(tmp_path / "none") is None
    (tmp_path / "novelty.json").write_text("{}")
    with pytest.raises(ValueError, match=r"novelty.json is damaged .*mean is missing"):
        Novelty.read(tmp_path)


@pytest.mark.parametrize(
    ("caption", "phrase"),
    [
        ("pink pink pink", "pink"),
        ("a bench bench trampoline", ""),
        ("a red a red a red dog", "a red"),
        ("two dogs and two dogs and two cats", ""),
        ("", ""),
        ("on the left of on the left of on the left of it", "on the left of"),
    ],
)
def test_what_is_repeated(caption, phrase):
    assert repeated(caption.split()) == phrase


def test_doubts_are_sentences():
    known = Novelty(mean=(0.0,), distance=1.0, limit=1.5, images=100)
    assert doubts("a.jpg", ["a", "dog"], 30, known, 1.4) == [] == doubts("a.jpg", ["a", "dog"], 30, None, None)
    (said,) = doubts("a.jpg", ["a", "dog"], 30, known, 2.04)
    assert said.startswith("a.jpg is unlike the images that this model learned from (novelty 2.0, the limit is 1.5)")
    assert doubts("a.jpg", ["pink"] * 3, 3, None, None) == ["the caption of a.jpg repeats 'pink': the model is lost"]
    (said,) = doubts("a.jpg", ["a", "dog", "and"], 3, None, None)
    assert said == "the caption of a.jpg does not end within 3 words, the limit of the search"
