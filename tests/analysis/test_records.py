import json

import numpy as np
import pytest
from attend.analysis.records import find_runs, read_run, read_runs

from tests.made_runs import make_metrics, make_run, make_study, scores


def test_a_run_says_who_it_is_and_what_it_scored(tmp_path):
    sampled = scores(decode="sample-mean", beam=1, bleu4=0.1)
    run = make_run(tmp_path, "made/hard/seed12", headline=scores(), evaluations=[scores(), sampled])
    record = read_run(run)
    assert (record.experiment, record.variant, record.seed) == ("made", "hard", 12)
    assert record.config.train.epochs == 3
    assert record.finished and not record.collapsed
    assert [(e.split, e.decode, e.beam) for e in record.evaluations] == [
        ("test", "expected", 3),
        ("test", "sample-mean", 1),
    ]
    assert record.evaluations[1].scores["captions"]["bleu4"] == 0.1
    assert record.evaluations[0].attention == run / "evaluations/test-expected-beam3/attention.h5"


def test_runs_know_the_study_that_they_are_of(tmp_path):
    make_study(tmp_path, "found-soft", study="found", kind="soft", trials=20, sampler="tpe")
    make_study(tmp_path, "found-confirmed", study="found", trials=40, of={"soft": 20, "hard": 20})
    trial = read_run(make_run(tmp_path, "found-soft/trial003", headline=scores()))
    assert (trial.experiment, trial.variant, trial.study["trials"]) == ("found-soft", "trial003", 20)
    confirmed = read_run(make_run(tmp_path, "found-confirmed/soft-best1/seed1000", headline=scores()))
    assert confirmed.study["study"] == "found" and confirmed.study["of"] == {"soft": 20, "hard": 20}
    assert read_run(make_run(tmp_path, headline=scores())).study is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"study": "found"}', '{"study": 1, "trials": 2}', '{"study": "a", "trials": "2"}',
     '{"study": "a", "trials": true}', '{"study": "a", "trials": 2, "of": [2]}',
     '{"study": "a", "trials": 2, "of": {"soft": null}}'],
)  # fmt: skip
def test_a_broken_study_names_its_file(tmp_path, text):
    path = make_study(tmp_path, "made")
    run = make_run(tmp_path, headline=scores())
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)) as error:
        read_run(run)
    assert "\n" not in str(error.value)


def test_runs_are_found_once_and_in_order(tmp_path):
    names = ["made/soft/seed2", "made/soft/seed10", "made/hard/seed1"]
    runs = [make_run(tmp_path, name, headline=scores()) for name in names]
    assert find_runs([tmp_path]) == [runs[2], runs[0], runs[1]]
    assert find_runs([runs[1], tmp_path / "made/soft", runs[1]]) == [runs[1], runs[0]]


def test_settings_beside_a_run_are_no_run(tmp_path):
    run = make_run(tmp_path, headline=scores())
    (tmp_path / "made" / "config.json").write_text("{}")
    assert find_runs([tmp_path]) == [run]


def test_collapse_is_read_from_the_headline(tmp_path):
    assert read_run(make_run(tmp_path, headline={**scores(), "collapsed": True})).collapsed


@pytest.mark.parametrize(
    ("folder", "message"), [("nowhere", "nowhere is not a folder; name"), ("empty", "empty has no run; name")]
)
def test_folders_without_runs(tmp_path, folder, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        read_runs([tmp_path / folder])


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is not a run; a run is"):
        read_run(tmp_path)


def test_nothing_finished(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(ValueError, match=r"none of the 1 runs below .* is finished"):
        read_runs([tmp_path])
    assert [r.folder for r in read_runs([tmp_path], unfinished=True)] == [run]


@pytest.mark.parametrize("text", ['{"captions": ', "[1, 2]", ""])
@pytest.mark.parametrize("name", ["config.json", "scores.json", "evaluations/test-expected-beam3/scores.json"])
def test_broken_json_names_its_file(tmp_path, name, text):
    run = make_run(tmp_path, headline=scores(), evaluations=[scores()])
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=str(run / name)):
        read_run(run)


@pytest.mark.parametrize("name", ["scores.json", "evaluations/test-expected-beam3/scores.json"])
@pytest.mark.parametrize(
    "change",
    [
        dict.clear,
        lambda scores: scores.pop("split"),
        lambda scores: scores.update(beam="3"),
        lambda scores: scores.update(captions=[0.2]),
        lambda scores: scores.update(captions=None),
        lambda scores: scores["given"].update(nll=10**400),
        lambda scores: scores["captions"].update(bleu4="high"),
        lambda scores: scores.update(missing=["meteor"]),
        lambda scores: scores.update(draws={"n": 3}),
        lambda scores: scores.update(draws=3),
        lambda scores: scores.update(draws={"n": 3, "mean": {"bleu4": "high"}}),
    ],
)
def test_scores_of_another_schema_are_refused(tmp_path, name, change):
    run = make_run(tmp_path, headline=scores(), evaluations=[scores()])
    read_run(run)
    found = json.loads((run / name).read_text())
    change(found)
    (run / name).write_text(json.dumps(found))
    with pytest.raises(ValueError, match=f"{run / name} holds no scores of an evaluation: restore it, or remove it"):
        read_run(run)


def test_settings_of_another_schema_are_refused(tmp_path):
    run = make_run(tmp_path, "made/soft", headline=scores())
    (run / "config.json").write_text('{"model": "soft"}')
    with pytest.raises(ValueError, match=rf"{run / 'config.json'}: unknown field 'model'"):
        read_run(run)
    (run / "config.json").write_text('{"attention": "soft"}')
    with pytest.raises(ValueError, match=rf"{run / 'config.json'}: attention is 'soft', but must be an object"):
        read_run(run)
    (run / "config.json").write_text('{"seed": 4}')
    assert read_run(run).seed == 4


@pytest.mark.parametrize("line", [{"nll": 1.0}, {"epoch": 1, "nll": "low"}, {"epoch": 1, "nll": 10**400}])
def test_metrics_of_another_schema_are_refused(tmp_path, line):
    record = read_run(make_run(tmp_path, metrics=[*make_metrics(1), {"split": "val"} | line]))
    assert len(record.series("nll", "train")[0])
    with pytest.raises(ValueError, match=r"metrics.jsonl has nll of val without a number or an epoch; restore it"):
        record.series("nll", "val")


@pytest.mark.parametrize(
    "line",
    [{"epoch": None}, {"epoch": 10**400}, {"epoch": float("nan")}, {"split": []}, {"step": 1.5}, {"change": "x"}],
)
def test_a_line_of_wrong_types_is_refused(tmp_path, line):
    record = read_run(make_run(tmp_path, metrics=[*make_metrics(1), {"split": "val"} | line]))
    (name,) = line
    with pytest.raises(ValueError, match=rf"line 7 of .*metrics.jsonl is damaged: .*\({name} is .*, but must be"):
        record.series("nll", "val")


def test_series_of_a_split(tmp_path):
    record = read_run(make_run(tmp_path, metrics=make_metrics(2, per_epoch=2)))
    epochs, values = record.series("nll", "train")
    np.testing.assert_allclose(epochs, [0.5, 1, 1.5, 2])
    np.testing.assert_allclose(values, [4.75, 4.5, 4.25, 4])
    assert len(record.series("nll", "val")[0]) == 2
    assert all(len(part) == 0 for part in record.series("no such thing", "train"))


def test_epochs_go_on_from_those_of_the_run_that_a_run_began_from(tmp_path):
    run = make_run(tmp_path, metrics=make_metrics(2))
    (run / "config.json").write_text('{"start": "runs/soft"}')
    (run / "environment.json").write_text('{"start": {"run": "runs/soft", "epochs_before": 7}}')
    assert read_run(run).series("nll", "val")[0].tolist() == [8, 9]
    (run / "environment.json").write_text("{}")
    assert read_run(run).series("nll", "val")[0].tolist() == [1, 2]


@pytest.mark.parametrize("torn", ['{"step": 3, "ep', '{"step', "", "\xff", "3"])
def test_a_torn_last_line_is_ignored(tmp_path, torn):
    run = make_run(tmp_path)
    lines = [json.dumps({"step": step}) for step in (1, 2)]
    (run / "metrics.jsonl").write_bytes(("\n".join(lines) + "\n" + torn).encode("latin-1"))
    assert [m["step"] for m in read_run(run).metrics] == [1, 2]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    run = make_run(tmp_path)
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    assert len(read_run(run).metrics) == 2


@pytest.mark.parametrize("text", ['{"step": 1}\n{"st\n{"step": 3}\n', '{"step": 1}\n{"st\n'])
def test_other_broken_lines_are_errors(tmp_path, text):
    run = make_run(tmp_path)
    (run / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl is damaged"):
        _ = read_run(run).metrics


def test_what_cannot_be_read_is_left_out_where_that_is_asked_for(tmp_path):
    whole = make_run(tmp_path, "made/soft/seed1", headline=scores())
    torn = make_run(tmp_path, "made/soft/seed2", headline=scores())
    (torn / "scores.json").write_text("{")
    half = make_run(tmp_path, "made/soft/seed3", headline=scores())
    (half / "config.json").unlink()
    broken = []
    assert [record.folder for record in read_runs([tmp_path], broken=broken)] == [whole]
    first, second = broken
    assert str(torn / "scores.json") in first
    assert second == f"{half} has no config.json or no environment.json: copy the run again"
    (whole / "scores.json").write_text("{")
    with pytest.raises(ValueError, match=str(whole)):
        read_runs([tmp_path], broken=[])


def test_a_copied_run_is_no_seed_of_its_own(tmp_path):
    first = make_run(tmp_path, "a/made/soft/seed0", headline=scores())
    again = make_run(tmp_path, "b/made/soft/seed0", headline=scores())
    other = make_run(tmp_path, "b/made/soft/seed1", headline=scores())
    broken = []
    assert [one.folder for one in read_runs([tmp_path], broken=broken)] == [first, other]
    assert broken == [f"{again} has the experiment, variant and seed of {first} and is left out"]
