"""Experiments end to end, as their tiny twins: runs, table, pictures; a second call does nothing again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from attend.experiments import quickstart, world
from attend.experiments.cli.main import main
from attend.experiments.runner import runner, workers

from attend.metrics import java
from tests.forks import finish, wait_for

RUN = ["run", "quickstart", "--tiny"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The tiny quickstart, run once in a folder of its own."""
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*RUN, "--seeds", "1", "--workers", "1"])
    return folder


def test_quickstart_ends_with_table_curves_and_gaze_pictures(done, capsys, monkeypatch):
    monkeypatch.chdir(done)
    before = {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("metrics.jsonl")}
    main([*RUN, "--seeds", "1", "--workers", "1"])
    said = capsys.readouterr().out
    *table, _, files, last = said.strip().splitlines()
    assert last == "Open runs/quickstart-tiny/report.html" and "runs/quickstart-tiny/table.md has all columns" in files
    header, rule, *rows = [line for line in table if "  " in line]
    assert header.split() == ["Variant", "Decoding", "BLEU-4", "CIDEr", "Grounding", "mass"]
    assert [row.split()[0] for row in rows] == ["hard", "soft", "soft-longer", "uniform"] and len(rule.split()) == 5
    for variant in ("soft", "hard", "soft-longer", "uniform"):
        assert f"| {variant}" in (done / "runs/quickstart-tiny/table.md").read_text()
        scores = json.loads((done / f"runs/quickstart-tiny/{variant}/seed0/scores.json").read_text())
        assert scores["images"] == 6 and scores["grounding"]["words"] > 0
    names = {file.name for file in (done / "runs/quickstart-tiny").rglob("*.*")}
    pictures = {"curves.png", "gaze-0.png", "maps-0-soft.png", "maps-0-hard.png"}
    assert pictures | {"table.md", "table.csv", "report.html", "novelty.json"} <= names
    assert before == {path: path.stat().st_mtime_ns for path in before}  # nothing was trained twice


def test_a_changed_setting_is_refused_for_runs_that_are_there(done, capsys, monkeypatch):
    monkeypatch.chdir(done)
    with pytest.raises(SystemExit):
        main([*RUN, "--seeds", "1", "--workers", "1", "--only", "soft", "--set", "train.images=3"])
    assert "train.images 3 (was 16)" in capsys.readouterr().err


def test_the_plan_starts_with_the_variants_that_have_most_runs_to_come(tmp_path):
    planned = runner.plan(quickstart.experiment(tmp_path, tiny=False), Path("runs"), None)
    assert [(one.variant, one.config.seed) for one in planned] == [
        ("soft", 0), ("soft", 1), ("uniform", 0), ("soft", 2), ("uniform", 1),
        ("hard", 0), ("soft-longer", 0), ("hard", 1), ("soft-longer", 1), ("hard", 2), ("soft-longer", 2)]  # fmt: skip
    assert str(planned[0].folder) == "runs/quickstart/soft/seed0"


def test_variants_differ_in_attention_and_in_epochs_that_are_stated_together(tmp_path):
    from attend.config.text import difference

    for experiment in (quickstart.experiment(tmp_path, tiny=False), world.experiment(tmp_path, tiny=False)):
        first, *others = experiment.variants.values()
        changed = {part.split()[0] for other in others for part in difference(first, other).split("), ")}
        budget = {"train.epochs", "train.learning_rate"}
        assert all(name in budget or name.startswith(("attention.", "estimator.")) for name in changed)
    soft, hard, longer, uniform = quickstart.experiment(tmp_path, tiny=False).variants.values()
    assert hard.train == longer.train and soft.train == uniform.train
    assert quickstart.experiment(tmp_path, tiny=False).after == {"hard": "soft", "soft-longer": "soft"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "train.epochs=abc"], "train.epochs is 'abc', but must be a whole number"),
        (["--set", "attention.heads=3"], "attention.heads is 3, which only the learned score 'dot' has"),
        (["--only", "sotf"], "quickstart has no variant 'sotf': it has soft, hard, soft-longer, uniform"),
    ],
)
def test_a_command_is_checked_before_any_data_are_made(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["run", "quickstart", *arguments])
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_run_that_fails_does_not_stop_the_others(done, tmp_path, monkeypatch):
    monkeypatch.chdir(done)
    plugin = tmp_path / "no_java.py"
    plugin.write_text("import attend.metrics.captions, tests.forks as f; attend.metrics.captions.find_java = f.no_java")
    monkeypatch.setenv("ATTEND_PLUGINS", str(plugin))
    experiment = quickstart.experiment(None, tiny=True).only(["soft", "uniform"])
    (tmp_path / "quickstart-tiny/soft/seed0").mkdir(parents=True)
    (tmp_path / "quickstart-tiny/soft/seed0/config.json").write_text("{")
    runs = runner.plan(experiment, tmp_path, 1)
    with pytest.raises(ValueError, match=r"1 of 2 runs failed: .*soft/seed0: .*config.json is not readable as JSON"):
        runner.run(runs, experiment.name, tmp_path, workers=2)
    assert (tmp_path / "quickstart-tiny/uniform/seed0/scores.json").exists()


@pytest.mark.slow
def test_the_same_command_on_another_machine_joins_the_work(done, forks, tmp_path):
    """Two commands at once, with one storage and one folder of runs: every run is trained by one of them."""
    command = [*RUN, "--workers", "1", "--out", str(tmp_path), "--storage", f"journal:///{tmp_path}/shared.journal"]
    logs = [tmp_path / "one.log", tmp_path / "other.log"]
    for process, log in [(forks.start(main, command, folder=done, log=log), log) for log in logs]:
        finish(process, log)
    tables = [log.read_text().partition("Variant ")[2] for log in logs]
    assert tables[0] == tables[1] and "\nsoft " in tables[0]
    for folder in tmp_path.glob("quickstart-tiny/*/seed*"):
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(steps) and not (folder / "lease.json").exists()
    assert len(list(tmp_path.glob("quickstart-tiny/*/seed*/scores.json"))) == 4


@pytest.mark.slow
def test_machines_that_share_a_line_of_runs_begin_each_run_from_its_own_source(done, forks, tmp_path):
    """Two commands at once; the run of hard attention begins from that of soft attention, whoever trained it."""
    command = ["run", "warm_start", "--tiny", "--workers", "1", "--only", "hard-after-soft", "--seeds", "2"]
    command += ["--out", str(tmp_path), "--storage", f"journal:///{tmp_path}/shared.journal"]
    logs = [tmp_path / "one.log", tmp_path / "other.log"]
    for process, log in [(forks.start(main, command, folder=done, log=log), log) for log in logs]:
        finish(process, log)
    for seed in range(2):
        run, source = (tmp_path / f"warm_start-tiny/{name}/seed{seed}" for name in ("hard-after-soft", "soft"))
        started = json.loads((run / "environment.json").read_text())["start"]
        assert started["run"] == str(source) and started["not_taken"] == []
        assert json.loads((run / "scores.json").read_text())["epochs_before"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_experiment(done, forks, tmp_path, how):
    command = [*RUN, "--seeds", "1", "--workers", "2", "--only", "soft,uniform", "--out", str(tmp_path)]
    command += ["--set", "train.epochs=9999", "--set", "train.patience=0"]
    log = tmp_path / "log"
    process = forks.start(interrupted, command, folder=done, log=log)
    runs = [tmp_path / f"quickstart-tiny/{variant}/seed0" for variant in ("soft", "uniform")]
    wait_for(lambda: all((run / "metrics.jsonl").exists() for run in runs), 300)
    pids = [json.loads((run / "lease.json").read_text())["pid"] for run in runs]
    assert process.pid not in pids and all(map(running, pids))
    os.kill(process.pid, how)
    wait_for(lambda: not any(map(running, pids)), 300)
    process.join(30)
    if how is signal.SIGINT:
        assert process.exitcode == 130 and "interrupted" in log.read_text()
    assert not any((run / "scores.json").exists() for run in runs)


def interrupted(command: list[str]) -> None:
    """The program as a terminal starts it: what runs in the background may ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(command)


def test_where_the_system_does_not_say_which_cores_are_free_all_are(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert workers.cores() == 3


def running(pid: int) -> bool:
    """Whether a process lives; one that is dead but not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_the_tiny_twin_of_flickr8k_decodes_hard_in_three_ways(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(java, "_kept", None)
    starts, start = [], java._java
    monkeypatch.setattr(java, "_java", lambda arguments: starts.append(arguments) or start(arguments))
    main(["run", "flickr8k", "--tiny", "--workers", "1", "--set", "search.beam=2"])
    said = capsys.readouterr().out
    runs = len(list(Path("runs/flickr8k-tiny").glob("*/seed*")))
    assert runs == 12 and sum("-stdio" in arguments for arguments in starts) == 1, "METEOR starts once a worker"
    for decode in ("argmax", "expected", "sample"):  # one so small may have collapsed, and is marked
        assert re.search(rf"\nhard( †)? +{decode}, beam 2", said), said
    table = Path("runs/flickr8k-tiny/table.md").read_text()
    assert "the mean over 3 draws" in table and "Entropy (nats)" in table


@pytest.mark.slow
def test_the_tiny_twin_of_the_arrangements_trains_both_soft_and_hard(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["run", "arrangements", "--tiny", "--workers", "1"])
    said = capsys.readouterr().out
    assert all(f"\n{name}-{kind} " in said for name in ("tutorial", "gru-residual") for kind in ("soft", "hard"))


@pytest.mark.slow
def test_the_world_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["run", "world", "--tiny", "--seeds", "1", "--workers", "1"])
    assert "\noracle " in capsys.readouterr().out


def test_what_a_kill_left_of_the_queue_s_name_is_swept(tmp_path):
    partial = tmp_path / f"queue.id.0.{2**22 + 5}@{socket.gethostname()}.partial"
    partial.touch()
    name = runner.identity(tmp_path)
    assert not partial.exists() and runner.identity(tmp_path) == name
