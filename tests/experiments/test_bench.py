"""The benchmark compares the same equations, and counts the floor right."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from attend.experiments.bench import growth, run
from attend.experiments.bench.beds import KINDS, Bed, SearchBed
from attend.experiments.bench.captured import step, update_of
from attend.experiments.bench.clock import Setup, ratio
from attend.experiments.bench.floor import SIZES, Size, moved, products, units
from attend.experiments.bench.memory import peak, peaks, tensors
from attend.experiments.bench.operations import count, operations
from attend.experiments.bench.sample import sample
from attend.experiments.bench.steps import train
from attend.experiments.cli import bench
from attend.experiments.cli.main import main

from attend.decoder import DECODERS
from attend.training.graphs import Graphs
from tests import halves
from tests.training.test_graphs import Recorded

CPU = torch.device("cpu")
TINY = SIZES["tiny"]
SETUP = Setup(sizes=[TINY], rounds=1, device=CPU, precision="fp32")


def test_the_program_knows_all_sizes_and_parts():
    assert (tuple(SIZES), tuple(run.PARTS)) == (bench.SIZES, bench.PARTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_textbook_finds_the_same_loss_and_the_same_gradient(kind):
    bed = Bed(TINY, kind, CPU)
    ours, theirs = bed.losses()
    assert ours == pytest.approx(theirs, rel=1e-5)
    for parameter in bed.textbook.parameters():
        parameter.data.mul_(1.5)
    assert bed.losses()[1] != pytest.approx(ours, rel=1e-3)


def test_the_textbook_writes_the_same_captions():
    bed = SearchBed(TINY, CPU, "fp32", 6).exact()
    said = bed.ours()
    assert said == bed.plain()
    assert len({tuple(words) for words in said}) > 1


def test_the_floor_of_a_size_by_hand():
    """One image of 2 locations and one caption of 3 words: 2 x 2 < 3 x 3, so what maps a context maps the features."""
    size = Size(name="", images=1, captions=1, locations=2, features=5, vocabulary=11, width=7, embedding=3, hidden=4)
    live = [1, 1, 1]
    counted = {}
    for one in products(size, live):
        counted[one.what.partition(":")[0]] = counted.get(one.what.partition(":")[0], 0) + one.operations // 2
    assert counted == {
        "keys": 2 * (2 * 5 * 7),
        "initial state": 3 * (5 * 8),
        "context to gates": 2 * (2 * 5 * 16),
        "context to readout": 2 * (2 * 5 * 3),
        "words to gates": 3 * (3 * 3 * 16),
        "state to readout": 3 * (3 * 4 * 3),
        "readout to logits": 3 * (3 * 3 * 11),
        "state to gates": 3 * (3 * 4 * 16),
        "state to query": 3 * (3 * 4 * 7),
    }
    assert units(size, live) == 3 * 2 * 7
    assert moved(size, live, 100, torch.bfloat16) == 2 * 5 * 2 * 2 + 100 * 36 + 3 * 11 * 2 * 5


def test_operations_are_counted_forward_and_backward():
    """f(x) = sum (w * x) for a weight w: forward mul and sum; backward expand, a view, and mul for each of w and x."""
    w, x = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    forward = count(lambda: (w * x).sum())
    assert {str(one): number for one, number in forward.counts.items()} == {"aten.mul.Tensor": 1, "aten.sum.default": 1}
    assert (forward.total, forward.views) == (2, 0)
    loss = (w * x).sum()
    backward = count(loss.backward)
    named = {str(one): number for one, number in backward.counts.items()}
    assert named.pop("aten.mul.Tensor") == 2 and named.pop("aten.expand.default") == 1
    detached = named.pop("aten.detach.default", 0)  # w.grad and x.grad, as this version of torch keeps them
    assert named == {"aten.ones_like.default": 1}  # the seed
    assert (backward.total, backward.views) == (4 + detached, 1 + detached)

    class Twice(torch.autograd.Function):
        """A custom function counts as the operations inside it."""

        @staticmethod
        def forward(context, value):
            return value.exp() + 1

        @staticmethod
        def backward(context, gradient):
            return gradient.neg().abs().neg()

    both = count(lambda: Twice.apply(w).sum().backward())
    named = {str(one).split(".")[1]: number for one, number in both.counts.items()}
    assert (named["exp"], named["add"], named["neg"], named["abs"]) == (1, 1, 2, 1)


def test_operations_of_a_step(tmp_path):
    """A caption of twice the words takes about twice the operations, and the numbers are in the tables."""
    long = replace(TINY, name="long", shortest=2 * TINY.shortest, longest=2 * TINY.longest)
    for row, longer in zip(operations(SETUP), operations(replace(SETUP, sizes=[long])), strict=True):
        assert 1.6 < longer["a step"] / row["a step"] < 2.1
        bed = Bed(TINY, row["attention"], CPU)
        assert row["a word of the longest caption"] == row["a step"] / bed.shape[2]
        assert row["a real word"] == row["a step"] / bed.tokens
        assert sum(row["counts"]["ours"].values()) == row["a step"] > row["without views"] > 0


def test_a_ratio_is_taken_within_each_round():
    seconds = {"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}
    assert ratio(seconds, "a", "b") == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_arrangements_that_disagree_are_not_compared(monkeypatch):
    monkeypatch.setattr(Bed, "losses", lambda self: (1.0, 1.1))
    with pytest.raises(RuntimeError, match="the arrangements disagree at tiny, soft"):
        next(train(SETUP))


def test_memory_counts_what_is_alive_at_once():
    """4 MB, then 8 MB more of which 4 stay, then 4 more: at most 12 MB at once, of 16 in all."""

    def call() -> None:
        one = torch.zeros(10**6)
        both = [torch.zeros(10**6), torch.zeros(10**6)]
        del both[0]
        both.append(one + 1)

    assert 12e6 <= tensors(call) < 12.1e6
    assert peak(call, CPU) == tensors(call)


def test_memory_is_measured_in_silence(capfd):
    """The profiler's own library writes to stderr past Python."""
    tensors(lambda: torch.zeros(9))
    print("heard", file=sys.stderr)
    assert capfd.readouterr().err == "heard\n"


@pytest.mark.slow
def test_memory_is_measured_in_another_process():
    step, search = peaks([(TINY, "soft", "ours"), (TINY, "3", "pieces")], CPU, "fp32")
    assert step["tensors"] > 4 * Bed(TINY, "soft", CPU).parameters and step["resident"] > 0 and search["tensors"] > 0


@pytest.mark.slow
def test_what_cannot_be_measured_is_said():
    with pytest.raises(RuntimeError, match=r"memory could not be measured: .*'nobody'"):
        peaks([(TINY, "soft", "nobody")], CPU, "fp32")


def test_powers_of_growth():
    rows = [
        {"number": "n", "of": "soft", "value": n, "seconds": 3 * n**2, "MiB of tensors": max(n, 4)} for n in (2, 4, 8)
    ]
    (found,) = growth.exponents(rows)
    assert found["times"] == 4 and found["power of seconds"] == found["power of seconds at the end"] == 2
    assert (found["power of MiB of tensors"], found["power of MiB of tensors at the end"]) == (0.5, 1)


def test_every_number_grows_sixteenfold():
    for name, sweep in growth.SWEEPS.items():
        assert sweep.values[-1] >= 16 * sweep.values[0] and sorted(sweep.values) == list(sweep.values), name
        assert name in ("beam",) or sweep.resized(sweep.values[0]) != sweep.resized(sweep.values[1])


@pytest.mark.slow
def test_bench_leaves_tables_and_their_numbers(tmp_path, capsys):
    options = ["--rounds", "2", "--precision", "fp32", "--out", str(tmp_path)]
    main(["bench", "--sizes", "tiny", "--parts", "train,captured,samples,operations,kernels,decoders,search", *options])
    results = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["size"], row["attention"]) for row in results["train"]] == [("tiny", "soft"), ("tiny", "hard")]
    for row in results["train"]:
        assert len(row["seconds"]["ours"]) == 2 and row["share of the floor"]["median"] > 0
    assert results["samples"][0]["times one"]["median"] > 0
    assert results["operations"][0]["textbook's"] > 0
    assert all(row["kernels"] > 0 and row["MB to move"] > 0 for row in results["captured"])
    assert all(row["plain, a step"] > 1.2 * row["ours, a step"] > 0 for row in results["kernels"])
    found = [(row["decoder"], row["attention"]) for row in results["decoders"]]
    assert found == [(cell, kind) for cell in DECODERS for kind in ("soft", "hard")]
    assert all(row["times a loop"]["median"] > 0 for row in results["decoders"] if row["decoder"] != "lstm")
    assert results["search"][0]["times the textbook"]["median"] > 0
    assert (tmp_path / "bench.md").read_text() in capsys.readouterr().out


@pytest.fixture()
def small(monkeypatch):
    """All parts in seconds: few images, short sweeps."""
    from attend.experiments.bench import around, data

    for module in (around, data):
        monkeypatch.setattr(module, "sample", lambda setup, images, sample=module.sample: sample(setup, min(images, 8)))
    monkeypatch.setitem(SIZES, "lite", TINY)
    monkeypatch.setattr(data, "SETTINGS", data.SETTINGS | {"size": 64})
    monkeypatch.setattr(growth, "BASE", TINY)
    short = {name: growth.Sweep(one.values[:2], one.resized, one.search) for name, one in growth.SWEEPS.items()}
    monkeypatch.setattr(growth, "SWEEPS", short)


@pytest.mark.slow
def test_the_parts_around_a_step(tmp_path, small):
    options = ["--rounds", "1", "--precision", "fp32", "--out", str(tmp_path)]
    main(["bench", "--sizes", "tiny", "--parts", "features,waiting,stores,scoring,startup", *options])
    results = json.loads((tmp_path / "bench.json").read_text())
    assert results["features"][0]["images a second"] > 0
    assert results["waiting"][0]["cold"] and 0 < results["waiting"][0]["share of a step"] < 1
    shares = {row["layout"]: row["share"] for row in results["stores"]}
    assert shares["an image a chunk (ours)"] == 1 and shares["gzip 1"] < 0.9
    assert results["scoring"][0]["images"] == 8
    beyond = {row["command"]: row["beyond a bare one"] for row in results["startup"]}
    assert beyond["bare interpreter"] == 0 and beyond["attend --help"] > 0


@pytest.mark.slow
def test_growth_processes_and_memory(tmp_path, small):
    options = ["--rounds", "1", "--precision", "fp32", "--out", str(tmp_path)]
    main(["bench", "--sizes", "tiny", "--parts", "processes,growth,memory", *options])
    results = json.loads((tmp_path / "bench.json").read_text())
    assert all(row["MiB of tensors"] > 0 and row["MiB of the process"] > 0 for row in results["memory"])
    assert results["processes"][0]["MiB exchanged"] == pytest.approx(Bed(TINY, "soft", CPU).parameters * 4 / 2**20)
    assert {row["number"] for row in results["growth"]} == set(growth.SWEEPS)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_bench_reads_a_dataset_of_ones_own(tmp_path, small, fails, monkeypatch, capsys):
    dataset = halves.write(tmp_path / "data")
    monkeypatch.setitem(run.PARTS, "features", lambda setup: iter([{"data": str(setup.data)}]))
    main(
        ["bench", "--parts", "features", "--data", str(dataset), "--precision", "fp32", "--out", str(tmp_path / "out")]
    )
    assert json.loads((tmp_path / "out/bench.json").read_text())["features"] == [{"data": str(dataset)}]
    with sample(Setup(sizes=[], rounds=1, device=CPU, precision="fp32", data=dataset), 3) as some:
        assert len(some.examples) == 3 and all(some.image(row).exists() for row in range(3))
        assert not some.folder.is_relative_to(dataset)
    capsys.readouterr()
    assert "is no prepared dataset" in fails("bench", "--data", tmp_path / "none", "--precision", "fp32")


def test_what_is_not_known_is_said(fails):
    assert "unknown sizes 'large': known are flickr8k, lite, coco" in fails("bench", "--sizes", "large")
    assert "unknown parts 'sleep': known are train" in fails("bench", "--parts", "sleep")
    assert "rounds is 0" in fails("bench", "--rounds", "0")


def test_the_plan_of_a_gpu_that_is_not_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    main(["bench", "--device", "cuda", "--sizes", "tiny", "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert "this machine has no GPU" in said.err and not (tmp_path / "out").exists()
    assert len([line for line in said.out.splitlines() if line.startswith("| tiny | ")]) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_step_of_the_bench_is_the_eager_one(kind):
    """On a CPU, with a recorded step in place of a graph: the same weights after three steps."""
    eager, captured = (Bed(SIZES["tiny"], kind, torch.device("cpu")) for _ in range(2))
    take = Graphs(update_of(captured), Recorded())
    plain = update_of(eager)
    for _ in range(3):
        step(eager, plain)
        step(captured, take)
    for one, other in zip(eager.captioner.parameters(), captured.captioner.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)
