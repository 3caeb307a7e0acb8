"""The laboratory measures what it says: against numpy, against enumeration, and twice the same."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attend.analysis.figures.estimators import (
    COLUMNS,
    GROUPS,
    MACHINE,
    Measured,
    estimator_panels,
    markdown,
    write_rows,
)
from attend.analysis.figures.figures import drawn as points
from attend.experiments.cli.main import main
from attend.experiments.laboratory import overview
from attend.experiments.laboratory.exact import Exact, gradient_of, parts
from attend.experiments.laboratory.measure import GRADIENT, REFERENCE, Way, drawn, measure, summary, ways
from attend.experiments.laboratory.statistics import Running, cosine
from attend.experiments.laboratory.subjects import FEEDS, Subject, checkpoints, tiny

from attend.config.catalogue import FACTS
from attend.config.text import from_dict
from attend.estimators import ESTIMATORS
from attend.estimators.baselines import BASELINES
from attend.estimators.signals import SIGNALS
from attend.training.loop import train
from tests import bed, halves

WORDS, LENGTHS = torch.tensor([[[4, 5, 2]]]), torch.tensor([[3]])
ROOT = Path(__file__).parents[2]


def subject(rows=WORDS, lengths=LENGTHS, feed="glimpse", locations=3, seed=0, **attention) -> Subject:
    """The test bed as a subject of the laboratory."""
    model = bed.captioner(bed.settings(attention={"select": "sample", "feed": feed, "width": 6} | attention))
    a = bed.features(len(rows), locations=locations)
    batch = bed.batch(a, rows, lengths)
    return Subject(settings=model.settings, captioner=model, features=a, batch=batch, checkpoint="bed", seed=seed)


def way(where: Subject, **rule) -> Way:
    return Way.of(where, GRADIENT | rule)


def measured(where: Subject, draws: int, **rule) -> dict[str, Measured]:
    """The records by group of parameters."""
    return {row.group: row for row in drawn("", way(where, **rule), Exact(where), draws)}


def flat(where: Subject, gradient: dict[str, torch.Tensor]) -> torch.Tensor:
    """A gradient by names as one vector, attention first."""
    of_attention = sorted(gradient, key=lambda name: not name.startswith("attention"))  # stable: else in their order
    assert {name.split(".")[0] for name in gradient} == {"attention", "decoder"}
    return torch.cat([gradient[name].flatten() for name in of_attention])


def test_statistics_are_those_of_numpy():
    """A large mean beside a small scatter, where sums of squares would lose their digits."""
    draws = np.random.default_rng(0).normal(size=(40, 7)) * 1e-3 + 1e3 * np.arange(1, 8)
    exact = np.arange(7) + 0.5
    where = {"attention": slice(0, 3), "rest": slice(3, 7), "all": slice(None)}
    running = Running(where, torch.from_numpy(exact))
    for one in draws:
        running.add(torch.from_numpy(one))
    for name, part in where.items():
        some, truth = draws[:, part], exact[part]
        variance = some.var(0, ddof=1).sum()
        mean = some.mean(0)
        assert running.variance(name) == pytest.approx(variance, rel=1e-6)
        assert running.signal(name) == pytest.approx(mean @ mean - variance / 40)
        assert running.signal_to_noise(name) == pytest.approx((mean @ mean - variance / 40) / variance, rel=1e-6)
        cosines = some @ truth / np.linalg.norm(some, axis=1) / np.linalg.norm(truth)
        assert running.cosine(name) == pytest.approx(cosines.mean())
        assert running.bias(name, running.exact) == pytest.approx(np.linalg.norm(mean - truth) / np.linalg.norm(truth))
        assert running.chance(name, running.exact) == pytest.approx(np.sqrt(variance / 40) / np.linalg.norm(truth))


def test_chance_is_what_an_unbiased_mean_is_off_by():
    """Root mean square of the measured bias over many repetitions, by the central limit; and the signal is 0 there."""
    generator = torch.Generator().manual_seed(0)
    exact, offs, chances, signals = torch.ones(5).double(), [], [], []
    for _ in range(300):
        running = Running({"all": slice(None)}, exact)
        for one in exact + 2 * torch.randn(20, 5, generator=generator):
            running.add(one)
        offs.append(running.bias("all", exact)), chances.append(running.chance("all", exact))
        signals.append(running.signal("all"))
    assert math.sqrt(np.mean(np.square(offs))) == pytest.approx(2 * math.sqrt(1 / 20), rel=0.05)
    assert np.mean(chances) == pytest.approx(2 * math.sqrt(1 / 20), rel=0.05)
    assert np.mean(signals) == pytest.approx(5, rel=0.05)


def test_a_vector_of_nothing_has_no_direction():
    assert cosine(torch.zeros(3), torch.ones(3)) == 0
    assert cosine(torch.ones(3), 2 * torch.ones(3)) == pytest.approx(1)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("target", ["bound", "marginal"])
def test_exact_gradients_are_those_of_the_definition(feed, target):
    """J and -log p of two captions of other lengths, each by itself with its own paths one at a time."""
    rows = [[[4, 5, 2]], [[6, 2]]]
    words, lengths = bed.captions(rows)
    both = subject(words, lengths, feed)
    model, value = both.captioner, 0.0
    for n, (row,) in enumerate(rows):
        given = both.features[n : n + 1], torch.tensor([[row]]), lengths[n : n + 1]
        passes = [bed.along(model, *given, path) for path in bed.paths(len(row))]
        cost = torch.stack([bed.summed(u) for u in passes])
        log_p = torch.stack([u.log_probs.sum() for u in passes])
        value = value + ((log_p.exp() * cost).sum() if target == "bound" else -torch.logsumexp(log_p - cost, 0))
    truth = flat(both, bed.gradient(model, value / 5))
    ours = Exact(both).gradient(target)
    assert torch.allclose(ours, truth, rtol=1e-9, atol=1e-12)
    cut = parts(model)
    assert len(ours[cut["attention"]]) == sum(p.numel() for p in model.attention.parameters())
    assert len(ours[cut["all"]]) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("several", [1, 2, 3])
def test_the_exact_k_sample_bound_is_that_of_its_tuples(several, held):
    """K paths of one caption at a time through the captioner, by the definition."""
    where = subject(WORDS[..., 1:], torch.tensor([[2]]), locations=2)

    def value(u):
        log_w = -u.costs.sum(-1).flatten()
        if held:
            log_p = u.log_probs.sum(-1).flatten()
            log_w = log_w + log_p - log_p.detach()
        return math.log(several) - torch.logsumexp(log_w, 0)

    whole = bed.over_tuples(where.captioner, where.features, where.batch.words, several, value, constant=held)
    truth = flat(where, bed.gradient(where.captioner, whole / 2))
    target = "K-sample bound" + ", its proposal held fixed" * held
    assert torch.allclose(Exact(where).gradient(target, several), truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("name", ["enumeration", "marginal"])
def test_what_has_no_chance_has_neither_variance_nor_bias(feed, name):
    for row in measured(subject(feed=feed), 9, name=name).values():
        assert row.variance == 0 and row.signal_to_noise == math.inf and row.draws == 2
        assert row.bias < 1e-12 and row.cosine == pytest.approx(1) and row.biased is False
        other = row.from_marginal if name == "enumeration" else row.from_bound
        assert other > 0.01 and getattr(row, f"from_{row.against}") == row.bias


@pytest.mark.parametrize("baseline", [pytest.param("none", marks=pytest.mark.slow), "average-per-word"])
def test_the_variance_of_reinforce_is_the_enumerated_one(baseline):
    """E|g|^2 - |E g|^2 over all paths, each as it is trained, with the level at which the average has settled."""
    where = subject()
    rule = way(where, name="reinforce", baseline=baseline)
    second, mean = 0.0, 0.0
    for path in bed.paths(3):
        u = bed.along(rule.captioner, where.features, WORDS, LENGTHS, path)
        g = gradient_of(rule.captioner, bed.loss(rule.captioner, u, rule.learner, rule.average).total)
        p = u.log_probs.sum().exp().detach()
        second, mean = second + p * g**2, mean + p * g
    assert torch.allclose(mean, Exact(where).gradient("bound"), atol=1e-10)
    for group, row in measured(where, 600, name="reinforce", baseline=baseline).items():
        part = parts(rule.captioner)[group]
        variance = float((second - mean**2)[part].sum())
        assert row.variance == pytest.approx(variance, rel=0.15)
        assert row.biased is False and 0.1 * row.chance < row.bias
        assert row.chance == pytest.approx(math.sqrt(variance / 600) / float(mean[part].norm()), rel=0.1)


@pytest.mark.parametrize(
    ("rule", "biased"),
    [
        ({"name": "reinforce", "baseline": "leave-one-out", "samples": 200, "cost": "own"}, True),
        ({"name": "reinforce", "baseline": "leave-one-out", "samples": 200}, False),
        ({"name": "straight-through", "samples": 50}, True),
        ({"name": "gumbel-straight-through", "samples": 50}, True),
        ({"name": "vimco", "samples": 3}, False),
        ({"name": "wake-sleep", "samples": 3}, False),
        ({"name": "sum-and-sample", "samples": 3}, False),
        ({"name": "unordered-set", "samples": 3}, False),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_what_is_biased_is_found_to_be_and_what_is_not_is_not(rule, biased):
    row = measured(subject(), 60, **rule)["attention"]
    assert row.biased is biased and row.against == FACTS[rule["name"]].target


def test_own_cost_is_not_biased_where_words_are_apart():
    row = measured(subject(feed="expected"), 60, name="reinforce", baseline="leave-one-out", samples=200)["attention"]
    assert row.biased is False


def test_other_paths_are_a_better_baseline_than_none():
    none = measured(subject(), 100, name="reinforce", baseline="none", samples=5)
    others = measured(subject(), 100, name="reinforce", baseline="leave-one-out", samples=5)
    for group in none:
        assert others[group].variance < 0.5 * none[group].variance
        assert others[group].signal_to_noise > none[group].signal_to_noise
        assert others[group].cosine > none[group].cosine


def test_a_k_sample_bound_that_cannot_be_summed_is_held_against_the_bound():
    row = measured(subject(), 3, name="vimco", samples=9)["all"]
    assert row.against == "bound" and row.bias == row.from_bound and row.from_marginal is not None
    assert row.note == "9-tuples of 27 paths are too many to sum over; its bias is that against the bound"


def test_an_average_settles_and_is_then_held():
    where = subject()
    rule = way(where, name="reinforce", baseline="average")
    (settled,) = rule.average.values()
    one, two = rule.draw(0), rule.draw(0)
    assert torch.equal(one, two) and rule.average.values() == [settled]
    to_go, cost = 0.0, 0.0
    for path in bed.paths(3):
        u = bed.along(rule.captioner, where.features, WORDS, LENGTHS, path)
        p, costs = u.log_probs.sum().exp(), u.costs
        to_go, cost = to_go + p * costs.flip(-1).cumsum(-1).mean(), cost + p * costs.mean()
    assert settled == pytest.approx(float(to_go.detach()), rel=0.1)
    released = way(where, name="xu2015-code", scale=0.1).average  # it starts from 0
    assert released.values() == [pytest.approx(float(cost.detach()), rel=0.1)]
    assert way(where, name="vimco").average.values() == []


def test_several_heads_are_measured_with_what_there_is_for_them():
    rows = measure([subject(score="dot", heads=2)], draws=2, rounds=0, only=["enumeration", "vimco"])
    assert [bool(row.draws) for row in rows] == [False] * 3 + [True] * 3
    assert all("attention.heads is 2" in row.note and row.bias is None for row in rows)


def test_the_run_s_weights_are_measured_and_not_copies_of_their_own():
    where = subject()
    twin = way(where, name="vimco").captioner
    for name, parameter in where.captioner.named_parameters():
        assert torch.equal(parameter, dict(twin.named_parameters())[name])
        assert parameter.data_ptr() == dict(twin.named_parameters())[name].data_ptr()


@pytest.fixture(scope="module")
def rows() -> list[Measured]:
    """Both feeds of the tiny minibatch, with time and memory."""
    return measure(tiny(0), draws=2, rounds=1, samples=2)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_has_its_rows(rows, feed, name):
    """Measured or with a reason; REINFORCE with each baseline and cost."""
    mine = [row for row in rows if row.feed == feed and row.estimator.split(",")[0] == name]
    assert {row.group for row in mine} == {*GROUPS, "all"}
    titles = {row.estimator for row in mine}
    several = len(BASELINES) + len(SIGNALS) - 1 + (2 if feed == "glimpse" else 0)  # two of them from the prefix too
    assert len(titles) == (several if name == "reinforce" else 1)
    for row in mine:
        assert row.target == FACTS[name].target
        if row.draws:
            assert row.seconds > 0 and row.mebibytes > 0 and row.variance >= 0 and row.bias >= 0
        else:
            assert (name, feed) == ("xu2015-code", "expected") and "attention.feed" in row.note
    (text,) = {markdown([row]).splitlines()[0] for row in mine if row.group == "attention"}
    assert text == f"### feed {feed}, drawn: attention"


def test_every_target_that_is_a_sum_over_paths_is_compared_with_itself(rows):
    apart = {row.estimator for row in rows if row.draws and row.against != row.target}
    assert apart == {name for name, facts in FACTS.items() if facts.target in ("relaxed", "bound by q")}


def test_variance_at_equal_time_is_relative(rows):
    one = {(row.feed, row.group, row.estimator): row for row in rows}
    for row in rows:
        beside = one[row.feed, row.group, REFERENCE]
        if row.draws:
            equal = row.variance * row.seconds / beside.variance / beside.seconds
            assert row.equal_time == pytest.approx(equal)
    assert one["glimpse", "all", REFERENCE].equal_time == 1


@pytest.mark.slow
def test_two_runs_are_equal_but_for_time_and_memory(rows):
    """Bit for bit: the records, and so the columns of the table."""
    plain = [replace(row, **dict.fromkeys(MACHINE)) for row in rows]
    again = measure(tiny(0), draws=2, rounds=0, samples=2)
    assert again == plain and write_rows(again) == write_rows(plain)
    for other in (replace(next(tiny(0)), seed=1), next(tiny(1))):  # other draws; other weights too
        assert measure([other], draws=2, rounds=0, samples=2, only=["reinforce"])[0].variance != plain[0].variance


def test_a_figure_draws_every_row_once(rows):
    some = [row for row in rows if row.feed == "glimpse"]
    axes = estimator_panels(some)
    assert [one.get_title(loc="left").split(",")[0] for one in axes] == [
        "bias / |exact gradient|", "variance", "variance at equal time",
    ]  # fmt: skip
    wanted = {(row.estimator, row.checkpoint, row.group): row for row in some if row.group in GROUPS}
    seen = points(axes[0].figure)
    assert len(seen) == 3 * len(wanted)
    for panel, series, x, y in seen:
        row = wanted[tuple(series.rsplit("/", 2))]
        value = {"bias": row.bias, "variance": row.variance}.get(panel.split(",")[0].split(" /")[0])
        value = row.equal_time if "equal" in panel else value
        assert x == value or value < 1e-4
        assert axes[0].get_yticklabels()[round(y)].get_text() == row.estimator
    with pytest.raises(ValueError, match="nothing was measured"):
        estimator_panels([row for row in rows if not row.draws])


def test_a_figure_leaves_out_what_is_not_known(rows):
    unknown = [replace(row, bias=None, equal_time=None) for row in rows if row.feed == "glimpse"]
    assert len(estimator_panels(unknown)) == 1


def test_the_program_measures_the_tiny_minibatch(tmp_path, capsys):
    main(["estimators", "--tiny", "--draws", "20", "--rounds", "0", "--only", "enumeration,gumbel-softmax,xu2015-code",
          "--out", str(tmp_path)])  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        f"{tmp_path}: 3 of 3 estimators measured; attention's gradient is biased beyond chance in"
    )
    assert "gumbel-softmax" in said[0] and "enumeration" not in said[0]
    names = ["estimators.csv", "estimators.md"]
    names += [f"feed-{feed}.{kind}" for feed in FEEDS for kind in ("png", "csv")]
    assert said[1:] == [str(tmp_path / name) for name in names]
    with open(tmp_path / "estimators.csv") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == COLUMNS and len(table) == 3 * 3 * 2
    assert {row["seconds"] for row in table} == {""}
    text = (tmp_path / "estimators.md").read_text()
    assert (
        "- xu2015-code: estimator.name 'xu2015-code' is the rule of code whose attention.feed is 'glimpse': leave"
        in text
    )
    assert "**" in text and "ms a step" not in text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of hard attention whose state reads the expected context, with what it was after each epoch."""
    folder = tmp_path_factory.mktemp("laboratory")
    data = halves.write(folder / "data")
    settings = from_dict(
        halves.SMALL
        | {
            "data": str(data),
            "attention": {"width": 16, "select": "sample", "feed": "expected"},
            "train": halves.SMALL["train"] | {"epochs": 2, "monitor": "nll", "keep_every": 1},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attend.training.loop.evaluate", lambda *_, **__: {})
        train(settings, folder / "run")
    return folder / "run"


def copy_of(run: Path, to: Path, section: str = "attention", **settings) -> Path:
    """The run with other settings in its configuration."""
    shutil.copytree(run, to)
    values = json.loads((to / "config.json").read_text())
    values[section] |= settings
    (to / "config.json").write_text(json.dumps(values))
    return to


def estimates(run: Path, out: Path, *more: str) -> list[dict]:
    main(["estimators", "--run", str(run), "--draws", "2", "--rounds", "0", "--images", "2", "--out", str(out), *more])
    with open(out / "estimators.csv") as file:
        return list(csv.DictReader(file))


def test_a_run_is_measured_at_all_its_checkpoints(run, tmp_path):
    found = estimates(run, tmp_path, "--checkpoints", "all", "--only", "enumeration,straight-through")
    there = ["fresh", "epoch1", "epoch2", "best", "last"]
    assert list(dict.fromkeys(row["checkpoint"] for row in found)) == there
    at = {(row["checkpoint"], row["estimator"], row["group"]): row for row in found}
    for name in there:
        assert float(at[name, "enumeration", "all"]["bias"]) < 1e-5
    assert at["epoch2", "straight-through", "all"]["variance"] == at["last", "straight-through", "all"]["variance"]
    assert len({at[name, "straight-through", "all"]["variance"] for name in there[:3]}) == 3


def test_what_is_added_to_the_likelihood_is_no_part_of_its_gradient(run, tmp_path):
    more = copy_of(run, tmp_path / "more", "objective", supervised=1.0, doubly_stochastic=1.0)
    plain, other = (
        estimates(one, tmp_path / one.name / "out", "--only", "enumeration,straight-through") for one in (run, more)
    )
    assert plain == other and len(plain) == 6


def test_where_there_are_too_many_paths_the_bias_is_empty_with_a_reason(run, tmp_path, capsys):
    glimpses = copy_of(run, tmp_path / "glimpse", feed="glimpse")
    found = estimates(glimpses, tmp_path / "out", "--only", "enumeration,vimco,straight-through")
    assert "2 of 3 estimators measured, their bias unknown" in capsys.readouterr().out
    assert "\n- all above: no exact gradient: a caption of" in (tmp_path / "out/estimators.md").read_text()
    for row in found:
        assert not row["bias"] and not row["cosine"] and "paths, and no more than 4096 are enumerated" in row["note"]
        assert bool(row["variance"]) == (row["estimator"] != "enumeration")
    assert not list((tmp_path / "out").glob("*expected*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tiny", "--run", "RUN"], "leave one of them out"),
        (["--tiny", "--images", "3"], "--images has no effect without --run"),
        (["--draws", "1"], "--draws is 1, but must be 2 to 100000"),
        (["--rounds", "-1"], "rounds is -1"),
        (["--only", "reinforced"], "unknown estimator 'reinforced': known are reinforce, enumeration"),
        (["--run", "nowhere"], "nowhere is no run folder"),
        (["--run", "RUN", "--checkpoints", "first"], "no checkpoint 'first': it has fresh, epoch1, epoch2, best, last"),
        (["--run", "RUN", "--data", "nowhere"], "nowhere is no prepared dataset"),
        (["--run", "SOFT"], "has soft attention .* name a run with attention.select sample"),
        (["--run", "UNTRAINED"], "does not exist: train the run first"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(run, tmp_path, fails, arguments, words):
    places = {"RUN": run, "SOFT": tmp_path / "soft", "UNTRAINED": tmp_path / "untrained"}
    copy_of(run, places["SOFT"], select="expected", feed="glimpse")
    copy_of(run, places["UNTRAINED"])
    shutil.rmtree(places["UNTRAINED"] / "checkpoint")
    said = fails("estimators", *(places.get(word, word) for word in arguments), "--out", tmp_path / "out")
    assert re.search(words, said), said
    assert not (tmp_path / "out").exists()


def test_a_split_of_too_few_images_is_taken_whole(run, tmp_path):
    assert estimates(run, tmp_path, "--only", "straight-through", "--images", "99")


def test_the_summary_names_what_is_biased():
    row = Measured(feed="glimpse", checkpoint="best", group="attention", estimator="one", target="bound", draws=9)
    off = replace(row, estimator="two", bias=0.5, chance=0.1)
    near = replace(row, estimator="three", bias=0.2, chance=0.1)
    none = replace(row, estimator="four", draws=0)
    assert summary([off, near, none]) == (
        "2 of 3 estimators measured; attention's gradient is biased beyond chance in two"
    )
    assert "in none" in summary([near]) and "bias unknown" in summary([row, none])


def test_names_of_ways_follow_the_tables():
    titles = ways(bed.settings(attention={"select": "sample"}))
    assert REFERENCE in titles
    assert {title.split(",")[0] for title in titles} == set(ESTIMATORS)
    again = {f"{name} from the prefix" for name in ("soft", "self-critical")}
    assert {title.split(", ")[1] for title in titles if ", " in title} == {*BASELINES, *again}


def test_the_page_shows_the_tables_as_they_are():
    page = (ROOT / "docs/estimators.md").read_text()
    for text in (overview.estimators(), overview.baselines()):
        assert text in page, f"python -m attend.experiments.laboratory.overview gives for docs/estimators.md:\n{text}"


def test_checkpoints_are_in_the_order_of_training(tmp_path):
    from attend.runs.folder import RunFolder

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("last", "epoch10", "epoch9", "best"):
        (folder / f"{name}.safetensors").touch()
    assert checkpoints(RunFolder(tmp_path)) == ["fresh", "epoch9", "epoch10", "best", "last"]
