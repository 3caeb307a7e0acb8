"""The benchmark compares the same equations, and counts the floor right."""

from __future__ import annotations

import json

import pytest
import torch

from experiments import bench
from experiments.beds import KINDS, Bed, SearchBed
from experiments.cli import main
from experiments.floor import SIZES, Size, moved, products, tanhs

CPU = torch.device("cpu")
TINY = SIZES["tiny"]


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
    assert tanhs(size, live) == 3 * 2 * 7
    assert moved(size, live, 100, torch.bfloat16) == 2 * 5 * 2 * 2 + 100 * 36 + 3 * 11 * 2 * 5


def test_a_ratio_is_taken_within_each_round():
    seconds = {"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}
    assert bench.ratio(seconds, "a", "b") == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_arrangements_that_disagree_are_not_compared(monkeypatch):
    monkeypatch.setattr(Bed, "losses", lambda self: (1.0, 1.1))
    with pytest.raises(RuntimeError, match="the arrangements disagree at tiny, soft"):
        bench.train(TINY, "soft", CPU, "fp32", 1)


def test_bench_leaves_a_table_and_its_numbers(tmp_path, capsys):
    main(["bench", "--sizes", "tiny", "--rounds", "2", "--precision", "fp32", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["size"], row["attention"]) for row in results["train"]] == [("tiny", "soft"), ("tiny", "hard")]
    for row in results["train"]:
        assert len(row["seconds"]["ours"]) == 2 and row["times the floor"]["median"] > 0
    assert all(row["MiB"] > 0 for row in results["memory"])
    assert (tmp_path / "bench.md").read_text() in capsys.readouterr().out


def test_what_is_not_known_is_said(fails):
    assert "unknown sizes 'large': known are flickr8k, lite, coco" in fails("bench", "--sizes", "large")
    assert "unknown parts 'sleep': known are train" in fails("bench", "--parts", "sleep")
    assert "rounds is 0" in fails("bench", "--rounds", "0")
