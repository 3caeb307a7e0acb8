"""Experiments as files: valid variants that differ in what is asked about alone, heads that say all, tiny twins."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
from attend.analysis.tables.published import PUBLISHED
from attend.experiments.ablations import baseline, table1
from attend.experiments.ablations.base import SEEDS, learners
from attend.experiments.cli.main import main
from attend.experiments.runner import runner
from attend.experiments.runner.experiment import ABLATIONS, EXPERIMENTS, Experiment, load

from attend.config import Config
from attend.config.text import fields
from attend.encoder.encoder import Encoder
from attend.estimators.baselines import BASELINES
from tests import halves
from tests.made_runs import make_run, scores

ABOUT = {  # the fields that each is about: its variants differ in all of these and in no other
    "quickstart": {
        "attention.weights", "attention.width", "attention.select", "estimator.scale", "estimator.entropy",
        "train.epochs", "train.learning_rate",
    },
    "flickr8k": {
        "attention.weights", "attention.width", "attention.select", "estimator.scale", "estimator.entropy",
        "estimator.baseline", "objective.doubly_stochastic", "objective.reduce", "train.epochs", "train.lower_after",
    },
    "world": {
        "attention.weights", "attention.width", "attention.select", "estimator.scale", "estimator.entropy",
        "train.epochs", "train.learning_rate",
    },
    "arrangements": {
        "attention.score", "attention.activation", "attention.select", "estimator.scale", "estimator.entropy",
        "decoder.cell", "decoder.gate", "decoder.initial", "objective.doubly_stochastic", "objective.reduce",
        "train.learning_rate",
        "train.monitor", "train.lower_after", "train.lower_by",
    },
    "bound_or_variance": {
        "attention.select", "attention.feed", "estimator.name", "estimator.baseline", "estimator.semi",
        "estimator.entropy",
    },
    "metric_validity": set(),
    "cause": {
        "attention.weights", "attention.width", "attention.select", "estimator.scale", "estimator.entropy",
        "decoder.cell", "decoder.gate", "decoder.initial", "decoder.readout", "objective.doubly_stochastic",
        "objective.reduce", "train.epochs", "train.learning_rate",
    },
    "screen": {
        "encoder.name", "encoder.weights", "encoder.stride", "encoder.size", "encoder.normalise", "attention.weights",
        "attention.width", "attention.select", "attention.feed", "estimator.name", "estimator.cost",
        "estimator.baseline", "estimator.scale", "estimator.entropy", "estimator.coin", "estimator.semi",
        "estimator.semi_start", "estimator.semi_epochs", "objective.doubly_stochastic", "objective.reduce",
        "train.learning_rate",
    },
    "photographs": {
        "attention.weights", "attention.width", "attention.select", "estimator.scale", "estimator.entropy",
        "objective.doubly_stochastic", "objective.reduce", "train.epochs", "train.learning_rate",
    },
    "table1": {
        "attention.select", "estimator.name", "estimator.cost", "estimator.baseline", "estimator.scale",
        "estimator.entropy", "estimator.coin", "objective.doubly_stochastic", "search.decode", "search.beam",
        "search.length_power", "train.monitor", "train.clip",
    },
    "doubly_stochastic": {"objective.doubly_stochastic", "objective.reduce", "objective.target"},
    "gate": {"decoder.gate"},
    "deep_output": {
        "decoder.readout", "decoder.readout_word", "decoder.readout_hidden", "decoder.readout_context",
    },
    "baseline": {"estimator.baseline"},
    "reward_scale": {"estimator.scale"},
    "entropy": {"estimator.entropy"},
    "semi_sampling": {"estimator.semi", "estimator.coin"},
    "temperature": {"attention.temperature"},
    "decoding": {"attention.feed"},
    "grid": {"encoder.stride", "encoder.grid", "encoder.size"},
    "encoders": {"encoder.name", "encoder.weights", "encoder.stride", "encoder.pixels"},
    "tuning": {
        "encoder.name", "encoder.weights", "encoder.stride", "encoder.tune_blocks", "train.encoder_learning_rate",
    },
    "activation": {"attention.activation"},
    "cell": {"decoder.cell", "decoder.gate", "decoder.readout"},
    "beam": set(),
    "early_stopping": {"train.monitor", "train.epochs", "train.patience"},
    "reward": {"train.epochs", "train.learning_rate", "train.reward"},
    "warm_start": {
        "encoder.stride", "train.epochs", "train.learning_rate", "estimator.semi_start", "estimator.semi_epochs",
    },
    "normalise": {"encoder.stride", "encoder.normalise", "train.epochs", "train.learning_rate"},
    "minibatch": {"train.images", "train.epochs", "train.learning_rate", "train.lower_after", "train.patience"},
    "training_size": {"train.training_images", "train.epochs", "train.patience", "train.lower_after"},
    "speedrun": set(),
}  # fmt: skip
NEEDS_DATA = {"flickr8k", "arrangements", "metric_validity", "table1", "screen", "photographs", "speedrun"}
FULL = [(name, data) for name in EXPERIMENTS for data in (None, Path("photographs")) if data or name not in NEEDS_DATA]
CHANGING = [name for name in ABLATIONS if name != "table1"]
"""Those that change some fields of soft and hard attention."""


def changed(one: Config, other: Config) -> set[str]:
    return {name for name in fields() if attrgetter(name)(one) != attrgetter(name)(other)}


def head(name: str) -> str:
    source = inspect.getsource(importlib.import_module(EXPERIMENTS[name]))
    return ast.get_docstring(ast.parse(source))


def test_every_experiment_says_what_it_is_about():
    assert ABOUT.keys() == EXPERIMENTS.keys()


def differing(name: str, data: Path | None) -> set[str]:
    """The fields in which variants differ; those of an ablation from what it starts with too, soft and hard apart."""
    variants = list(load(name, data, False).variants.values())
    if name in CHANGING:
        start = learners(data, False).values()
        groups = [[one for one in (*start, *variants) if one.attention.hard is hard] for hard in (False, True)]
    else:
        groups = [variants]
    return set().union(*(changed(one, other) for group in groups for one in group for other in group))


@pytest.mark.parametrize(("name", "data"), FULL)
def test_every_variant_is_valid_and_another_and_nothing_is_made(tmp_path, monkeypatch, name, data):
    monkeypatch.chdir(tmp_path)
    found = load(name, data, False)
    configs = set(found.variants.values())
    assert all(isinstance(one, Config) for one in configs) and len(configs) == len(found.variants)
    assert found.variants.keys() == found.seeds.keys() >= found.also.keys()
    assert differing(name, data) <= ABOUT[name] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_tiny_twin_of_an_experiment_is_valid(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert load(name, None, True).name == f"{name}-tiny" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_variants_differ_in_all_that_is_asked_about_and_in_nothing_else(name):
    """On one of the two: the world never stops early, however often its patience of 0 is multiplied."""
    assert set().union(*(differing(one, data) for one, data in FULL if one == name)) == ABOUT[name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_head_of_a_file_says_all(name):
    first, *rest = head(name).splitlines()
    assert "?" in first
    text = "\n".join(rest)
    assert f"    attend run {name}" in text and "\nSource: " in text
    joined = " ".join(text.split())
    assert "two cores" in joined and "GPU" in joined and re.search(r"^(Measured|Not measured)", text, re.M)


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_plan_of_an_ablation_is_as_its_head_says(name):
    data = Path("photographs") if name in NEEDS_DATA else None
    found, words = load(name, data, False), " ".join(head(name).split())
    runs = sum(found.seeds.values())
    assert name in NEEDS_DATA or re.search(f"(Measured,|Not measured yet:) {runs} runs", words)
    assert set(found.seeds.values()) == {1 if data else SEEDS}
    assert found.name == (f"{name}-flickr8k" if name == "table1" else name)


def test_every_unbiased_baseline_is_compared():
    assert set(baseline.BASELINES) == {name for name, one in BASELINES.items() if one.unbiased}


def test_which_published_scores_stand_below_is_the_datasets_name(tmp_path):
    assert table1.experiment(tmp_path, False).published == "flickr8k"
    for name, known in {"Flickr30k_images": "flickr30k", "coco": "coco"}.items():
        folder = renamed(halves.write(tmp_path / name), name)
        found = table1.experiment(folder, False)
        assert (found.name, found.published) == (f"table1-{known}", known) and known in PUBLISHED
    other = halves.write(tmp_path / "other")
    with pytest.raises(ValueError, match="no dataset that table1 has published scores of"):
        table1.experiment(other, False)
    with pytest.raises(ValueError, match="table1 needs --data DIR"):
        table1.experiment(None, False)


def test_another_dataset_as_distributed_is_not_compared_with_scores_of_flickr8k(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    renamed(halves.write(tmp_path / "data/flickr8k"), "flickr30k")
    monkeypatch.setattr(table1.flickr8k, "prepare", lambda *_: None)
    with pytest.raises(ValueError, match="holds flickr30k: make it a folder of its own"):
        table1.prepare(tmp_path / "distributed", False)


def test_a_part_of_the_training_images_is_counted_where_they_are_known(tmp_path):
    folder = halves.write(tmp_path / "data", splits=(28, 6, 6))
    parts = load("training_size", folder, False).variants
    assert [parts[f"soft-{part}"].train.training_images for part in ("eighth", "quarter", "half", "all")] == [
        3,
        7,
        14,
        0,
    ]
    one, all_of_them = parts["hard-eighth"].train, parts["hard-all"].train
    assert (one.epochs, one.patience) == (8 * all_of_them.epochs, 8 * all_of_them.patience)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["encoders", "grid"])
def test_the_grid_of_a_variant_is_the_one_in_its_name(name):
    for variant, one in load(name, None, False).variants.items():
        rows, columns = re.search(r"(\d+)x(\d+)", variant).groups()
        assert Encoder(replace(one.encoder, weights="random")).grid == (int(rows), int(columns)), variant


def test_the_table_of_an_experiment_has_the_published_scores_it_asks_for(tmp_path):
    make_run(tmp_path, "asked/soft/seed0", headline=scores(bleu4_free=0.25))
    asked = {"name": "asked", "variants": {"soft": Config()}, "seeds": {"soft": 1}, "columns": ("bleu4_free",)}
    runner.present(Experiment(**asked, published="coco"), tmp_path)
    table = tmp_path / "asked/table.md"
    assert "| Xu et al., hard | published, one run |  | 25.0 |" in table.read_text()
    runner.present(Experiment(**asked), tmp_path)
    assert "published" not in table.read_text()


def runs_through(name: str, tmp_path: Path, monkeypatch, capsys) -> Experiment:
    """The tiny twin: all of it is trained, and stands in the table."""
    monkeypatch.chdir(tmp_path)
    main(["run", name, "--tiny", "--seeds", "1", "--workers", "1"])
    said, found = capsys.readouterr().out, load(name, None, True)
    for variant in found.variants:
        scored = json.loads((tmp_path / f"runs/{name}-tiny/{variant}/seed0/scores.json").read_text())
        assert scored["images"] == 6 and f"\n{variant} " in said
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_tiny_twin_runs(tmp_path, monkeypatch, capsys, name):
    runs_through(name, tmp_path, monkeypatch, capsys)


def renamed(folder: Path, name: str) -> Path:
    """A prepared dataset under another name."""
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(about | {"name": name}))
    return folder
