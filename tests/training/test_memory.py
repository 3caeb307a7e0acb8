"""Memory that a run cannot have is refused before it trains or generates; the counts are made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from attend.config.text import from_dict, replace
from attend.training.run import train_config
from tests import halves

WIDTH, CELLS = 48, 4  # what test_resnet gives at stride 8, on 2 x 2 cells
WORDS, VOCABULARY = 7 + 3, 8 + 4  # of the two captions of an image; eight words, and the four marks
FEATURES, LOGITS = CELLS * WIDTH, WORDS * VOCABULARY  # of one image


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return halves.write(tmp_path_factory.mktemp("halves") / "data", (8, 4, 4))


@pytest.fixture()
def config(dataset):
    changed = {"train.epochs": 1, "train.checkpoint_minutes": 5.0}
    return replace(from_dict(halves.SMALL | {"data": str(dataset)}), changed)


@pytest.fixture()
def memory(monkeypatch):
    """Set the bytes that the machine has."""

    def has(total: float) -> None:
        monkeypatch.setattr("attend.runs.processes.psutil.virtual_memory", lambda: SimpleNamespace(total=total))

    monkeypatch.setattr("attend.metrics.captions.find_java", lambda: None)
    return has


@pytest.mark.parametrize("images", [4, 8, 16])  # there are eight
def test_a_minibatch_is_refused_below_its_features_and_logits_and_no_sooner(images, config, memory, tmp_path):
    config = replace(config, {"train.images": images})
    there = min(images, 8)
    needed = there * (FEATURES * 4 + LOGITS * 2)
    memory(needed - 1)
    with pytest.raises(ValueError, match=rf"a minibatch of {there} images needs .* set train.images to fewer"):
        train_config(config, "soft", out=tmp_path / "run", name=None, again=False)
    memory(needed)
    train_config(config, "soft", out=tmp_path / "run", name=None, again=False)


def test_samples_are_counted_too(config, memory, tmp_path):
    hard = {"attention.select": "sample", "estimator.name": "reinforce", "estimator.samples": 50}
    config = replace(config, hard)
    memory(4 * (FEATURES * 4 + LOGITS * 2 * 50) - 1)
    with pytest.raises(ValueError, match="a minibatch of 4 images needs"):
        train_config(config, "hard", out=tmp_path / "run", name=None, again=False)


@pytest.mark.parametrize("name", ["search.beam", "train.validation_beam"])
def test_a_search_is_refused_below_its_weights_and_logits_before_training(name, config, memory, tmp_path):
    config = replace(config, {name: 100})
    needed = 4 * 100 * (10 * CELLS + 2 * VOCABULARY) * 4  # images, hypotheses, a word's numbers, bytes
    memory(needed - 1)
    with pytest.raises(ValueError, match=r"a search with search.beam 100 .* over 4 images at once needs"):
        train_config(config, "soft", out=tmp_path / "run", name=None, again=False)
    assert not (tmp_path / "run/metrics.jsonl").exists()
    memory(needed)
    train_config(config, "soft", out=tmp_path / "run", name=None, again=False)


def test_a_search_of_an_evaluation_is_refused_and_leaves_nothing(config, memory, tmp_path, fails):
    memory(10**9)
    train_config(config, "soft", out=tmp_path / "run", name=None, again=False)
    before = sorted(tmp_path.rglob("*"))
    memory(4 * 200 * (10 * CELLS + 2 * VOCABULARY) * 4 - 1)
    said = fails("evaluate", tmp_path / "run", "--beam", "200", "--split", "val")
    assert "a search with search.beam 200" in said and "give a narrower beam or shorter captions" in said
    assert sorted(tmp_path.rglob("*")) == before
