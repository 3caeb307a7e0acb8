"""The configuration: what it accepts, what it refuses, and that every choice exists."""

from __future__ import annotations

import ast
import json
import typing
from itertools import pairwise
from pathlib import Path

import pytest

from attend import config
from attend.attention.score import ACTIVATIONS, SCORES
from attend.attention.simplex import SIMPLEXES
from attend.captioner.captioner import DECODINGS
from attend.config import Config
from attend.config import catalogue as facts
from attend.config.catalogue import COMPARED, FACTS, TODAY
from attend.config.text import difference, fields, from_dict, replace, to_dict
from attend.decoder import DECODERS
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES
from attend.estimators.different_paths import likeliest_and_another, without_replacement
from attend.estimators.signals import SIGNALS
from attend.estimators.take import every_path, samples
from attend.estimators.variational import from_proposal
from attend.geometry import TRANSFORMS
from attend.training.optimiser import OPTIMISERS

ODD = {  # no field has its default here, so a field that a round trip drops is seen
    "data": "somewhere",
    "seed": 7,
    "start": "runs/other",
    "encoder": {
        "name": "resnet18", "weights": "random", "stride": 16, "grid": [2, 3], "size": 64, "transform": "crop",
        "pixels": "unit", "normalise": "layer", "tune_blocks": 2,
    },
    "attention": {
        "score": "dot", "activation": "relu", "width": 6, "heads": 3, "simplex": "entmax", "power": 1.25,
        "select": "sample",
    },
    "estimator": {
        "samples": 3, "cost": "sentence", "baseline": "none", "decay": 0.5, "scale": 0.1, "entropy": 0.0,
        "semi": 0.25, "semi_start": 0.5, "semi_epochs": 2.0, "coin": "minibatch",
    },
    "decoder": {
        "cell": "transformer", "embedding": 4, "hidden": 6, "blocks": 3, "heads": 2, "gate": "none",
        "readout": "linear", "readout_word": False, "readout_hidden": False, "dropout": 0.1, "dropout_words": 0.2,
        "embedding_range": 0.5, "embeddings": "glove.txt", "freeze_embeddings": True,
    },
    "objective": {"doubly_stochastic": 1.0, "reduce": "mean", "target": "length", "supervised": 0.5},
    "search": {"beam": 5, "max_length": 9, "length_power": 0.5, "decode": "sample"},
    "train": {
        "epochs": 2, "images": 3, "optimiser": "sgd", "learning_rate": 0.5, "encoder_learning_rate": 0.25, "clip": 1.0,
        "monitor": "bleu4", "patience": 1, "lower_after": 1, "lower_by": 0.25, "training_images": 9,
        "validation_images": 4, "validation_beam": 2, "precision": "bf16", "workers": 1, "log_every": 5,
        "keep_every": 3, "checkpoint_minutes": 1.5, "target": 0.5,
    },
}  # fmt: skip
TAKEN = {
    samples: "sample", from_proposal: "sample", every_path: "all", without_replacement: "distinct",
    likeliest_and_another: "best-and-rest",
}  # fmt: skip
SINGLE = {  # what the others leave no choice
    "encoder.precision", "attention.weights", "attention.top", "attention.temperature", "attention.feed",
    "estimator.name", "estimator.relaxation", "estimator.rollout", "decoder.looks", "decoder.initial",
    "decoder.readout_context", "train.reward", "train.reward_samples", "train.reward_baseline", "train.reward_mass",
    "train.graphs",
}  # fmt: skip


def hard(**estimator: object) -> dict:
    return {"attention": {"select": "sample"}, "estimator": estimator}


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@pytest.mark.parametrize("values", [{}, ODD])
def test_a_configuration_survives_json(values):
    there = from_dict(values)
    assert from_dict(json.loads(json.dumps(to_dict(there)))) == there
    assert flat(json.loads(json.dumps(to_dict(there)))).items() >= flat(values).items()


def test_the_round_trip_saw_every_field_off_its_default():
    default = flat(to_dict(Config()))
    assert {name for name, value in flat(to_dict(from_dict(ODD))).items() if value == default[name]} == SINGLE
    assert set(fields()) == set(default)


@pytest.mark.parametrize("name, close", [("train.epoch", "train.epochs"), ("epochs", "train.epochs")])
def test_an_unknown_field_is_named_with_a_suggestion(name, close):
    with pytest.raises(ValueError, match=rf"unknown field '{name}'; did you mean {close}\?"):
        replace(Config(), {name: "3"})


def test_an_unknown_field_of_a_file_is_named_with_the_file():
    with pytest.raises(ValueError, match=r"^run/config.json: unknown field 'train.lr_rate'"):
        from_dict({"train": {"lr_rate": 1}}, "run/config.json")


@pytest.mark.parametrize(
    "name",
    [name for name in fields() if name.count(".") and type(flat(to_dict(Config()))[name]) in (int, float)],
)
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**7])
def test_no_number_is_infinite_or_absurd_however_it_is_given(name, value):
    """The command line builds the sections itself, without reading values one by one."""
    section, field = name.split(".")
    with pytest.raises(ValueError, match=name):
        type(getattr(Config(), section))(**{field: value})


@pytest.mark.parametrize(
    "name, value",
    [
        ("seed", 1.0), ("seed", True), ("seed", "1.5"), ("seed", None), ("seed", -1), ("seed", 2**31), ("data", 3),
        ("train.epochs", "three"), ("train.epochs", 0), ("train.learning_rate", "fast"),
        ("train.learning_rate", float("nan")), ("train.learning_rate", 0), ("train.clip", float("inf")),
        ("train.clip", 10**400), ("train.clip", True), ("train.lower_by", 1), ("train.workers", -1),
        ("train.optimiser", "Adam"), ("train.optimiser", ["adam"]), ("train.checkpoint_minutes", -1),
        ("train.keep_every", -1), ("train.training_images", -1),
        ("encoder.grid", [2]), ("encoder.grid", "2 x"), ("encoder.grid", [0, 2]), ("encoder.grid", 4),
        ("encoder.size", 7), ("encoder.stride", 0), ("encoder.tune_blocks", -1), ("attention.temperature", 0),
        ("attention.width", 0), ("attention.select", "argmax"), ("estimator.decay", 1), ("estimator.semi", 1),
        ("estimator.scale", -1), ("estimator.entropy", -1), ("decoder.readout_word", "yes"),
        ("decoder.readout_word", 1), ("decoder.dropout", 1), ("decoder.hidden", 0), ("decoder.embedding", 0),
        ("objective.doubly_stochastic", -1), ("objective.supervised", -1), ("attention.top", 1),
        ("search.beam", -1), ("search.max_length", 0), ("search.decode", "soft"),
    ],
)  # fmt: skip
def test_a_wrong_type_or_number_is_refused_with_its_field(name, value):
    *parents, leaf = name.split(".")
    values = {parents[0]: {leaf: value}} if parents else {leaf: value}
    with pytest.raises(ValueError, match=name):
        from_dict(values)


@pytest.mark.parametrize("values", [[], "x", {"train": 3}])
def test_a_section_that_is_no_object_is_refused(values):
    with pytest.raises(ValueError, match="must be an object"):
        from_dict(values)


@pytest.mark.parametrize(
    "values, names",
    [
        ({"attention": {"weights": "uniform", "select": "sample"}}, "attention.select.*attention.weights"),
        *(
            ({"attention": {"weights": name, "select": "sample"}}, "attention.select.*attention.weights")
            for name in ("centre", "random")
        ),
        *(
            ({"attention": {"weights": name, "select": "top-k"}}, f"'top-k', but attention.weights '{name}' has many")
            for name in ("uniform", "oracle")
        ),
        *(
            (
                {"attention": {"weights": name}, "objective": {"supervised": 1.0}, "train": {"monitor": "nll"}},
                f"objective.supervised is 1.0, but attention.weights '{name}' has nothing to learn",
            )
            for name in ("uniform", "centre", "random", "oracle")
        ),
        ({"attention": {"top": 3}}, "attention.top is 3, which only attention.select 'top-k' has"),
        ({"attention": {"heads": 2, "score": "dot", "weights": "centre"}}, "only the learned score 'dot' has"),
        ({"encoder": {"precision": "bf16", "tune_blocks": 1}}, "encoder.precision.*encoder.tune_blocks"),
        ({"attention": {"simplex": "sparsemax", "power": 1.2}}, "attention.power is 1.2, .*'entmax'"),
        ({"estimator": {"name": "vimco"}}, "estimator.name 'vimco' with 5 samples .* attention.select 'expected'"),
        ({"estimator": {"samples": 2}}, "attention.select 'expected' samples none"),
        ({"estimator": {"baseline": "learned"}}, "estimator.baseline is 'learned', .* samples no glimpses"),
        ({"estimator": {"baseline": "soft", "rollout": "prefix"}}, "estimator.baseline is 'soft', .* no glimpses"),
        (
            {"attention": {"select": "top-k"}, "estimator": {"cost": "own"}},
            "estimator.cost is 'own', but attention.select 'top-k' samples no glimpses",
        ),
        (hard(baseline="leave-one-out", samples=1), "estimator.samples is 1, .*'leave-one-out'"),
        (hard(baseline="group", samples=1), "estimator.samples is 1, .*'group' .* give 2 or more"),
        (hard(name="rebar", baseline="group"), "'group' .* estimator.name 'rebar' .* choose another baseline"),
        (hard(name="vimco", baseline="average"), "estimator.baseline is 'average', but estimator.name 'vimco'"),
        (hard(name="wake-sleep", cost="own"), "estimator.cost is 'own', but estimator.name 'wake-sleep'"),
        (hard(name="xu2015-code", samples=2), "estimator.samples is 2, but estimator.name 'xu2015-code' takes 1"),
        (hard(name="marginal", samples=2), "estimator.samples is 2, but estimator.name 'marginal' takes 1"),
        (hard(name="sum-and-sample", samples=1), "estimator.samples is 1, .* takes 2 to 100"),
        (hard(name="enumeration", semi=0.5), "estimator.semi is 0.5, .* leave estimator.semi out"),
        (hard(relaxation=0.5), "estimator.relaxation is 0.5, .* leave estimator.relaxation out"),
        *(
            ({"attention": {"select": "sample", "score": "dot", "heads": 2}, "estimator": rule}, "is for one head")
            for rule in (
                {"name": "rebar"},
                {"name": "variational"},
                {"name": "gumbel-softmax"},
                {"name": "unordered-set"},
                {"baseline": "soft", "rollout": "prefix"},
            )
        ),
        ({"attention": {"select": "sample", "weights": "first"}, "estimator": {"baseline": "soft"}}, "leave them out"),
        (hard(rollout="prefix"), "estimator.rollout is 'prefix', .* leave it out"),
        ({"attention": {"score": "x"}}, "attention.score is 'x', but must be one of additive, bilinear, dot"),
        ({"attention": {"simplex": "x"}}, "attention.simplex is 'x', but must be one of softmax, sparsemax, entmax"),
        (hard(name="nothing"), "estimator.name is 'nothing', but must be one of reinforce, "),
        ({"attention": {"weights": "oracle", "select": "sample"}}, "attention.select.*attention.weights"),
        ({"attention": {"weights": "oracle"}, "train": {"monitor": "cider"}}, "attention.weights.*train.monitor"),
        ({"attention": {"weights": "oracle"}, "train": {"monitor": "bleu4"}}, "attention.weights.*train.monitor"),
        ({"decoder": {f"readout_{part}": False for part in ("word", "hidden", "context")}}, "decoder.readout_word"),
        (
            {"decoder": {"cell": "adaptive", "gate": "none", "readout": "linear", "initial": "linear"}},
            "decoder.initial",
        ),
    ],
)
def test_an_impossible_combination_is_refused_with_its_fields(values, names):
    with pytest.raises(ValueError, match=names):
        from_dict(values)


@pytest.mark.parametrize(
    "weights, monitor", [("uniform", "cider"), ("centre", "cider"), ("random", "cider"), ("oracle", "nll")]
)
def test_the_possible_controls_are_accepted(weights, monitor):
    assert not from_dict({"attention": {"weights": weights}, "train": {"monitor": monitor}}).attention.hard


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("seed", "3", 3), ("train.learning_rate", "1e-2", 0.01), ("train.learning_rate", 1, 1.0),
        ("decoder.readout_word", "False", False), ("encoder.grid", "2 3", (2, 3)), ("encoder.grid", "2,3", (2, 3)),
        ("encoder.grid", "none", None), ("encoder.size", "None", None), ("search.decode", "argmax", "argmax"),
    ],
)  # fmt: skip
def test_replace_reads_text_as_the_type_of_its_field(name, text, value):
    changed = replace(from_dict(ODD), {name: text})
    found = flat(to_dict(changed))[name]
    assert found == value and type(found) is type(value)
    others = {k: v for k, v in flat(to_dict(changed)).items() if k != name}
    assert others.items() <= flat(to_dict(from_dict(ODD))).items()


@pytest.mark.parametrize("name", ["train", "", "train.epochs.more", "data.epochs"])
def test_replace_refuses_what_is_no_field(name):
    with pytest.raises(ValueError, match=f"unknown field '{name}'"):
        replace(Config(), {name: "3"})


def test_replace_checks_combinations_after_all_fields_are_set():
    both = {"attention.weights": "oracle", "train.monitor": "nll"}
    assert replace(Config(), both).attention.weights == "oracle"


def test_the_difference_names_both_values():
    ours = replace(Config(), {"train.epochs": 3, "encoder.grid": "2 2"})
    assert difference(ours, Config()) == "encoder.grid (2, 2) (was None), train.epochs 3 (was 15)"
    assert difference(ours, from_dict(json.loads(json.dumps(to_dict(ours))))) == ""


@pytest.mark.parametrize(
    "select, decode, expected",
    [
        ("sample", None, "argmax"),
        ("expected", None, "expected"),
        ("top-k", None, "top-k"),
        ("sample", "expected", "expected"),
    ],
)
def test_the_default_of_decoding_follows_the_attention(select, decode, expected):
    assert from_dict({"attention": {"select": select}, "search": {"decode": decode}}).decode == expected


@pytest.mark.parametrize(
    "section, field, known",
    [
        (config.Attention, "activation", ACTIVATIONS),
        (config.Attention, "select", DECODINGS.keys() - {"argmax", "marginal"}),
        (config.Search, "decode", DECODINGS),
        (config.Estimator, "baseline", BASELINES),
        (config.Estimator, "cost", SIGNALS),
        (config.Encoder, "transform", TRANSFORMS),
        (config.Decoder, "cell", DECODERS),
        (config.Train, "optimiser", OPTIMISERS),
    ],
)
def test_choices_are_the_keys_of_their_tables(section, field, known):
    hint = typing.get_type_hints(section)[field]
    literal = next(h for h in (hint, *typing.get_args(hint)) if typing.get_origin(h) is typing.Literal)
    assert set(typing.get_args(literal)) == set(known)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_draws_as_many_samples_as_its_entry_says(name):
    assert from_dict(hard(name=name)).samples == FACTS[name].samples
    assert from_dict({}).samples == 1, "soft attention draws none"


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_the_samples_it_needs(name):
    assert from_dict(hard(baseline=name)).samples >= BASELINES[name].paths
    assert (name in COMPARED) == (BASELINES[name].paths > 1)


@pytest.mark.parametrize("field", TODAY)
def test_names_of_today_s_papers_are_taken_for_ours(field):
    """In any case, from a file and from text. Ours is what the configuration holds."""
    section, leaf = field.split(".")
    other = {"train": {"reward": "cider"}} if section == "train" else {}
    for today, name in TODAY[field].items():
        for spelt in (today, today.lower()):
            values = {"attention": {"select": "sample"}} | other
            values[section] = values.get(section, {}) | {leaf: spelt}
            found = from_dict(values)
            assert flat(to_dict(found))[field] == name
            assert replace(from_dict({"attention": {"select": "sample"}} | other), {field: spelt}) == found


@pytest.mark.parametrize("name", ["RLOO", "remax", "GRPO"])
def test_a_baseline_that_is_named_as_an_estimator_is_said_to_be_one(name):
    with pytest.raises(ValueError, match=f"'{name}', which is estimator.name 'reinforce' with estimator.baseline '"):
        from_dict(hard(name=name))


def test_the_catalogue_says_how_each_estimator_takes_its_glimpses():
    assert ESTIMATORS.keys() == FACTS.keys()
    assert [*SCORES] == facts.SCORES and [*SIMPLEXES] == facts.SIMPLEXES
    for name, rule in ESTIMATORS.items():
        relaxations = {"relaxed", "straight-through", "gumbel-straight-through"}
        assert FACTS[name].select in ({TAKEN[rule.take]} if rule.take in TAKEN else relaxations), name


def test_every_field_says_what_it_is():
    files = [Path(module.__file__) for module in (config.model, config.learning)]
    sections = [n for file in files for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef)]
    assert len(sections) == 7
    for section in sections:
        for field, text in pairwise(section.body):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(text, ast.Expr), f"{section.name}.{field.target.id}"
