"""The race: what ends it, what it says of a run, and when there is no time to be said."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from attend.analysis.records import read_run
from attend.experiments.speedrun import PAPER, clock, conclude, sentence

from attend.config.text import from_dict
from attend.training.loop import train
from tests import halves
from tests.forks import no_java
from tests.made_runs import make_run, scores

STARTED = 1_700_000_000


def raced(root, *, started=STARTED, times=(10, 100, 321.5), **captions):
    """A finished run whose lines were logged so many seconds after STARTED."""
    run = make_run(
        root,
        f"speedrun/soft/seed{len(list(root.glob('speedrun/soft/*')))}",
        headline=scores(),
        evaluations=[scores(), scores(split="val", **captions)],
        metrics=[{"split": "val", "epoch": n, "time": STARTED + after} for n, after in enumerate(times, 1)],
    )
    begun = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
    (run / "environment.json").write_text(json.dumps({"started": begun}))
    return read_run(run)


def test_the_seconds_are_those_to_the_end_of_the_last_validation(tmp_path):
    record = raced(tmp_path, **PAPER)
    assert clock(record) == pytest.approx(321.5)
    assert sentence(record).endswith("passed in 322 seconds, BLEU-4 19.5, METEOR 18.9")


@pytest.mark.parametrize("name", PAPER)
def test_each_score_must_be_reached(tmp_path, name):
    record = raced(tmp_path, **PAPER | {name: PAPER[name] - 0.001})
    assert "not passed" in sentence(record) and "to pass is BLEU-4 19.5, METEOR 18.9" in sentence(record)


def test_without_meteor_nothing_is_passed(tmp_path):
    record = raced(tmp_path, missing={"meteor": "no Java"}, **PAPER)
    assert "not passed, BLEU-4 19.5, METEOR 0.0" in sentence(record)


def test_an_interrupted_run_has_no_time(tmp_path):
    record = raced(tmp_path, started=STARTED + 50, **PAPER)
    assert clock(record) is None and "interrupted: race again" in sentence(record)


def test_all_runs_are_said_and_written(tmp_path, capsys):
    records = [raced(tmp_path, **PAPER), raced(tmp_path, bleu4=0.1)]
    (file,) = conclude(records, tmp_path)
    assert file.read_text() == capsys.readouterr().out and file.read_text().count("passed") == 2


def test_training_ends_at_the_target(tmp_path, monkeypatch):
    """After the first epoch whose validation reaches it; not before, and 0 is no target."""
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)
    data = str(halves.write(tmp_path / "data", (12, 2, 2)))

    def epochs(target: float, name: str) -> int:
        few = {"epochs": 3, "monitor": "bleu4", "patience": 0, "target": target}
        config = from_dict(halves.SMALL | {"data": data, "train": halves.SMALL["train"] | few})
        return train(config, tmp_path / name)["epochs"]

    assert epochs(0.0, "none") == 3
    logged = [json.loads(line) for line in (tmp_path / "none/metrics.jsonl").read_text().splitlines()]
    reached = [line["bleu4"] for line in logged if line["split"] == "val"]
    assert max(reached) > 0
    first = next(n for n, value in enumerate(reached, 1) if value == max(reached))
    assert epochs(max(reached), "best") == first and epochs(0.999, "never") == 3
