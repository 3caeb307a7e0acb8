"""Settings from a YAML or JSON file: all that config.json can say, and one sentence when a file says something else."""

from __future__ import annotations

import json

import pytest
import yaml
from attend.experiments.cli.main import VERBS, main
from attend.experiments.cli.train import Train, defaults

from attend.config import Config
from attend.config.presets import PRESETS
from attend.config.text import from_dict, to_dict
from attend.runs.settings import with_file
from tests.config.test_config import ODD


@pytest.mark.parametrize("name", ["odd.yaml", "odd.yml", "odd.json"])
def test_every_setting_is_read_from_yaml_and_json(tmp_path, name):
    path = tmp_path / name
    path.write_text(json.dumps(ODD) if name.endswith("json") else yaml.safe_dump(ODD))
    assert with_file(Config(), path) == from_dict(ODD)


def test_a_config_json_replaces_all_settings_of_a_preset(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(PRESETS["uniform"].config)))
    assert with_file(PRESETS["hard"].config, path) == PRESETS["uniform"].config


def test_names_may_be_dotted_and_written_as_options(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "from: runs/a\ntrain.epochs: 3\ntrain:\n  learning-rate: 1e-2\nencoder:\nestimator: {baseline: none}\n"
    )
    found = with_file(PRESETS["hard"].config, path)
    assert (found.start, found.train.epochs, found.train.learning_rate) == ("runs/a", 3, 0.01)
    assert found.estimator.baseline == "none" and found.encoder == PRESETS["hard"].config.encoder


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {epochs: many}", "mine.yaml: train.epochs is 'many', but must be a whole number"),
        ("train.epocs: 3", "mine.yaml: unknown field 'train.epocs'; did you mean train.epochs?"),
        ("seed: yes", "mine.yaml: seed is True, but must be a whole number"),
        ("train: 3", "mine.yaml: train is 3, but is a section: write settings as"),
        ("out: runs/a", "mine.yaml: unknown field 'out'"),
        ("1: 2", "mine.yaml: unknown field '1'"),
        ("train: {epochs: {a: 1}}", "mine.yaml: unknown field 'train.epochs.a'"),
        ("{attention.select: expected, estimator.baseline: none}", "mine.yaml: estimator.baseline is"),
        ("a: [\n", "mine.yaml, line 2 is not readable as YAML: write settings as"),
        ("seed: !!python/object/apply:os.getpid []", "mine.yaml, line 1 is not readable as YAML"),
        ("train: &a {epochs: *a}", "mine.yaml is nested too deeply"),
        ("- 1", "mine.yaml holds no settings by name"),
        ("", "mine.yaml holds no settings by name"),
    ],
)
def test_what_is_no_setting_is_one_sentence_with_the_file_and_the_field(tmp_path, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        with_file(PRESETS["hard"].config, path)
    assert str(error.value).startswith(f"{tmp_path}/{says}") and "\n" not in str(error.value)


def test_a_file_that_is_missing_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*mine\.yaml"):
        with_file(Config(), tmp_path / "mine.yaml")
    (tmp_path / "mine.toml").write_text("seed = 1")
    with pytest.raises(ValueError, match=r"mine\.toml is neither YAML nor JSON by its name"):
        with_file(Config(), tmp_path / "mine.toml")
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(ValueError, match=r"mine\.json is not readable as JSON"):
        with_file(Config(), tmp_path / "mine.json")


def test_options_beside_the_file_come_before_it(tmp_path, monkeypatch):
    """And the file before the preset, in the program itself."""
    found = []
    monkeypatch.setitem(VERBS, "train", (Train, lambda command, preset: found.append(command)))
    path = tmp_path / "mine.yaml"
    path.write_text("train: {epochs: 3, images: 5}")
    main(["train", "hard", "--train.epochs", "4", "--config", str(path)])
    (options,) = found
    assert (options.train.epochs, options.train.images) == (4, 5)
    assert options.train.learning_rate == PRESETS["hard"].config.train.learning_rate
    assert options.attention == PRESETS["hard"].config.attention


@pytest.mark.parametrize("options", [["--config", "mine.yaml"], ["--config=mine.yaml"], ["--seed", "1", "--config"]])
def test_the_file_that_options_name_is_found(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("seed: 5")
    found = defaults(Config(), options)
    assert found.seed == (0 if options[-1] == "--config" else 5)  # tyro says that a name is missing
