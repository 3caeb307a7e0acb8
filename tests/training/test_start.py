"""A run that begins with the weights of another, and hard attention that begins soft."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace as changed
from pathlib import Path

import pytest
import torch
from attend.analysis.records import read_runs
from attend.analysis.tables.comparison import comparison, render
from attend.experiments.cli.main import main
from attend.experiments.runner import runner
from attend.experiments.runner.experiment import Experiment

from attend.config import Config, Estimator
from attend.config.text import from_dict, replace
from attend.data.prepared import Prepared
from attend.estimators.noise import Noise
from attend.model import Model
from attend.runs.checkpoint import read_checkpoint, read_state
from attend.runs.folder import RunFolder
from attend.training.loop import Trainer, train
from attend.training.start import begin
from tests import bed, halves
from tests.forks import no_java
from tests.made_runs import make_run, scores


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    monkeypatch.setattr("attend.metrics.captions.find_java", no_java)


def settings(data: Path, kind: str = "expected", **train) -> Config:
    rest = {"data": str(data), "attention": {"select": kind, "width": 16}}
    return from_dict(halves.SMALL | rest | {"train": halves.SMALL["train"] | {"epochs": 2, "monitor": "nll"} | train})


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    """A dataset, and a finished run of soft attention on it."""
    folder = tmp_path_factory.mktemp("begun")
    data = halves.write(folder / "data", (12, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attend.metrics.captions.find_java", no_java)
        train(settings(data), folder / "soft")
    return data, folder / "soft"


def model_of(config: Config) -> Model:
    return Model.build(config, Prepared(config.data).vocabulary)


def test_hard_begins_with_all_weights_of_soft(soft, tmp_path, capsys):
    data, source = soft
    model = model_of(settings(data, "sample"))
    facts = begin(model, RunFolder(source))
    tensors, _ = read_checkpoint(source / "checkpoint/best.safetensors")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.tensors().items())
    assert facts["taken"] == sorted(model.tensors()) and facts["not_taken"] == [] and facts["epochs_before"] == 2
    count = len(facts["taken"])
    assert (
        capsys.readouterr().err == f"begins with {count} of {count} weights of {source}\n" == facts["sentence"] + "\n"
    )


def test_what_does_not_fit_stays_as_it_was_built(soft):
    data, source = soft
    wanted = replace(settings(data, "sample"), {"attention.width": 8, "decoder.gate": "vector"})
    model, fresh = model_of(wanted), model_of(wanted)
    facts = begin(model, RunFolder(source))
    tensors, _ = read_checkpoint(source / "checkpoint/best.safetensors")
    assert {"captioner.decoder.gate_score.weight", "captioner.attention.score.vector"} <= set(facts["not_taken"])
    differs = "; it differs: decoder.gate 'vector' (was 'scalar')"
    assert facts["sentence"].endswith(", ".join(facts["not_taken"]) + differs)
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, (tensors if name in facts["taken"] else fresh.tensors())[name]), name


def test_rows_of_other_words_are_not_taken(soft, tmp_path):
    _, source = soft
    run = Path(shutil.copytree(source, tmp_path / "run"))
    model = model_of(settings(soft[0]))
    other = changed(model, vocabulary=changed(model.vocabulary, words=(*model.vocabulary.words[:-1], "zebra")))
    facts = begin(other, RunFolder(run))
    assert set(facts["not_taken"]) == {
        f"captioner.decoder.{name}" for name in ("embedding.weight", "logits.weight", "logits.bias")}  # fmt: skip
    assert facts["sentence"].endswith("; its vocabulary is another")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run: shutil.rmtree(run), "is no run folder"),
        (lambda run: (run / "scores.json").unlink(), "is not finished: train it to its end"),
        (lambda run: None, "has the name and shape of one of this model"),
    ],
)
def test_a_run_that_nothing_can_begin_from_is_refused_in_one_sentence(soft, tmp_path, fails, spoil, says):
    run = Path(shutil.copytree(soft[1], tmp_path / "run"))
    spoil(run)
    options = (
        "--encoder.name test_resnet --encoder.weights random --encoder.size 32 --encoder.grid 2 2 --encoder.stride 8"
    )
    options += " --decoder.hidden 20 --decoder.embedding 12 --attention.width 12 --train.epochs 1"
    sentence = fails("train", "hard", "--data", soft[0], "--from", run, "--out", tmp_path / "hard", *options.split())
    assert says in sentence and str(run) in sentence
    assert not [path for path in (tmp_path / "hard").rglob("*") if path.is_file()]


def test_it_is_resumed_without_the_other_run_and_counts_both_budgets(soft, tmp_path, monkeypatch):
    """Interrupted after an epoch, its source gone: equal to one that was not; environment.json keeps all."""
    data, source = soft
    copy = Path(shutil.copytree(source, tmp_path / "source"))
    wanted = changed(settings(data, "sample", epochs=3), start=str(copy))
    whole = train(wanted, tmp_path / "whole")
    assert whole["epochs"] == 3 and whole["epochs_before"] == 2 and whole["seconds_before"] >= 0
    state = read_state(tmp_path / "whole/checkpoint/last.safetensors")
    assert state["progress"]["step"] == 9 and state["progress"]["epoch"] == 3, "a fresh start of the optimiser"

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(wanted, tmp_path / "broken", after_epoch=stop)
    shutil.rmtree(copy)
    broken = train(wanted, tmp_path / "broken")
    assert broken["epochs_before"] == 2 and broken["given"] == whole["given"]
    ours, theirs = (
        read_checkpoint(tmp_path / f"{name}/checkpoint/last.safetensors")[0] for name in ("whole", "broken")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    started = json.loads((tmp_path / "broken/environment.json").read_text())["start"]
    assert started["run"] == str(copy) and started["sentence"].startswith("begins with ")


def test_budgets_add_up_along_a_line_of_runs(soft, tmp_path):
    """Two epochs, one and one; and seconds that are written, since those of so small a run may be rounded to none."""
    data, source = soft
    first = Path(shutil.copytree(source, tmp_path / "first"))
    write_seconds(first, 5.0)
    second = train(changed(settings(data, "sample", epochs=1), start=str(first)), tmp_path / "second")
    assert (second["epochs_before"], second["seconds_before"]) == (2, 5.0)
    write_seconds(tmp_path / "second", 3.0)
    third = train(changed(settings(data, "sample", epochs=1), start=str(tmp_path / "second")), tmp_path / "third")
    assert (third["epochs"], third["epochs_before"], third["seconds_before"]) == (1, 3, 8.0)


def write_seconds(run: Path, seconds: float) -> None:
    """Change the training time of a finished run."""
    path = run / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train_seconds": seconds}))


def test_tables_count_both_budgets(tmp_path):
    """Four epochs after seven are eleven, and a minute after two is three; other tables have no column of epochs."""
    own = scores() | {"epochs": 4, "train_seconds": 60.0}
    make_run(tmp_path, "made/soft/seed0", headline=scores() | {"epochs": 7, "train_seconds": 120.0})
    make_run(tmp_path, "made/hard/seed0", headline=own | {"epochs_before": 7, "seconds_before": 120.0})
    table = render(comparison(read_runs([tmp_path])), "markdown")
    lines = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    assert "| Epochs | Training |" in lines["Variant"]
    assert "| 11 | 3.0 min |" in lines["hard"] and "| 7 | 2.0 min |" in lines["soft"]
    assert "its epochs and training time include those of that run" in table
    rows = render(comparison(read_runs([tmp_path])), "csv").splitlines()
    assert "Epochs" in rows[0] and ",11,180," in rows[1] + rows[2]
    shutil.rmtree(tmp_path / "made/hard")
    assert "Epochs" not in render(comparison(read_runs([tmp_path])), "markdown")


def experiment(data: Path, **changes) -> Experiment:
    variants = {"hard": settings(data, "sample", epochs=1), "soft": settings(data, epochs=1)}
    return Experiment(**{"name": "line", "variants": variants, "seeds": dict.fromkeys(variants, 2),
                         "after": {"hard": "soft"}} | changes)  # fmt: skip


def test_an_experiment_runs_the_source_first_and_names_its_folder(soft, tmp_path):
    planned = runner.plan(experiment(soft[0]), tmp_path, None)
    assert [one.name for one in planned] == ["soft/seed0", "soft/seed1", "hard/seed0", "hard/seed1"]
    assert [one.config.start for one in planned] == [None, None, *(str(one.folder) for one in planned[:2])]
    only = experiment(soft[0]).only(["hard"])
    assert set(only.variants) == {"hard", "soft"} and set(experiment(soft[0]).only(["soft"]).variants) == {"soft"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"after": {"hard": "sotf"}}, "'hard' begins after 'sotf', which is no variant"),
        ({"after": {"hard": "soft", "soft": "hard"}}, "which begins from it in turn"),
        ({"seeds": {"hard": 2, "soft": 1}}, "hard begins after soft, which has fewer seeds"),
    ],
)
def test_a_line_that_cannot_be_is_refused(soft, tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        runner.plan(experiment(soft[0], **changes), tmp_path, None)


def test_whoever_takes_the_second_run_first_trains_its_source(soft, tmp_path):
    """As on another machine, whose queue has only the second run left."""
    (_, run) = runner.plan(experiment(soft[0], seeds={"hard": 1, "soft": 1}), tmp_path, None)
    assert run.name == "hard/seed0" and not run.finished
    run.do()
    assert run.finished and run.before.finished
    taken = json.loads((run.folder / "environment.json").read_text())["start"]
    assert taken["not_taken"] == [] and run.do()["epochs_before"] == 1


def test_the_program_runs_a_line(soft, tmp_path):
    """`attend run` of a user's file: two workers, a table with both budgets."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from pathlib import Path\nfrom tests.training.test_start import experiment as line\n\n"
        f"def experiment(data, tiny):\n    return line(Path({str(soft[0])!r}), seeds={{'hard': 1, 'soft': 1}})\n"
    )
    main(["run", str(file), "--out", str(tmp_path / "runs"), "--workers", "1", "--yes"])
    (table,) = (tmp_path / "runs").glob("*/table.md")
    assert "| Epochs |" in table.read_text()


def test_the_share_of_soft_images_falls_linearly():
    rule = Estimator(semi=0.2, semi_start=1.0, semi_epochs=4)
    assert [rule.mixed_at(epoch) for epoch in (0, 1, 2, 4, 9)] == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2])
    assert Estimator(semi=0.2).mixed_at(0) == 0.2 == rule.mixed
    given = bed.settings(attention={"select": "sample"}, estimator={"semi": 0.2, "semi_start": 1.0, "semi_epochs": 4.0})
    shares = {epoch: 0 for epoch in (0.0, 2.0, 4.0)}
    for step in range(300):
        for epoch in shares:
            noise = Noise.draw(given, (8, 2, 3), 0, step, epoch=epoch)
            shares[epoch] += 0 if noise.soft is None else int(noise.soft[:, 0].sum())
    found = [count / 2400 for count in shares.values()]
    assert found[0] == 1 and found[1:] == pytest.approx([0.6, 0.2], abs=0.04)  # 4 standard deviations


@pytest.mark.parametrize(
    "estimator",
    [
        {"semi_start": 1.0},
        {"semi_epochs": 2.0},
        {"semi": 0.5, "semi_start": 0.25, "semi_epochs": 2.0},
        {"name": "marginal", "semi_start": 1.0, "semi_epochs": 2.0},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(estimator):
    with pytest.raises(ValueError, match=r"estimator\.semi_start is"):
        Estimator(**estimator)


def test_hard_attention_that_begins_soft_takes_the_steps_of_soft_attention_first(soft, tmp_path):
    """With a share of 1 the first step is the step of soft attention, weight for weight; at the end it samples."""
    data, _ = soft
    schedule = {"estimator.semi_start": 1.0, "estimator.semi_epochs": 1.0, "estimator.semi": 0.0,
                "estimator.entropy": 0.0}  # fmt: skip
    hard, plain = replace(settings(data, "sample"), schedule), replace(settings(data), {"estimator.entropy": 0.0})
    after = []
    for number, config in enumerate((hard, plain)):
        run = RunFolder(tmp_path / str(number))
        with run.open(config) as lease:
            from attend.runs.processes import accelerator

            trainer = Trainer(config, run, lease, accelerator())
            loader = trainer.batches.loader([trainer.rows[:4]])
            trainer.step(next(loader))
            after.append({name: tensor.clone() for name, tensor in trainer.model.tensors().items()})
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[1])
    train(hard, tmp_path / "whole")
    line = [json.loads(one) for one in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert all(one["nll"] < 10 for one in line if one["split"] == "train")
